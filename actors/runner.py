"""Puts a worker's Executor together: inputs from the leader, large values from and to the store's files."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

from towline.actors.execute.python import Executor
from towline.actors.worker import Worker
from towline.engine.errors import TowlineError
from towline.stores.files import Files, reference_in, store_output


class Contents:
    """Large values, in the store's files. The store is opened when the first one comes."""

    def __init__(self, store_url: str) -> None:
        self._url = store_url

    @cached_property
    def _files(self) -> Files:
        return Files.at(self._url)

    def load(self, stub: bytes) -> tuple[bytes, Sequence[Any]]:
        """Header and buffers of the value that a stub stands for. Raises CorruptionError, ObjectsError."""
        ref = reference_in(stub)
        if ref is None:
            raise TowlineError("an input that should be a file's stub is none")
        return self._files.get_value_sync(ref)

    def store(self, content: tuple[bytes, Sequence[Any]], uuid: str, attempt: tuple[int, int]) -> bytes:
        """Write a value; its stub. Raises ObjectsError."""
        return store_output(self._files, content, uuid, attempt)


def make_runner(worker: Worker, store_url: str, allow_pickle: bool, documents: Any = None) -> Executor:
    """The Executor of a worker on this store. `documents`: the JobStore of the run, if it was given one."""
    contents = Contents(store_url)

    def of_the_run() -> Any:
        from towline.stores.documents.store import JobStore

        return JobStore(store_url)

    executor = Executor(worker.fetch, contents.load, contents.store, allow_pickle, of_the_run, filed=worker.filed)
    executor.documents = documents
    return executor
