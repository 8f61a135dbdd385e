"""The power goes at any call (R11): nothing that was told or shown is lost, and the next leader goes on.

A seeded script of claims, commits, readers and collections runs on a disk that may lose any unsynced data and folder entries.
"""

from __future__ import annotations

import random
import shutil

import pytest

from tests.kit.disk_shim import DiskShim, PowerLoss
from tests.kit.journals import claim, payloads
from towline.engine.errors import TowlineError
from towline.stores.journal.parts import drop_segments, make_part
from towline.stores.journal.reader import JournalReader
from towline.stores.journal.verify import verify
from towline.stores.objects.base import NotFound, ObjectsError
from towline.stores.objects.local import LocalObjects

SEEDS = 60
ROUNDS = 3


def draw_batch(rng):
    kinds = [lambda: rng.randbytes(rng.randint(0, 900)), lambda: bytes(rng.randint(0, 3000)), lambda: b"small"]
    return [rng.choice(kinds)() for _ in range(rng.randint(1, 4))]


async def work(objects, rng, known):
    """Random work; `known` grows by every record that was told or shown, and by the one batch under way (last entry)."""
    writer = await claim(objects, str(rng.random())[:10], segment_bytes=rng.choice([400, 3000, 1 << 20]))
    known["told"] = await payloads(writer.reader)
    for _ in range(rng.randint(1, 12)):
        known["sent"] = draw_batch(rng)
        await writer.commit(known["sent"])
        known["told"] += known.pop("sent")
        if rng.random() < 0.15:
            assert await payloads(objects) == known["told"]
        if rng.random() < 0.1:
            await make_part(objects, await JournalReader.open(objects), len(known["told"]) // 2, 2000)
            await drop_segments(objects, len(known["told"]) // 2, grace_s=0.0, now=1e12)
    if rng.random() < 0.5:
        await writer.close()


async def one_life(root, rng, known):
    """One boot of the machine, until the power goes."""
    shim = DiskShim(root, rng)
    objects = LocalObjects(root, calls=shim, appendable=rng.random() < 0.7)
    shim.cut_at = rng.randint(1, rng.choice([15, 60, 200]))
    if rng.random() < 0.3:
        shim.fail_fsync_at = rng.randint(1, 60)
    try:
        await work(objects, rng, known)
    except ObjectsError:
        await look(objects, known)  # a failed fsync: the writer is dead, but a reader may come by before the power goes
    except PowerLoss:
        pass
    return shim


async def look(objects, known):
    """What a reader shows counts as told. Behind a claim that could not judge, it hides the last append of all."""
    try:
        shown = await payloads(objects)
    except (PowerLoss, ObjectsError):
        return
    told, sent = known.get("told", []), known.get("sent", [])
    if len(shown) < len(told):
        assert shown == told[: len(shown)]
        return
    assert shown[: len(told)] == told
    assert shown[len(told) :] == sent[: len(shown) - len(told)]
    known["told"], known["sent"] = shown, sent[len(shown) - len(told) :]


@pytest.mark.parametrize("seed", range(SEEDS))
async def test_nothing_told_is_lost(tmp_path, seed):
    rng = random.Random(seed)
    root = tmp_path / "0"
    root.mkdir()
    known: dict = {"told": []}
    for boot in range(ROUNDS):
        shim = await one_life(root, rng, known)
        after = tmp_path / str(boot + 1)
        shim.survivors(after)
        shutil.rmtree(root)
        root = after
        objects = LocalObjects(root)
        told, sent = known["told"], known.get("sent", [])
        shown = await payloads(objects)
        whole = [*told, *sent]
        assert shown == whole[: len(shown)], f"seed {seed}, boot {boot}"
        writer = await claim(objects, f"boot{boot}")
        found = await payloads(writer.reader)
        assert found == whole[: len(found)], f"seed {seed}, boot {boot}"
        assert len(found) >= max(len(told), len(shown)), f"seed {seed}, boot {boot}"
        assert (await verify(objects)).problems == []
        known.clear()
        known["told"] = found


async def test_the_shim_loses_what_was_not_synced(tmp_path):
    """The test of the test: data without fsync and names without fsync of their folder may be gone."""
    root = tmp_path / "0"
    root.mkdir()
    shim = DiskShim(root, random.Random(1))
    fd = shim.create(f"{root}/synced")
    shim.write(fd, [b"a" * 2000])
    shim.fsync(fd)
    shim.fsync_dir(str(root))
    shim.write(fd, [b"b" * 2000])
    shim.link(f"{root}/synced", f"{root}/unsynced-name")
    seen = set()
    for i in range(60):
        target = tmp_path / f"after{i}"
        shim.survivors(target)
        data = (target / "synced").read_bytes()
        assert data[:2000] == b"a" * 2000
        seen.add("all" if data == b"a" * 2000 + b"b" * 2000 else "short" if len(data) < 4000 else "holes")
        seen.add((target / "unsynced-name").exists())
    assert seen == {"all", "short", "holes", True, False}


class Careless(DiskShim):
    """A shim under which one kind of fsync does nothing."""

    def __init__(self, root, rng, forgets):
        super().__init__(root, rng)
        setattr(self, forgets, lambda *_: None)


@pytest.mark.parametrize("forgets", ["fsync", "fsync_dir", "sync_file"])
async def test_each_fsync_is_needed(tmp_path, forgets):
    """With any one kind of fsync left out, the shim finds a loss: so the test above can fail."""
    for seed in range(400):
        rng = random.Random(seed)
        root = tmp_path / f"{seed}"
        root.mkdir()
        shim = Careless(root, rng, forgets)
        objects = LocalObjects(root, calls=shim, appendable=True)
        known: dict = {"told": []}
        shim.fail_fsync_at = rng.randint(20, 40) if forgets == "sync_file" else None
        try:
            await work(objects, rng, known)
        except ObjectsError:
            await look(objects, known)
        shim.survivors(tmp_path / f"{seed}-after")
        try:
            found = await payloads((await claim(LocalObjects(tmp_path / f"{seed}-after"))).reader)
        except (TowlineError, NotFound):
            return
        if found[: len(known["told"])] != known["told"]:
            return
    pytest.fail(f"leaving out {forgets} was not noticed")
