"""The leader's whole logic: events in, effects out; the same class under Ray, in process and in the simulator.

It holds the Ledger (what the journal says) and lays over it what no journal needs to know: who is ready, who holds what until
when, which worker may have more. Nothing is told before it is committed: the shell holds back every `Tell` until the appends
before it are durable. Grants go out at once (early release, R3), but three kinds of job wait for the commit first: one that
was just added (another leader could give its row to another job), one that may have killed its worker (R9), and one whose
owner asked for it (`release="committed"`).

Bad input never raises: it is refused, and the refusal is told.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import assert_never

import msgspec

from towline.engine import effects as fx
from towline.engine import events as ev
from towline.engine import model, retries, ropes
from towline.engine.authority import Authority
from towline.engine.errors import SubmissionError
from towline.engine.events import Now
from towline.engine.granting import to_ask_back, write_lease
from towline.engine.graph import NIL, column
from towline.engine.image import Image, image_of, ledger_from
from towline.engine.leases import Session
from towline.engine.ledger import Ledger, is_whole
from towline.engine.outputs import OutputCache
from towline.engine.prices import Prices
from towline.engine.readiness import Readiness
from towline.engine.states import ACTIVE, HELD, FailureKind, JobState
from towline.engine.steering import Steering

S = JobState


class LeaderCore:
    """See the module. `ledger` may be read by the shell at any time; answers drawn from it wait for the commit (R5)."""

    def __init__(self, ledger: Ledger | None = None) -> None:
        self.ledger = ledger or Ledger()
        self.epoch = 0
        self.authority = Authority()
        self.touch_s = 15.0
        self.sessions: dict[str, Session] = {}
        self.appended = 0
        self.committed = 0
        self.refused_outcomes = 0
        """Outcomes of attempts that had been given up (P3)."""
        self._adopted: dict[int, model.Held] = {}
        """Rows held from an earlier leader, with the attempts their inputs came from (R3)."""
        self.readiness = Readiness(self.ledger)
        self._outputs = OutputCache()
        self._prices = Prices()
        self._counter = 0
        self._out: list[fx.Effect] = []
        self.steering = Steering(self.ledger, self.sessions, self._append, lambda effect: self._out.append(effect))
        self._now = Now(0.0, 0.0)
        self._appended_at = 0.0
        self._known_open: set[str] = set()
        self._idle_said = False
        self._stop_tokens: list[int] = []
        self._close_token: int | None = None
        self._finished = False

    # ------------------------------------------------------------------------------------------------- restore

    @classmethod
    def restore(cls, image: Image | None, records: Iterable[tuple[int, bytes]]) -> LeaderCore:
        """The core after `image` (a snapshot) and the records from `image.seq` on: the same path as a fresh start."""
        core = cls(ledger_from(image) if image else Ledger())
        for seq, payload in records:
            core.ledger.apply(seq, payload, model.decode_record(payload))
        core.settle()
        return core

    def replay(self, seq: int, payload: bytes) -> None:
        """One record of a restore that comes piece by piece; call `settle` after the last one."""
        self.ledger.apply(seq, payload, model.decode_record(payload))

    def settle(self) -> None:
        """All records are in: WAITING rows without a missing parent are READY."""
        self.readiness.settle()

    def image(self) -> Image:
        """What a snapshot keeps: the ledger alone."""
        return image_of(self.ledger)

    # ------------------------------------------------------------------------------------------------- the door

    def handle(self, event: ev.Event, now: Now) -> list[fx.Effect]:
        """One event at one time; the effects are to be carried out in this order."""
        self._now = now
        match event:
            case ev.Said(frame=frame):
                self._said(frame)
            case ev.Committed():
                self._committed(event)
            case ev.Submitted():
                self._submitted(event)
            case ev.WorkerDied():
                self._gone(event.worker, event.cause, blame=True)
            case ev.Disconnected():
                pass  # proves nothing; touches and the deadline decide
            case ev.Steer():
                self._steer(event)
            case ev.SnapshotMade():
                self._append(model.Snapshotted(event.seq, event.key, event.digest, now.wall))
            case ev.Closing():
                self._closing(event)
            case ev.Leading():
                self._leading(event.led)
            case ev.Tick():
                self._tick()
            case _:
                assert_never(event)
        self.steering.settle(now.wall)
        self._schedule()
        self._after()
        out, self._out = self._out, []
        return out

    def _said(self, frame: model.Hello | model.Pull | model.Touch | model.Goodbye) -> None:
        match frame:
            case model.Pull():
                self._pulled(frame)
            case model.Touch():
                self._touched(frame)
            case model.Hello():
                self._hello(frame)
            case model.Goodbye():
                self._gone(frame.worker, frame.cause or "left", blame=False)
            case _:
                assert_never(frame)

    def next_deadline(self) -> float | None:
        """Boot clock at which a Tick is wanted, or None."""
        if not self.epoch or self._finished:
            return None
        times = [self._appended_at + self.authority.lease_s / 3]
        if self.authority.grace_until is not None:
            times.append(self.authority.grace_until)
        for session in self.sessions.values():
            times.append(session.deadline)
            if not session.silent:
                times.append(session.heard + 2 * self.touch_s)
        if (due := self.readiness.next_due) is not None:
            times.append(due)
        return min(times)

    # ------------------------------------------------------------------------------------------------- leading

    def _leading(self, led: model.Led) -> None:
        ledger, before = self.ledger, self.ledger.led
        self.epoch = led.epoch
        for row, until in ledger.until.items():
            if ledger.graph.state[row] == S.DELAYED:
                self.readiness.delay(row, self._now.mono + self._delay_left(row, until))
        before_s = ledger.longest_s  # of all leaders that did not close, not only of the last one
        self.authority.begin(self._now.mono, led.lease_s, before_s, ledger.roster, closed=before is None or ledger.closed)
        self._append(led)
        orphans = [a.row for a in ledger.alone.values() if a.worker not in ledger.roster]
        self._charge_deaths(orphans, None, "it was gone when this leader came")

    def _delay_left(self, row: int, until: float) -> float:
        """Seconds; `until` is another machine's wall clock, so never more than the whole delay can have been."""
        ledger = self.ledger
        options = ledger.specs[ledger.graph.spec[row]].options
        tries = max(ledger.graph.attempts[row], ledger.deaths.get(row, 0))
        return min(max(0.0, until - self._now.wall), 1.1 * retries.backoff_s(options, tries, row))

    def _may_grant(self) -> bool:
        led = self.ledger.led
        if not self.epoch or led is None or not led.grants:
            return False  # R8: an epoch of a verb grants nothing
        if self._close_token is not None or self._stop_tokens or self._finished:
            return False
        return self.authority.allows(self._now.mono)

    def _end_grace(self) -> None:
        """The time of every earlier worker that has not answered is up (R1)."""
        for worker in [w for w in sorted(self.authority.awaited) if w in self.ledger.roster]:
            self._gone(worker, "it did not answer the new leader before its lease ended", blame=True)

    # ------------------------------------------------------------------------------------------------- appending

    def _append(self, record: model.Record) -> None:
        payload = model.encode(record)
        self.appended += 1
        self._appended_at = self._now.mono
        self._out.append(fx.Append(payload))
        applied = self.ledger.apply(self.ledger.next_seq, payload, record)
        for row in applied.delayed:
            self.readiness.delay(row, self._now.mono + max(0.0, self.ledger.until[row] - self._now.wall))
        if applied.added:
            self.readiness.added(applied.free, self.appended)
        elif applied.free:
            self._free(applied.free)

    def _free(self, rows: Iterable[int], *, front: bool = False) -> None:
        self.readiness.free(rows, self.appended, self.committed, front=front)

    def _committed(self, event: ev.Committed) -> None:
        self.committed = event.count
        self.authority.committed(event.started)
        self.readiness.open_gates(event.count)

    # ------------------------------------------------------------------------------------------------- drivers

    def _submitted(self, event: ev.Submitted) -> None:
        ledger = self.ledger
        try:
            chunk = model.decode_chunk(event.chunk)
            if event.again and (row := ledger.holds_chunk(chunk)) is not None:
                self._out.append(fx.Tell(event.token, True, {"first": row, "count": chunk.count}))
                return
            ledger.check_chunk(chunk)
        except (SubmissionError, msgspec.DecodeError) as error:
            self._out.append(fx.Tell(event.token, False, str(error)))
            return
        if self._close_token is not None or self._stop_tokens:
            self._out.append(fx.Tell(event.token, False, "the leader is closing and takes no more jobs"))
            return
        row = ledger.graph.size
        self._known_open.add(chunk.flow)
        self._append(model.Added(row, self._now.wall, chunk))
        self._out.append(fx.Tell(event.token, True, {"first": row, "count": chunk.count}))

    def _steer(self, event: ev.Steer) -> None:
        if not self.steering.order(event, self._now.wall, sure=self.authority.grace_until is None):
            return
        self._stop_tokens.append(event.token)
        self._known_open.clear()  # nobody waits for the rest of a submission that was stopped
        self._out += [fx.Kill(session.worker, "the run was stopped") for session in self.sessions.values() if session.held]

    def _closing(self, event: ev.Closing) -> None:
        self._close_token = event.token
        for session in self.sessions.values():
            session.leaving = True
            if session.held:
                self._out.append(fx.Kill(session.worker, "the leader closes"))
            else:
                self._out.append(fx.Send(session.worker, model.Stop("the leader closes")))

    def _after(self) -> None:
        """What may have come true by this event: stopped, closed, idle."""
        waits = self.authority.grace_until is not None or any(self.ledger.counts[s] for s in HELD)
        if self._stop_tokens and not waits:  # R7: told when no body can run, or has been heard of, any more
            for token in self._stop_tokens:
                self._out.append(fx.Tell(token, True, {"stopped": self.ledger.counts[S.STOPPED]}))
            self._stop_tokens.clear()
        if self._close_token is not None and not self.ledger.roster and not self._finished:
            self._append(model.Closed(self._now.wall))
            self._out.append(fx.Finish(self._close_token))
            self._finished = True
        idle = self.idle()
        if idle and not self._idle_said:
            self._out.append(fx.Idle())
        self._idle_said = idle

    def run_state(self) -> str:
        """`running`, `completed`, `failed` or `stopped`, as users see it."""
        counts = self.ledger.counts
        if not self.idle():
            return "running"
        if self.ledger.run_stopped:
            return "stopped"
        if counts[S.FAILED] or counts[S.WAITING] or self.ledger.open_flows():
            return "failed"
        return "completed"

    def idle(self) -> bool:
        """Is nothing left to run: every job ended or behind one that failed, and no submission still arriving?"""
        if self.readiness.gated or self._stop_tokens or any(self.ledger.counts[s] for s in ACTIVE):
            return False
        return not any(flow.uuid in self._known_open for flow in self.ledger.open_flows())

    # ------------------------------------------------------------------------------------------------- workers

    def _hello(self, hello: model.Hello) -> None:
        worker, ledger = hello.worker, self.ledger
        if worker in ledger.left or self._close_token is not None:
            self._out.append(fx.Send(worker, model.Refused("this worker was given up; it must end")))
            return
        session = self.sessions.get(worker)
        if session is not None and hello.stream < session.stream:
            return  # it was under way on a stream that the worker has given up since: what it says of leases is old
        if session is None:
            if worker not in ledger.roster:
                self._append(
                    model.Joined(
                        worker, hello.host, hello.boot_id, hello.pid_namespace, hello.pid, hello.started,
                        hello.supervisor_pid, hello.supervisor_started, self._now.wall,
                    )
                )  # fmt: skip
            mono = self._now.mono
            session = self.sessions[worker] = Session(worker, self.appended, mono, mono + self.authority.wait_s)
        self._heard(session)
        session.revoking, session.stream = False, hello.stream
        session.known_specs.clear()
        session.known_functions.clear()
        self._reconcile(session, hello.held)
        session.joined_at = self.appended  # no lease overtakes the Welcome
        self.authority.answered(worker)
        if self._stop_tokens and session.held:
            self._out.append(fx.Kill(worker, "the run was stopped"))
        self._out.append(fx.Send(worker, model.Welcome(self.epoch, self.authority.lease_s, self.touch_s), after=True))

    def _reconcile(self, session: Session, held: list[model.Held]) -> None:
        """Make what the leader believes this worker to hold equal to what it says (a stream may have lost frames)."""
        graph = self.ledger.graph
        says = {(h.row, h.epoch, h.counter) for h in held}
        for row in [r for r in session.held if (r, graph.epoch[r], graph.counter[r]) not in says][::-1]:
            self._release(session, row)  # the lease never arrived: not begun
        for h in held:
            if h.row >= graph.size or (graph.epoch[h.row], graph.counter[h.row]) >= (h.epoch, h.counter):
                continue  # this attempt, or one after it, has ended already; only its acknowledgement was lost
            for other in [s for s in self.sessions.values() if h.row in s.held]:
                self._release(other, h.row)  # of an attempt before this one: so it has ended, and was not committed in time
            if graph.state[h.row] in (S.WAITING, S.READY, S.DELAYED, S.STOPPED):
                self._take(session, h.row, h.epoch, h.counter)
                self._adopted[h.row] = h
                session.alone |= h.row in self.ledger.alone

    def _take(self, session: Session, row: int, epoch: int, counter: int) -> None:
        graph, ledger = self.ledger.graph, self.ledger
        if graph.state[row] == S.STOPPED:
            ledger.stopping.add(row)
        ledger.become(row, S.LEASED)
        graph.epoch[row], graph.counter[row] = epoch, counter
        session.held[row] = None

    def _release(self, session: Session, row: int) -> None:
        """A held row comes back unended: READY or WAITING again, or STOPPED if somebody stopped it meanwhile."""
        if self._let_go(session, row):
            self._free([row], front=True)

    def _let_go(self, session: Session, row: int) -> bool:
        """No worker holds the row any more, and it has not ended. May it go again at once?"""
        ledger = self.ledger
        self._drop(session, row)
        if row in ledger.stopping:
            ledger.stopping.discard(row)
            ledger.become(row, S.STOPPED)
            return False
        ledger.become(row, S.WAITING)
        return not ledger.graph.pending[row]

    def _touched(self, touch: model.Touch) -> None:
        session = self.sessions.get(touch.worker)
        if session is None:
            if touch.worker in self.ledger.left:
                self._out.append(fx.Send(touch.worker, model.Refused("this worker was given up; it must end")))
            return
        self._heard(session)
        valid_s = self.authority.until - self._now.mono
        if valid_s > 0:
            session.promise(self._now.mono, valid_s)
            self._out.append(fx.Send(touch.worker, model.Touched(self.epoch, touch.sent, valid_s)))

    def _heard(self, session: Session) -> None:
        session.heard = self._now.mono
        if session.silent:
            session.silent = False
            for row in session.held:
                self.ledger.become(row, S.RUNNING)

    def _gone(self, worker: str, cause: str, *, blame: bool) -> None:
        """The worker runs nothing any more: its rows are free, under suspicion if it did not leave by itself (R9)."""
        ledger = self.ledger
        session = self.sessions.pop(worker, None)
        if worker not in ledger.roster:
            return
        killed = bool(self._stop_tokens) or self._close_token is not None
        suspects = list(session.held) if session is not None and blame and not killed else []
        lone = self._ran_alone(worker, session) if blame and not killed else []
        self._append(model.Left(worker, cause, self._now.wall, suspects=suspects, charged=lone))
        self._charge_deaths(lone, session, cause)
        if session is not None:
            gate = [row for row in list(session.held) if self._let_go(session, row)]
            if gate:
                self.readiness.hold_back(gate, self.appended)  # R9: the suspicion is committed first
        self.authority.answered(worker)

    def _ran_alone(self, worker: str, session: Session | None) -> list[int]:
        """The suspect that this worker was given alone, by this leader or one before, and has not given back (R9)."""
        given = [a.row for a in self.ledger.alone.values() if a.worker == worker]
        return [row for row in given if session is None or list(session.held) == [row]]

    def _charge_deaths(self, rows: Iterable[int], session: Session | None, cause: str) -> None:
        for row in rows:
            alone = self.ledger.alone[row]
            failure = model.Failure(FailureKind.LOST, f"the worker ended while it ran this job alone: {cause}")
            if session is not None:
                self._drop(session, row)
            self._end(alone.worker, alone.epoch, model.Ending(row, alone.counter, failure=failure))

    # ------------------------------------------------------------------------------------------------- outcomes

    def _pulled(self, pull: model.Pull) -> None:
        session = self.sessions.get(pull.worker)
        if session is None:
            if pull.worker in self.ledger.left:
                self._out.append(fx.Send(pull.worker, model.Refused("this worker was given up; it must end")))
            return
        self._heard(session)
        session.revoking = False
        if not is_whole(pull.plain):
            self._out.append(fx.Kill(pull.worker, "it sent outcomes whose columns have wrong lengths"))
            return
        logs = [log for log in pull.logs if self._holds(session, log.row, pull.epoch, log.counter)]
        if pull.plain.rows:
            self._plain(session, pull)
        if logs:
            self._append(model.Logged(pull.epoch, logs))
        for ending in pull.endings:
            if self._accepts(session, ending.row, pull.epoch, ending.counter):
                self._drop(session, ending.row)
                self._end(session.worker, pull.epoch, ending)
        for row, counter in reversed(pull.returned):
            if self._holds(session, row, pull.epoch, counter):
                self._release(session, row)
        if not session.held:
            session.alone = False
        if pull.running != NIL and pull.running in session.held:
            self._runs(pull.running, pull.busy_s)
        if pull.number:
            self._out.append(fx.Send(pull.worker, model.Ack(pull.number), after=True))

    def _holds(self, session: Session, row: int, epoch: int, counter: int) -> bool:
        graph = self.ledger.graph
        return row in session.held and graph.epoch[row] == epoch and graph.counter[row] == counter

    def _accepts(self, session: Session, row: int, epoch: int, counter: int) -> bool:
        """Is this outcome of the attempt that is held, computed from inputs that stand (P3, R3)?"""
        if not self._holds(session, row, epoch, counter):
            self.refused_outcomes += 1
            return False
        held = self._adopted.get(row)
        if held is None or self._inputs_stand(held):
            return True
        self.refused_outcomes += 1
        self._release(session, row)
        return False

    def _inputs_stand(self, held: model.Held) -> bool:
        """R3: are the attempts that this one's inputs came from the committed ones?"""
        graph = self.ledger.graph
        for parent, epoch, counter in held.inputs:
            if parent >= graph.size or graph.state[parent] != S.COMPLETED:
                return False
            if graph.epoch[parent] != epoch or graph.counter[parent] != counter:
                return False
        return not graph.pending[held.row]

    def _drop(self, session: Session, row: int) -> None:
        session.held.pop(row, None)
        self._adopted.pop(row, None)

    def _plain(self, session: Session, pull: model.Pull) -> None:
        """The hot path: outcomes in columns are checked, kept as they came, and applied."""
        plain, graph, held = pull.plain, self.ledger.graph, session.held
        rows, counters = column("I", plain.rows), column("I", plain.counters)
        epoch = pull.epoch
        epochs, counter_of = graph.epoch, graph.counter
        if self._adopted:
            self._plain_adopted(session, pull)  # one at a time: an outcome may rest on the one before it in the same frame
            return
        for row, counter in zip(rows, counters, strict=True):
            if row not in held or counter_of[row] != counter or epochs[row] != epoch:
                self._plain_adopted(session, pull)
                return
        if len(set(rows)) != len(rows):
            self._plain_adopted(session, pull)
            return
        for row in rows:
            del held[row]
        self._prices.learn(self.ledger, rows, plain.elapsed)
        self._outputs.keep_all(self.ledger.graph, rows, plain, self.appended + 1, self.committed)
        self._append(model.Completed(pull.worker, epoch, self._now.wall, plain))

    def _plain_adopted(self, session: Session, pull: model.Pull) -> None:
        plain = pull.plain
        ends = column("I", plain.ends)
        start = 0
        for i, (row, counter) in enumerate(zip(column("I", plain.rows), column("I", plain.counters), strict=True)):
            output, start = plain.outputs[start : ends[i]], ends[i]
            if not self._accepts(session, row, pull.epoch, counter):
                continue
            self._drop(session, row)
            one = model.Plain(
                plain.rows[4 * i : 4 * i + 4],
                plain.counters[4 * i : 4 * i + 4],
                plain.began[8 * i : 8 * i + 8],
                plain.elapsed[4 * i : 4 * i + 4],
                len(output).to_bytes(4, "little"),
                output,
            )
            self._outputs.keep_all(self.ledger.graph, [row], one, self.appended + 1, self.committed)
            self._append(model.Completed(pull.worker, pull.epoch, self._now.wall, one))

    def _end(self, worker: str, epoch: int, ending: model.Ending) -> None:
        """An outcome that is more than bytes: decide what follows and record both as one."""
        ledger, graph, row = self.ledger, self.ledger.graph, ending.row
        if ending.failure is None and ending.growth is not None:
            try:
                ledger.check_growth(ending.growth)
            except SubmissionError as error:
                failure = model.Failure(FailureKind.ERROR, f"its Response cannot be taken: {error}", retry=False)
                ending = msgspec.structs.replace(ending, failure=failure, growth=None)
        if row in ledger.stopping:
            ending = msgspec.structs.replace(ending, growth=None)  # what is stopped grows no more
        attempts = graph.attempts[row]
        if ending.failure is None:
            if graph.first_child[row] != NIL or ending.growth is not None:
                self._outputs.keep(row, ending.output, self.appended + 1, self.committed)
            self._append(model.Ended(worker, epoch, self._now.wall, ending, int(S.COMPLETED), attempts, row=graph.size))
            return
        options = ledger.specs[graph.spec[row]].options
        decision = retries.decide(options, ending.failure, attempts, ledger.deaths.get(row, 0), row)
        until = self._now.wall + decision.delay_s if decision.state is S.DELAYED else 0.0
        self._append(model.Ended(worker, epoch, self._now.wall, ending, int(decision.state), decision.attempts, until=until))
        if decision.halt:
            self._out.append(fx.Halt(ending.failure.message))

    def _runs(self, row: int, busy_s: float) -> None:
        graph = self.ledger.graph
        if graph.state[row] == S.LEASED:
            self.ledger.become(row, S.RUNNING)
        self._prices.at_least(self.ledger, graph.spec[row], busy_s)

    # ------------------------------------------------------------------------------------------------- granting

    def _schedule(self) -> None:
        if not self._may_grant():
            return
        wanting = [s for s in self.sessions.values() if s.wants() and self.committed >= s.joined_at]
        if not wanting:
            return
        wanting.sort(key=lambda s: len(s.held))
        self._prices.refresh(self.ledger)
        idle = 0
        for session in wanting:
            if not session.held and self._grant_suspect(session):
                continue
            planned = self.readiness.plan(self._prices, len(self.sessions))
            if planned:
                self._grant(session, planned)
            elif not session.held:
                idle += 1
        if idle:
            self._steal(idle)

    def _grant_suspect(self, session: Session) -> bool:
        row = self.readiness.next_suspect()
        if row is None:
            return False
        # R9: durable before it can run, or one that takes the leader's machine with it is never charged
        self._append(model.Alone(row, session.worker, self.epoch, self._counter + 1, self._now.wall))
        self._grant(session, [ropes.Planned(row, [])], after=True)
        session.alone = True
        return True

    def _grant(self, session: Session, planned: list[ropes.Planned], *, after: bool = False) -> None:
        lease = write_lease(self.ledger, session, planned, self.epoch, self._counter, self._outputs)
        self._counter += len(planned)
        self._out.append(fx.Send(session.worker, lease, after))

    def _steal(self, idle: int) -> None:
        """Ask for what has not begun elsewhere; it is granted again only when returned (R7)."""
        for victim, rows in to_ask_back(self.ledger.graph, self.sessions.values(), idle, self._prices.of):
            victim.revoking = True
            self._out.append(fx.Send(victim.worker, model.Revoke(rows)))

    # ------------------------------------------------------------------------------------------------- time

    def _tick(self) -> None:
        mono, wall = self._now
        graph = self.ledger.graph
        if self.authority.grace_until is not None and mono >= self.authority.grace_until:
            self._end_grace()
        for session in list(self.sessions.values()):
            if mono >= session.deadline:
                self._gone(session.worker, "its lease ended without a word", blame=True)
            elif not session.silent and mono >= session.heard + 2 * self.touch_s:
                session.silent = True
                for row in session.held:
                    if graph.state[row] in HELD:
                        self.ledger.become(row, S.LOST)
        self._free([row for row in self.readiness.due(mono) if not graph.pending[row]])
        if self.epoch and mono >= self._appended_at + self.authority.lease_s / 3 and not self._finished:
            self._append(model.Beat(wall))  # R1: an idle leader appends, or its authority ends
