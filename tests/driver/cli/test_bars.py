"""Progress of one long act: shown on a terminal, and nowhere else."""

from __future__ import annotations

import io
import sys

import pytest

from towline.cli.bars import counting


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("stream", "quiet", "shown"), [(Terminal, False, True), (Terminal, True, False), (io.StringIO, False, False)]
)
def test_a_count_is_shown_on_a_terminal_only(
    monkeypatch: pytest.MonkeyPatch, stream: type[io.StringIO], quiet: bool, shown: bool
) -> None:
    monkeypatch.setattr(sys, "stderr", said := stream())
    monkeypatch.setenv("TERM", "xterm")
    with counting("objects proved", quiet) as tell:
        tell(41, 7)
        tell(42)
    assert ("objects proved" in said.getvalue()) == shown
