"""Keys: what is let through is safe as a path on every backend."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from towline.engine.errors import UsageError
from towline.stores.objects.base import check_key


@given(st.text(max_size=40))
def test_a_key_that_passes_stays_inside_and_is_visible(key):
    try:
        check_key(key)
    except UsageError:
        return
    assert key.isascii()
    assert "\\" not in key
    assert all(part and not part.startswith(".") for part in key.split("/"))


@pytest.mark.parametrize("key", ["a", "journal/00000000000000000001.seg", "a/b/c/d/e/f/g/h", "A-_.z", "x" * 200])
def test_ordinary_keys_pass(key):
    assert check_key(key) == key


def test_nine_segments_are_too_many():
    with pytest.raises(UsageError):
        check_key("a/b/c/d/e/f/g/h/i")
