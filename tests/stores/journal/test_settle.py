"""The table of the one pure decision about lost answers."""

from __future__ import annotations

import pytest

from towline.stores.journal.settle import Verdict, settle


@pytest.mark.parametrize(
    ("sent", "found", "verdict"),
    [
        (b"mine", b"mine", Verdict.MINE),
        ([b"mi", b"ne"], b"mine", Verdict.MINE),
        (b"mine", b"min", Verdict.OTHERS),
        (b"mine", b"mine!", Verdict.OTHERS),
        (b"mine", b"", Verdict.OTHERS),
        (b"mine", None, Verdict.ABSENT),
    ],
)
def test_verdicts(sent, found, verdict):
    assert settle(sent, found) is verdict
