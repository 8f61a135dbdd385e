"""Checkpoints and services through bytes, and the restore of a checkpoint."""

from __future__ import annotations

import pytest

from towline.stores.jobstore.description import JobBodyReference, JobDescription
from towline.stores.jobstore.kinds import CheckpointJobDescription, ServiceJobDescription


@pytest.mark.parametrize("saved", ["command", JobBodyReference("file", "module"), None])
def test_a_checkpoint_through_bytes(saved):
    desc = CheckpointJobDescription(job_name="c")
    desc.checkpoint, desc.checkpointFilesToDelete = saved, ["f"]
    found = JobDescription.decode(desc.encode(), "id", 1)
    assert isinstance(found, CheckpointJobDescription)
    assert (found.checkpoint, found.checkpoint_files_to_delete) == (saved, ["f"])


def test_a_started_checkpoint_gets_its_body_back():
    desc = CheckpointJobDescription()
    desc.checkpoint = JobBodyReference("file", "module")
    desc.add_child("c")
    assert desc.restore_checkpoint()
    assert (desc.get_body(), desc.child_ids) == (JobBodyReference("file", "module"), set())


def test_one_that_was_not_started_or_came_to_its_end_stays():
    assert not CheckpointJobDescription().restore_checkpoint()
    done = CheckpointJobDescription()
    done.checkpoint = "command"
    assert not done.restore_checkpoint()
    assert done.command is None


def test_a_service_through_bytes():
    desc = ServiceJobDescription()
    desc.startJobStoreID, desc.error_job_store_id = "a", "c"
    found = JobDescription.decode(desc.encode(), "id", 1)
    assert (found.start_job_store_id, found.terminateJobStoreID, found.error_job_store_id) == ("a", None, "c")
