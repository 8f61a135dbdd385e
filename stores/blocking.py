"""The job store for code without an event loop: the verbs of `towline.stores.jobstore.abstract`, under their new and old names.

    from towline.stores.blocking import open_store

    with open_store("s3://bucket/run") as store:
        with store.write_file_stream(encoding="utf-8") as (file, file_id):
            csv.writer(file).writerows(rows)

All async work of a process runs in one event loop in a background thread (`background`), made when it is first needed; a forked
child makes its own, and opens the store anew there. Streams are real file objects (`io.BufferedWriter`, `io.BufferedReader`,
`io.TextIOWrapper`), good for csv, json, pickle and shutil. Callbacks are called in the thread that called the verb, and may use
the store themselves. The class is made from the async one, so that the two cannot drift apart; Toil's old camelCase names come
from `jobstore.aliases`. A thread that runs an event loop may call this too (notebooks do); that loop stands still meanwhile.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import io
import os
import queue
import sys
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager, contextmanager, suppress
from contextvars import Context, copy_context
from typing import TYPE_CHECKING, Any, TypeVar

from towline.stores import (
    CheckpointJobDescription,
    ConcurrentFileModificationException,
    Config,
    FileID,
    InvalidImportExportUrlException,
    JobDescription,
    JobException,
    JobStoreExistsException,
    LocatorException,
    NoSuchFileException,
    NoSuchJobException,
    NoSuchJobStoreException,
    ServiceJobDescription,
    UnimplementedURLException,
    background,
)
from towline.stores.jobstore import abstract
from towline.stores.jobstore.aliases import ALIASES, Alias
from towline.stores.jobstore.streams import BlobReader, BlobWriter, TextReader, TextWriter
from towline.stores.transfer.reading import UrlStream

__all__ = [
    "AWSJobStore",
    "AbstractJobStore",
    "CheckpointJobDescription",
    "ConcurrentFileModificationException",
    "Config",
    "FileID",
    "FileJobStore",
    "GoogleJobStore",
    "InvalidImportExportUrlException",
    "JobDescription",
    "JobException",
    "JobStoreExistsException",
    "JobStoreSupport",
    "LocatorException",
    "NoSuchFileException",
    "NoSuchJobException",
    "NoSuchJobStoreException",
    "ServiceJobDescription",
    "UnimplementedURLException",
    "open_store",
]

T = TypeVar("T")

BUFFER_BYTES = 1 << 20
"""What a stream gathers before it wakes the other thread."""
_ITEMS = 256
"""Items of an iterator that are fetched at once."""


# ------------------------------------------------------------------------------------------------------------ the thread


_inside = threading.local()
"""`contexts`: those that this thread's open context managers were entered in, over there."""


def run(work: Coroutine[Any, Any, T], context: Context | None = None) -> T:
    """The result of a coroutine that runs over there. An interrupt here cancels it there.

    It sees the context variables that this thread's open context managers have set over there (`batch`); with `context`, it runs
    in that very one, so that what it sets stays.
    """
    if _over_there():
        work.close()
        raise RuntimeError("a blocking call of the store inside the store's own event loop: await the async method instead")
    if sys.is_finalizing():
        work.close()
        raise RuntimeError("the interpreter is ending: nobody would answer; close stores and streams before")
    future = _begin(work, context)
    try:
        return future.result()
    except BaseException:
        future.cancel()
        raise


def _begin(work: Coroutine[Any, Any, T], context: Context | None = None) -> Future[T]:
    loop = background.loop()
    if context is not None:
        return asyncio.run_coroutine_threadsafe(_within(work, context), loop)
    return _current().run(asyncio.run_coroutine_threadsafe, work, loop)


async def _within(work: Coroutine[Any, Any, T], context: Context) -> T:
    task = asyncio.get_running_loop().create_task(work, context=context)
    try:
        return await task
    except asyncio.CancelledError:
        task.cancel()
        await asyncio.wait([task])
        raise


def _current() -> Context:
    """What this thread's calls run in: a copy, so that no call changes it for the next one."""
    contexts: list[Context] = getattr(_inside, "contexts", [])
    return contexts[-1].copy() if contexts else copy_context()


def _over_there() -> bool:
    try:
        return asyncio.get_running_loop() is background.loop()
    except RuntimeError:
        return False


def run_calling_back(start: Callable[[Callable[..., Any]], Coroutine[Any, Any, T]]) -> T:
    """As `run`, of `start(relay)`: over there, `relay(callback)` has `callback` called here, and gives a future of its result.

    What a callback raises is raised here in the end, if it did not come out of the coroutine: not every verb awaits callbacks.
    """
    calls: queue.SimpleQueue[_Call | None] = queue.SimpleQueue()
    loop = background.loop()

    def relay(callback: Callable[..., Any]) -> Callable[..., asyncio.Future[Any]]:
        def call(*args: Any, **kwargs: Any) -> asyncio.Future[Any]:
            answer = loop.create_future()
            calls.put(_Call(functools.partial(callback, *args, **kwargs), answer))
            return answer

        return call

    future = _begin(start(relay))
    future.add_done_callback(lambda _: calls.put(None))
    fault: Exception | None = None
    try:
        while (call := calls.get()) is not None:
            fault = call.answer_on(loop) or fault
        result = future.result()
    except BaseException:
        future.cancel()
        raise
    if fault is not None:
        raise fault
    return result


class _Call:
    """One callback that is to be made in the thread that waits."""

    def __init__(self, act: Callable[[], Any], answer: asyncio.Future[Any]) -> None:
        self._act = act
        self._answer = answer

    def answer_on(self, loop: asyncio.AbstractEventLoop) -> Exception | None:
        """Make it, send the answer over, and return what it raised."""
        try:
            said = self._act()
        except Exception as error:  # a user's callback may raise anything; the coroutine decides what becomes of it
            loop.call_soon_threadsafe(self._settle, None, error)
            return error
        loop.call_soon_threadsafe(self._settle, said, None)
        return None

    def _settle(self, said: Any, error: Exception | None) -> None:
        if self._answer.done():
            return
        if error is None:
            self._answer.set_result(said)
        else:
            self._answer.set_exception(error)
            self._answer.exception()  # seen: who does not await it gets it in the end


# --------------------------------------------------------------------------------------------------------------- streams


class _Writing(io.RawIOBase):
    """The blocking end of a writer. Closing it does not decide whether the file is kept: the context does."""

    def __init__(self, writer: BlobWriter, for_text: bool) -> None:
        self._writer = writer
        self._for_text = for_text
        self._dead = False

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return self._for_text  # TextIOWrapper begins with a byte order mark only where it can learn that this is the beginning

    def tell(self) -> int:
        return self._writer.tell()

    def write(self, data: Any) -> int:
        # a copy: the buffer is the caller's again when this returns
        return len(data) if self._dead else run(self._writer.write(bytes(data)))

    def die(self) -> None:
        """What is still buffered is not wanted."""
        self._dead = True


class _Reading(io.RawIOBase):
    """The blocking end of a reader. One of the store's own files can seek."""

    def __init__(self, reader: BlobReader | UrlStream) -> None:
        self._reader = reader

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return isinstance(self._reader, BlobReader)

    def readinto(self, buffer: Any) -> int:
        data = run(self._reader.read1(len(buffer)))
        buffer[: len(data)] = data
        return len(data)

    def readall(self) -> bytes:
        return run(self._reader.read())

    def tell(self) -> int:
        return self._reader.tell()

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        if not isinstance(self._reader, BlobReader):
            raise io.UnsupportedOperation("this stream goes forwards only")
        begin = {os.SEEK_SET: 0, os.SEEK_CUR: self._reader.tell(), os.SEEK_END: self._reader.size}[whence]
        if begin + offset < 0:
            raise ValueError(f"negative seek position {begin + offset}")
        return run(self._reader.seek(begin + offset))

    def close(self) -> None:
        if self.closed:
            return
        super().close()
        if _over_there():  # the garbage collector runs in any thread
            self._closing = asyncio.get_running_loop().create_task(self._reader.close())
        else:
            run(self._reader.close())


def _face(value: Any, for_text: bool = False) -> Any:
    """The blocking face of what an async context manager yields."""
    match value:
        case tuple() if type(value) is tuple:  # no other kind of tuple holds streams
            return tuple(_face(item) for item in value)
        case BlobWriter():
            return io.BufferedWriter(_Writing(value, for_text), BUFFER_BYTES)
        case BlobReader() | UrlStream():
            return io.BufferedReader(_Reading(value), BUFFER_BYTES)
        case TextWriter(binary=BlobWriter() as binary) | TextReader(binary=BlobReader() as binary):
            return io.TextIOWrapper(_face(binary, for_text=True), value.encoding, value.errors, newline="\n")
        case _:
            return value


@contextmanager
def _entered(manager: AbstractAsyncContextManager[Any]) -> Iterator[Any]:
    """An async context manager as a blocking one, its streams as file objects."""
    context = _current()
    face = _face(run(_enter(manager), context))
    files = [f for f in (face if isinstance(face, tuple) else (face,)) if isinstance(f, io.IOBase)]
    contexts: list[Context] = vars(_inside).setdefault("contexts", [])
    contexts.append(context)
    try:
        try:
            yield face
        finally:
            contexts.remove(context)
        for file in files:
            file.close()  # what is buffered goes out now, or its error comes now
    except BaseException:
        for file in files:
            _abandon(file)
        if not run(_leave(manager, *sys.exc_info()), context):
            raise
    else:
        run(_leave(manager, None, None, None), context)


def _abandon(file: Any) -> None:
    """Close a file object without letting its buffer out."""
    with suppress(ValueError):  # already closed or detached: then there is no buffer
        raw = getattr(getattr(file, "buffer", file), "raw", None)
        if isinstance(raw, _Writing):
            raw.die()
    with suppress(Exception):  # the error that brought us here is the one to be told
        file.close()


async def _enter(manager: AbstractAsyncContextManager[T]) -> T:
    return await manager.__aenter__()


async def _leave(manager: AbstractAsyncContextManager[Any], *error: Any) -> bool | None:
    return await manager.__aexit__(*error)


def _iterated(items: AsyncIterator[T]) -> Iterator[T]:
    """An async iterator as a blocking one; some items are fetched at once."""
    try:
        while batch := run(_some(items)):
            yield from batch
            if len(batch) < _ITEMS:
                return
    finally:
        close = getattr(items, "aclose", None)
        if close is not None:
            run(close())


async def _some(items: AsyncIterator[T]) -> list[T]:
    batch: list[T] = []
    async for item in items:
        batch.append(item)
        if len(batch) == _ITEMS:
            break
    return batch


def blocking(result: Any) -> Any:
    """What a method of the async face returned, for a caller that blocks."""
    if inspect.iscoroutine(result):
        return _face(run(result))
    if isinstance(result, AbstractAsyncContextManager):
        return _entered(result)
    if isinstance(result, AsyncIterator):
        return _iterated(result)
    return result


# ------------------------------------------------------------------------------------------------------------- the class


_CALLBACKS = {"callback", "progress"}
"""Arguments that are called."""


def _call(method: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Call a method of the async face; its callbacks are called in this thread."""
    given = inspect.signature(method).bind(*args, **kwargs)
    callbacks = {name: given.arguments[name] for name in _CALLBACKS & given.arguments.keys() if callable(given.arguments[name])}
    if not callbacks:
        return blocking(method(*args, **kwargs))

    def start(relay: Callable[..., Any]) -> Any:
        given.arguments.update({name: relay(callback) for name, callback in callbacks.items()})
        return method(*given.args, **given.kwargs)

    return run_calling_back(start)


class AbstractJobStore:
    """A job store, blocking: `AbstractJobStore(locator)`, then `initialize` or `resume`. Options as the async one has them."""

    def __init__(self, locator: str | os.PathLike[str], **options: Any) -> None:
        self._given = (os.fspath(locator), options)
        self._held = (os.getpid(), abstract.AbstractJobStore(locator, **options))
        self._opened = False

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """Every public name of `abstract.AbstractJobStore` and of `aliases.ALIASES`."""

    @classmethod
    def create_job_store(cls, locator: str | os.PathLike[str]) -> AbstractJobStore:
        """The job store at a locator; nothing is created or looked at yet."""
        return cls(locator)

    createJobStore = create_job_store

    def _store(self) -> abstract.AbstractJobStore:
        """The async store of this process: in a forked child another one than in its parent."""
        pid, store = self._held
        if pid != os.getpid():
            locator, options = self._given
            store = abstract.AbstractJobStore(locator, **options)
            self._held = (os.getpid(), store)
            if self._opened:
                run(store.resume())
        return store

    def __enter__(self) -> AbstractJobStore:
        return self

    def __exit__(self, *error: object) -> None:
        run(self._store().close())

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._given[0]!r})"

    def __reduce__(self) -> Any:
        return _again, (type(self), self._given, self._opened)


def _again(cls: type[AbstractJobStore], given: tuple[str, dict[str, Any]], opened: bool) -> AbstractJobStore:
    """What pickle makes of a store: another hold on the same one."""
    store = cls(given[0], **given[1])
    if opened:
        store.resume()
    return store


_OPENED_BY = {"initialize": True, "resume": True, "close": False, "destroy": False}
"""Whether a forked child, or who unpickles the store, must resume it."""


def _method(name: str, like: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(like)
    def method(self: AbstractJobStore, *args: Any, **kwargs: Any) -> Any:
        result = _call(getattr(self._store(), name), args, kwargs)
        self._opened = _OPENED_BY.get(name, self._opened)
        return result

    del method.__wrapped__  # inspect would take this for a coroutine function
    method.__signature__ = inspect.signature(like)  # type: ignore[attr-defined]  # what help() shows
    return method


def _class_method(name: str, like: Callable[..., Any]) -> Any:
    def method(cls: type[AbstractJobStore], *args: Any, **kwargs: Any) -> Any:
        return _call(getattr(abstract.AbstractJobStore, name), args, kwargs)

    method.__name__, method.__doc__ = name, like.__doc__
    method.__signature__ = inspect.signature(like)  # type: ignore[attr-defined]  # what help() shows
    return classmethod(method)


def _property(name: str, like: property) -> property:
    def get(self: AbstractJobStore) -> Any:
        return getattr(self._store(), name)

    def put(self: AbstractJobStore, value: Any) -> None:
        setattr(self._store(), name, value)

    return property(get, put if like.fset is not None else None, doc=like.__doc__)


def _old(old: str, alias: Alias) -> Callable[..., Any]:
    def method(self: AbstractJobStore, *args: Any, **kwargs: Any) -> Any:
        return getattr(self, alias.name)(**alias.translate(self, args, kwargs))

    method.__name__, method.__qualname__ = old, f"AbstractJobStore.{old}"
    method.__doc__ = f"Toil's old name of `{alias.name}`."
    method.__signature__ = alias.signature  # type: ignore[attr-defined]  # what help() shows
    return method


def _fill() -> None:
    """Give the class a blocking twin of every public member of the async one, and Toil's old names."""
    for name in dir(abstract.AbstractJobStore):
        if name.startswith("_") or name in vars(AbstractJobStore):
            continue
        member = inspect.getattr_static(abstract.AbstractJobStore, name)
        made: Any = member
        if isinstance(member, classmethod | staticmethod):
            made = _class_method(name, member.__func__)
        elif isinstance(member, property):
            made = _property(name, member)
        elif callable(member):
            made = _method(name, member)
        setattr(AbstractJobStore, name, made)
    for old, alias in ALIASES.items():
        setattr(AbstractJobStore, old, _old(old, alias))


_fill()


class JobStoreSupport(AbstractJobStore):
    """For its class methods only: URLs that belong to no job store."""


FileJobStore = AWSJobStore = GoogleJobStore = AbstractJobStore
"""Toil's classes for one kind of place each: here the locator decides."""


def open_store(locator: str | os.PathLike[str], *, create: bool = False, config: Any = None) -> AbstractJobStore:
    """The job store at this locator, connected; with `create`, made where there is none. NoSuchJobStoreException."""
    store = AbstractJobStore(locator)
    if create:
        with suppress(JobStoreExistsException):
            store.initialize(Config() if config is None else config)
            return store
    store.resume()
    return store
