"""The requests of Google Cloud Storage's JSON API that a store needs, on one bucket, by the objects' own names.

Names are any text that the service takes; keys and prefixes are the business of `gcs`. A condition is the query that carries it
(`ifGenerationMatch`), as `condition_of` makes it; a request with one is never repeated blindly. Every write tells its CRC32C,
so the service refuses what arrives broken. All methods raise ObjectsError (NotFound, PreconditionFailed, Ambiguous).
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
from collections.abc import AsyncGenerator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from towline.engine.errors import UsageError
from towline.stores.objects.base import ABSENT, NotFound, ObjectsError, PreconditionFailed, Version, When
from towline.stores.objects.gcs_rest import Answer, Request, Rest, crc32c, crc_text, is_plain_http, quoted
from towline.stores.objects.s3_encryption import Encryption
from towline.stores.objects.streaming import in_thread

PAGE = 1000
"""Entries of a listing that come at once (the service's limit)."""
SIGN_MAX_S = 7 * 86400
"""For so long a URL can be signed at most (the service's limit)."""

Condition = Mapping[str, str]
NONE: Condition = {}

_STAT = "name,size,generation,timeCreated"
_JSON = {"Content-Type": "application/json; charset=UTF-8"}
_CONTENT = "application/octet-stream"


class Sealing:
    """How the service is told to encrypt: CSEK for a key file, CMEK for the name of a key (of objects; tokens are Google's)."""

    def __init__(self, encryption: Encryption) -> None:
        """UsageError for a key of the key management without a name: Google has no key that an account has by itself."""
        if encryption.kind == "kms" and not encryption.kms_key.startswith("projects/"):
            raise UsageError(
                f"{encryption.kms_key!r} is no key of Google's key management: "
                "write projects/P/locations/L/keyRings/R/cryptoKeys/K"
            )
        self.encryption = encryption

    def headers(self, of: str = "x-goog-encryption") -> dict[str, str]:
        """What goes with each request that reads or writes content."""
        if self.encryption.kind != "customer":
            return {}
        key = self.encryption.key
        pairs = {"key": key, "key-sha256": hashlib.sha256(key).digest()}
        return {f"{of}-algorithm": "AES256"} | {f"{of}-{name}": base64.b64encode(raw).decode() for name, raw in pairs.items()}

    def query(self, name: str = "kmsKeyName") -> dict[str, str]:
        """What goes with each request that makes an object."""
        return {name: self.encryption.kms_key} if self.encryption.kind == "kms" else {}


class Stat(NamedTuple):
    """An object of the bucket."""

    name: str
    size: int
    generation: str
    created: float
    """Wall clock of the service, seconds."""


class Begun(NamedTuple):
    """The first bytes of an object's content, and what is known of all of it."""

    content: bytes
    generation: str
    size: int
    """Of the whole object."""


class Bucket:
    """One bucket as seen through one way of encryption. Safe in many threads, each with its loop."""

    def __init__(self, rest: Rest, name: str, encryption: Encryption) -> None:
        self.rest = rest
        self.name = name
        self.sealing = Sealing(encryption)
        self._composes: bool | None = None

    def about(self, name: str) -> str:
        """An object for messages."""
        return f"gs://{self.name}/{name}"

    def _path(self, name: str | None = None, before: str = "") -> str:
        return f"{before}/storage/v1/b/{quoted(self.name)}/o" + ("" if name is None else f"/{quoted(name)}")

    # ---------------------------------------------------------------------------------------------------- the bucket

    async def create(self, project: str | None) -> None:
        """Make the bucket if it is not there. It belongs to `project`."""
        body = (json.dumps({"name": self.name, "iamConfiguration": {"uniformBucketLevelAccess": {"enabled": True}}}).encode(),)
        query = {} if project is None else {"project": project}
        # 409: it is there, ours or not; the first request that needs it will tell
        welcome = (200, 409)
        await self.rest.ask(Request("POST", "/storage/v1/b", f"gs://{self.name}", query, _JSON, body, welcome=welcome))

    async def may_compose(self) -> bool:
        """May temporary objects be made and deleted here at no cost? No, if we may not even ask."""
        if self._composes is None:
            query = {"fields": "storageClass,retentionPolicy,defaultEventBasedHold"}
            try:
                answer = await self.rest.ask(Request("GET", f"/storage/v1/b/{quoted(self.name)}", f"gs://{self.name}", query))
                found = answer.json()
            except ObjectsError:
                found = {}
            warm = found.get("storageClass") in ("STANDARD", "REGIONAL", "MULTI_REGIONAL")
            self._composes = warm and not found.get("retentionPolicy") and not found.get("defaultEventBasedHold")
        return self._composes

    # ------------------------------------------------------------------------------------------------------- reading

    async def read(self, name: str, start: int = 0, length: int | None = None, generation: str | None = None) -> bytes:
        """Content from `start` on, at most `length` bytes; of this generation if one is given. Verified if it is read whole."""
        if length == 0:
            await self.stat(name)
            return b""
        answer = await self._media(name, start, length, generation)
        match answer.status:
            case 416:
                return b""
            case 200:  # asked or not: who does not know ranges gives the whole
                return answer.body[start:] if length is None else answer.body[start : start + length]
        return answer.body

    async def begin(self, name: str, start: int, length: int) -> Begun:
        """The content from `start` on, at most `length` bytes, and what the rest of it must be asked for by."""
        answer = await self._media(name, start, length, None)
        generation = answer.headers.get("X-Goog-Generation")
        if answer.status != 206 or generation is None:
            stat = await self.stat(name)
            return Begun(await self.read(name, start, length, stat.generation), stat.generation, stat.size)
        return Begun(answer.body, generation, int(answer.headers["Content-Range"].rpartition("/")[2]))

    async def _media(self, name: str, start: int, length: int | None, generation: str | None) -> Answer:
        ranged = {"Range": f"bytes={start}-{'' if length is None else start + length - 1}"} if start or length is not None else {}
        pinned = {} if generation is None else {"generation": generation}
        return await self.rest.ask(
            Request(
                "GET",
                self._path(name, "/download"),
                self.about(name),
                {"alt": "media", **pinned},
                {**ranged, **self.sealing.headers()},
                welcome=(200, 206, 416),
                media=True,
                answer_size=length or 0,
            )
        )

    async def stat(self, name: str) -> Stat:
        """What is known of the object."""
        answer = await self.rest.ask(Request("GET", self._path(name), self.about(name), {"fields": _STAT}))
        return _stat(answer.json())

    async def list(self, prefix: str, start: str = "") -> AsyncGenerator[Stat, None]:
        """The objects whose names begin with `prefix` and are not before `start`, in the order of UTF-8."""
        query = {"prefix": prefix, "maxResults": str(PAGE), "fields": f"items({_STAT}),nextPageToken"}
        query |= {"startOffset": start} if start else {}
        while True:
            answer = await self.rest.ask(Request("GET", self._path(), f"gs://{self.name}/{prefix}*", query))
            page = answer.json()
            for item in page.get("items") or ():
                yield _stat(item)
            if not page.get("nextPageToken"):
                return
            query["pageToken"] = page["nextPageToken"]

    # ------------------------------------------------------------------------------------------------------- writing

    async def insert(self, name: str, content: bytes, condition: Condition = NONE) -> str:
        """Make the object in one request; its generation."""
        mark = secrets.token_hex(16)
        told = json.dumps({"name": name, "crc32c": crc_text(await crc32c(content)), "contentType": _CONTENT})
        head = (
            f"--{mark}\r\nContent-Type: application/json; charset=UTF-8\r\n\r\n{told}\r\n"
            f"--{mark}\r\nContent-Type: {_CONTENT}\r\nContent-Transfer-Encoding: binary\r\n\r\n"
        )
        return await self._made(
            Request(
                "POST",
                self._path(None, "/upload"),
                self.about(name),
                {"uploadType": "multipart", "name": name, "fields": "generation", **self.sealing.query(), **condition},
                {"Content-Type": f"multipart/related; boundary={mark}", **self.sealing.headers()},
                (head.encode(), content, f"\r\n--{mark}--\r\n".encode()),
                conditional=bool(condition),
            )
        )

    async def _made(self, request: Request) -> str:
        return generation_in((await self.rest.ask(request)).json(), request.about)

    def resumable(self, name: str, condition: Condition) -> Request:
        """The request that begins a resumable session for this object. Its condition is looked at now and at the end."""
        query = {"uploadType": "resumable", "name": name, **self.sealing.query(), **condition}
        headers = {**_JSON, "X-Upload-Content-Type": _CONTENT, **self.sealing.headers()}
        body = (json.dumps({"name": name, "contentType": _CONTENT}).encode(),)
        return Request("POST", self._path(None, "/upload"), self.about(name), query, headers, body)

    async def compose(self, name: str, sources: Sequence[tuple[str, str]], crc: str | None, condition: Condition = NONE) -> str:
        """Make the object of up to 32 others, each a name and a generation; its generation.

        `crc`: what the whole must have; the service adds up what it verified of the parts, so that a difference means a part
        too many or too few. Then the object is deleted again, and ObjectsError says so.
        """
        named = [{"name": part, "generation": generation} for part, generation in sources]
        request = Request(
            "POST",
            f"{self._path(name)}/compose",
            self.about(name),
            {"fields": "generation,crc32c", **self.sealing.query(), **condition},
            {**_JSON, **self.sealing.headers()},
            (json.dumps({"sourceObjects": named, "destination": {"contentType": _CONTENT}}).encode(),),
            conditional=bool(condition),
        )
        made = (await self.rest.ask(request)).json()
        generation = generation_in(made, request.about)
        if None not in (crc, made.get("crc32c")) and made["crc32c"] != crc:
            await self.delete(name, {"ifGenerationMatch": generation})
            raise ObjectsError(f"{request.about} was composed wrongly by the service (its CRC32C differs) and deleted again")
        return generation

    async def rewrite(self, source: Bucket, source_name: str, name: str, condition: Condition = NONE) -> str:
        """Copy one generation of an object here without its bytes passing through us; the copy's generation."""
        path = f"{source._path(source_name)}/rewriteTo/b/{quoted(self.name)}/o/{quoted(name)}"
        headers = {**source.sealing.headers("x-goog-copy-source-encryption"), **self.sealing.headers()}
        stat = await source.stat(source_name)
        query = {"sourceGeneration": stat.generation, **self.sealing.query("destinationKmsKeyName"), **condition}
        about = self.about(name)
        while True:
            request = Request("POST", path, about, query, headers, conditional=bool(condition), answer_size=stat.size)
            try:
                told = (await self.rest.ask(request)).json()
            except NotFound as gone:
                raise NotFound(f"{source.about(source_name)} is no longer what was to be copied to {about}") from gone
            if told.get("done"):
                return generation_in(told.get("resource", {}), about)
            query["rewriteToken"] = str(told.get("rewriteToken", ""))

    async def delete(self, name: str, condition: Condition = NONE, deadline_s: float | None = None) -> None:
        """Delete the object; if there is none, that is no error."""
        welcome = (200, 204, 404)
        request = Request("DELETE", self._path(name), self.about(name), condition, welcome=welcome, deadline_s=deadline_s)
        await self.rest.ask(request)

    # ------------------------------------------------------------------------------------------------------- signing

    async def sign(self, name: str, expires_s: float) -> str:
        """A URL by which anyone may read the object (V4), or an emulator's plain one. UsageError for longer than 7 days."""
        if not 1 <= expires_s <= SIGN_MAX_S:
            raise UsageError(f"a URL of Google Cloud Storage can be signed for 1 to {SIGN_MAX_S} seconds, not {expires_s:g}")
        if self.sealing.encryption.kind == "customer":
            raise ObjectsError(f"{self.about(name)} is encrypted with a key file: no URL alone can read it")
        client = await self.rest.client()
        if client.credentials is None and is_plain_http(client.location):
            return f"{client.location}{self._path(name, '/download')}?alt=media"
        return await in_thread(self._signed, client.credentials, client.location, name, expires_s)

    def _signed(self, credentials: Any, location: str, name: str, expires_s: float) -> str:
        from google.auth.credentials import Signing
        from google.cloud.storage import Client

        if not isinstance(credentials, Signing):
            who = "anonymous access" if credentials is None else type(credentials).__name__
            raise ObjectsError(
                f"{self.about(name)} cannot be signed by {who}: "
                "set GOOGLE_APPLICATION_CREDENTIALS to the key file of a service account"
            )
        # the project does not matter: nothing is asked of the service
        client = Client(project="none", credentials=credentials)
        url: str = (
            client.bucket(self.name)
            .blob(name)
            .generate_signed_url(
                expiration=timedelta(seconds=expires_s), api_access_endpoint=location, credentials=credentials, version="v4"
            )
        )
        return url


def condition_of(when: When | Version, about: str) -> Condition:
    """What a write demands, as a query. PreconditionFailed for a version that no object of this service can have."""
    if isinstance(when, Version):
        if not when.tag.isdecimal() or int(when.tag) == 0:
            raise PreconditionFailed(f"{about} is not the version {when.tag!r}: that is no generation of Google Cloud Storage")
        return {"ifGenerationMatch": when.tag}
    return {"ifGenerationMatch": "0"} if when is ABSENT else NONE


def generation_in(resource: Mapping[str, Any], about: str) -> str:
    """Of an object that was made."""
    found = str(resource.get("generation", ""))
    if not found.isdecimal():
        raise ObjectsError(f"{about}: the answer names no generation: no Google Cloud Storage stands at this endpoint")
    return found


def _stat(item: Mapping[str, Any]) -> Stat:
    try:
        created = datetime.fromisoformat(item["timeCreated"]).timestamp()
        return Stat(item["name"], int(item["size"]), str(item["generation"]), created)
    except (LookupError, ValueError, TypeError) as error:
        raise ObjectsError(f"an entry of the answer is not of Google Cloud Storage ({error!r}): check the endpoint") from error
