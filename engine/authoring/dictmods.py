"""The dict mod language: small updates of nested dicts, written as `{"_set": {"a->b": 1}}` (as jobflow and custodian know it).

Keys are paths whose steps are parted by `->`. Missing dicts on the way are made. A path may lead through objects that are made
of their settings (dataclasses, pydantic models, what has `as_dict` and `from_dict`), such as the input generator of a maker:
they are made anew, and the others of their settings keep their types.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from typing import Any

Target = dict[str, Any]
Action = Callable[[Target, str, Any], None]


def apply_mod(modification: dict[str, dict[str, Any]], target: Target) -> None:
    """Change `target` in place; ValueError for an action that there is not."""
    for action, settings in modification.items():
        act = _ACTIONS.get(action)
        if act is None:
            raise ValueError(f"{action} is not a supported action!")
        for path, value in dict.fromkeys(settings).items() if isinstance(settings, list | tuple) else settings.items():
            steps = [step for step in path.split("->") if step]
            if not steps:
                raise ValueError(f"{path!r} is not a path of keys")
            _change(target, steps, act, value)


def _change(target: Target, steps: list[str], act: Action, value: Any) -> None:
    """`act` on the dict that the path leads to, with its last step."""
    for at, step in enumerate(steps[:-1]):
        inner = target.setdefault(step, {})
        if not isinstance(inner, dict):
            target[step] = _made_anew(inner, steps, at, act, value)
            return
        target = inner
    act(target, steps[-1], value)


def _made_anew(old: Any, steps: list[str], at: int, act: Action, value: Any) -> Any:
    """An object, found at the step `at`, made again of its settings, which are changed as the later steps say."""
    make: Callable[..., Any] = type(old)
    if dataclasses.is_dataclass(old):
        held = {field.name: copy.deepcopy(getattr(old, field.name)) for field in dataclasses.fields(old) if field.init}
    elif hasattr(make, "model_fields"):
        held = {name: copy.deepcopy(getattr(old, name)) for name in old.model_fields_set}
    elif hasattr(old, "as_dict") and hasattr(old, "from_dict"):
        held, make = old.as_dict(), lambda **settings: old.from_dict(settings)
    else:
        raise TypeError(f"{'->'.join(steps)}: {steps[at]} is a {type(old).__name__}, which has no keys")
    _change(held, steps[at + 1 :], act, value)
    return make(**held)


def _set(target: Target, key: str, value: Any) -> None:
    target[key] = value


def _unset(target: Target, key: str, value: Any) -> None:
    del target[key]


def _push(target: Target, key: str, value: Any) -> None:
    target.setdefault(key, []).append(value)


def _push_all(target: Target, key: str, value: Any) -> None:
    target.setdefault(key, []).extend(value)


def _inc(target: Target, key: str, value: Any) -> None:
    target[key] = target[key] + value if key in target else value


def _rename(target: Target, key: str, value: str) -> None:
    if key in target:
        target[value] = target.pop(key)


def _add_to_set(target: Target, key: str, value: Any) -> None:
    if key not in target:
        target[key] = value
    elif value not in _array(target, key):
        target[key].append(value)


def _pull(target: Target, key: str, value: Any) -> None:
    if key in target:
        target[key] = [item for item in _array(target, key) if item != value]


def _pull_all(target: Target, key: str, value: Any) -> None:
    for item in value:
        _pull(target, key, item)


def _pop(target: Target, key: str, value: int) -> None:
    if key in target and value in (1, -1):
        _array(target, key).pop(-1 if value == 1 else 0)


def _array(target: Target, key: str) -> Any:
    if not isinstance(target[key], list | tuple):
        raise ValueError(f"Keyword {key} does not refer to an array.")
    return target[key]


_ACTIONS: dict[str, Action] = {
    "_set": _set,
    "_unset": _unset,
    "_push": _push,
    "_push_all": _push_all,
    "_inc": _inc,
    "_rename": _rename,
    "_add_to_set": _add_to_set,
    "_pull": _pull,
    "_pull_all": _pull_all,
    "_pop": _pop,
}
