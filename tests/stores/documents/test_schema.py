"""JobStoreDocument is jobflow's, field by field."""

from __future__ import annotations

from jobflow.core.schemas import JobStoreDocument as Theirs

from towline import JobStoreDocument


def test_it_has_jobflows_fields():
    for fields in (Theirs.model_fields, JobStoreDocument.model_fields):
        assert list(fields) == ["uuid", "index", "output", "completed_at", "metadata", "hosts", "name"]
    assert JobStoreDocument().model_dump() == Theirs().model_dump()
    assert JobStoreDocument(uuid="u", index=1, output=(1,)).model_dump() == Theirs(uuid="u", index=1, output=(1,)).model_dump()
