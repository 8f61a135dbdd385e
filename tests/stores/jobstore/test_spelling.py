"""Two spellings of one name."""

from __future__ import annotations

import pytest

from towline.stores.jobstore.spelling import TwoSpellings, living


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("jobStoreID", "job_store_id"), ("childIDs", "child_ids"), ("serviceHostIDsInBatches", "service_host_ids_in_batches"),
        ("workflowID", "workflow_id"), ("sseKeyFile", "sse_key_file"), ("logJobStoreFileID", "log_job_store_file_id"),
        ("maxLocalJobs2", "max_local_jobs2"), ("memory", "memory"), ("_private", "_private"), ("snake_case", "snake_case"),
    ],
)  # fmt: skip
def test_the_living_name(old, new):
    assert living(old) == new


class Thing(TwoSpellings):
    def do_it_now(self):
        return "done"


def test_both_read_write_call_and_delete():
    thing = Thing()
    thing.someName = 1
    assert (thing.some_name, thing.someName, vars(thing)) == (1, 1, {"some_name": 1})
    thing.some_name = 2
    assert thing.someName == 2
    assert thing.doItNow() == "done"
    del thing.someName
    assert not hasattr(thing, "some_name")
    with pytest.raises(AttributeError, match="some_name"):
        _ = thing.someName
