"""A leader's core and several workers' cores joined by lines in memory, with an oracle that watches the bodies.

The lines keep order and lose nothing while they are up; when one breaks, all that is on it is gone. Commits, deliveries,
bodies, time, deaths and takeovers happen when the caller says so, which makes every interleaving of them a test. Checked on
the way: two bodies of one job never overlap (P2), nothing begins after a worker's deadline (R1), a place named in a lease is
durable, a committed outcome was computed from the committed outcomes of its parents (R3) and is the only one (P3), and the
live state equals what a restart would make of the records.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import msgspec

from tests.kit.builders import chunk, identity, uuid_of
from tests.kit.desk import Desk
from tests.kit.naive import Naive
from towline.engine import events as ev
from towline.engine import model
from towline.engine.core import LeaderCore
from towline.engine.image import Image, Small
from towline.engine.ledger import slice_of
from towline.engine.states import HELD, JobState
from towline.engine.worker import Todo, WorkerCore

LEASE_S = 10.0


@dataclass
class Script:
    """What the body of a job does."""

    fails: int = 0
    """Its first so many attempts fail."""
    kind: str = "plain"


@dataclass
class Hand:
    """A worker: its core, its line, the body that it runs."""

    name: str
    core: WorkerCore
    up: bool = False
    dead: bool = False
    inbox: deque[model.ToWorker] = field(default_factory=deque)
    outbox: deque[model.ToLeader] = field(default_factory=deque)
    todo: Todo | None = None


class Harbour:
    """See the module."""

    def __init__(self) -> None:
        self.desk = Desk(auto=False, lease_s=LEASE_S)
        self.hands: dict[str, Hand] = {}
        self.chunks: dict[str, list[model.Chunk]] = {}
        self.scripts: dict[tuple[bytes, int], Script] = {}
        self.running: dict[int, str] = {}
        """Row to the worker whose body of it runs now."""
        self.used: dict[tuple[int, int, int], list[tuple[int, bytes]]] = {}
        """(row, epoch, counter) to the (parent, bytes) that its body was given."""
        self.minted = 0
        self.stop_token = 0

    @property
    def core(self) -> LeaderCore:
        return self.desk.core

    # ---- the leader

    def feed(self, event: ev.Event) -> None:
        self.desk.feed(event)
        self._spread()

    def _spread(self) -> None:
        """What the leader sent goes on the lines that are up; whom it wants killed dies."""
        sent, self.desk.sent = self.desk.sent, []
        for worker, frame in sent:
            hand = self.hands[worker]
            if hand.up:
                hand.inbox.append(frame)
        kills, self.desk.kills = self.desk.kills, []
        for worker in kills:
            self.kill(self.hands[worker], proof=True)

    def commit(self, count: int) -> None:
        """`count` more appends are durable; their write began when the core last heard of one."""
        self.desk.commit(min(self.core.committed + count, self.desk.appended))
        self._spread()

    def fail_over(self, extra: int) -> None:
        """The leader dies; `extra` of its uncommitted records made it to the store. Its successor knows nothing else."""
        keep = self.desk.base + self.core.committed + extra
        self.desk = self.desk.successor(epoch=self.core.epoch + 1, keep=keep, auto=False, lease_s=LEASE_S)
        for hand in self.hands.values():
            self.disconnect(hand)
        self.check_image()

    def submit_next(self, flow: str) -> None:
        """The next chunk of a flow that the store does not hold."""
        known = self.core.ledger.flows.get(flow)
        added = known.added if known else 0
        for one in self.chunks[flow]:
            if one.base == added and one.count:
                self.desk.submit(one)
                self._spread()

    # ---- time

    def advance(self, seconds: float) -> None:
        """Time passes in steps that let supervisors touch and kill."""
        left = seconds
        while left > 0:
            step = min(left, LEASE_S / 5)
            left -= step
            self.desk.mono += step
            for hand in self.living():
                if hand.todo is not None and self.desk.mono >= hand.core.deadline:
                    self.kill(hand, proof=False)  # its supervisor does it
                elif hand.up:
                    hand.outbox.append(hand.core.touch(self.desk.mono))
                    self._say(hand, hand.core.tick(self.desk.mono))
            at = self.core.next_deadline()
            if at is not None and at <= self.desk.mono:
                self.feed(ev.Tick())

    # ---- workers

    def living(self) -> list[Hand]:
        return [hand for hand in self.hands.values() if not hand.dead]

    def hire(self) -> Hand:
        name = f"w{len(self.hands)}"
        hand = self.hands[name] = Hand(name, WorkerCore(identity(name)))
        self.connect(hand)
        return hand

    def connect(self, hand: Hand) -> None:
        if not hand.up and not hand.dead:
            hand.up = True
            self._say(hand, hand.core.connected(self.desk.mono))

    def disconnect(self, hand: Hand) -> None:
        hand.up = False
        hand.inbox.clear()
        hand.outbox.clear()
        hand.core.disconnected()

    def _say(self, hand: Hand, frames: list[model.ToLeader]) -> None:
        if hand.up:
            hand.outbox += frames
        else:
            assert not frames, "a worker that is cut off says nothing"

    def hear(self, hand: Hand) -> None:
        """The worker takes one frame off its line."""
        if hand.inbox:
            self._say(hand, hand.core.received(hand.inbox.popleft(), self.desk.mono))
            if hand.core.refused:
                self.kill(hand, proof=True)

    def listen(self, hand: Hand) -> None:
        """The leader takes one frame off the worker's line."""
        if hand.outbox:
            frame = hand.outbox.popleft()
            assert not isinstance(frame, model.Ask)
            self.feed(ev.Said(frame))

    def kill(self, hand: Hand, *, proof: bool) -> None:
        """The worker's processes end; with `proof` the leader is told."""
        if hand.dead:
            return
        hand.dead = True
        self.disconnect(hand)
        self.running = {row: name for row, name in self.running.items() if name != hand.name}
        if proof:
            self.feed(ev.WorkerDied(hand.name, "killed"))

    # ---- bodies

    def begin(self, hand: Hand) -> None:
        if hand.todo is not None or hand.dead:
            return
        todo = hand.todo = hand.core.next_job(self.desk.mono)
        if todo is None:
            return
        row = todo.job.row
        assert self.desk.mono < hand.core.deadline, "R1: a body begins after the deadline"
        assert row not in self.running, f"P2: row {row} begins on {hand.name} while {self.running[row]} runs it"
        self.running[row] = hand.name
        self.used[row, todo.epoch, todo.job.counter] = [
            (given.row, self._bytes_of(given, got)) for given, got in zip(todo.job.inputs, todo.inputs, strict=True)
        ]

    def _bytes_of(self, given: model.Input, got: bytes | model.Input | None) -> bytes:
        if isinstance(got, bytes):
            return got
        if isinstance(got, model.Input):
            return b"missing"
        assert given.place is not None, f"the input {given.row} is nowhere"
        place = model.Location(*given.place)
        assert place.seq < self.desk.base + self.core.committed, "a place that is not durable"
        return slice_of(self.desk.log[place.seq], place)

    def finish(self, hand: Hand) -> None:
        todo = hand.todo
        if todo is None or hand.dead:
            return
        hand.todo = None
        job, now = todo.job, self.desk.mono
        del self.running[job.row]
        script = self.scripts[job.uuid, job.index]
        output = f"{job.row}@{todo.epoch}.{job.counter}".encode()
        if job.attempt <= script.fails:
            why = model.Failure("error", "scripted")
            self._say(hand, hand.core.ended(job, model.Ending(job.row, job.counter, failure=why), now))
        elif script.kind == "plain":
            self._say(hand, hand.core.completed(job, output, now, 0.001, now))
        else:
            ending = model.Ending(job.row, job.counter, output, growth=self._growth(job, script.kind))
            self._say(hand, hand.core.ended(job, ending, now))

    def _growth(self, job: model.LeasedJob, kind: str) -> model.Growth | None:
        if kind == "stored":
            return None
        if kind in ("stop_children", "stop_jobflow"):
            return model.Growth(stop_children=kind == "stop_children", stop_jobflow=kind == "stop_jobflow")
        own = self._own_uuid(job)
        self.minted += 2
        fresh = [uuid_of(self.minted, 99), uuid_of(self.minted + 1, 99)]
        if kind == "heir":
            # the first takes the own output of the job that it replaces a part of
            part = chunk([[model.EXTERNAL], [0]], uuids=[fresh[0], own], indices=[1, job.index + 1], externals=[(own, 0)])
            self.scripts[self.key_of(own), job.index + 1] = Script()
            self.scripts[self.key_of(fresh[0]), 1] = Script()
            return model.Growth(replace=part, heir=1)
        part = chunk([[model.EXTERNAL], []], uuids=fresh, externals=[(own, job.index)])
        for name in fresh:
            self.scripts[self.key_of(name), 1] = Script(fails=self.minted % 3 == 0)
        return model.Growth(**{kind: part})  # type: ignore[arg-type]  # replace, detour or addition

    def _own_uuid(self, job: model.LeasedJob) -> str:
        return self.core.ledger.graph.uuid(job.row)

    @staticmethod
    def key_of(uuid: str) -> bytes:
        return bytes.fromhex(uuid.replace("-", ""))

    # ---- checks

    def check_image(self) -> None:
        """What lives equals what a restart makes of the records, which equals what the records mean."""
        restored = LeaderCore.restore(None, enumerate(self.desk.log))
        assert durable(restored.image()) == durable(self.core.image())
        assert LeaderCore.restore(self.core.image(), []).image() == self.core.image()
        graph, naive = self.core.ledger.graph, Naive()
        for payload in self.desk.log:
            naive.apply(model.decode_record(payload))
        assert list(graph.pending) == [naive.pending(row) for row in range(graph.size)]
        assert {job.completions for job in naive.jobs} <= {0, 1}, "P3: one outcome a job"
        for state in JobState:
            assert self.core.ledger.counts[state] == graph.state.count(state)
        for row, job in enumerate(naive.jobs):
            assert [graph.edge_parent[e] for e in graph.parent_edges(row)] == [edge.parent for edge in job.parents]
        self._check_inputs(naive)

    def _check_inputs(self, naive: Naive) -> None:
        """R3: a committed outcome came from the committed outcomes of its parents, or from none where that is allowed."""
        for row, job in enumerate(naive.jobs):
            for parent, data in self.used.get((row, *job.attempt), []) if job.completions else []:
                assert data == b"missing" or data == naive.jobs[parent].output, f"row {row} rests on a lost outcome"

    def settle(self) -> Naive:
        """No more faults: everything that can end does."""
        for count in range(200):
            if count > 2 and self.core.idle() and not self._busy():
                break
            self.turn()
        else:
            raise AssertionError(f"the run does not come to rest: {self.desk.states()} {self.core.sessions.keys()}")
        self.check_image()
        naive = Naive()
        for payload in self.desk.log:
            naive.apply(model.decode_record(payload))
        return naive

    def _busy(self) -> bool:
        graph = self.core.ledger.graph
        return any(h.inbox or h.outbox or h.todo for h in self.living()) or any(s in HELD for s in graph.state)

    def turn(self) -> None:
        """Half a second in which everything works: workers join again, run what they hold, and are heard."""
        self.advance(0.5)
        for flow in self.chunks:
            if not self.stop_token:
                self.submit_next(flow)
        if not self.living():
            self.hire()
        for hand in self.living():
            self.connect(hand)
            self.finish(hand)
            for _ in range(100):
                self.hear(hand)
                self.begin(hand)
                self.finish(hand)
                self.listen(hand)
                self.commit(10)


def durable(image: Image) -> tuple[object, ...]:
    """The part of an image that the journal determines: not the attempts of jobs that have not ended, nor a retry's time."""
    columns = {name: bytearray(data) for name, data in image.columns.items()}
    for row, state in enumerate(columns["state"]):
        if state == JobState.DELAYED:
            columns["state"][row] = JobState.WAITING
        if state not in (JobState.COMPLETED, JobState.FAILED):
            for name in ("epoch", "counter"):
                columns[name][4 * row : 4 * row + 4] = bytes(4)
    small = msgspec.msgpack.decode(image.small, type=Small)
    small.until = []
    return image.seq, image.rows, image.edges, columns, image.blobs, small
