"""How a store is named on the command line."""

from __future__ import annotations

import pytest

from towline import UsageError
from towline.cli.common import named


def test_the_argument_comes_before_the_option() -> None:
    assert named("runs/a", "runs/b") == "runs/a"
    assert named(None, "runs/b") == "runs/b"


@pytest.mark.parametrize("option", [None, ""])
def test_no_store_at_all_is_an_error(option: str | None) -> None:
    with pytest.raises(UsageError, match="no store was named"):
        named(None, option)
