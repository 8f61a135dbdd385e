"""A blob as a stream: bytes go in and come out as they are, every 8 MiB of them under a checksum, in bounded memory.

Writing: what is written gathers to a part; full parts pass through a short queue to `Objects.upload`, so a writer that is faster
than the store waits. Content of one part or less goes out in a single put when the stream ends. Nothing is visible before
`finish` has returned, and `abandon` leaves nothing. Reading: each part is proved before the first byte of it is handed out
(P7), while the store reads ahead. Neither knows of records or ids; `filestore` makes files of this.

Text is what `open(..., newline="\\n")` makes of it: encoded and decoded incrementally, no line end is ever translated, so that
what is read is what was written.
"""

from __future__ import annotations

import asyncio
import codecs
from array import array
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Iterable, Sequence
from contextlib import aclosing, suppress
from typing import NamedTuple

from towline.engine.errors import CorruptionError, UsageError
from towline.stores.fileformat import PART
from towline.stores.journal.parts import from_bytes, to_bytes
from towline.stores.objects.base import Ambiguous, NotFound, Objects, ObjectsError
from towline.stores.objects.streaming import end, in_thread, regrouped

QUEUED_PARTS = 1
"""Full parts that wait for the upload; with the one that gathers and those under way, this bounds a stream's memory."""
_INLINE_CRC_BYTES = 64 << 10
"""Below this, a checksum costs less than the way to a thread."""

_KEPT_BYTES = 64 << 10
"""Smaller pieces are copied together at once: to keep track of many costs more."""
_TRIES = 4

Data = bytes | bytearray | memoryview


class Content(NamedTuple):
    """What a record must remember of a blob in order to prove it."""

    size: int
    """Bytes."""
    crcs: bytes
    """uint32 little-endian for each 8 MiB of it: crc32c. Empty for content that a server copied and nobody has proved."""


class Blob(NamedTuple):
    """Where a content lies and what it must be."""

    objects: Objects
    key: str
    content: Content

    @property
    def name(self) -> str:
        """For messages."""
        return f"{self.objects.url}/{self.key}"


class Checksums:
    """The checksums of a content that comes in whole parts; the last may be short. Any thread, one at a time."""

    def __init__(self) -> None:
        self._crcs: array[int] = array("I")
        self._size = 0

    def add(self, part: bytes) -> bytes:
        """Take the next part into account, and give it back."""
        import google_crc32c

        self._crcs.append(google_crc32c.value(part))
        self._size += len(part)
        return part

    def content(self) -> Content:
        """What was added so far."""
        return Content(self._size, to_bytes(self._crcs))


async def checked(pieces: AsyncGenerator[bytes, None], sums: Checksums) -> AsyncGenerator[bytes, None]:
    """The same bytes in whole parts, counted into `sums`."""
    async with aclosing(pieces), aclosing(regrouped(pieces, PART)) as parts:
        async for part in parts:
            yield await _crc(sums, part)


async def _crc(sums: Checksums, part: bytes) -> bytes:
    return sums.add(part) if len(part) <= _INLINE_CRC_BYTES else await in_thread(sums.add, part)


# -------------------------------------------------------------------------------------------------------------- writing


class _Gathered:
    """What was written of a part so far. Bytes objects, which cannot change, are kept as they are if they are large."""

    def __init__(self) -> None:
        self._pieces: list[bytearray | memoryview] = []
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def add(self, data: memoryview) -> None:
        self._size += len(data)
        if len(data) >= _KEPT_BYTES and isinstance(data.obj, bytes):
            self._pieces.append(data)
        elif self._pieces and isinstance(last := self._pieces[-1], bytearray):
            last += data
        else:
            self._pieces.append(bytearray(data))

    def take(self, more: Data = b"") -> bytes:
        """All of it and `more`; nothing is left."""
        pieces, self._pieces, self._size = self._pieces, [], 0
        return b"".join((*pieces, more))


class BlobWriter:
    """Bytes on their way into one blob. Either `finish` or `abandon` must be awaited at the end, whatever happened before."""

    def __init__(self, objects: Objects, key: str) -> None:
        self._objects = objects
        self._key = key
        self._sums = Checksums()
        self._gathered = _Gathered()
        self._queue: asyncio.Queue[bytes | None] = asyncio.Queue(QUEUED_PARTS)
        self._upload: asyncio.Task[object] | None = None
        self._order = asyncio.Lock()
        self._at = 0
        self.is_open = True
        self._put = False

    async def write(self, data: Data) -> int:
        """Take all of it; return how many bytes that is. Waits while the store is behind.

        Raises ObjectsError as soon as it is known that the store will not keep it; UsageError after `close`.
        """
        view = memoryview(data).cast("B")
        async with self._order:  # two writers at once are the caller's own disorder, but no part may be torn by it
            self._check()
            rest = view
            while len(self._gathered) + len(rest) >= PART:
                cut = PART - len(self._gathered)
                await self._pass_on(self._gathered.take(rest[:cut]))
                rest = rest[cut:]
            self._gathered.add(rest)
            self._at += len(view)
        return len(view)

    async def writelines(self, lines: Iterable[Data]) -> None:
        """Write each."""
        for line in lines:
            await self.write(line)

    async def flush(self) -> None:
        """Nothing: a file is seen whole, when its context ends, or not at all."""

    async def close(self) -> None:
        """No more will be written. The context still decides whether the file is kept."""
        self.is_open = False

    def tell(self) -> int:
        """Bytes written so far."""
        return self._at

    def _check(self) -> None:
        if not self.is_open:
            raise UsageError(f"nothing can be written to {self._key}: the stream is closed")
        if self._upload is not None and self._upload.done():
            self._upload.result()  # an upload that has ended before the last part has failed
            raise ObjectsError(f"{self._objects.url}: the upload of {self._key} ended before its content")

    async def _pass_on(self, part: bytes) -> None:
        if self._upload is None:
            self._upload = asyncio.create_task(self._run())
        self._check()  # also between the parts of one long write: an upload that has ended makes no more room
        await self._queue.put(part)

    async def _run(self) -> object:
        try:
            return await self._objects.upload(self._key, self._parts())
        except Ambiguous:
            if not await landed(self._objects, self._key, self._sums.content().size):
                raise
            return None
        finally:
            while not self._queue.empty():  # a writer that waits for room must find out
                self._queue.get_nowait()

    async def _parts(self) -> AsyncGenerator[bytes, None]:
        while (part := await self._queue.get()) is not None:
            yield await _crc(self._sums, part)

    async def finish(self) -> Content:
        """Make the blob durable. Raises what the store raises; then call `abandon`."""
        async with self._order:
            self.is_open = False
            if self._upload is None:
                await self._put_whole()
            else:
                await self._end_upload(self._upload)
        return self._sums.content()

    async def _put_whole(self) -> None:
        data = self._gathered.take()
        if data:
            await _crc(self._sums, data)
        self._put = True
        await put_to_the_end(self._objects, self._key, [data])

    async def _end_upload(self, upload: asyncio.Task[object]) -> None:
        for part in (self._gathered.take(), None):
            if part != b"" and not upload.done():
                await self._queue.put(part)
        await asyncio.shield(upload)

    async def abandon(self) -> None:
        """Drop what was written, also after a `finish` that failed or was cut short; nothing of it stays."""
        self.is_open = False
        self._gathered.take()
        if self._upload is not None:
            await end([self._upload])
        if self._put or self._upload is not None:
            with suppress(ObjectsError):  # then it is an orphan, which `gc` finds
                await self._objects.delete_many([self._key])


async def put_to_the_end(objects: Objects, key: str, data: Sequence[bytes]) -> None:
    """As `Objects.put` of a key that is ours alone, but a lost answer is settled, and a cancelled caller is held until the put
    has ended: one that goes on in a thread or in the server would bring the blob back after it was deleted."""
    task = asyncio.ensure_future(_put(objects, key, data))
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        while not task.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait([task])
        if not task.cancelled():
            task.exception()
        raise


async def _put(objects: Objects, key: str, data: Sequence[bytes]) -> None:
    for left in reversed(range(_TRIES)):
        try:
            await objects.put(key, data)
            return
        except Ambiguous:  # the same bytes under a key that only we know: to send them again can do no harm
            if left == 0:
                raise


async def landed(objects: Objects, key: str, size: int) -> bool:
    """Is the object there, whose key nobody else writes, after the answer to its upload was lost? It is whole or absent."""
    try:
        return (await objects.head(key)).size == size
    except NotFound:
        return False


class TextWriter:
    """Text on its way into one blob."""

    def __init__(self, binary: BlobWriter, encoding: str, errors: str | None = None) -> None:
        self.binary = binary
        self.encoding = encoding
        self.errors = errors or "strict"
        self._used = False
        self._encoder = codecs.getincrementalencoder(encoding)(errors or "strict")

    async def write(self, text: str) -> int:
        """Take all of it; return how many characters that is. As `BlobWriter.write`; UnicodeEncodeError by the rule `errors`."""
        self._used = True
        await self.binary.write(self._encoder.encode(text))
        return len(text)

    async def writelines(self, lines: Iterable[str]) -> None:
        """Write each; none gets a line end that it does not have."""
        for line in lines:
            await self.write(line)

    async def flush(self) -> None:
        """Nothing: see `BlobWriter.flush`."""

    async def close(self) -> None:
        """No more will be written."""
        if self._used and self.binary.is_open:  # an unused encoder would begin with a mark, which `open` does not
            await self.binary.write(self._encoder.encode("", final=True))
        await self.binary.close()


# -------------------------------------------------------------------------------------------------------------- reading


async def proved_parts(blob: Blob, first: int = 0) -> AsyncGenerator[bytes, None]:
    """The parts of a blob from number `first` on, each proved.

    Raises CorruptionError, which names object and offset; NotFound before the first part; ObjectsError.
    """
    content, at = blob.content, first * PART
    if content.size <= PART:
        if first == 0 and content.size:
            yield await whole(blob)
        return
    crcs = from_bytes("I", content.crcs)
    if at < content.size:
        async with aclosing(blob.objects.download(blob.key, at)) as pieces, aclosing(regrouped(pieces, PART)) as parts:
            async for part in parts:
                await prove(blob, crcs, at, part)
                yield part
                at += len(part)
    if at < content.size:
        raise CorruptionError(f"{blob.name}: it has {at} bytes, {content.size} were written, at offset {at}")


async def whole(blob: Blob) -> bytes:
    """The content of a blob of one part, proved, in one request."""
    size = blob.content.size
    if size == 0:
        return b""
    part = await blob.objects.get(blob.key, 0, size + 1)  # one more, to see that there is none
    await prove(blob, from_bytes("I", blob.content.crcs), 0, part)
    return part


async def prove(blob: Blob, crcs: array[int], at: int, part: bytes) -> None:
    """CorruptionError unless this is the part at this offset."""
    if len(part) <= _INLINE_CRC_BYTES:
        prove_blocking(blob, crcs, at, part)
    else:
        await in_thread(prove_blocking, blob, crcs, at, part)


def prove_blocking(blob: Blob, crcs: array[int], at: int, part: bytes) -> None:
    """As `prove`, for threads."""
    import google_crc32c

    size = blob.content.size
    if len(part) != min(PART, size - at):
        raise CorruptionError(f"{blob.name}: it is not {size} bytes long, as was written, at offset {at + len(part)}")
    if crcs and google_crc32c.value(part) != crcs[at // PART]:
        raise CorruptionError(f"{blob.name}: the content is damaged, at offset {at} or up to {len(part)} bytes later")


class BlobReader:
    """Bytes of one blob, forwards, or from wherever `seek` says. `close` must be awaited, however little was read."""

    def __init__(self, blob: Blob) -> None:
        self._blob = blob
        self._content: Awaitable[bytes] | None = None
        self._parts: AsyncGenerator[bytes, None] | None = None
        self._fetched = False  # anything since the beginning, or the last jump
        self._part = b""
        self._next = 0  # in the part: what comes next
        self._skip = 0  # of the part to come
        self._base = 0  # offset of the part in the blob
        self._closed = False

    async def begin(self, content: Awaitable[bytes] | None = None) -> None:
        """Fetch the first part, so that a blob that is gone shows now. `content`: what `whole` gives, already on its way."""
        self._content = content
        await self._more()

    async def _ready(self) -> bool:
        """Is there another byte? Fetches it if need be."""
        return self._next < len(self._part) or await self._more()

    def _take(self, to: int) -> bytes:
        begin, self._next = self._next, to
        return self._part if to - begin == len(self._part) else self._part[begin:to]

    async def read1(self, n: int = -1) -> bytes:
        """Some bytes, at most `n` of them; none at the end only."""
        if n == 0 or not await self._ready():
            return b""
        return self._take(len(self._part) if n < 0 else min(len(self._part), self._next + n))

    async def read(self, n: int = -1) -> bytes:
        """`n` bytes, fewer at the end only; all the rest by default."""
        pieces: list[bytes] = []
        while n and (piece := await self.read1(n)):
            pieces.append(piece)
            n -= len(piece) if n > 0 else 0
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def readline(self) -> bytes:
        """Up to and with the next line feed."""
        pieces: list[bytes] = []
        while await self._ready():
            cut = self._part.find(b"\n", self._next) + 1
            pieces.append(self._take(cut or len(self._part)))
            if cut:
                break
        return b"".join(pieces)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while line := await self.readline():
            yield line

    def tell(self) -> int:
        """Offset of the next byte."""
        return self._base + self._next + self._skip

    @property
    def size(self) -> int:
        """Bytes of the whole blob."""
        return self._blob.content.size

    async def seek(self, at: int) -> int:
        """Go on reading at this offset; what is fetched and not needed is dropped."""
        if at < 0:
            raise UsageError(f"cannot seek to {at}: offsets begin at 0")
        if self._fetched and self._base <= at <= self._base + len(self._part):
            self._next = at - self._base
        else:
            await self._let_go()
            self._base, self._skip = at - at % PART, at % PART
        return at

    async def close(self) -> None:
        """Stop fetching; idempotent. Unread bytes are simply left."""
        self._closed = True
        await self._let_go()

    async def _let_go(self) -> None:
        parts, self._parts, self._fetched = self._parts, None, False
        self._part, self._next = b"", 0
        if parts is not None:
            await parts.aclose()

    @property
    def busy(self) -> bool:
        """Is anything under way that `close` would have to wait for?"""
        return self._parts is not None

    async def _more(self) -> bool:
        """Fetch the next part that has a byte to read; False at the end."""
        if self._closed:
            raise UsageError(f"{self._blob.name} cannot be read: the stream is closed")
        part = await self._fetch()
        self._fetched = True
        if not part:
            return False
        self._base += len(self._part)
        self._part, self._next, self._skip = part, self._skip, 0
        return self._next < len(part)

    async def _fetch(self) -> bytes:
        """The next part; empty at the end."""
        if self._blob.content.size <= PART:
            if self._fetched or self._base:
                return b""
            content, self._content = self._content, None
            return await (whole(self._blob) if content is None else content)
        if self._parts is None:
            self._parts = proved_parts(self._blob, self._base // PART)
        return await anext(self._parts, b"")


class TextReader:
    """Text of one blob, forwards."""

    def __init__(self, binary: BlobReader, encoding: str, errors: str | None = None) -> None:
        self.binary = binary
        self.encoding = encoding
        self.errors = errors or "strict"
        self._decoder = codecs.getincrementaldecoder(encoding)(errors or "strict")
        self._text = ""
        self._from = 0
        self._drained = False

    async def _more(self) -> bool:
        """Decode some more behind what is at hand; False at the end."""
        while not self._drained:
            data = await self.binary.read1(1 << 20)
            self._drained = not data
            if text := self._decoder.decode(data, self._drained):
                self._text, self._from = self._text[self._from :] + text, 0
                return True
        return False

    def _take(self, to: int) -> str:
        taken, self._from = self._text[self._from : to], to
        return taken

    async def read(self, n: int = -1) -> str:
        """`n` characters, fewer at the end only; all the rest by default. UnicodeDecodeError by the rule `errors`."""
        pieces: list[str] = []
        while n and (self._from < len(self._text) or await self._more()):
            piece = self._take(len(self._text) if n < 0 else min(len(self._text), self._from + n))
            pieces.append(piece)
            n -= len(piece) if n > 0 else 0
        return "".join(pieces)

    async def readline(self) -> str:
        """Up to and with the next line feed."""
        pieces: list[str] = []
        while self._from < len(self._text) or await self._more():
            cut = self._text.find("\n", self._from) + 1
            pieces.append(self._take(cut or len(self._text)))
            if cut:
                break
        return "".join(pieces)

    async def __aiter__(self) -> AsyncIterator[str]:
        while line := await self.readline():
            yield line

    async def close(self) -> None:
        """Stop fetching; idempotent."""
        await self.binary.close()
