"""Makers: dataclasses that make jobs and flows, so that their settings can be given, and changed, ahead of time."""

from __future__ import annotations

import copy
import dataclasses
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from towline.engine.authoring.dictmods import apply_mod


@dataclass
class Maker:
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

    def as_dict(self) -> dict[str, Any]:
        """Plain data, in the shape that monty reads; nested objects by their own as_dict."""
        named = {"@module": type(self).__module__, "@class": type(self).__qualname__, "@version": None}
        return {**named, **{name: _plain(value) for name, value in settings_of(self).items()}}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Any:
        """The maker that `as_dict` wrote."""
        return cls(**{name: _revived(value) for name, value in data.items() if not name.startswith("@")})


def settings_of(maker: Any) -> dict[str, Any]:
    """What the maker's constructor was given, as it is now: copies, so that changes stay outside."""
    if dataclasses.is_dataclass(maker):
        names = [field.name for field in dataclasses.fields(maker) if field.init]
    else:
        names = [name for name in inspect.signature(type(maker)).parameters if hasattr(maker, name)]
    return {name: copy.deepcopy(getattr(maker, name)) for name in names}


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
        return copy.deepcopy(value)

    return visit(obj)


def _plain(value: Any) -> Any:
    if hasattr(value, "as_dict"):
        return value.as_dict()
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return {key: _plain(item) for key, item in value.items()} if isinstance(value, dict) else value


def _revived(value: Any) -> Any:
    from towline.engine.codec.names import find

    if isinstance(value, dict):
        if "@class" in value and "@module" in value:
            return find(f"{value['@module']}:{value['@class']}").from_dict(value)
        return {key: _revived(item) for key, item in value.items()}
    return [_revived(item) for item in value] if isinstance(value, list) else value
