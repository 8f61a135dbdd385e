"""What a leader says of itself to whoever opens the same job store: its pid, its machine, and whether it is to end.

Shared files, as in Toil; none of them decides anything (who may write the table is decided by the chain alone).
"""

from __future__ import annotations

import os
import uuid
from contextlib import suppress
from pathlib import Path

from towline.engine.errors import CorruptionError
from towline.stores.jobstore.errors import NoSuchFileException
from towline.stores.jobstore.shared import SharedFiles

PID = "pid.log"
NODE_ID = "leader_node_id.log"
KILL_FLAG = "_toil_kill_flag"
_YES, _NO = "YES", "NO"
_NUMBER_CHARS_MAX = 20


async def write_text(shared: SharedFiles, name: str, text: str) -> None:
    """Make this the whole content of a shared file."""
    async with shared.write_stream(name, encoding="utf-8") as stream:
        await stream.write(text)


async def read_text(shared: SharedFiles, name: str) -> str:
    """Its content. NoSuchFileException."""
    async with shared.read_stream(name, encoding="utf-8") as stream:
        return str(await stream.read())


async def read_pid(shared: SharedFiles) -> int:
    """The pid that was written last. NoSuchFileException; CorruptionError if it is no number."""
    text = (await read_text(shared, PID)).strip()
    if not text.isdecimal() or len(text) > _NUMBER_CHARS_MAX:
        raise CorruptionError(f"the shared file {PID} holds {text[:40]!r} instead of a pid, at offset 0")
    return int(text)


async def write_kill_flag(shared: SharedFiles, kill: bool) -> None:
    """YES: the leader is to end. NO: it may go on."""
    await write_text(shared, KILL_FLAG, _YES if kill else _NO)


async def read_kill_flag(shared: SharedFiles) -> bool:
    """Is the leader to end? A flag that was never written says no."""
    try:
        return (await read_text(shared, KILL_FLAG)).strip() == _YES
    except NoSuchFileException:
        return False


def node_id() -> str:
    """A uuid of this machine, the same in each of its processes until it boots anew."""
    with suppress(OSError, ValueError):
        return str(uuid.UUID(Path("/proc/sys/kernel/random/boot_id").read_text().strip()))
    return str(uuid.UUID(int=uuid.getnode()))


def pid() -> str:
    """Of this process."""
    return str(os.getpid())
