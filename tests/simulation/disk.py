"""Where simulated processes keep their bytes: a disk with a page cache, or a bucket whose answers get lost.

The disk knows what a power loss may take: data that was not fsynced (by sectors, in any order) and directory entries whose
folder was not (each by itself). The bucket's requests travel: one that was sent may take effect after its sender is dead,
frozen or has given up. `NodeObjects` is one process's view, with the contract of `stores.objects.base`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import NamedTuple

from tests.simulation.world import Process, World
from towline.stores.objects.base import (
    ABSENT,
    Ambiguous,
    Meta,
    NotFound,
    ObjectsError,
    PreconditionFailed,
    Version,
    When,
)

SECTOR = 512


class Inode:
    """A file's bytes, and how many of them a power loss cannot take."""

    __slots__ = ("data", "generation", "modified", "synced")

    def __init__(self, data: bytes, generation: int, modified: float, synced: int) -> None:
        self.data = bytearray(data)
        self.generation = generation
        self.modified = modified
        self.synced = synced


class Rates(NamedTuple):
    """How a store misbehaves, as probabilities per operation; times in seconds."""

    latency_s: float = 0.002
    slow: float = 0.0
    slow_s: float = 1.0
    lost_before: float = 0.0
    """Ambiguous, and nothing was done."""
    lost_after: float = 0.0
    """Ambiguous (or "exists already", after the adapter's own retry), and it was done."""
    error: float = 0.0
    """A plain error; an append may have written a part."""


class Disk:
    """The shared place. `whole` puts are atomic and durable (a bucket); else it is a file system."""

    def __init__(self, world: World, *, whole: bool, appendable: bool, rates: Rates) -> None:
        self.world = world
        self.whole = whole
        self.appendable = appendable
        self.rates = rates
        self.entries: dict[str, Inode] = {}
        self.honours_conditions = True
        self.syncs_files = True
        self.syncs_folders = True
        """The last three are for planted bugs."""
        self.one_machine = False
        """Is the disk in the machine that everything runs on, so that its power loss takes everything?"""
        self._kept: dict[str, Inode] = {}
        """Entries as a power loss leaves them."""
        self._unsynced: dict[str, list[tuple[str, Inode | None]]] = {}
        """Folder to its changes since its last fsync."""
        self._generation = 0

    def inode(self, data: bytes, synced: bool) -> Inode:
        self._generation += 1
        return Inode(data, self._generation, self.world.now, len(data) if synced else 0)

    def link(self, key: str, inode: Inode | None) -> None:
        """Change an entry (None: remove it)."""
        if inode is None:
            self.entries.pop(key, None)
        else:
            self.entries[key] = inode
        if self.whole:
            return
        self._unsynced.setdefault(key.rpartition("/")[0], []).append((key, inode))

    def sync_file(self, inode: Inode) -> None:
        if self.syncs_files:
            inode.synced = len(inode.data)

    def sync_folder(self, key: str) -> None:
        if self.syncs_folders:
            self._keep(self._unsynced.pop(key.rpartition("/")[0], ()))

    def _keep(self, changes: Sequence[tuple[str, Inode | None]]) -> None:
        for key, inode in changes:
            if inode is None:
                self._kept.pop(key, None)
            else:
                self._kept[key] = inode

    def power_loss(self) -> None:
        """What was not fsynced survives in parts and in any order, or not at all."""
        if self.whole:
            return
        world = self.world
        world.count("fault: power loss")
        for folder, changes in self._unsynced.items():
            lucky = [change for change in changes if world.chance(0.5)]
            if len(lucky) < len(changes):
                world.count("fault: directory entries lost")
                world.note("power loss: {} of {} changes of folder {} are lost", len(changes) - len(lucky), len(changes), folder)
            self._keep(lucky)
        self._unsynced.clear()
        self.entries = dict(self._kept)
        for key, inode in self.entries.items():
            if inode.synced < len(inode.data):
                self._tear(key, inode)

    def _tear(self, key: str, inode: Inode) -> None:
        world, rng = self.world, self.world.rng
        size, synced = len(inode.data), inode.synced
        world.count("fault: torn data")
        world.count("R11: a power loss takes what was not fsynced")
        length = rng.choice((size, size, synced, rng.randint(synced, size)))
        world.note("power loss: {} had {} bytes, {} of them durable; {} remain", key, size, synced, length)
        del inode.data[length:]
        if rng.random() < 0.7:
            share = rng.random()
            for start in range(synced - synced % SECTOR, length, SECTOR):
                if rng.random() < share:
                    first, stop = max(start, synced), min(start + SECTOR, length)
                    inode.data[first:stop] = bytes(stop - first)
        inode.synced = len(inode.data)


def _version(inode: Inode) -> Version:
    return Version(f"{inode.generation}-{len(inode.data)}")


class NodeObjects:
    """One process's way to the disk."""

    def __init__(self, disk: Disk, process: Process) -> None:
        self.appendable = disk.appendable
        self.url = "sim:"
        self._disk = disk
        self._process = process
        self._world = process.world
        self._rng = process.world.rng
        self.stalled_until = 0.0
        """True time up to which no operation of this process gets through."""

    # ------------------------------------------------------------------------------------------------- time and faults

    async def _pause(self, share: float = 1.0) -> None:
        """The time that a part of an operation takes."""
        rates, rng, world = self._disk.rates, self._rng, self._world
        seconds = rates.latency_s * share * rng.uniform(0.2, 2.0)
        if not world.calm and rates.slow and rng.random() < rates.slow:
            seconds += rng.expovariate(1.0 / rates.slow_s)
            world.count("fault: slow store operation")
        if self.stalled_until > world.now and not world.calm:
            seconds += self.stalled_until - world.now
        await self._process.wait(seconds)

    def _fault(self) -> str:
        """What goes wrong with this write: nothing, `before`, `after` or `error`."""
        rates = self._disk.rates
        if self._world.calm or not (rates.lost_before or rates.lost_after or rates.error):
            return ""
        draw = self._rng.random()
        for name, share in (("before", rates.lost_before), ("after", rates.lost_after), ("error", rates.error)):
            if draw < share:
                self._world.count(f"fault: store answer {name}")
                self._world.note("{}: store fault: {}", self._process.name, name)
                return name
            draw -= share
        return ""

    # ------------------------------------------------------------------------------------------------- reading

    async def _look(self, key: str) -> Inode:
        self._process.step("before a read")
        if self._rng.random() < 0.3 or self.stalled_until > self._world.now or self._process.frozen:
            await self._pause()  # most reads are served by a cache, and a simulation is made of them
        inode = self._disk.entries.get(key)
        if inode is None:
            raise NotFound(f"{self.url}{key} does not exist")
        return inode

    async def get(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        data = (await self._look(key)).data
        return bytes(data[start:] if length is None else data[start : start + length])

    async def head(self, key: str) -> Meta:
        inode = await self._look(key)
        return Meta(key, len(inode.data), _version(inode), inode.modified)

    async def list(self, prefix: str = "", start_after: str = "") -> AsyncIterator[Meta]:
        self._process.step("before a listing")
        await self._pause(0.3)
        entries = self._disk.entries
        for key in sorted(k for k in entries if k.startswith(prefix) and k > start_after):
            inode = entries.get(key)
            if inode is not None:
                yield Meta(key, len(inode.data), _version(inode), inode.modified)

    # ------------------------------------------------------------------------------------------------- writing

    async def put(self, key: str, data: bytes | Sequence[bytes | memoryview], when: When | Version = When.OVERWRITE) -> Version:
        whole = data if isinstance(data, bytes) else b"".join(data)
        self._process.step("before a put")
        return _version(await (self._send if self._disk.whole else self._write)(key, whole, when))

    def _check(self, key: str, when: When | Version) -> None:
        held = self._disk.entries.get(key)
        if not self._disk.honours_conditions:
            return
        if when is ABSENT and held is not None:
            raise PreconditionFailed(f"{self.url}{key} exists already")
        if isinstance(when, Version) and (held is None or when != _version(held)):
            raise PreconditionFailed(f"{self.url}{key} is not the version that was read")

    async def _send(self, key: str, data: bytes, when: When | Version) -> Inode:
        """A bucket: the request travels, takes effect, and the answer travels back."""
        disk, process, world = self._disk, self._process, self._world
        fault = self._fault()
        result: list[Inode | ObjectsError] = []

        def arrive() -> None:
            if fault == "before" or (not process.alive and world.chance(0.5)):
                result.append(Ambiguous("the request was lost"))
            elif fault == "error":
                result.append(ObjectsError("the bucket refuses: try again later"))
            else:
                if not process.alive or process.frozen:
                    world.count("fault: write lands after its writer is gone or frozen")
                try:
                    self._check(key, when)
                    inode = disk.inode(data, True)
                    disk.link(key, inode)
                    result.append(inode)
                except PreconditionFailed as error:
                    result.append(error)
            process.wake(there)

        rates, rng = disk.rates, self._rng
        seconds = rates.latency_s * rng.uniform(0.2, 2.0)
        if not world.calm and rates.slow and rng.random() < rates.slow:
            seconds += rng.expovariate(1.0 / rates.slow_s)
            world.count("fault: slow store operation")
        if self.stalled_until > world.now and not world.calm:
            seconds += self.stalled_until - world.now
        await process.point("as a request is sent")
        there = process.future()
        world.later(seconds, arrive)
        await there
        await self._pause(0.5)
        process.step("after a put")
        if isinstance(result[0], ObjectsError):
            raise result[0]
        if fault == "after":
            if when is ABSENT and rng.random() < 0.5:
                raise PreconditionFailed("exists already: the first try had succeeded, its answer was lost")
            raise Ambiguous("the answer was lost")
        return result[0]

    async def _write(self, key: str, data: bytes, when: When | Version) -> Inode:
        """A file system: temporary file, fsync, link, fsync of the folder."""
        disk, process = self._disk, self._process
        fault = self._fault()
        await self._pause(0.5)
        if fault == "error":
            raise ObjectsError("no space left on device")
        if fault == "before":
            raise Ambiguous("the answer was lost")
        inode = disk.inode(data, False)
        disk.sync_file(inode)
        await process.point("before a link")
        self._check(key, when)
        disk.link(key, inode)
        await process.point("between link and fsync of the folder")
        await self._pause(0.5)
        disk.sync_folder(key)
        process.step("after a put")
        if fault == "after":
            raise Ambiguous("the answer was lost")
        return inode

    async def delete_many(self, keys: Sequence[str]) -> None:
        for key in keys:
            self._process.step("before a delete")
            await self._pause(0.3)
            self._disk.link(key, None)
            self._world.count("store: object deleted")
        if keys:
            self._disk.sync_folder(keys[0])

    async def appender(self, key: str, head: bytes) -> NodeAppender:
        """Create with `head`, keep open."""
        if not self.appendable:
            raise ObjectsError(f"{self.url} cannot append")
        self._process.step("before a create")
        inode = await self._write(key, head, ABSENT)
        return NodeAppender(self, key, inode)

    async def sync(self, key: str) -> None:
        """fsync of what can be read now."""
        inode = self._disk.entries.get(key)
        if inode is None:
            raise NotFound(f"{self.url}{key} does not exist")
        self._disk.sync_file(inode)
        self._disk.sync_folder(key)

    async def close(self) -> None:
        """Nothing to let go of."""


class NodeAppender:
    """Grows a file of the disk; after an error it is unusable."""

    def __init__(self, objects: NodeObjects, key: str, inode: Inode) -> None:
        self._objects = objects
        self._key = key
        self._inode = inode
        self._dead = False

    async def append(self, data: bytes, absent: str | None = None) -> int:
        objects, inode = self._objects, self._inode
        disk, process, rng = objects._disk, objects._process, objects._rng
        if self._dead:
            raise ObjectsError("an earlier append failed")
        self._dead = True
        await process.point("before an append")
        fault = objects._fault()
        await objects._pause(0.5)
        if fault in ("error", "before"):
            inode.data += data[: rng.randint(0, len(data))]
            raise ObjectsError("input/output error: the append failed")
        inode.data += data
        inode.modified = objects._world.now
        await process.point("between write and fsync")
        await objects._pause(0.5)
        if fault == "after":
            raise ObjectsError("input/output error: the fsync failed")
        disk.sync_file(inode)
        await process.point("between fsync and the look for a next segment")
        if absent is not None and absent in disk.entries:
            raise PreconditionFailed(f"{absent} exists")
        process.step("after an append")
        self._dead = False
        return len(inode.data)

    async def close(self) -> None:
        self._dead = True
