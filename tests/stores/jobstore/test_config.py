"""The configuration: a bag that comes back equal and new."""

from __future__ import annotations

import datetime as dt
from types import SimpleNamespace

import pytest

from towline.engine.errors import EncodingError
from towline.stores.jobstore.config import Config, config_of


def test_it_comes_back_equal_and_new():
    config = Config(workflowID="w", numbers=(1, 2), when=dt.timedelta(days=1), nested={"a": {1}}, none=None)
    again = Config.decode(config.encode())
    assert again == config
    assert again is not config
    assert (again.workflow_id, again.numbers) == ("w", (1, 2))
    again.more = 1
    assert again != config


def test_both_spellings_are_one_attribute():
    config = Config(retryCount=3)
    config.retry_count = 4
    assert config.retryCount == 4
    assert config.get("retryCount") == config.get("retry_count") == 4
    assert config.get("cleanWorkDir", "never") == "never"
    assert repr(config) == "Config(retry_count=4)"


def test_what_towline_looks_at_has_defaults_that_are_not_stored():
    assert (Config().retry_count, Config().default_memory, Config().workflow_id) == (1, 2 << 30, None)
    assert Config().attributes() == {}
    assert Config.decode(b"") == Config()
    with pytest.raises(AttributeError):
        _ = Config().never_set


def test_what_cannot_be_stored_is_named():
    with pytest.raises(EncodingError, match="handle"):
        Config(handle=lambda: None).encode()


def test_of_other_objects():
    config = Config(a=1)
    assert config_of(config) is config
    assert config_of(SimpleNamespace(maxCores=2, _hidden=1)) == Config(max_cores=2)
    assert config_of({"jobStore": "x"}).job_store == "x"
    with pytest.raises(EncodingError):
        config_of(7)
