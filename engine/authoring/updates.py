"""What Job and Flow share: changing names, arguments, metadata and configs afterwards, of one job or of all inside a flow."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from towline.engine.authoring.config import JobConfig
from towline.engine.authoring.dictmods import apply_mod
from towline.engine.authoring.maker import Maker

if TYPE_CHECKING:
    from towline.engine.authoring.flow import Flow
    from towline.engine.authoring.job import Job


class Updatable:
    """A Job, or a Flow with all that is inside. A filter that is not given lets every job pass.

    `name_filter` is part of a name; `function_filter` the function of a job; `dict_mod`: the update is in the language of
    `dictmods`; `dynamic`: the change is also made to the jobs that these jobs add to the graph when they run.
    """

    def every_job(self) -> Iterator[Job]:
        """The job itself, or all inside the flow, those of nested flows included."""
        raise NotImplementedError

    def every_flow(self) -> Iterator[Flow]:
        """The flow itself and those inside it; none for a job."""
        return iter(())

    def update_kwargs(
        self,
        update: dict[str, Any],
        name_filter: str | None = None,
        function_filter: Callable[..., Any] | None = None,
        dict_mod: bool = False,
    ) -> None:
        """Change keyword arguments."""
        for job in self.every_job():
            if passes(job, name_filter, function_filter):
                apply(update, job.function_kwargs, dict_mod)

    def update_maker_kwargs(
        self,
        update: dict[str, Any],
        name_filter: str | None = None,
        class_filter: type[Maker] | Maker | None = None,
        nested: bool = True,
        dict_mod: bool = False,
    ) -> None:
        """Change settings of the jobs' makers and, if `nested`, of makers among the arguments; see Maker.update_kwargs."""

        def changed(value: Any) -> Any:
            return value.update_kwargs(update, name_filter, class_filter, nested, dict_mod) if isinstance(value, Maker) else value

        for job in self.every_job():
            if job.maker is not None:
                job.function = getattr(changed(job.maker), job.function.__name__)
            elif nested:
                job.function_args = tuple(changed(arg) for arg in job.function_args)
                job.function_kwargs = {name: changed(arg) for name, arg in job.function_kwargs.items()}

    def append_name(self, append_str: str, prepend: bool = False, dynamic: bool = True) -> None:
        """Lengthen the names at their ends or fronts, those of flows too."""
        for flow in self.every_flow():
            flow.name = append_str + flow.name if prepend else flow.name + append_str
        for job in self.every_job():
            job.name = append_str + job.name if prepend else job.name + append_str
            if dynamic:
                job.name_updates.append({"append_str": append_str, "prepend": prepend})

    def update_metadata(
        self,
        update: dict[str, Any],
        name_filter: str | None = None,
        function_filter: Callable[..., Any] | None = None,
        dict_mod: bool = False,
        dynamic: bool = True,
        callback_filter: Callable[[Any], bool] | None = None,
    ) -> None:
        """Change the metadata, of flows too where `callback_filter`, which is handed the job or flow, does not say no."""
        filters = {"name_filter": name_filter, "function_filter": function_filter, "callback_filter": callback_filter}
        said = {"update": update, "dict_mod": dict_mod, **filters}
        for job in self.every_job():
            if dynamic:
                job.metadata_updates.append(dict(said))
            if passes(job, name_filter, function_filter, callback_filter):
                apply(update, job.metadata, dict_mod)
        for flow in self.every_flow():
            if callback_filter is None or callback_filter(flow) is not False:
                apply(update, flow.metadata, dict_mod)
                if dynamic:
                    flow.metadata_updates.append(dict(said))

    def update_config(
        self,
        config: JobConfig | dict[str, Any],
        name_filter: str | None = None,
        function_filter: Callable[..., Any] | None = None,
        attributes: list[str] | str | None = None,
        dynamic: bool = True,
        dict_mod: bool = False,
    ) -> None:
        """Replace the configs, or some attributes of them. ValueError for combinations that mean nothing."""
        check_config(config, attributes, dict_mod)
        filters = {"name_filter": name_filter, "function_filter": function_filter}
        said = {"config": config, "attributes": attributes, "dict_mod": dict_mod, **filters}
        for job in self.every_job():
            if dynamic:
                job.config_updates.append(dict(said))
            if passes(job, name_filter, function_filter):
                job.config = configured(job.config, config, attributes, dict_mod)


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
            changed: JobConfig = JobConfig.from_dict(plain)
            return changed
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
