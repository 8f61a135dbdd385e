"""The rules that Job and Flow share when names, metadata and configs are changed afterwards."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from towline.engine.authoring.config import JobConfig
from towline.engine.authoring.dictmods import apply_mod

if TYPE_CHECKING:
    from towline.engine.authoring.job import Job


def bare(function: Any) -> Any:
    """The function that the user wrote, under `@job` and under being bound."""
    function = getattr(function, "__func__", function)
    return getattr(function, "original", function)


def passes(
    job: Job,
    name_filter: str | None,
    function_filter: Callable[..., Any] | None,
    callback_filter: Callable[[Any], bool] | None = None,
) -> bool:
    """Do all filters that are given match this job?"""
    if function_filter is not None and bare(function_filter) != bare(job.function):
        return False
    if name_filter is not None and name_filter not in (job.name or ""):
        return False
    return callback_filter is None or callback_filter(job) is not False


def apply(update: dict[str, Any], target: dict[str, Any], dict_mod: bool) -> None:
    """Change `target`; what is put into it is a copy, since one update may serve many jobs."""
    own = copy.deepcopy(update)
    if dict_mod:
        apply_mod(own, target)
    else:
        target.update(own)


def check_config(config: JobConfig | dict[str, Any], attributes: list[str] | str | None, dict_mod: bool) -> None:
    """ValueError for combinations that mean nothing."""
    if dict_mod and attributes:
        raise ValueError("dict_mod and attributes options cannot be used together")
    if dict_mod and isinstance(config, JobConfig):
        raise ValueError("If dict_mod is selected the update config cannot be a JobConfig object")


def configured(
    old: JobConfig, config: JobConfig | dict[str, Any], attributes: list[str] | str | None, dict_mod: bool
) -> JobConfig:
    """The config that follows from an update."""
    wanted = [attributes] if isinstance(attributes, str) else attributes
    if isinstance(config, dict):
        if dict_mod:
            plain = old.as_dict()
            apply_mod(copy.deepcopy(config), plain)
            return JobConfig.from_dict(plain)
        wanted = list(config) if wanted is None else wanted
        if not set(wanted) <= set(config):
            raise ValueError("Specified attributes include a key that is not present in the config dictionary.")
        config = JobConfig(**config)
    if wanted is None:
        return copy.deepcopy(config)
    new = copy.copy(old)
    for name in wanted:
        if not hasattr(new, name):
            raise ValueError(f"Unknown JobConfig attribute: {name}")
        setattr(new, name, copy.deepcopy(getattr(config, name)))
    return new
