"""Descriptions: both spellings, needs and tries, phases, and the way through bytes."""

from __future__ import annotations

import pytest

from towline.engine.errors import CorruptionError, EncodingError, UsageError
from towline.stores.jobstore.config import Config
from towline.stores.jobstore.description import BatchJobExitReason, JobDescription, TemporaryID
from towline.stores.jobstore.errors import JobException
from towline.stores.jobstore.hints import FileID


def again(desc, **config):
    return JobDescription.decode(desc.encode(), "id", 7, Config(**config))


def test_as_the_guide_makes_one():
    desc = JobDescription(requirements={"memory": 1 << 30, "cores": 1, "disk": 1 << 30}, jobName="test_job", unitName="test_unit")
    desc.remainingTryCount = 2
    desc.completed = True
    found = again(desc)
    assert (found.jobName, found.unitName, found.remainingTryCount, found.completed) == ("test_job", "test_unit", 2, True)
    assert (found.jobStoreID, found.version) == ("id", 7)


def test_everything_goes_through_bytes():
    desc = JobDescription({"memory": "2Gi", "accelerators": 1}, "job", "unit", "shown", local=True, files=[FileID("f1", 3)])
    desc.add_child("c1")
    desc.add_child("c2")
    desc.add_follow_on("o1")
    desc.add_service_host_job("s1")
    desc.add_service_host_job("s2", "s1")
    desc.add_predecessor("p")
    desc.predecessors_finished = {"p"}
    desc.files_to_delete = [FileID("f2")]
    desc.logJobStoreFileID = FileID("log")
    desc.command = "run it"
    desc.merged_jobs = ["m"]
    desc.own = {"a": (1, 2)}
    found = again(desc)
    known, other = vars(desc) | {"_config": None}, vars(found) | {"_config": None}
    assert {k: v for k, v in known.items() if k not in ("job_store_id", "version")} == {
        k: v for k, v in other.items() if k not in ("job_store_id", "version")
    }


def test_defaults_come_from_the_workflow():
    desc = JobDescription({"cores": 2})
    assert desc.requirements == {"memory": 2 << 30, "cores": 2, "disk": 2 << 30, "preemptible": False, "accelerators": []}
    found = again(desc, defaultMemory="4Gi", retryCount=5, default_preemptible=True)
    assert (found.memory, found.cores, found.default_try_count, found.remaining_try_count) == (4 << 30, 2, 6, 6)
    assert found.preemptable is True
    with pytest.raises(UsageError, match="speed"):
        JobDescription({"speed": 9})


def test_a_failure_charges_a_try_and_may_double_the_memory():
    desc = again(JobDescription({"memory": "1Gi", "disk": 1}), retry_count=1, double_mem=True, default_memory="1Gi")
    desc.setup_job_after_failure(1, BatchJobExitReason.MEMLIMIT)
    assert (desc.remaining_try_count, desc.memory, desc.disk) == (1, 2 << 30, 2 << 30)
    desc.setupJobAfterFailure(exit_status=1)
    desc.setup_job_after_failure()
    assert desc.remaining_try_count == 0


def test_a_lost_machine_may_be_forgiven():
    desc = again(JobDescription(), enableUnlimitedPreemptibleRetries=True)
    desc.setup_job_after_failure(None, BatchJobExitReason.LOST)
    assert desc.remaining_try_count == 2


def test_reset():
    desc = JobDescription()
    assert not desc.reset_job()
    desc.remaining_try_count, desc.log_job_store_file_id = 0, "log"
    assert desc.resetJob()
    assert (desc.remaining_try_count, desc.log_job_store_file_id) == (2, None)


def test_phases_run_from_the_top_down():
    desc = JobDescription()
    desc.command = "x"
    desc.addChild("c")
    desc.addFollowOn("o")
    assert desc.next_successors() == set()
    desc.detach_body()
    assert desc.next_successors() == {"c"}
    desc.filter_successors(lambda job: job != "c")
    assert desc.nextSuccessors() == {"o"}
    assert not desc.is_subtree_done()
    desc.clear_dependents()
    assert desc.next_successors() is None
    assert desc.is_subtree_done()


def test_services_start_outside_in():
    desc = JobDescription()
    for service, parent in (("a", None), ("b", None), ("c", "a"), ("d", "c")):
        desc.add_service_host_job(service, parent)
    assert list(desc.service_host_ids_in_batches()) == [["a", "b"], ["c"], ["d"]]
    desc.filter_service_hosts(lambda service: service != "c")
    assert desc.service_tree == {"a": [], "b": [], "d": []}
    with pytest.raises(JobException, match="nobody"):
        desc.add_service_host_job("x", "nobody")


def test_chaining_takes_over_what_was_left():
    parent, child = JobDescription(job_name="p"), JobDescription(job_name="c")
    parent.job_store_id, parent.version, child.job_store_id = "p", 4, "c"
    parent.add_child("c")
    parent.add_follow_on("o")
    child.add_child("k")
    child.replace(parent)
    assert (child.job_store_id, child.version, child.merged_jobs) == ("p", 4, ["c"])
    assert child.successor_phases == [{"o"}, set(), {"k"}]
    assert list(child.successors_by_phase()) == [(0, "o"), (2, "k")]
    parent.files_to_delete = ["f"]
    with pytest.raises(JobException, match="chained"):
        child.replace(parent)


def test_versions():
    old, new = again(JobDescription()), again(JobDescription())
    new.version = 9
    assert old.is_updated_by(new)
    old.assert_is_not_newer_than(new)
    with pytest.raises(JobException):
        new.assert_is_not_newer_than(old)


def test_ids_must_be_real_before_they_are_stored():
    desc, child = JobDescription(), JobDescription()
    assert isinstance(desc.job_store_id, TemporaryID)
    desc.add_child(child.job_store_id)
    with pytest.raises(JobException, match="assign ids"):
        desc.encode()
    desc.rename_references({child.job_store_id: "real"})
    assert again(desc).child_ids == {"real"}


def test_an_attribute_that_only_pickle_could_store_is_named():
    desc = JobDescription()
    desc.secret_handle = object()
    with pytest.raises(EncodingError, match="secret_handle"):
        desc.encode()


def test_what_cannot_be_read():
    with pytest.raises(CorruptionError, match="job id"):
        JobDescription.decode(b"\xc1", "id", 7)


def test_a_subclass_comes_back_as_itself():
    class Special(JobDescription):
        kind = "special"

        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            self.power = 9

    found = again(Special(job_name="s"))
    assert (type(found), found.power) == (Special, 9)
    del JobDescription._kinds["special"]
    with pytest.raises(JobException, match="special"):
        again(Special())
