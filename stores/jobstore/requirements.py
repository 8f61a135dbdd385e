"""What a job needs of a machine, in whatever way its author wrote it: numbers, or texts like 2Gi.

Bytes are whole numbers; K, M, G, T, P, E count in thousands, Ki, Mi, Gi, Ti, Pi, Ei in 1024s; an unspoken or spoken B changes
nothing. Cores may be fractions. An accelerator is a dict with count, kind, and where they are known brand, model and api.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from towline.engine.errors import UsageError

NAMES = ("memory", "cores", "disk", "preemptible", "accelerators")

_UNITS = "KMGTPE"
_quantity = re.compile(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*(?:([kKMGTPE])(i?))?[bB]?\s*").fullmatch
_YES = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
_BRANDS = ("nvidia", "amd")
_APIS = {"cuda": "nvidia", "rocm": "amd", "opencl": None}


def parse(name: str, value: Any) -> Any:
    """The value of requirement `name` as it is stored; None stays None (the workflow's default). UsageError."""
    match name:
        case _ if value is None:
            return None
        case "memory" | "disk":
            return parse_bytes(value, name)
        case "cores":
            return parse_cores(value)
        case "preemptible" | "preemptable":
            return parse_flag(value, name)
        case "accelerators":
            return parse_accelerators(value)
    raise UsageError(f"{name!r} is no requirement of a job: use {', '.join(NAMES)}")


def parse_bytes(value: Any, name: str = "memory") -> int:
    """A number of bytes, or a text such as 2Gi, 500M, 1.5 GB."""
    if isinstance(value, int | float) and not isinstance(value, bool) and value >= 0:
        return int(value)
    found = _quantity(value) if isinstance(value, str) else None
    if found is None:
        raise UsageError(f"{name} is {value!r}: give bytes, or a text like 2Gi or 500M")
    number, unit, binary = found.groups()
    scale = (1024 if binary else 1000) ** (_UNITS.index(unit.upper()) + 1) if unit else 1
    return int(float(number) * scale) if "." in number else int(number) * scale


def parse_cores(value: Any) -> float:
    """A number of cores, or its text; a whole number stays one."""
    try:
        cores = float(value)
    except (TypeError, ValueError):
        cores = -1.0
    if isinstance(value, bool) or not 0 <= cores < 1e9:
        raise UsageError(f"cores is {value!r}: give a number such as 1 or 0.5")
    return int(cores) if cores.is_integer() else cores


def parse_flag(value: Any, name: str) -> bool:
    """A bool, or true, false, yes, no, 1, 0."""
    found = value if isinstance(value, bool) else _YES.get(str(value).strip().lower())
    if found is None:
        raise UsageError(f"{name} is {value!r}: give True or False")
    return found


def parse_accelerators(value: Any) -> list[dict[str, Any]]:
    """One, or several: a count, a text such as `k80:2`, a dict with `count` and more, or a list of these."""
    if isinstance(value, str) and "," in value:
        value = value.split(",")
    some = [value] if isinstance(value, int | str | Mapping) else value
    if not isinstance(some, Iterable):
        raise UsageError(f"accelerators is {value!r}: give a count, a text like k80:2, a dict, or a list of these")
    return [_accelerator(one) for one in some]


def _accelerator(spec: Any) -> dict[str, Any]:
    match spec:
        case bool():
            pass
        case int() if spec >= 0:
            return {"count": spec, "kind": "gpu"}
        case str() if spec.strip():
            what, colon, count = spec.strip().rpartition(":")
            if not colon:
                what, count = ("gpu", count) if count.isdigit() else (count, "1")
            if count.isdigit() and what:
                return {"count": int(count), "kind": "gpu"} | _known(what)
        case Mapping() if isinstance(spec.get("count", 1), int):
            return {"count": 1, "kind": "gpu"} | {str(k): v for k, v in spec.items() if v is not None}
    raise UsageError(f"{spec!r} is no accelerator: give a count, a text like k80:2, or a dict with count and kind")


def _known(what: str) -> dict[str, Any]:
    """What a word says of an accelerator."""
    word = what.lower()
    if word == "gpu":
        return {}
    if word in _BRANDS:
        return {"brand": word}
    if word in _APIS:
        brand = _APIS[word]
        return {"api": word} | ({"brand": brand} if brand else {})
    return {"model": what}
