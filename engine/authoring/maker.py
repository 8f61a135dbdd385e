"""Makers: dataclasses that make jobs and flows, so that their settings can be given, and changed, ahead of time."""

from __future__ import annotations

import copy
import dataclasses
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from towline.engine.authoring.dictmods import apply_mod
from towline.engine.authoring.plaindata import PlainData


@dataclass
class Maker(PlainData):
    """Base of all makers. A subclass is a dataclass with a `name` field that has a default, and overrides `make`."""

    def make(self, *args: Any, **kwargs: Any) -> Any:
        """Make a Job or a Flow."""
        raise NotImplementedError

    @property
    def name(self) -> str:
        """Name of the maker and of its jobs; a subclass overrides it with a field."""
        raise NotImplementedError

    def update_kwargs(
        self,
        update: dict[str, Any],
        name_filter: str | None = None,
        class_filter: type[Maker] | Maker | None = None,
        nested: bool = True,
        dict_mod: bool = False,
    ) -> Any:
        """A copy of this maker with some settings changed, and those of the makers among its settings if `nested`.

        `name_filter` matches part of a name, `class_filter` also subclasses. TypeError for a setting that there is not.
        """

        def updated(maker: Maker) -> Maker:
            settings = settings_of(maker)
            if dict_mod:
                apply_mod(update, settings)
            else:
                settings |= copy.deepcopy(update)
            return type(maker)(**settings)

        return recursive_call(self, updated, name_filter, class_filter, nested)

    def _told(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in names_of_settings(self)}


def settings_of(maker: Any) -> dict[str, Any]:
    """What the maker's constructor was given, as it is now: copies, so that changes stay outside."""
    return {name: copy.deepcopy(getattr(maker, name)) for name in names_of_settings(maker)}


def names_of_settings(maker: Any) -> list[str]:
    """The arguments of the maker's constructor."""
    if dataclasses.is_dataclass(maker):
        return [field.name for field in dataclasses.fields(maker) if field.init]
    return [name for name in inspect.signature(type(maker)).parameters if hasattr(maker, name)]


def recursive_call(
    obj: Any,
    func: Callable[[Any], Any],
    name_filter: str | None = None,
    class_filter: type[Maker] | Maker | None = None,
    nested: bool = True,
) -> Any:
    """A copy of `obj` in which `func` has replaced every maker that passes the filters, innermost first."""
    wanted = type(class_filter) if isinstance(class_filter, Maker) else class_filter

    def passes(maker: Maker) -> bool:
        named = name_filter is None or name_filter in maker.name
        return named and (wanted is None or isinstance(maker, wanted))

    def visit(value: Any) -> Any:
        if isinstance(value, Maker):
            made = copy.copy(value)
            for name in settings_of(value) if nested else ():
                object.__setattr__(made, name, visit(getattr(value, name)))
            if not passes(value):
                return made
            changed = func(made)
            if not isinstance(changed, Maker):
                raise ValueError(f"Function must return a Maker object. Got {type(changed)} instead.")
            return changed
        if type(value) in (list, tuple):
            return type(value)(visit(item) for item in value)
        if type(value) is dict:
            return {key: visit(item) for key, item in value.items()}
        own = copy.deepcopy(value)
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            for name in names_of_settings(value):
                object.__setattr__(own, name, visit(getattr(value, name)))
        return own

    return visit(obj)
