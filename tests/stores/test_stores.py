"""The names that users import from the stores: all there, on both faces, and nothing is loaded before it is used."""

from __future__ import annotations

import subprocess
import sys

import pytest

from towline import stores
from towline.stores import blocking
from towline.stores.jobstore import abstract, errors


@pytest.mark.parametrize("name", stores.__all__)
def test_every_name_is_there_on_both_faces(name):
    assert getattr(stores, name).__name__ == name
    assert getattr(blocking, name).__name__ == name
    assert name in dir(stores)
    assert name in blocking.__all__
    if name not in ("AbstractJobStore", "JobStoreSupport", "open_store"):
        assert getattr(stores, name) is getattr(blocking, name)


def test_all_exceptions_that_are_raised_are_there():
    raised = {name for name, value in vars(errors).items() if isinstance(value, type) and value.__module__ == errors.__name__}
    assert raised - {"ProxyConnectionError"} <= set(stores.__all__)


def test_one_name_for_the_job_store_in_the_house():
    import towline

    assert towline.open_store is stores.open_store is abstract.open_store
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        stores.nonsense  # noqa: B018 - to look is what fails


def test_nothing_is_loaded_before_it_is_used():
    code = "import sys, towline.stores; print([m for m in sys.modules if m.startswith(('towline.stores.', 'asyncio'))])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
