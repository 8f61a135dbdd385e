"""The configuration of a workflow: whatever attributes its user gives it, kept in the job store as it was.

Two configurations are equal if their attributes are. Each attribute may be spelled Toil's old way (`config.workflowID`,
`config.sseKeyFile`) or with underscores. What towline itself looks at:

    workflow_id, workflow_attempt_number     set by `initialize`
    job_store                                 the locator, for people
    retry_count                               tries after the first one, of jobs that say nothing themselves
    default_memory, default_cores, default_disk, default_preemptible, default_accelerators
    double_mem, enable_unlimited_preemptible_retries      see `JobDescription.setup_job_after_failure`
    clean, clean_work_dir, caching, write_logs, ...       not looked at, and kept all the same
"""

from __future__ import annotations

from typing import Any

from towline.engine import codec
from towline.engine.errors import EncodingError
from towline.stores.jobstore.spelling import TwoSpellings, living


class Config(TwoSpellings):
    """An attribute bag. Reading what was never set gives None for the few names that towline looks at, else AttributeError."""

    workflow_id: str | None = None
    workflow_attempt_number: int | None = None
    job_store: str | None = None
    retry_count: int = 1
    default_memory: int | str = 2 << 30
    """Bytes, or a text like 2Gi."""
    default_cores: float | str = 1
    default_disk: int | str = 2 << 30
    """Bytes, or a text like 2Gi."""
    default_preemptible: bool = False
    default_accelerators: Any = ()
    double_mem: bool = False
    enable_unlimited_preemptible_retries: bool = False

    def __init__(self, **attributes: Any) -> None:
        for name, value in attributes.items():
            setattr(self, name, value)

    def attributes(self) -> dict[str, Any]:
        """What was set, by living names."""
        return {name: value for name, value in vars(self).items() if not name.startswith("_")}

    def get(self, name: str, default: Any = None) -> Any:
        """The attribute in either spelling, or `default` where it was never set."""
        return self.attributes().get(living(name), default)

    def __eq__(self, other: object) -> bool:
        return self.attributes() == other.attributes() if isinstance(other, Config) else NotImplemented

    __hash__ = None  # type: ignore[assignment]  # equal by content that may change, as a dict

    def __repr__(self) -> str:
        return f"Config({', '.join(f'{name}={value!r}' for name, value in sorted(self.attributes().items()))})"

    def encode(self) -> bytes:
        """As bytes, without pickle: EncodingError names the attribute that cannot be stored."""
        return codec.encode(self.attributes(), allow_pickle=False, root="config")

    @classmethod
    def decode(cls, data: bytes) -> Config:
        """A new configuration, equal to the one that was encoded."""
        return cls(**codec.decode(data, allow_pickle=False)) if data else cls()


def config_of(given: Any) -> Config:
    """A Config as it is; of any other object (Toil's own, a namespace) its public attributes."""
    if isinstance(given, Config):
        return given
    try:
        attributes = dict(given) if isinstance(given, dict) else vars(given)
    except TypeError as error:
        raise EncodingError(f"a configuration needs attributes, and {given!r} has none: pass a Config") from error
    return Config(**{name: value for name, value in attributes.items() if not name.startswith("_") and not callable(value)})
