"""What many jobs share is written once, and found again by what it is made of; columns say what they were made of."""

from __future__ import annotations

from array import array
from typing import Any
from uuid import uuid4

import pytest

from tests.kit.inline import columns_of
from tests.kit.samples import AddMaker, Document, add
from towline.engine import codec, model
from towline.engine.authoring.config import JobConfig
from towline.engine.authoring.decorator import job
from towline.engine.authoring.flow import Flow
from towline.engine.authoring.job import Job
from towline.engine.authoring.reference import OnMissing
from towline.engine.errors import SubmissionError
from towline.engine.functions import Functions
from towline.engine.specs import Specs, indices_of, little, packed_uuids, u32


def test_jobs_made_alike_share_a_spec() -> None:
    @job(retries=2, name="x", metadata={"a": 1})
    def local(n: int) -> int:
        return n

    flow = Flow([*(local(n) for n in range(5)), *(AddMaker(number=n).make(1) for n in range(5)), *(add(n) for n in range(5))])
    columns = columns_of(flow)
    assert [spec.name for spec in columns.chunk.specs] == ["x", "add", "add"]
    assert columns.spec_of == [0] * 5 + [1] * 5 + [2] * 5
    assert len(columns.chunk.functions) == 3
    assert [bool(function.pickled) for function in columns.chunk.functions] == [True, False, False]


def test_specs_are_found_without_being_built_again(monkeypatch: pytest.MonkeyPatch) -> None:
    built = []
    monkeypatch.setattr(model, "Spec", lambda real=model.Spec, **parts: built.append(parts) or real(**parts))
    made = [*(add(n) for n in range(9)), *(AddMaker(number=n).make(n) for n in range(9))]
    assert len(columns_of(Flow(made)).chunk.specs) == 2
    assert len(built) == 2


@pytest.mark.parametrize(
    "change",
    [
        lambda made: made.update_metadata({"a": 1}, dynamic=False),
        lambda made: made.update_config({"expose_store": True}, dynamic=False),
        lambda made: made.append_name("!", dynamic=False),
        lambda made: setattr(made, "output_schema", Document),
        lambda made: made.add_hosts_uuids("h"),
        lambda made: setattr(made, "options", model.Options(retries=1)),
    ],
)
def test_jobs_that_differ_have_specs_that_differ(change: Any) -> None:
    one, two, three = add(1), add(1), add(1)
    change(two)
    change(three)
    flow = Flow([])
    flow.jobs = [one, two, three]
    columns = columns_of(flow)
    assert columns.spec_of == [0, 1, 1]


def test_what_a_spec_says() -> None:
    made = Job(
        add.original,  # type: ignore[attr-defined]  # a JobFunction
        (1,),
        name="n",
        metadata={"m": (1,)},
        output_schema=Document,
        config=JobConfig(
            resolve_references=False,
            on_missing_references=OnMissing.PASS,
            manager_config={"q": 1},
            expose_store=True,
            pass_manager_config=False,
            response_manager_config={"r": 2},
        ),
        priority=7,
        data=True,
    )
    made.update_metadata({"u": 1})
    made.update_config({"expose_store": True})
    made.append_name("x")
    (spec,) = columns_of(made).chunk.specs
    assert (spec.name, spec.options.priority) == ("nx", 7)
    assert codec.decode(bytes(spec.options.stores["data"])) is True
    assert codec.decode(spec.metadata) == {"m": (1,), "u": 1}
    config = codec.decode(spec.config)
    assert {name: config[name] for name in ("resolve", "on_missing", "manager", "expose_store", "schema")} == {
        "resolve": False,
        "on_missing": "pass",
        "manager": {"q": 1},
        "expose_store": True,
        "schema": Document,
    }
    assert (config["pass_manager"], config["response_manager"]) == (False, {"r": 2})
    assert [len(config[f"{what}_updates"]) for what in ("metadata", "config", "name")] == [1, 1, 1]


def test_functions_are_asked_for_by_specs_and_given_once() -> None:
    specs = Specs(Functions(), True)
    made = [add(1), AddMaker().make(1), add(2)]
    numbers = [specs.number_of(one) for one in made]
    assert numbers == [0, 1, 0]
    assert [function.path.rpartition(":")[2] for function in specs.functions_of(numbers)] == ["add", "AddMaker.make"]
    assert len(specs.functions_for(specs.specs[:1])) == 1
    assert len(specs.functions_for(specs.specs)) == 1


def test_columns_are_little_endian() -> None:
    assert u32([1, 2**32 - 1]) == b"\x01\0\0\0\xff\xff\xff\xff"
    assert little(array("H", [258])) == b"\x02\x01"


def test_uuids_are_packed_if_all_are_canonical() -> None:
    uuids = [str(uuid4()) for _ in range(3)]
    assert packed_uuids(uuids) == bytes.fromhex("".join(uuids).replace("-", ""))
    for other in ("mine", uuids[0].upper(), uuids[0].replace("-", ""), "{" + uuids[0][1:]):
        assert packed_uuids([*uuids, other]) == [*uuids, other]


def test_an_index_has_bounds() -> None:
    assert indices_of([1, 65535]) == b"\x01\0\xff\xff"
    assert indices_of([1, 1]) == b""
    for wrong in (0, -1, 65536):
        with pytest.raises(SubmissionError, match="between 1 and 65535"):
            indices_of([1, wrong])
