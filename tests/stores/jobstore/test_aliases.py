"""Toil's old names: none is missing, and each leads where it should with the arguments it has in Toil's documents."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from towline.stores.jobstore.aliases import ALIASES

INTERFACE = (Path(__file__).parents[2] / "golden" / "toil" / "job_store.txt").read_text().splitlines()
"""Every name of Toil's AbstractJobStore, old and living, with its arguments."""


def living(line):
    return re.fullmatch(r"[a-z_]+\(.*\)", line) is not None


def test_every_old_name_of_toil_is_here_with_its_arguments():
    olds = [line for line in INTERFACE if "(" in line and not living(line) and not line.startswith("createJobStore")]
    unchanged = {"clean", "batch", "jobs", "initialize", "resume", "destroy"}
    short = [line for line in INTERFACE if line.split("(")[0] in ALIASES and living(line)]
    assert len(olds) > 20
    assert {line.split("(")[0] for line in [*olds, *short]} - unchanged == set(ALIASES)
    for line in [*olds, *short]:
        name, _, arguments = line.partition("(")
        assert str(ALIASES[name].signature) == f"(self, {arguments}".replace(", )", ")")


def test_every_alias_leads_to_a_living_name_with_these_arguments():
    known = {line.split("(")[0]: re.findall(r"(\w+)(?:=\w+)?[,)]", line.partition("(")[2]) for line in INTERFACE if living(line)}
    for old, alias in ALIASES.items():
        assert list(alias.arguments) == known[alias.name], old


def test_a_call_by_old_names_becomes_one_by_living_names():
    alias = ALIASES["writeFile"]
    assert alias.name == "write_file"
    assert alias.translate(None, ("path",), {"jobStoreID": "job"}) == {"local_path": "path", "job_id": "job"}
    assert ALIASES["loadRootJob"].translate(None, (), {}) == {}


def test_a_wrong_call_is_a_type_error():
    with pytest.raises(TypeError, match="missing"):
        ALIASES["readFile"].translate(None, ("id",), {})
    with pytest.raises(TypeError, match="unexpected"):
        ALIASES["delete"].translate(None, ("x",), {"job_id": "x"})


def test_every_line_of_the_table_is_whole():
    for old, alias in ALIASES.items():
        assert len(alias.arguments) == len(alias.signature.parameters) - 1, old
