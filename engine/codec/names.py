"""Objects that go by name: which functions and classes another process can import, and how to find them again.

A name is `module:qualname`. It stands for an object only if following it here and now leads to that very object; whatever
lives in `__main__`, in a notebook or inside a function has no name and goes by value.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any


def name_of(value: Any, unwrap: bool = False) -> str | None:
    """`module:qualname` if importing that gives this very object in any process, else None.

    With `unwrap`, a name that leads to the `@job` around the object will do.
    """
    # methods of builtin classes know their class, not their module
    module = getattr(getattr(value, "__objclass__", value), "__module__", None)
    qualname = getattr(value, "__qualname__", None) or getattr(value, "__name__", None)
    if module is None and getattr(getattr(value, "__self__", None), "__spec__", None) is not None:
        module = value.__self__.__name__
    if not isinstance(module, str) or not isinstance(qualname, str) or "<" in qualname or not importable(module):
        return None
    found: Any = sys.modules.get(module)
    try:
        for step in qualname.split("."):
            found = getattr(found, step)
    except AttributeError:
        return None
    same = found is value or (callable(value) and found == value)
    same = same or (unwrap and getattr(found, "original", None) is value)
    return f"{module}:{qualname}" if same else None


def importable(module: str) -> bool:
    """Can another process import this module by its name? Not the script itself, a notebook, or what the user sent by value."""
    if module in ("__main__", "__mp_main__"):
        return False
    loaded = sys.modules.get(module)
    if loaded is None or (getattr(loaded, "__spec__", None) is None and not getattr(loaded, "__file__", None)):
        return False
    return not _sent_by_value(module)


def _sent_by_value(module: str) -> bool:
    """Did the user register the module (or a package around it) with `cloudpickle.register_pickle_by_value`?"""
    pickler = sys.modules.get("cloudpickle")
    registered = pickler.list_registry_pickle_by_value() if pickler is not None else ()
    return bool(registered) and any(module == name or module.startswith(f"{name}.") for name in registered)


def find(name: str) -> Any:
    """The object behind a name; ImportError or AttributeError (with the name in it) if it is gone."""
    module, _, qualname = name.partition(":")
    found: Any = sys.modules.get(module) or importlib.import_module(module)
    try:
        for step in qualname.split("."):
            found = getattr(found, step)
    except AttributeError as error:
        raise AttributeError(f"{name} is gone: {error}") from None
    return found
