"""Planted bugs: each breaks one rule of DESIGN 5a, and the simulator must find it: one that finds nothing proves nothing.

Only here can a rule be switched off: the bugs are subclasses and wrappers of the product's classes, never switches in them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from tests.simulation import collector
from towline.actors.perform import Performer
from towline.engine import effects as fx
from towline.engine import events as ev
from towline.engine import model
from towline.engine.core import LeaderCore
from towline.engine.errors import TowlineError
from towline.engine.events import Now
from towline.engine.ledger import Ledger
from towline.engine.model import Identity
from towline.engine.worker import WorkerCore
from towline.stores.journal.writer import JournalWriter

if TYPE_CHECKING:
    from tests.simulation.leader import SimLeader
    from tests.simulation.scenario import Simulation
    from towline.stores.journal.reader import JournalReader


class Bug:
    """No bug: the product as it is. Subclasses replace one thing."""

    shown_by: tuple[str, ...] = ()
    """Profiles whose schedules it is likely to show in: their seeds are tried first."""
    believes_old_hellos = False
    core_class: type[LeaderCore] = LeaderCore
    performer_class: type[Performer] = Performer
    writer_class: type[JournalWriter] = JournalWriter
    worker_class: type[WorkerCore] = WorkerCore

    def prepare(self, sim: Simulation) -> None:
        """Change the world itself."""

    def make_core(self, ledger: Ledger | None = None) -> LeaderCore:
        return self.core_class(ledger)

    def make_worker_core(self, identity: Identity) -> WorkerCore:
        return self.worker_class(identity)

    def make_performer(self, core: LeaderCore, writer: Any, clock: Any, **ways: Any) -> Performer:
        return self.performer_class(core, writer, clock, **ways)

    async def head_stands_still(self, leader: SimLeader, reader: JournalReader, led: model.Led) -> None:
        await leader.head_stands_still(reader, led)

    def may_collect(self, core: LeaderCore, key: str) -> bool:
        return collector.may_collect(core, key)


NO_BUG = Bug()


# ---------------------------------------------------------------------------------------------------------------- R1


class _GrantsAtOnce(LeaderCore):
    def _leading(self, led: model.Led) -> None:
        super()._leading(led)
        self.authority.grace_until = None


class NewLeaderGrantsAtOnce(Bug):
    """R1: a new leader does not wait for the leases of the one before."""

    shown_by = (
        "heirs",
        "takeover",
    )
    core_class = _GrantsAtOnce


class _GrantsForEver(LeaderCore):
    def handle(self, event: ev.Event, now: Now) -> list[fx.Effect]:
        if self.epoch:
            self.authority.until = now.mono + self.authority.lease_s
        return super().handle(event, now)


class OldLeaderGrantsForEver(Bug):
    """R1: a leader that cannot commit any more goes on granting and renewing."""

    shown_by = ("cut off from the store",)
    core_class = _GrantsForEver


class _NoDeadline(WorkerCore):
    def __init__(self, identity: Identity) -> None:
        super().__init__(identity)

    def received(self, frame: model.ToWorker, now: float) -> list[model.ToLeader]:
        out = super().received(frame, now)
        if isinstance(frame, model.Touched):
            self.deadline = max(self.deadline, now + 2 * frame.valid_s)
        return out


class WorkerTimesFromReceipt(Bug):
    """R1: a worker takes the lease to begin when the answer comes, and generously."""

    shown_by = ("streams", "flapping streams", "heirs")
    worker_class = _NoDeadline


# ---------------------------------------------------------------------------------------------------------------- R2


class _NoLook(JournalWriter):
    async def _grow(self, data: bytes, at: int) -> None:
        assert self._appender is not None
        await self._appender.append(data, None)


class AppendsWithoutLooking(Bug):
    """R2: an appending leader does not look for a next segment before it tells."""

    shown_by = ("takeover",)
    writer_class = _NoLook


# ---------------------------------------------------------------------------------------------------------------- R3


class _TrustsInputs(LeaderCore):
    def _inputs_stand(self, held: model.Held) -> bool:
        return True


class TakesAnyInputs(Bug):
    """R3: an outcome is taken whatever attempts its inputs came from."""

    shown_by = ("early release",)
    core_class = _TrustsInputs


# ---------------------------------------------------------------------------------------------------------------- R4


class _BelievesSlowCreate(JournalWriter):
    async def _confirm(self) -> None:
        """Not at all."""


class BelievesSlowCreate(Bug):
    """R4: a create that took longer than half the grace period is believed."""

    shown_by = ("slots",)
    writer_class = _BelievesSlowCreate


# ---------------------------------------------------------------------------------------------------------------- R5


class _TellsAtOnce(Performer):
    def _perform(self, effect: fx.Effect) -> None:
        if isinstance(effect, fx.Tell | fx.Idle | fx.Finish):
            self._deliver(effect)
        else:
            super()._perform(effect)


class TellsBeforeCommit(Bug):
    """R5: answers do not wait for the commit."""

    shown_by = (
        "power",
        "crash",
    )
    performer_class = _TellsAtOnce


class _GoesOn(Performer):
    def __init__(self, core: LeaderCore, writer: Any, clock: Any, **ways: Any) -> None:
        super().__init__(core, _Forgiving(writer), clock, **ways)


class _Forgiving:
    """A writer that takes a failed commit for a good one and goes on."""

    def __init__(self, writer: JournalWriter) -> None:
        self._writer = writer

    async def commit(self, payloads: Sequence[bytes]) -> object:
        try:
            return await self._writer.commit(payloads)
        except TowlineError:
            return None


class GoesOnAfterFailedAppend(Bug):
    """R5: a failed append or fsync does not end the leader."""

    shown_by = ("bad store",)
    performer_class = _GoesOn


# ---------------------------------------------------------------------------------------------------------------- R6


class _TwoInFlight(JournalWriter):
    async def _link(self, payloads: Sequence[bytes]) -> None:
        import asyncio

        from towline.stores.journal import records
        from towline.stores.journal.segments import Accepted, digest_of, fold, pack_header, segment_key

        if len(payloads) < 2 or self._appender is not None:
            await super()._link(payloads)
            return
        half = len(payloads) // 2
        one = self._header._replace(number=self._header.number + 1)
        image, accepted, encoded = await self._image(one, payloads[:half], whole=True)
        assert accepted is not None
        length, digest = len(image), digest_of(image)
        chain = fold(accepted.chain, one.number, length, digest)
        two = one._replace(number=one.number + 1)
        second = Accepted([(one.number, length, digest)], accepted.first_seq + half, chain)
        seed = records.seed_of(two.nonce)
        from towline.stores.journal.records import ACCEPTED, PAYLOAD, encode
        from towline.stores.journal.segments import HEAD_BYTES, encode_accepted

        first = encode([encode_accepted(second)], kind=ACCEPTED, at=HEAD_BYTES, back=0, seq=second.first_seq, seed=seed)
        rest = encode(
            payloads[half:], kind=PAYLOAD, at=HEAD_BYTES + len(first.data), back=len(first.data), seq=second.first_seq,
            seed=seed,
        )  # fmt: skip
        size = HEAD_BYTES + len(first.data) + len(rest.data)
        after = pack_header(two._replace(size=size)) + first.data + rest.data
        done = await asyncio.gather(self._create(segment_key(one.number), image), self._create(segment_key(two.number), after))
        if not all(done):
            await self._fenced(None)
        self._header = one._replace(size=len(image))
        self.reader.began(self._header, accepted, image, encoded)
        self._header = two._replace(size=size)
        self.reader.began(self._header, second, after, rest)


class TwoCreatesInFlight(Bug):
    """R6: a batch goes out as two segments at once."""

    shown_by = ("pipeline",)
    writer_class = _TwoInFlight


# ---------------------------------------------------------------------------------------------------------------- R7


class _TakesBack(LeaderCore):
    def _steal(self, idle: int) -> None:
        super()._steal(idle)
        for effect in self._out:
            if isinstance(effect, fx.Send) and isinstance(effect.frame, model.Revoke):
                session = self.sessions[effect.worker]
                for row in effect.frame.rows:
                    if row in session.held:
                        self._release(session, row)


class RevokeIsTakenForDone(Bug):
    """R7: what was asked back is granted again before it was given back."""

    shown_by = ("steals",)
    core_class = _TakesBack


class BelievesOldHellos(Bug):
    """R7: the Hello of an older stream, that comes late, says what a worker holds: what was granted since is granted again."""

    shown_by = ("flapping streams",)
    believes_old_hellos = True


# ---------------------------------------------------------------------------------------------------------------- R8


class ClaimsWithoutWatching(Bug):
    """R8: a leader that nobody can see is taken for dead at once."""

    shown_by = ("rivals",)

    async def head_stands_still(self, leader: SimLeader, reader: JournalReader, led: model.Led) -> None:
        """Not watched."""


# ---------------------------------------------------------------------------------------------------------------- R9


class _ForgetsSuspects(LeaderCore):
    def _append(self, record: model.Record) -> None:
        if isinstance(record, model.Alone):
            self.ledger.alone[record.row] = record
            return
        if isinstance(record, model.Left) and record.suspects:
            super()._append(msgspec.structs.replace(record, suspects=[]))
            self.ledger.suspects.update(record.suspects)
            return
        super()._append(record)


class SuspectsAreNotJournaled(Bug):
    """R9: who may have killed a worker is known to this leader alone."""

    shown_by = ("poison of machines",)
    core_class = _ForgetsSuspects


# --------------------------------------------------------------------------------------------------------------- R10


class CollectsOpenFiles(Bug):
    """R10: a file that no committed outcome names is taken for an orphan."""

    shown_by = ("files",)

    def may_collect(self, core: LeaderCore, key: str) -> bool:
        epoch, counter, row = (int(part) for part in key.removeprefix("files/").split("-"))
        graph = core.ledger.graph
        return row >= graph.size or (graph.epoch[row], graph.counter[row]) != (epoch, counter)


# --------------------------------------------------------------------------------------------------------------- R11


class NoFsyncOfFiles(Bug):
    """R11: data is written and not fsynced."""

    shown_by = ("power",)

    def prepare(self, sim: Simulation) -> None:
        sim.disk.syncs_files = False


class NoFsyncOfFolders(Bug):
    """R11: a new entry's folder is not fsynced."""

    shown_by = ("power",)

    def prepare(self, sim: Simulation) -> None:
        sim.disk.syncs_folders = False


class StoreLies(Bug):
    """Not a rule but a premise of R2: the store overwrites where it was asked to create."""

    shown_by = ("takeover",)

    def prepare(self, sim: Simulation) -> None:
        sim.disk.honours_conditions = False


PLANTED: dict[str, Bug] = {
    "R1-new": NewLeaderGrantsAtOnce(),
    "R1-old": OldLeaderGrantsForEver(),
    "R1-worker": WorkerTimesFromReceipt(),
    "R2": AppendsWithoutLooking(),
    "R3": TakesAnyInputs(),
    "R4": BelievesSlowCreate(),
    "R5-tell": TellsBeforeCommit(),
    "R5-fsync": GoesOnAfterFailedAppend(),
    "R6": TwoCreatesInFlight(),
    "R7-revoke": RevokeIsTakenForDone(),
    "R7-hello": BelievesOldHellos(),
    "R8": ClaimsWithoutWatching(),
    "R9": SuspectsAreNotJournaled(),
    "R10": CollectsOpenFiles(),
    "R11-file": NoFsyncOfFiles(),
    "R11-folder": NoFsyncOfFolders(),
    "lie": StoreLies(),
}
"""Name to bug; `--planted R1` means every one whose name begins with R1."""

__all__ = ["NO_BUG", "PLANTED", "Bug"]
