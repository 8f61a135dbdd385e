"""Two kinds of jobs with a life of their own: checkpoints, which are restarted whole, and services, which run beside others.

To import this module is to make them known to `JobDescription.decode`.
"""

from __future__ import annotations

from typing import Any

from towline.stores.jobstore.description import JobBodyReference, JobDescription, Stored

SIGNAL = "signal"
"""What a service's signal files are called."""


class CheckpointJobDescription(JobDescription):
    """A job that is restarted whole, with all that followed from it, unless that all came to an end."""

    kind = "checkpoint"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.checkpoint: JobBodyReference | str | None = None
        """What to run again; None: it was not started."""
        self.checkpoint_files_to_delete: list[str] = []

    def restore_checkpoint(self) -> bool:
        """Make it as before it was started; False if there is nothing to restore. What followed is the caller's to delete."""
        if self.checkpoint is None or not (self.has_body() or next(self.successors_and_service_hosts(), None)):
            return False
        if isinstance(self.checkpoint, str):
            self.command = self.checkpoint
        else:
            self.body = self.checkpoint
        self.clear_dependents()
        return True

    def _special(self) -> tuple[Any, list[str], list[str | None]]:
        saved = str(self.checkpoint) if isinstance(self.checkpoint, str) else self.checkpoint
        return saved, list(map(str, self.checkpoint_files_to_delete)), []

    def _restore(self, stored: Stored) -> None:
        saved = stored.checkpoint
        self.checkpoint = JobBodyReference(*saved) if isinstance(saved, list) else saved
        self.checkpoint_files_to_delete = stored.checkpoint_files
        super()._restore(stored)


class ServiceJobDescription(JobDescription):
    """A job that runs beside the ones that need it. Three empty files are its signals: each says its word by being deleted."""

    kind = "service"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.signals: list[str | None] = [None, None, None]
        """Files: started, terminate, error."""

    async def on_registration(self, job_store: Any) -> None:
        """Its signals exist from now on."""
        for at in range(3):
            self.signals[at] = str(await job_store.get_empty_file_store_id(self.job_store_id, cleanup=True, basename=SIGNAL))

    @property
    def start_job_store_id(self) -> str | None:
        """Deleted when the service has started."""
        return self.signals[0]

    @start_job_store_id.setter
    def start_job_store_id(self, file: str | None) -> None:
        self.signals[0] = file

    @property
    def terminate_job_store_id(self) -> str | None:
        """Deleted to tell the service to end."""
        return self.signals[1]

    @terminate_job_store_id.setter
    def terminate_job_store_id(self, file: str | None) -> None:
        self.signals[1] = file

    @property
    def error_job_store_id(self) -> str | None:
        """Deleted when the service ended in error."""
        return self.signals[2]

    @error_job_store_id.setter
    def error_job_store_id(self, file: str | None) -> None:
        self.signals[2] = file

    def _special(self) -> tuple[Any, list[str], list[str | None]]:
        return None, [], [None if file is None else str(file) for file in self.signals]

    def _restore(self, stored: Stored) -> None:
        self.signals = [*stored.flags, None, None, None][:3]
        super()._restore(stored)
