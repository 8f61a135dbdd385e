"""What changes the hash of a function, and what does not."""

from __future__ import annotations

import functools
import math
import subprocess
import sys
import textwrap
import types
from collections.abc import Callable
from typing import Any

import cloudpickle
import pytest

from towline import job
from towline.engine.fingerprint import fingerprint


def made(source: str, name: str = "f", module: str = "ours", **given: Any) -> Any:
    """What this source defines under a name, as if it stood in a module that somebody works on."""
    space: dict[str, Any] = {"__name__": module, **given}
    exec(compile(textwrap.dedent(source), f"{module}.py", "exec"), space)
    return space[name]


BASE = """
import math
LIMIT = 3
TABLE = {"a": [1, 2]}
def helper(x):
    return x + LIMIT
class Thing:
    size = 1
    def grown(self):
        return helper(self.size)
def f(x, y=2):
    return helper(x) + math.sqrt(y) + TABLE["a"][0] + Thing().grown()
"""


def changed(old: str, new: str) -> str:
    assert old in BASE
    return BASE.replace(old, new)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("math.sqrt(y)", "math.cbrt(y)"),
        ("y=2", "y=3"),
        ("return x + LIMIT", "return x - LIMIT"),
        ("LIMIT = 3", "LIMIT = 4"),
        ("[1, 2]", "[1, 3]"),
        ("size = 1", "size = 2"),
        ("return helper(self.size)", "return self.size"),
        ('TABLE["a"][0]', 'TABLE["a"][1]'),
        ("import math", "import cmath as math"),
    ],
)
def test_what_the_function_does_counts(old: str, new: str) -> None:
    assert fingerprint(made(changed(old, new))) != fingerprint(made(BASE))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("def helper(x):", "# a remark\n\n\ndef helper(x):"),
        ("LIMIT = 3", "OTHER = 9\nLIMIT = 3"),
        ("    return helper(x) +", "    return    helper(x) +"),
    ],
)
def test_layout_and_what_it_does_not_mention_do_not_count(old: str, new: str) -> None:
    assert fingerprint(made(changed(old, new))) == fingerprint(made(BASE))


def test_it_is_the_same_after_a_journey_by_value() -> None:
    function = made(BASE, module="__main__")
    assert fingerprint(cloudpickle.loads(cloudpickle.dumps(function))) == fingerprint(function)


def test_it_is_the_same_under_another_hash_seed() -> None:
    code = textwrap.dedent(
        """
        from towline.engine.fingerprint import fingerprint
        WORDS = {"b", "a", "c"}
        def f(x): return x in {"one", "two", "three", "four"} or x in WORDS
        print(fingerprint(f))
        """
    )
    said = {
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": seed}
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(said) == 1
    assert said != {""}


def test_what_it_closes_over_counts() -> None:
    def adder(by: object) -> Callable[[int], int]:
        return lambda x: x + by  # type: ignore[operator]  # by is a number

    assert fingerprint(adder(1)) == fingerprint(adder(1))
    assert fingerprint(adder(1)) != fingerprint(adder(2))
    assert fingerprint(adder(1)) != fingerprint(adder(True))


def test_a_function_under_a_decorator_counts() -> None:
    source = "import functools\n@functools.lru_cache\ndef helper(x):\n    return x + {}\ndef f(x):\n    return helper(x)\n"
    assert fingerprint(made(source.format(1))) != fingerprint(made(source.format(2)))
    assert fingerprint(made(source.format(1))) == fingerprint(made(source.format(1)))


def test_a_job_is_hashed_as_its_function() -> None:
    source = "@job\ndef helper(x):\n    return x + {}\ndef f(x):\n    return helper.original(x)\n"
    assert fingerprint(made(source.format(1), job=job)) != fingerprint(made(source.format(2), job=job))


def test_functions_that_call_each_other_end() -> None:
    source = "def f(x):\n    return g(x - 1) if x else {}\ndef g(x):\n    return f(x)\n"
    assert fingerprint(made(source.format(0))) != fingerprint(made(source.format(1)))


def test_a_module_of_ours_is_followed_and_an_installed_one_is_not() -> None:
    def using(body: str, file: str) -> str:
        module = types.ModuleType("beside")
        module.__file__ = file
        exec(f"def g(x):\n    {body}", vars(module))
        sys.modules["beside"] = module
        try:
            return fingerprint(made("def f(x):\n    return beside.g(x)", beside=module))
        finally:
            del sys.modules["beside"]

    ours, theirs = "/home/me/beside.py", "/usr/lib/python3/site-packages/beside.py"
    assert using("return x", ours) != using("return -x", ours)
    assert using("return x", theirs) == using("return -x", theirs)


def test_a_method_counts_with_its_class() -> None:
    source = "class A:\n    def make(self):\n        return self.part()\n    def part(self):\n        return {}\n"
    one, two = made(source.format(1), "A"), made(source.format(2), "A")
    assert fingerprint(one.make) == fingerprint(two.make)
    assert fingerprint(one.make, one) != fingerprint(two.make, two)


@pytest.mark.parametrize("function", [math.sqrt, len, functools.partial(int, base=2), str.upper, dict, [].append])
def test_what_has_no_code_has_a_hash_as_well(function: Callable[..., Any]) -> None:
    assert fingerprint(function) == fingerprint(function)


def test_partials_differ_by_what_they_hold() -> None:
    assert fingerprint(functools.partial(int, base=2)) != fingerprint(functools.partial(int, base=3))
    assert fingerprint(math.sqrt) != fingerprint(math.cos)


def test_what_cannot_be_encoded_is_told_by_its_class() -> None:
    source = "import threading\nLOCK = threading.Lock()\nclass Box:\n    def __init__(self): self.lock, self.x = LOCK, {}\n"
    source += "BOX = Box()\ndef f():\n    return BOX.x, LOCK\n"
    assert fingerprint(made(source.format(1))) == fingerprint(made(source.format(1)))
    assert fingerprint(made(source.format(1))) != fingerprint(made(source.format(2)))
