"""A leader as a service: claim the store, restore the core, listen, watch workers' processes, answer drivers.

The Ray actor and the in-process run are both this class with another way to start workers. Who may claim is rule R8: a leader
whose process is provably dead is replaced at once; one that is provably alive only with `takeover`; of any other the head of
the journal must stand still for a whole lease first.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import os
import uuid
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Protocol

import msgspec

from towline.actors import answers, endpoint, news, stream
from towline.actors.clock import SystemClock
from towline.actors.config import LeaderConfig
from towline.actors.identity import host_id, kill, open_pidfd, start_time
from towline.actors.perform import Performer
from towline.actors.standing import at_rest
from towline.engine import events as ev
from towline.engine import model
from towline.engine.core import LeaderCore
from towline.engine.errors import FencedError, TowlineError, UsageError
from towline.engine.graph import NIL
from towline.stores import replay
from towline.stores.journal.reader import JournalReader
from towline.stores.journal.writer import JournalWriter
from towline.stores.store import Store

CHECK_S = 1.0
"""How often an idle leader looks whether it was replaced (an append finds out by itself)."""

LOOKS = 6
"""Where each look is a request, there are only so many in the length of a lease."""

SAY_S = 1.0
"""A key is overwritten no more often than this: GCS takes about one write of an object a second."""

CLOSE_S = 10.0
"""How long a closing leader waits for its workers to be gone."""

logger = logging.getLogger("towline")

_unpack = msgspec.msgpack.decode
_pack = msgspec.msgpack.encode


class Link(Protocol):
    """A way to one peer."""

    worker: str

    def send(self, frame: bytes) -> None: ...

    def close(self) -> None: ...


@functools.cache
def towline_version() -> str:
    """The installed version; looked up once, because that reads and parses a file."""
    try:
        return version("towline")
    except PackageNotFoundError:
        return "0"


class LeaderService:
    """See the module. Lives in one event loop."""

    def __init__(
        self,
        store: Store,
        config: LeaderConfig,
        *,
        on_roster: Callable[[], None] | None = None,
        asks_may_repeat: bool = False,
        name: str = "",
    ) -> None:
        """`on_roster` hears of workers that come and go; `asks_may_repeat` says that drivers may ask again what an earlier
        incarnation of this leader was asked (Ray repeats the calls that a restart cut off). `name` goes into the journal, the
        same for all incarnations; a new one by default."""
        self.store = store
        self.name = name or uuid.uuid4().hex
        self.config = config
        self.clock = SystemClock()
        self.endpoint: endpoint.Endpoint | None = None
        self.links: dict[str, Link] = {}
        self._on_roster = on_roster or (lambda: None)
        self._asks_may_repeat = asks_may_repeat
        self._touching: Link | None = None
        """Where the Touch that is being fed came from; the answer goes back there (a supervisor has its own stream)."""
        self._watched: dict[str, list[int]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: stream.StreamServer | None = None
        self._socket_dir = endpoint.make_socket_dir()
        self._writer: JournalWriter | None = None
        self._performer: Performer | None = None
        self._said_at = float("-inf")
        """When `leader.json` was written last (boot clock)."""
        self._snapshot_at = 0
        self._loose_at = 0
        """Number of the last segment when old ones were put together last."""
        self._snapshotting = False

    @property
    def performer(self) -> Performer:
        """The running loop; there is one between `start` and `stop`."""
        assert self._performer is not None, "the service has not been started"
        return self._performer

    @property
    def core(self) -> LeaderCore:
        """The running core."""
        return self.performer.core

    # ------------------------------------------------------------------------------------------------- start, stop

    async def start(
        self, *, takeover: bool, actor: str = "", address: str = "", successor_of: str = "", driver: tuple[int, float] = (0, 0.0)
    ) -> None:
        """Claim and restore, then listen and write `leader.json`. The leader of the name `successor_of` is known to be dead;
        `driver` is pid and start time of the process that this leader ends with.

        Raises:
            StoreLocked: somebody else leads (or may lead) and `takeover` was not given.
        """
        core = await self._claim(takeover, successor_of)
        assert self._writer is not None
        leader = self.name
        host = host_id()
        now = self.clock.now()
        started = start_time(os.getpid())
        led = model.Led(
            self._writer.epoch, leader, host.host, host.boot_id, host.pid_namespace, os.getpid(), started, now.wall,
            self.config.lease_s,
        )  # fmt: skip
        core.touch_s = self.config.touch_s
        # a leader that gathers must still append often enough to keep its authority (R1)
        delay_s = min(self.config.commit_delay_ms / 1000, self.config.lease_s / 12)
        self._performer = Performer(core, self._writer, self.clock, send=self._send, kill=self._kill, commit_delay_s=delay_s)
        opened = [] if core.ledger.next_seq else [model.Opened(self.store.uuid, towline_version(), now.wall)]
        token = endpoint.secure_token()
        path = self._socket_dir / endpoint.SOCKET
        self._server = stream.StreamServer(token, self.on_frame, self.on_close)
        await self._server.start(path)
        self.endpoint = endpoint.Endpoint(
            str(path), token, self._writer.epoch, os.getpid(), started, host.host, host.boot_id, host.pid_namespace,
            actor, address, *driver,
        )  # fmt: skip
        self.performer.start(led, opened)
        for joined in list(core.ledger.roster.values()):
            self._watch(joined)
        await self.performer.barrier()
        await self._publish()
        self._spawn(self._look_around(), "towline-check")

    async def _claim(self, takeover: bool, successor_of: str) -> LeaderCore:
        reader = await JournalReader.open(self.store.objects)
        core = await replay.restore(self.store, reader)
        expected: int | None = None
        if not takeover and await at_rest(self.store, reader, core.ledger, self.clock, successor_of=successor_of):
            expected = reader.last_segment
        writer = self._writer = await JournalWriter.claim(
            self.store.objects, nonce=os.urandom(16), leader=str(os.getpid()), segment_bytes=self.config.segment_bytes,
            expected_head=expected, reader=reader,
        )  # fmt: skip
        self._loose_at = reader.compacted
        async for seq, payload in writer.reader.records(core.ledger.next_seq):
            core.replay(seq, payload)
        core.settle()
        return core

    async def begin_to_close(self) -> None:
        """Grant nothing more, and tell the workers to stop. `close` is to follow."""
        if self._performer is not None:
            self.performer.feed(ev.Closing(0))

    async def close(self, patience_s: float | None = None) -> None:
        """Stop the workers, record Closed, let go of everything. Safe to call twice.

        A body that does not end within `patience_s` (CLOSE_S) is left to its lease: the store is then as after a crash.
        """
        try:
            if self._performer is not None and not self.performer.finished.is_set():
                self.performer.feed(ev.Closing(0))
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self.performer.finished.wait(), CLOSE_S if patience_s is None else patience_s)
        finally:
            await self.drop()

    async def drop(self) -> None:
        """Let go of sockets, tasks and files; what the journal says stays as it is."""
        async with contextlib.AsyncExitStack() as stack:  # each of these, whatever becomes of the others
            stack.push_async_callback(self.store.close)
            if self._writer is not None:
                stack.push_async_callback(self._writer.close)
            stack.callback(endpoint.drop_socket_dir, self._socket_dir)
            stack.push_async_callback(self._take_back_endpoint)
            if self._server is not None:
                stack.push_async_callback(self._server.close)
            stack.callback(self._watch_nobody)
            if self._performer is not None:
                stack.push_async_callback(self._performer.aclose)
            for task in list(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _take_back_endpoint(self) -> None:
        if self.endpoint is not None:
            if not self.store.objects.appendable:
                await asyncio.sleep(max(0.0, self._said_at + SAY_S - self.clock.now().mono))
            with contextlib.suppress(TowlineError):  # it is a hint, and the store may be what failed
                await self.store.drop_endpoint(endpoint.encode(self.endpoint))

    def _watch_nobody(self) -> None:
        for fds in self._watched.values():
            for fd in fds:
                asyncio.get_running_loop().remove_reader(fd)
                os.close(fd)
        self._watched.clear()

    def _spawn(self, coroutine: Any, name: str) -> None:
        task = asyncio.get_running_loop().create_task(coroutine, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _look_around(self) -> None:
        """Find out that somebody else leads although there is nothing to append; make snapshots now and then."""
        assert self._writer is not None
        free = self.store.objects.appendable
        every_s, seen = CHECK_S if free else max(CHECK_S, self.config.lease_s / LOOKS), -1
        while not self.performer.finished.is_set():
            await asyncio.sleep(every_s)
            try:
                if free or self.performer.commits == seen:
                    await self._writer.check()  # else a commit went through since, which proves more than this look
                seen = self.performer.commits
                await self._publish()
            except FencedError as error:
                self.performer.over(error)
                return
            except TowlineError:
                continue  # the store cannot be asked now; the next commit is what must not fail
            if self._wants_snapshot() and not self._snapshotting:
                self._snapshot_at = self.performer.committed_bytes
                self._loose_at = self._writer.reader.last_segment
                self._snapshotting = True
                self._spawn(self._snapshot(), "towline-snapshot")

    def _wants_snapshot(self) -> bool:
        """Has the journal grown enough, in bytes or in segments, to be folded?"""
        assert self._writer is not None
        config, performer = self.config, self.performer
        grown, segments = performer.committed_bytes - self._snapshot_at, self._writer.reader.last_segment - self._loose_at
        return (0 < config.snapshot_bytes < grown) or (0 < config.snapshot_segments < segments)

    async def _publish(self) -> None:
        """Say where this leader listens. Repeated, because one that was frozen may write its own word over it late."""
        assert self.endpoint is not None
        mine = endpoint.encode(self.endpoint)
        said = await self.store.get_endpoint()
        there = endpoint.decode(said) if said else None
        if said != mine and (there is None or there.epoch <= self.endpoint.epoch):
            await self.store.put_endpoint(mine)
            self._said_at = self.clock.now().mono

    async def _snapshot(self) -> None:
        from towline.stores import snapshots

        try:
            await self.performer.barrier()
            made = await snapshots.make_in_subprocess(self.store.url, self._committed_seq())
        except TowlineError:
            return  # the journal holds everything; the next one is tried after as many bytes again
        finally:
            self._snapshotting = False
        self.performer.feed(ev.SnapshotMade(made.seq, made.key, made.digest))

    def _committed_seq(self) -> int:
        assert self._writer is not None
        return self._writer.next_seq

    # ------------------------------------------------------------------------------------------------- frames

    def on_frame(self, link: Link, data: bytes) -> None:
        """A frame of a worker, a supervisor or a client."""
        try:
            frame = model.decode_to_leader(data)
        except msgspec.DecodeError:
            link.close()
            return
        if isinstance(frame, model.Ask):
            self._spawn(self._answer(link, frame), "towline-answer")
            return
        if isinstance(frame, model.Touch):
            self._touching = link
            try:
                self.performer.feed(ev.Said(frame))
            finally:
                self._touching = None
            return
        if isinstance(frame, model.Hello):
            session = self.core.sessions.get(frame.worker)
            if session is not None and frame.stream < session.stream:
                return  # it comes late, on a stream that the worker has given up: it must not take the link over
            link.worker = frame.worker
            self.links[frame.worker] = link
        self.performer.feed(ev.Said(frame))
        if isinstance(frame, model.Hello):
            joined = self.core.ledger.roster.get(frame.worker)
            if joined is not None:
                self._watch(joined)
            self._on_roster()
        elif isinstance(frame, model.Goodbye):
            self._on_roster()

    def on_close(self, link: Link) -> None:
        """A stream broke."""
        if link.worker and self.links.get(link.worker) is link:
            del self.links[link.worker]
            self.performer.feed(ev.Disconnected(link.worker))

    def _send(self, worker: str, frame: model.ToWorker) -> None:
        link = self.links.get(worker)
        if isinstance(frame, model.Touched | model.Refused) and self._touching is not None:
            link = self._touching
        if link is not None:
            link.send(model.encode(frame))

    # ------------------------------------------------------------------------------------------------- processes

    def _watch(self, joined: model.Joined) -> None:
        """Be told when the worker's process and its supervisor are gone: the proof that its lease is over."""
        host = host_id()
        if joined.worker in self._watched or (host.boot_id, host.pid_namespace) != (
            joined.boot_id,
            joined.pid_namespace,
        ):
            return
        fds: list[int] = []
        for pid, started in ((joined.pid, joined.started), (joined.supervisor_pid, joined.supervisor_started)):
            if pid == os.getpid():
                continue  # an in-process worker ends with its leader
            try:
                fd = open_pidfd(pid, started)
            except OSError:  # no descriptor is left: its lease will tell, which takes longer
                for other in fds:
                    os.close(other)
                return
            if fd is not None:
                fds.append(fd)
        self._watched[joined.worker] = fds
        if joined.pid == os.getpid() and joined.started == start_time(os.getpid()):
            return
        for fd in fds:
            asyncio.get_running_loop().add_reader(fd, self._ended, joined.worker, fd)
        if not fds:
            self._died(joined.worker)

    def _ended(self, worker: str, fd: int) -> None:
        asyncio.get_running_loop().remove_reader(fd)
        os.close(fd)
        fds = self._watched[worker]
        fds.remove(fd)
        if not fds:
            self._died(worker)

    def _died(self, worker: str) -> None:
        self._watched.pop(worker, None)
        self.links.pop(worker, None)
        self.performer.feed(ev.WorkerDied(worker, "its process is gone"))
        self._on_roster()

    def _kill(self, worker: str, why: str) -> None:
        """End a worker's process on this host; its supervisor ends what it started. Elsewhere its lease runs out."""
        joined = self.core.ledger.roster.get(worker)
        host = host_id()
        if joined is None or joined.pid == os.getpid():
            link = self.links.get(worker)
            if link is not None:
                link.send(model.encode(model.Refused(why)))
            return
        same = (host.boot_id, host.pid_namespace) == (joined.boot_id, joined.pid_namespace)
        if same:
            with contextlib.suppress(OSError):  # not ours to kill: its lease runs out
                kill(joined.pid, joined.started)
        elif (link := self.links.get(worker)) is not None:
            link.send(model.encode(model.Refused(why)))

    # ------------------------------------------------------------------------------------------------- asking

    async def _answer(self, link: Link, ask: model.Ask) -> None:
        try:
            value = await self.ask(ask.verb, _unpack(ask.payload) if ask.payload else None)
            reply = model.Answer(ask.number, True, _pack(value))
        except TowlineError as error:
            reply = model.Answer(ask.number, False, _pack([type(error).__name__, str(error)]))
        except Exception as error:  # whoever asked must not wait for ever
            logger.exception("the question %r was not answered", ask.verb)
            said = f"the question {ask.verb!r} cannot be answered: {type(error).__name__}: {error}"
            reply = model.Answer(ask.number, False, _pack(["UsageError", said]))
        link.send(model.encode(reply))

    async def ask(self, verb: str, payload: Any = None) -> Any:
        """Do what a driver asks. Raises TowlineError with a sentence."""
        performer = self.performer
        match verb:
            case "submit":
                if not isinstance(payload, bytes):
                    raise UsageError(f"a submission is bytes (a chunk), not {type(payload).__name__}")
                return await performer.told(lambda token: ev.Submitted(token, payload, self._asks_may_repeat))
            case "wait":
                await performer.idle(float(payload["timeout_s"]))
                performer.refuse_if_over()  # whoever waits must not hear "running" for ever
                return await self.ask("status", payload)
            case "cancel":
                return await performer.told(lambda token: ev.Steer(token, "stop"))
            case "close":
                performer.feed(ev.Closing(0))
                await performer.finished.wait()
                return None
            case "read":
                assert self._writer is not None
                await performer.barrier()
                return [await self._writer.reader.read(model.Location(*place)) for place in payload]
            case "stop":
                return await self._stop([str(uuid) for uuid in payload["uuids"]])
            case "outcomes":
                return await self._outcomes(int(payload["after"]), float(payload["timeout_s"]))
            case "filed":
                assert self._writer is not None
                return await answers.filed(self.core, _Committed(performer, self._writer), payload)
        if verb not in answers.QUESTIONS:
            raise UsageError(f"the leader knows no verb {verb!r}")
        assert self._writer is not None
        if verb == "status":
            value = answers.status(self.core, answers.flow_in(payload))
            await performer.barrier()
            return value | {"store": self.store.url}
        await performer.barrier()
        value = await answers.answer(self.core, _Committed(performer, self._writer), verb, payload)
        await performer.barrier()  # the core may have gone on while this was put together (R5)
        return value

    async def _stop(self, uuids: list[str]) -> dict[str, list[str]]:
        """Stop those of these jobs that nobody runs."""
        graph = self.core.ledger.graph
        rows = [row for row in map(graph.find, uuids) if row != NIL]
        said: Any = await self.performer.told(lambda token: ev.Steer(token, "stop", rows))
        return {"stopped": [graph.uuid(row) for row in said["stopped"]]}

    async def _outcomes(self, after: int, timeout_s: float) -> dict[str, Any]:
        """What has ended from record `after` on, as soon as anything has (`actors.news`); a negative one asks where to begin."""
        assert self._writer is not None
        until = self.clock.now().mono + timeout_s
        found = news.News(max(after, 0), [], False)
        while after >= 0 and not (found.ended or found.look):
            found = await news.since(self.core.ledger.graph, self._writer.reader, found.next, self._writer.next_seq)
            left_s = until - self.clock.now().mono
            idle = not (found.ended or found.look) and found.next >= self._writer.next_seq
            if idle and (left_s <= 0 or not await self.performer.moved(left_s)):
                break
        return found._asdict() if after >= 0 else {"next": self._writer.next_seq, "ended": [], "look": False}


class _Committed:
    """The journal's reader, for answers: what is not committed yet is waited for."""

    def __init__(self, performer: Performer, writer: JournalWriter) -> None:
        self._performer = performer
        self._writer = writer

    async def read(self, location: model.Location) -> bytes:
        await self._until(location.seq)
        return await self._writer.reader.read(location)

    async def payload(self, seq: int) -> bytes:
        await self._until(seq)
        return await self._writer.reader.payload(seq)

    async def _until(self, seq: int) -> None:
        if seq >= self._writer.next_seq:
            await self._performer.barrier()
