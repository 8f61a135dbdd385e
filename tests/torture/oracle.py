"""What must hold of a tortured run, judged from what lies on disk alone: logs of executions, what was told, the journal.

The journal is read record by record, not through the leader's own ledger. Every rule names the promise that it checks.
"""

from __future__ import annotations

import asyncio
import itertools
from array import array
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.torture.body import Line, parse
from towline.engine import codec, model
from towline.engine.ids import unpack_uuid
from towline.engine.states import JobState
from towline.stores import files
from towline.stores.journal.reader import JournalReader
from towline.stores.journal.verify import verify
from towline.stores.objects.local import LocalObjects


class Execution(NamedTuple):
    """One run of one body."""

    uuid: str
    nonce: str
    began: float
    ended: float | None
    pid: int
    inputs: list[str]


class Journal(NamedTuple):
    """What the journal says."""

    uuids: dict[int, str]
    outcomes: dict[int, list[bytes]]
    """Row to the outputs that were committed for it as its outcome."""
    parents: dict[int, list[int]]
    leaders: int


class Found(NamedTuple):
    """A verdict."""

    violations: list[str]
    executions: int
    repeated: int
    """Executions beyond the first of their job."""
    told: int
    records: int
    leaders: int


def judge(folder: Path, total: int) -> Found:
    """Everything that can be said of a run that has ended. Blocking."""
    lines = list(read_log(folder / "log"))
    runs = executions(lines)
    told = read_told(folder / "told")
    journal, problems, records = asyncio.run(read_journal(folder / "store"))
    by_uuid: dict[str, list[Execution]] = defaultdict(list)
    for run in runs.values():
        by_uuid[run.uuid].append(run)
    violations = [
        *problems,
        *(
            f"P2: job {line.uuid} was begun by {line.pid} at {line.at} while another held its lock"
            for line in lines
            if line.what == "R"
        ),
        *overlaps(by_uuid),
        *outcomes(journal, total),
        *committed(journal, runs, by_uuid),
        *begun_after_told(by_uuid, told),
        *(
            f"P1: job {uuid} was told complete, and the store holds no outcome of it"
            for uuid in told
            if uuid not in set(journal.uuids.values())
        ),
        *left_behind(folder),
    ]
    return Found(violations, len(runs), len(runs) - len(by_uuid), len(told), records, journal.leaders)


# ------------------------------------------------------------------------------------------------------- what was seen


def read_log(folder: Path) -> Iterator[Line]:
    """The lines of all processes."""
    for path in sorted(folder.iterdir()):
        yield from map(parse, path.read_text().splitlines())


def executions(lines: list[Line]) -> dict[str, Execution]:
    """Nonce to execution."""
    ends = {line.nonce: line.at for line in lines if line.what == "E"}
    return {
        line.nonce: Execution(
            line.uuid, line.nonce, line.at, ends.get(line.nonce), line.pid, line.inputs.split(",") if line.inputs else []
        )
        for line in lines
        if line.what == "B"
    }


def read_told(path: Path) -> dict[str, float]:
    """uuid to the boot time at which the subscriber had been told that the job is complete."""
    if not path.exists():
        return {}
    return {uuid: float(at) for uuid, _, _, at in (line.split(" ") for line in path.read_text().splitlines())}


async def read_journal(store: Path) -> tuple[Journal, list[str], int]:
    """What every record says, and what `verify` finds wrong."""
    objects = LocalObjects(store)
    try:
        problems = [f"P7: {problem}" for problem in (await verify(objects)).problems]
        reader = await JournalReader.open(objects)
        journal = Journal({}, defaultdict(list), {}, 0)
        count = 0
        async for _, payload in reader.records(0):
            count += 1
            journal = take(journal, model.decode_record(payload))
        contents = files.Files(objects)
        for found in journal.outcomes.values():
            for i, output in enumerate(found):
                if codec.stub_token(output) is not None:
                    found[i] = codec.encode(await files.load_async(contents, output))
        return journal, problems, count
    finally:
        await objects.close()


def roster(store: Path, after_epoch: int = 0) -> list[model.Joined]:
    """All workers that ever joined; with `after_epoch`, those that joined a leader later than that one."""

    async def read() -> list[model.Joined]:
        objects = LocalObjects(store)
        try:
            reader = await JournalReader.open(objects)
            records = [model.decode_record(payload) async for _, payload in reader.records(0)]
        finally:
            await objects.close()
        epoch, joined = 0, []
        for record in records:
            if isinstance(record, model.Led):
                epoch = record.epoch
            elif isinstance(record, model.Joined) and (not after_epoch or epoch > after_epoch):
                joined.append(record)
        return joined

    return asyncio.run(read())


def take(journal: Journal, record: model.Record) -> Journal:
    """Add what one record says."""
    match record:
        case model.Added():
            chunk = record.chunk
            assert isinstance(chunk.uuids, bytes)
            parents = array("I", chunk.parents)
            at = 0
            for i, number in enumerate(array("I", chunk.parent_counts)):
                journal.uuids[record.row + i] = unpack_uuid(chunk.uuids[16 * i : 16 * i + 16])
                # the whole flow is handed in as one submission, whose first job has row 0
                journal.parents[record.row + i] = list(parents[at : at + number])
                at += number
        case model.Completed():
            start = 0
            for row, end in zip(array("I", record.plain.rows), array("I", record.plain.ends), strict=True):
                journal.outcomes[row].append(record.plain.outputs[start:end])
                start = end
        case model.Ended() if record.state == JobState.COMPLETED:
            journal.outcomes[record.ending.row].append(record.ending.output)
        case model.Led():
            return journal._replace(leaders=journal.leaders + 1)
    return journal


# -------------------------------------------------------------------------------------------------------------- the rules


def overlaps(by_uuid: dict[str, list[Execution]]) -> Iterator[str]:
    """P2, beside the locks: no execution begins before the one before it has ended, as far as its end was written."""
    for uuid, runs in by_uuid.items():
        for one, other in itertools.pairwise(sorted(runs, key=lambda run: run.began)):
            if one.ended is not None and other.began < one.ended:
                yield f"P2: job {uuid} ran in {one.pid} until {one.ended}, and in {other.pid} from {other.began}"


def outcomes(journal: Journal, total: int) -> Iterator[str]:
    """P3: exactly one outcome of each job."""
    if len(journal.uuids) != total:
        yield f"P1: {total} jobs were handed in, and the store holds {len(journal.uuids)}"
    for row, uuid in journal.uuids.items():
        if (number := len(journal.outcomes.get(row, ()))) != 1:
            yield f"P3: job {uuid} (row {row}) has {number} committed outcomes"


def committed(journal: Journal, runs: dict[str, Execution], by_uuid: dict[str, list[Execution]]) -> Iterator[str]:
    """P3, R3: an outcome is that of an execution which ended, was the last, and used its parents' committed outcomes."""
    nonces = {row: nonce_of(found[0]) for row, found in journal.outcomes.items() if found}
    for row, nonce in nonces.items():
        uuid = journal.uuids[row]
        run = runs.get(nonce)
        if run is None or run.uuid != uuid or run.ended is None:
            yield f"P3: the outcome of job {uuid} (row {row}) is of no execution that ended"
            continue
        last = max(by_uuid[uuid], key=lambda other: other.began)
        if last.nonce != nonce:
            yield f"P3: job {uuid} was begun again at {last.began} although its execution until {run.ended} is the committed one"
        wanted = Counter(nonces.get(parent, "") for parent in journal.parents[row])
        if set(run.inputs) != set(wanted):
            yield f"R3: the outcome of job {uuid} (row {row}) was computed from inputs that are not the committed ones"


def nonce_of(output: bytes) -> str:
    """The nonce in the codec bytes of an output."""
    text: str = codec.decode(output)
    return text.split(" ")[0]


def begun_after_told(by_uuid: dict[str, list[Execution]], told: dict[str, float]) -> Iterator[str]:
    """P1: what was told complete is never begun again."""
    for uuid, at in told.items():
        for run in by_uuid.get(uuid, ()):
            if run.began > at:
                yield f"P1: job {uuid} was told complete at {at}, and begun again at {run.began}"


def left_behind(folder: Path) -> Iterator[str]:
    """P8: nothing of ours stays in the temporary folder, and nothing unfinished in the store."""
    for path in (folder / "t").iterdir():
        if path.name != "ray":
            yield f"P8: {path.name} was left in the temporary folder"
    for path in (folder / "store").rglob("*"):
        if path.is_file() and (".tmp" in path.parts or path.name.endswith(".tmp") or path.suffix == ".part"):
            yield f"P8: {path.relative_to(folder)} was left in the store"
