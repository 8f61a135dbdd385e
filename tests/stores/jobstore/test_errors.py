"""The seed's exceptions: its arguments, sentences that name what is wrong, our tree, and the way through pickle."""

from __future__ import annotations

import pickle
from urllib.parse import urlparse

import pytest

from towline.engine.errors import TowlineError
from towline.stores import errors as stores
from towline.stores.jobstore import errors

URL = urlparse("gopher://host/file")
CASES = [
    (errors.NoSuchJobException("job-1"), "job-1"),
    (errors.NoSuchFileException("file-1", "reads.bam", 7), "reads.bam"),
    (errors.ConcurrentFileModificationException("file-1"), "file-1"),
    (errors.LocatorException("bad place %s", "bucket", "aws"), "bad place aws:bucket"),
    (errors.JobStoreExistsException("aws", "us:bucket"), "aws:us:bucket"),
    (errors.NoSuchJobStoreException("/data/x"), "/data/x"),
    (errors.InvalidImportExportUrlException(URL), "gopher://host/file"),
    (errors.UnimplementedURLException(URL, "import"), "import"),
    (errors.JobException("no root"), "no root"),
]


@pytest.mark.parametrize(("error", "part"), CASES, ids=lambda case: type(case).__name__)
def test_it_says_what_and_survives_pickle(error, part):
    assert part in str(error)
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert isinstance(error, TowlineError)


def test_they_hang_in_our_tree():
    assert issubclass(errors.JobStoreExistsException, stores.StoreExists)
    assert issubclass(errors.NoSuchJobStoreException, stores.NoStore)
    assert issubclass(errors.UnimplementedURLException, RuntimeError)
    assert issubclass(errors.LocatorException, ValueError)
    assert "gopher" in str(errors.UnimplementedURLException(URL, "import"))
