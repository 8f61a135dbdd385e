"""What a leader says of itself; the contract has the verbs, here is what stands in the files."""

from __future__ import annotations

from uuid import UUID

import pytest

from tests.kit.filestore_contract import opened
from towline.engine.errors import CorruptionError
from towline.stores.jobstore import leader
from towline.stores.objects.memory import MemoryObjects


async def test_the_kill_flag_is_text_that_people_can_write():
    async with opened(MemoryObjects()) as files:
        for text, killed in (("YES", True), ("YES\n", True), ("NO", False), ("", False), ("yes?", False)):
            await leader.write_text(files.shared, leader.KILL_FLAG, text)
            assert await leader.read_kill_flag(files.shared) is killed
        await leader.write_kill_flag(files.shared, True)
        assert await leader.read_text(files.shared, leader.KILL_FLAG) == "YES"


@pytest.mark.parametrize("text", ["", "12x", "-4", "9" * 30])
async def test_a_pid_that_is_none(text):
    async with opened(MemoryObjects()) as files:
        await leader.write_text(files.shared, leader.PID, text)
        with pytest.raises(CorruptionError, match="pid"):
            await leader.read_pid(files.shared)


def test_the_machine_has_one_name():
    assert leader.node_id() == leader.node_id()
    assert UUID(leader.node_id())
    assert int(leader.pid()) > 0
