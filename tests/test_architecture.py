"""The architecture as a test: imports go down, Ray stays in one floor, the engine is pure, tests mirror the source.

Read from the syntax trees, so that an import inside a function or under TYPE_CHECKING counts like any other.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

HEIGHT = {"engine": 0, "stores": 1, "actors": 2, "driver": 3, "benchmarks": 4}
"""The floors. A floor may import itself and the lower ones; the benchmarks look at the house from outside."""

RAY_FLOORS = {"actors", "benchmarks"}

LINES_MAX = 600

UNCLEAN = {"asyncio", "io", "multiprocessing", "os", "random", "secrets", "selectors", "shutil", "socket", "subprocess"}
UNCLEAN |= {"tempfile", "threading", "time", "uuid"}
"""Standard modules that the engine may not know: I/O, clock, randomness, concurrency."""

MAY_KNOW = {
    "engine/authoring/uuids.py": {"os"},  # authoring mints the uuids of jobs; the core gets them as values
    "engine/codec/others.py": {"io"},  # BytesIO: buffers in memory
}
"""Exceptions to UNCLEAN, by file. `uuid.UUID` is free to all: a value, whose module can also draw lots."""

HEAVY = ["ray", "numpy", "pyarrow", "pandas", "matplotlib", "networkx", "scipy", "asyncio", "typer", "rich"]
"""What `import towline` may not load (the engine must not either)."""

TESTED_ELSEWHERE = {
    "stores/objects/base.py": "a protocol and its errors; the contract in tests/kit is its test, run for every backend",
    "engine/errors.py": "an exception tree without behaviour",
    "engine/events.py": "words without behaviour: tests/engine/test_core.py says them all",
    "engine/effects.py": "words without behaviour: tests/engine/test_core.py hears them all",
    "driver/__main__.py": "one call of the command line, which tests/driver/cli has the tests of",
    "stores/errors.py": "an exception tree without behaviour",
}
"""Source files without a test file of their own, each with the reason."""


BY_NAME = {"importlib.import_module", "import_module", "__import__"}
"""Calls that import what their first argument names."""


def sources(*folders: str) -> list[Path]:
    """All Python files below these folders of the repository, in a stable order."""
    return sorted(p for folder in folders for p in (ROOT / folder).rglob("*.py"))


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def floor_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[0]


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), filename=str(path))


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """(line, dotted name) of all that a file imports; `from a import b` gives `a.b`, a relative one has a dot."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            yield from ((node.lineno, f"{module}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in BY_NAME and node.args:
            yield node.lineno, ast.unparse(node.args[0]).strip("'")


def floor_named(dotted: str) -> str | None:
    """The floor that an imported name belongs to, or None when it is none of ours."""
    first, _, rest = dotted.partition(".")
    if first in HEIGHT:
        return first
    if first != "towline":
        return None
    second = rest.partition(".")[0]
    return second if second in HEIGHT else "driver"


def climbs(floor: str, dotted: str) -> bool:
    """Does an import of `dotted` in this floor go up?"""
    named = floor_named(dotted)
    return named is not None and HEIGHT[named] > HEIGHT[floor]


FLOORS = sources(*HEIGHT)
ALL = [*FLOORS, *sources("tests", "examples")]


def listing(faults: list[str]) -> str:
    return "\n  ".join(["", *faults])


def test_there_is_something_to_look_at() -> None:
    """Guards the other tests: a moved folder must not make them pass on nothing."""
    assert {floor_of(path) for path in FLOORS} == set(HEIGHT)


@pytest.mark.parametrize(
    ("floor", "dotted", "up"),
    [
        ("engine", "towline.stores.files.Files", True),
        ("engine", "towline.engine.model", False),
        ("stores", "towline.run", True),
        ("stores", "towline.engine.ids", False),
        ("actors", "towline.cli.main", True),
        ("driver", "towline.benchmarks.harness", True),
        ("driver", "towline.actors.leader", False),
        ("engine", "msgspec", False),
    ],
)
def test_the_rule_tells_up_from_down(floor: str, dotted: str, up: bool) -> None:
    assert climbs(floor, dotted) is up


def test_imports_go_down_only() -> None:
    faults = [
        f"{name_of(path)}:{line} imports {dotted}"
        for path in FLOORS
        for line, dotted in imports(path)
        if climbs(floor_of(path), dotted)
    ]
    assert not faults, listing(faults)


def test_imports_are_absolute_and_by_the_package_name() -> None:
    faults = [
        f"{name_of(path)}:{line} imports {dotted}"
        for path in ALL
        for line, dotted in imports(path)
        if dotted.startswith(".") or dotted.partition(".")[0] in HEIGHT
    ]
    assert not faults, listing(faults)


def test_ray_is_imported_in_one_floor_only() -> None:
    faults = [
        f"{name_of(path)}:{line}"
        for path in [*FLOORS, *sources("examples")]
        for line, dotted in imports(path)
        if dotted.partition(".")[0] == "ray" and floor_of(path) not in RAY_FLOORS
    ]
    assert not faults, listing(faults)


def test_the_engine_knows_neither_clock_nor_chance_nor_outside() -> None:
    faults = [
        f"{name_of(path)}:{line} imports {dotted}"
        for path in sources("engine")
        for line, dotted in imports(path)
        if dotted.partition(".")[0] in UNCLEAN - MAY_KNOW.get(name_of(path), set()) and dotted != "uuid.UUID"
    ]
    assert not faults, listing(faults)


def test_every_file_says_first_what_it_is_for() -> None:
    faults = []
    for path in ALL:
        docstring = ast.get_docstring(tree_of(path))
        if not docstring or not path.read_text().startswith(('"""', "#!")):
            faults.append(name_of(path))
    assert not faults, listing(faults)


def test_no_file_outgrew_one_purpose() -> None:
    long = {name_of(path): lines for path in ALL if (lines := len(path.read_text().splitlines())) > LINES_MAX}
    assert not long


def has_code(path: Path) -> bool:
    """Is there more than a docstring and imports?"""
    quiet = (ast.Import, ast.ImportFrom)
    return any(
        not isinstance(n, quiet)
        for n in tree_of(path).body
        if not (isinstance(n, ast.Expr) and isinstance(n.value, ast.Constant))
    )


def mirrors(path: Path) -> list[Path]:
    """Where tests of a source file may stand: in the same folders or flat in the floor's, in one file or several."""
    inside = path.relative_to(ROOT)
    stem = inside.parent.name if path.name == "__init__.py" else path.stem.strip("_")
    flat = "_".join([*inside.parts[1:-1], stem])
    patterns = {
        f"{inside.parent}/test_{stem}.py",
        f"{inside.parent}/test_{stem}_*.py",
        f"{inside.parts[0]}/test_{stem}.py",
        f"{inside.parts[0]}/test_{stem}_*.py",
        f"{inside.parts[0]}/test_{flat}.py",
    }
    return [found for pattern in sorted(patterns) for found in (ROOT / "tests").glob(pattern)]


def test_tests_mirror_the_source_file_by_file() -> None:
    faults = [
        f"{name_of(path)} has no test file in tests/{name_of(path.parent)}/"
        for path in sources("engine", "stores", "actors", "driver")
        if has_code(path) and name_of(path) not in TESTED_ELSEWHERE and not mirrors(path)
    ]
    assert not faults, listing(faults)


def test_no_exception_outlives_its_file() -> None:
    assert all((ROOT / name).exists() for name in TESTED_ELSEWHERE)


def test_silenced_checks_have_a_reason_beside_them() -> None:
    """The reason follows on the line, or is the comment above it."""
    bare = re.compile(r"#\s*(type:\s*ignore(\[[^\]]*\])?|noqa(:\s*[A-Z0-9, ]+)?)\s*$")
    faults = []
    for path in ALL:
        lines = ["", *path.read_text().splitlines()]
        for number in range(1, len(lines)):
            if bare.search(lines[number]) and not lines[number - 1].lstrip().startswith("#"):
                faults.append(f"{name_of(path)}:{number}")
    assert not faults, listing(faults)


def test_every_package_is_shipped() -> None:
    """An editable install finds a folder that pyproject.toml forgot; a wheel does not."""
    setup = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    packages = {path.parent for path in FLOORS if path.name == "__init__.py"}
    named = {
        "towline" if name_of(p) == "driver" else f"towline.{name_of(p).removeprefix('driver/')}".replace("/", ".")
        for p in packages
    }
    assert named == set(setup["packages"])
    orphans = {name_of(path) for path in FLOORS if path.parent not in packages}
    assert not orphans


def heavy_after(*names: str) -> list[str]:
    """Which of HEAVY a fresh interpreter has loaded once it has imported these."""
    code = f"import sys\nfor name in {names!r}: __import__(name)\nprint(*sorted(set({HEAVY!r}) & sys.modules.keys()))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd="/")
    return found.stdout.split()


def test_the_heavy_are_seen() -> None:
    """Guards the tests below: loading one shows."""
    assert "asyncio" in heavy_after("asyncio")


@pytest.mark.parametrize("module", ["towline", "towline.engine", "towline.engine.model", "towline.engine.states"])
def test_importing_it_loads_nothing_heavy(module: str) -> None:
    assert heavy_after(module) == []


def test_the_whole_engine_loads_without_ray_and_arrow() -> None:
    """Its modules too, not only the package: what is heavy is imported where it is used."""
    names = [f"towline.{name_of(p).removesuffix('.py').replace('/', '.').removesuffix('.__init__')}" for p in sources("engine")]
    assert heavy_after(*names) == []


def test_no_module_bears_the_name_of_an_export() -> None:
    """`import towline.x` would otherwise replace the public name `towline.x` by a module."""
    import towline

    modules = {p.stem for p in (ROOT / "driver").iterdir() if p.suffix == ".py" or (p / "__init__.py").exists()}
    assert not modules & set(towline.__all__)
    assert {"job", "Flow", "Response", "run", "resume"} <= set(towline.__all__)
