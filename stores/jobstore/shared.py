"""Shared files: content under a name that the whole workflow knows, such as `pid.log` or the environment.

A name matches `^[a-zA-Z0-9._-]+$`, so it is never a path. A shared file is replaced whole: the last writer wins, a reader sees
one version entirely. With `encrypted=False` the content is stored in the clear even where the store has a key.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

from towline.stores.fileformat import PART
from towline.stores.jobstore import ondisk
from towline.stores.jobstore.blobs import Blobs, Find
from towline.stores.jobstore.chain import Build
from towline.stores.jobstore.hints import check_shared_name, new_blob
from towline.stores.jobstore.records import FileEntry, SharedDeleted, SharedPut
from towline.stores.jobstore.streams import Content


class SharedFiles:
    """The shared files of one job store."""

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs

    @asynccontextmanager
    async def write_stream(
        self,
        name: str,
        encrypted: bool | None = None,
        encoding: str | None = None,
        errors: str | None = None,
        executable: bool = False,
    ) -> AsyncIterator[Any]:
        """A stream whose content becomes the shared file when it ends without an exception.

        ValueError (UsageError) for a name that is none, or if encryption is demanded that the store does not offer.
        """
        check_shared_name(name)
        secret = self._blobs.encryption(encrypted)

        def keep(key: str, content: Content) -> Build:
            return _put(name, key, content, secret, executable)

        async with self._blobs.writing(uuid4().hex, secret, encoding, errors, keep) as file:
            yield file

    async def write(self, name: str, path: ondisk.AnyPath, encrypted: bool | None = None) -> None:
        """Make the content of a file of this machine the shared file, with its executable bit."""
        check_shared_name(name)
        secret = self._blobs.encryption(encrypted)
        key = new_blob(uuid4().hex)
        content, executable = await self._blobs.from_path(key, secret, path)
        await self._blobs.keep(key, secret, _put(name, key, content, secret, executable))

    @asynccontextmanager
    async def read_stream(self, name: str, encoding: str | None = None, errors: str | None = None) -> AsyncIterator[Any]:
        """A stream of the content. NoSuchFileException on entry."""
        async with self._blobs.reading(self.find(name), encoding, errors) as (_, file):
            yield file

    async def entry(self, name: str) -> FileEntry:
        """What is recorded of it. NoSuchFileException."""
        return self.find(name)(await self._blobs.chain.refresh()).entry

    async def exists(self, name: str) -> bool:
        """Was something written under this name?"""
        check_shared_name(name)
        return name in (await self._blobs.chain.refresh()).shared

    async def delete(self, name: str) -> None:
        """Take it away; one that does not exist is no error."""
        check_shared_name(name)
        await self._blobs.commit(lambda state: [SharedDeleted(name)] if name in state.shared else [])

    @staticmethod
    def find(name: str) -> Find:
        """For `Blobs.reading` and `Blobs.newest`."""
        check_shared_name(name)
        return lambda state: state.shared_file(name)


def _put(name: str, key: str, content: Content, encrypted: bool, executable: bool) -> Build:
    entry = FileEntry(name, key, content.size, PART, content.crcs, executable, encrypted=encrypted, hint=name)
    return lambda state: [SharedPut(entry)]
