"""The public names: all there, all typed, none loaded before it is used."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import towline


@pytest.mark.parametrize("name", towline.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(towline, name) is not None
    assert name in dir(towline)


def test_mypy_is_told_of_the_same_names() -> None:
    """What TYPE_CHECKING imports, what is loaded lazily and what `*` exports are one list."""
    tree = ast.parse(Path(towline.__file__).read_text())
    guard = next(node for node in tree.body if isinstance(node, ast.If))
    typed = {(node.module, alias.name) for node in guard.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert typed == {(module, name) for name, module in towline._HOME.items()}
    assert {name for _module, name in typed} == set(towline.__all__) - {"__version__"}
    assert towline.__all__ == sorted(towline.__all__)


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = towline.nothing  # type: ignore[attr-defined]  # that is the test


def test_a_submodule_is_not_in_the_way_of_a_public_name() -> None:
    code = "import towline.cli.run, towline.session, towline; print(towline.run.__module__)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout == "towline.session\n"
