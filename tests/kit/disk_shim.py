"""A disk that loses power: the `Os` seam of the local store, with a model of what the medium holds.

Calls act on real files, so the code under test sees what any process would. Beside that the shim knows what was made durable:
of a file what it held at its last fsync, of a folder the entries it had at its last fsync. `cut_power` stops everything after
a chosen number of calls; `survivors` then writes to a new folder what might be found on the medium: everything durable, and of
the rest any part in any order: sectors of unsynced data missing (zero, or the file shorter), folder entries lost one by one.
"""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from pathlib import Path

from towline.stores.objects.syscalls import Os

SECTOR = 512


class PowerLoss(Exception):
    """The machine is off."""


class _File:
    def __init__(self) -> None:
        self.live = bytearray()
        self.durable = 0
        """Bytes that an fsync has covered; files only grow."""


class _Folder:
    def __init__(self) -> None:
        self.durable: dict[str, _File | _Folder] = {}
        self.pending: list[tuple[str, _File | _Folder | None]] = []


class DiskShim(Os):
    """Below `root`, which must exist and counts as durable with what is in it now."""

    def __init__(self, root: Path, rng: random.Random) -> None:
        self._rng = rng
        self._nodes: dict[str, _File | _Folder] = {}
        self._fds: dict[int, _File] = {}
        self.root = str(root)
        self._load(self.root)
        self.calls = 0
        self.cut_at: int | None = None
        """Number of the call at which the power goes."""
        self.fail_fsync_at: int | None = None
        """Number of the call from which on the next fsync of a file or folder reports EIO."""

    def _load(self, path: str) -> _File | _Folder:
        """What lies there already is durable."""
        node: _File | _Folder
        if Path(path).is_dir():
            node = _Folder()
            node.durable = {entry.name: self._load(str(entry)) for entry in Path(path).iterdir()}
        else:
            node = _File()
            node.live[:] = Path(path).read_bytes()
            node.durable = len(node.live)
        self._nodes[path] = node
        return node

    # ---------------------------------------------------------------------------------------------- the calls

    def _step(self) -> None:
        if self.cut_at is not None and self.calls >= self.cut_at:
            raise PowerLoss
        self.calls += 1

    def _note(self, path: str, node: _File | _Folder | None) -> None:
        folder = self._nodes[str(Path(path).parent)]
        assert isinstance(folder, _Folder)
        folder.pending.append((Path(path).name, node))
        if node is None:
            self._nodes.pop(path, None)
        else:
            self._nodes[path] = node

    def create(self, path: str) -> int:
        self._step()
        fd = super().create(path)
        node = self._fds[fd] = _File()
        self._note(path, node)
        return fd

    def write(self, fd: int, data: Sequence[bytes | memoryview]) -> int:
        whole = b"".join(data)
        try:
            self._step()
        except PowerLoss:
            self._fds[fd].live += whole[: self._rng.randint(0, len(whole))]
            raise
        os.write(fd, whole)
        self._fds[fd].live += whole
        return len(whole)

    def clone(self, source: int, fd: int, start: int, count: int) -> int:
        return self.write(fd, [os.pread(source, count, start)])

    def _may_fail(self) -> None:
        if self.fail_fsync_at is not None and self.calls > self.fail_fsync_at:
            self.fail_fsync_at = None
            raise OSError(5, "Input/output error")

    def fsync(self, fd: int) -> None:
        self._step()
        self._may_fail()
        self._fds[fd].durable = len(self._fds[fd].live)

    def sync_file(self, path: str) -> None:
        self._step()
        node = self._nodes[path]
        assert isinstance(node, _File)
        node.durable = len(node.live)

    def fsync_dir(self, path: str) -> None:
        self._step()
        self._may_fail()
        folder = self._nodes.get(path)
        if isinstance(folder, _Folder):  # above the shim's root everything is durable
            _apply(folder.durable, folder.pending)
            folder.pending.clear()

    def close(self, fd: int) -> None:
        self._fds.pop(fd, None)
        super().close(fd)

    def link(self, source: str, target: str) -> None:
        self._step()
        super().link(source, target)
        self._note(target, self._nodes[source])

    def rename(self, source: str, target: str) -> None:
        self._step()
        super().rename(source, target)
        self._note(target, self._nodes[source])
        self._note(source, None)

    def unlink(self, path: str) -> None:
        self._step()
        super().unlink(path)
        self._note(path, None)

    def mkdir(self, path: str) -> None:
        self._step()
        super().mkdir(path)
        self._note(path, _Folder())

    # ------------------------------------------------------------------------------------------------ the loss

    def survivors(self, target: Path) -> None:
        """Write to the new folder `target` one of the states that the medium may be in."""
        folder = self._nodes[self.root]
        assert isinstance(folder, _Folder)
        self._restore(folder, target, self._rng.choice([0.0, 0.5, 1.0]), {})

    def _restore(self, folder: _Folder, target: Path, kept: float, contents: dict[int, bytes]) -> None:
        target.mkdir()
        entries = dict(folder.durable)
        _apply(entries, [p for p in folder.pending if self._rng.random() < kept])
        for name, node in entries.items():
            if isinstance(node, _Folder):
                self._restore(node, target / name, kept, contents)
            else:
                (target / name).write_bytes(contents.setdefault(id(node), self._remains(node)))

    def _remains(self, node: _File) -> bytes:
        """The durable bytes, and of those behind them some sectors, in a file that may be shorter."""
        size = len(node.live)
        if self._rng.random() < 0.5:
            size = self._rng.randint(node.durable, size)
        data = bytearray(node.live[:size])
        kept = self._rng.choice([0.0, 0.5, 0.9, 1.0])
        for sector in range(node.durable // SECTOR * SECTOR, size, SECTOR):
            if self._rng.random() >= kept:
                lost = slice(max(sector, node.durable), min(sector + SECTOR, size))
                data[lost] = bytes(len(range(*lost.indices(size))))
        return bytes(data)


def _apply(entries: dict[str, _File | _Folder], changes: Sequence[tuple[str, _File | _Folder | None]]) -> None:
    for name, node in changes:
        if node is None:
            entries.pop(name, None)
        else:
            entries[name] = node
