"""Streams between simulated processes, with what a stream promises and no more.

Within one stream and direction frames arrive in order and once, after any delay. A stream breaks as a whole: what is under way
is lost, or (towards an end that has not noticed yet) still arrives, late, when a newer stream of the same peer may already
have delivered; each end learns of the break in its own time. Nothing crosses from one stream to another. A machine that is cut
off stalls its streams; they go on after the cut is healed, or break.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import msgspec

from tests.simulation.world import Host, Process, World


class Owner(Protocol):
    """One end's protocol."""

    def on_frame(self, end: End, data: bytes) -> None: ...

    def on_close(self, end: End) -> None: ...


TICK_S = 1e-6
"""Frames of one stream arrive at least this far apart."""


class Frame:
    """A frame's words, decoded only if somebody reads the story."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def __str__(self) -> str:
        words = msgspec.msgpack.decode(self._data)
        return str(words)[:160]


class End:
    """What one process holds of a stream."""

    __slots__ = ("_last", "closed", "number", "owner", "peer", "process", "stream", "worker")

    def __init__(self, stream: Stream, process: Process, owner: Owner) -> None:
        self.stream = stream
        self.process = process
        self.owner = owner
        self.peer: End = self
        self.closed = False
        """Has this end closed, or noticed the break?"""
        self.number = 0
        """What the worker called this stream in its Hello."""
        self.worker = ""
        """For the leader: who said Hello here."""
        self._last = 0.0

    def send(self, data: bytes) -> None:
        """Hand a frame to the kernel; nobody knows whether it will arrive."""
        process = self.process
        process.step("before a message is sent")
        if self.closed or self.stream.broken:
            return
        network = self.stream.network
        world = network.world
        now = world.loop.now
        # strictly later than the frame before: the loop's timers do not keep the order of equal times
        at = max(self._last + TICK_S, now + network.delay(self.process.host, self.peer.process.host))
        self._last = at
        world.loop.call_at(at, self._arrive, data)
        process.step("after a message is sent")

    def _arrive(self, data: bytes) -> None:
        stream, to = self.stream, self.peer
        if stream.broken and not stream.late_tail_of(self):
            stream.network.world.count("fault: message lost with its stream")
            return
        until = stream.network.cut_until(self.process.host, to.process.host)
        if until:
            self._last = max(self._last, until) + TICK_S
            stream.network.world.loop.call_at(self._last, self._arrive, data)
            return
        to.process.enter(to._deliver, data)

    def _deliver(self, data: bytes) -> None:
        if self.closed:
            return
        if self.stream.network.world.tracing:
            self.stream.network.world.note(
                "{} <- {} on {}: {}", self.process.name, self.peer.process.name, self.stream.number, Frame(data)
            )
        self.process.step("before a message is handled")
        self.owner.on_frame(self, data)
        self.process.step("after a message is handled")

    def close(self) -> None:
        """Hang up: the other end notices after what was sent has arrived."""
        if not self.closed:
            self.closed = True
            self.stream.break_(by=self)

    def notice(self) -> None:
        """This end learns that the stream is broken."""
        if not self.closed:
            self.closed = True
            if self.stream.network.world.tracing:
                self.stream.network.world.note("{} notices the end of stream {}", self.process.name, self.stream.number)
            self.owner.on_close(self)


class Stream:
    """A pair of ends."""

    def __init__(self, network: Network, a: Process, a_owner: Owner, b: Process, b_owner: Owner) -> None:
        self.network = network
        self.number = network.world.number()
        self.broken = False
        self._tail: End | None = None
        self.a = End(self, a, a_owner)
        self.b = End(self, b, b_owner)
        self.a.peer, self.b.peer = self.b, self.a
        network.streams[self] = None
        a.on_death(lambda: self.break_(by=self.a))
        b.on_death(lambda: self.break_(by=self.b))

    def late_tail_of(self, end: End) -> bool:
        """May what this end has sent before the break still arrive?"""
        return self._tail is end

    def break_(self, by: End | None = None) -> None:
        """The stream is over. With `by`, that end closed it in order: what it sent arrives before the end of the stream."""
        if self.broken:
            return
        self.broken = True
        if self.network.world.tracing:
            self.network.world.note("stream {} of {} breaks", self.number, self.a.process.name)
        self.network.streams.pop(self, None)
        world = self.network.world
        for end in (self.a, self.b):
            if end is by or not end.process.alive:
                continue
            delay = world.rng.uniform(0.0001, 0.002) if by else world.rng.expovariate(2.0)
            if by is not None:
                self._tail = by
                delay += max(0.0, by._last - world.now)
            elif end is self.b and world.chance(0.3):
                # the leader's end has not noticed, and its kernel still hands over what had arrived
                self._tail = self.a
                delay += max(0.0, self.a._last - world.now)
                world.count("fault: late tail of an old stream")
            world.loop.call_later(delay, end.process.enter, end.notice)


class Network:
    """Who can reach whom, and how fast."""

    def __init__(self, world: World, delay_s: float, slow: float, flaps: float = 0.0) -> None:
        self.world = world
        self.streams: dict[Stream, None] = {}
        self._delay_s = delay_s
        self._slow = slow
        """Share of messages that are delayed for long."""
        self._flaps = flaps
        """Share of streams that break as soon as they are used."""
        self._cuts: dict[tuple[str, str], float] = {}

    def delay(self, a: Host, b: Host) -> float:
        """Seconds that one message takes."""
        rng = self.world.rng
        if a is b:
            return rng.uniform(0.00003, 0.0005)
        if not self.world.calm and rng.random() < self._slow:
            self.world.count("fault: message delayed for long")
            return rng.expovariate(1.0)
        return self._delay_s * rng.uniform(0.3, 3.0)

    def cut(self, a: Host, b: Host, seconds: float) -> None:
        """Nothing passes between two machines for a while."""
        if a is b:
            return
        self.world.count("fault: partition")
        self.world.note("network: {} and {} are cut off from each other for {:.2f} s", a.name, b.name, seconds)
        key = (min(a.name, b.name), max(a.name, b.name))
        self._cuts[key] = max(self._cuts.get(key, 0.0), self.world.now + seconds)

    def heal(self) -> None:
        """All cuts end."""
        self._cuts.clear()

    def cut_until(self, a: Host, b: Host) -> float:
        """When the cut between two machines ends; 0.0 if there is none."""
        if a is b or not self._cuts:
            return 0.0
        until = self._cuts.get((min(a.name, b.name), max(a.name, b.name)), 0.0)
        return until if until > self.world.now else 0.0

    def break_some(self, share: float) -> None:
        """Streams break in the middle of whatever they carry."""
        for stream in list(self.streams):
            if self.world.chance(share):
                self.world.count("fault: stream broken")
                stream.break_()

    def connect(self, a: Process, a_owner: Owner, b: Process, b_owner: Owner, done: Callable[[End | None], None]) -> None:
        """Open a stream from `a`; `done` gets its end, or None when nobody answers. A frozen process's kernel answers."""

        def answer() -> None:
            if not b.alive or self.cut_until(a.host, b.host):
                done(None)
                return
            stream = Stream(self, a, a_owner, b, b_owner)
            if self._flaps and not self.world.calm and self.world.chance(self._flaps):
                self.world.count("fault: stream flaps")
                self.world.later(self.world.rng.uniform(0.0, 0.05), stream.break_)
            done(stream.a)

        a.later(self.delay(a.host, b.host), answer)
