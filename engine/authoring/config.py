"""How a job is run: jobflow's JobConfig, and the keywords of `@job` that are towline's own (DESIGN section 7).

Every keyword that is neither an argument of Job nor in `RESERVED` names an additional store, as in jobflow; a store that
happens to bear a reserved name goes through `stores={...}`.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

import msgspec

from towline.engine.authoring.plaindata import PlainData
from towline.engine.authoring.reference import OnMissing
from towline.engine.errors import UsageError
from towline.engine.model import Options

RESERVED = frozenset(
    {
        "retries",
        "backoff_s",
        "backoff_max_s",
        "priority",
        "release",
        "requirements",
        "cores",
        "memory",
        "disk",
        "accelerators",
        "mode",
        "timeout_s",
        "limits",
        "cache",
        "stores",
    }
)
"""Keywords of `@job` that say how a job is run."""

_AMOUNTS = ("cores", "memory", "disk", "accelerators")
_UNITS = {"": 1, "b": 1}
for _power, _letter in enumerate("kmgtp", start=1):
    _UNITS |= {_letter: 1000**_power, f"{_letter}b": 1000**_power, f"{_letter}ib": 1024**_power}


@dataclass
class JobConfig(PlainData):
    """What jobflow lets a user configure of one job."""

    resolve_references: bool | str = True
    """True: arguments are values. False: they stay references. "both": each is a ResolvedReference."""
    on_missing_references: OnMissing = OnMissing.ERROR
    """What to do if the references cannot be resolved."""
    manager_config: dict[str, Any] = field(default_factory=dict)
    """Free settings, kept with the job."""
    expose_store: bool = False
    """Put the store into CURRENT_JOB while the job runs."""
    pass_manager_config: bool = True
    """Hand manager_config on to the jobs that this one makes."""
    response_manager_config: dict[str, Any] = field(default_factory=dict)
    """Handed on instead of manager_config if not empty, whatever pass_manager_config says."""

    def __post_init__(self) -> None:
        if not isinstance(self.resolve_references, bool) and self.resolve_references != "both":
            given = repr(self.resolve_references)
            raise ValueError(f"resolve_references must be a bool or the string 'both', got {given}")
        self.on_missing_references = OnMissing(self.on_missing_references)

    def _told(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


def options_of(keywords: dict[str, Any]) -> tuple[Options, dict[str, Any]]:
    """What these keywords of a job say: how it is run, and what is kept in which additional store.

    UsageError names a keyword with an impossible value.
    """
    if not keywords:
        return DEFAULT_OPTIONS, {}
    stores = {name: value for name, value in keywords.items() if name not in RESERVED}
    stores |= keywords.get("stores") or {}
    if sum(value is True for value in stores.values()) > 1:
        raise ValueError("Cannot select True for multiple additional stores.")
    given = {name: value for name, value in keywords.items() if name in _CHECKS}
    for name, value in given.items():
        allowed, rule = _CHECKS[name]
        if not allowed(value):
            raise UsageError(f"@job({name}={value!r}): {name} must be {rule}")
    for name, off in _LATER.items():
        if given.get(name, off) not in (off, None, False):
            raise UsageError(f"@job({name}={given[name]!r}): this version of towline does not act on {name} yet; leave it out")
    if "cache" in given:
        given["cache"] = cache_of(given["cache"])
    requirements = _requirements(keywords)
    return Options(**given, requirements=requirements, stores=_packed(stores)), stores


DEFAULT_OPTIONS = Options()


def cache_of(given: bool | str | int | None) -> str:
    """`Options.cache` for what a user gave: True means by code, a text or number is a version, all else no cache."""
    if given is True:
        return "code"
    return f"={given}" if given is not False and given not in (None, "") else ""


def told_options(options: Options) -> dict[str, Any]:
    """The keywords that make these options, without additional stores; only what is not the default."""
    told = msgspec.structs.asdict(options)
    return {name: value for name, value in told.items() if name != "stores" and value != getattr(DEFAULT_OPTIONS, name)}


def _number(lowest: float) -> Any:
    return lambda value: isinstance(value, int | float) and not isinstance(value, bool) and value >= lowest


def _whole(lowest: int, highest: float = float("inf")) -> Any:
    return lambda value: type(value) is int and lowest <= value <= highest


_LATER: dict[str, Any] = {"mode": "thread", "timeout_s": 0, "limits": []}
"""Reserved, recorded, and refused until they work: what each is when it is not used."""

_CHECKS: dict[str, tuple[Any, str]] = {
    "retries": (_whole(0), "a whole number of attempts after the first, 0 or more"),
    "backoff_s": (_number(0), "seconds, 0 or more"),
    "backoff_max_s": (_number(0), "seconds, 0 or more"),
    "timeout_s": (_number(0), "seconds, 0 (no limit) or more"),
    "priority": (_whole(0, 255), "a whole number from 0 to 255"),
    "release": (lambda value: value in ("early", "committed"), "'early' or 'committed'"),
    "mode": (lambda value: value in ("thread", "process"), "'thread' or 'process'"),
    "limits": (
        lambda value: isinstance(value, list) and all(isinstance(name, str) for name in value),
        "a list of names of limit groups",
    ),
    "cache": (lambda value: isinstance(value, bool | str | int | None), "True, or a version (text or number)"),
}


def _requirements(keywords: dict[str, Any]) -> dict[str, float]:
    wanted = dict(keywords.get("requirements") or {})
    wanted |= {name: keywords[name] for name in _AMOUNTS if keywords.get(name) is not None}
    return {name: _amount(name, value) for name, value in wanted.items()}


def _amount(name: str, value: Any) -> float:
    """A number, or bytes as text with a unit (`4 GiB`, `500MB`)."""
    if isinstance(value, int | float) and not isinstance(value, bool) and value >= 0:
        return float(value)
    if isinstance(value, str) and name in ("memory", "disk"):
        text = value.strip().lower()
        digits = text.rstrip("abcdefghijklmnopqrstuvwxyz ")
        unit = text[len(digits) :].strip()
        try:
            return float(digits) * _UNITS[unit]
        except (ValueError, KeyError):
            pass
    raise UsageError(f"@job({name}={value!r}): a requirement must be a number of 0 or more, or bytes like '4 GiB'")


def _packed(stores: dict[str, Any]) -> dict[str, msgspec.Raw]:
    from towline.engine import codec

    return {name: msgspec.Raw(codec.encode(value, root=name)) for name, value in stores.items()}
