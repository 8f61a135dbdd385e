"""Google Cloud Storage as a plain synchronous state machine: a `Call` in, an `Answer` out, everything in memory.

One call at a time, so a condition and the write that it guards are one act. It keeps the documented rules that a store leans on:
generation numbers that only grow, preconditions on every verb, resumable sessions that take chunks of 256 KiB multiples and tell
how far they are, compose of at most 32, rewrite in steps, pages of at most 1000 in the order of UTF-8, checksums that are
verified and told, partial responses, objects under a key of the customer's own. `tests.kit.gcs_fake` puts it behind HTTP.
"""

from __future__ import annotations

import base64
import dataclasses
import gzip
import hashlib
import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, unquote

import google_crc32c

from tests.kit.gcs_signed import signature_fault

GRANULE = 256 * 1024
PAGE_MAX = 1000
COMPOSE_MAX = 32


@dataclass
class Settings:
    """How this cloud differs from the plainest one."""

    overwrites_per_s: float | None = None
    """At most so many changes a second of one object, else 429 (the real limit is about one)."""
    rewrite_step: int | None = None
    """Bytes that one call of rewrite copies; None: all."""
    token: str | None = None
    """What every request must bear, or 401; None: anonymous callers may do everything."""
    signer: str | None = None
    """The public key (PEM) against which signed URLs are verified; None: they are refused."""


@dataclass
class Call:
    """One request, read entirely."""

    method: str
    path: str
    """Still percent-encoded."""
    query: dict[str, str]
    headers: dict[str, str]
    """Names in lower case."""
    body: bytes = b""
    base: str = "http://fake"
    persist: int | None = None

    def json(self) -> dict[str, Any]:
        found = json.loads(self.body or b"{}")
        if not isinstance(found, dict):
            raise Refusal(400, "Parse Error")
        return found

    def number(self, name: str) -> int | None:
        text = self.query.get(name)
        if text is None:
            return None
        if not re.fullmatch(r"-?[0-9]+", text):
            raise Refusal(400, f"Invalid value at '{name}' (TYPE_INT64), \"{text}\"", "invalid")
        return int(text)


@dataclass
class Answer:
    """What goes back."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    @classmethod
    def of(cls, value: Any, status: int = 200) -> Answer:
        return cls(status, {"Content-Type": "application/json; charset=UTF-8"}, json.dumps(value).encode())


class Refusal(Exception):
    """An error answer in Google's form."""

    def __init__(self, status: int, message: str, reason: str = "", headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.headers = status, message, headers or {}
        self.reason = reason or {404: "notFound", 412: "conditionNotMet", 409: "conflict", 429: "rateLimitExceeded"}.get(
            status, "invalid"
        )

    def answer(self) -> Answer:
        what = {"message": self.message, "domain": "global", "reason": self.reason}
        answer = Answer.of({"error": {"code": self.status, "message": self.message, "errors": [what]}}, self.status)
        answer.headers |= self.headers
        return answer


@dataclass
class Held:
    """One object: bytes and resource. `key` is the hash of the customer's key it is encrypted with."""

    data: bytes
    resource: dict[str, Any]
    key: str | None = None

    @property
    def generation(self) -> int:
        return int(self.resource["generation"])


@dataclass
class Session:
    """A resumable upload."""

    bucket: str
    name: str
    start: Call
    data: bytearray = field(default_factory=bytearray)
    done: dict[str, Any] | None = None


class Cloud:
    """The service. `handle` never raises for what a client sent."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self.settings = Settings()
        self.buckets: dict[str, dict[str, Held]] = {}
        self.bucket_resources: dict[str, dict[str, Any]] = {}
        self._sessions: dict[str, Session] = {}
        self._rewrites: dict[str, tuple[Any, int]] = {}
        self._generation = 1_700_000_000_000_000
        self._serial = 0
        self._clock = clock
        self._changed: dict[tuple[str, str], float] = {}

    def handle(self, call: Call) -> Answer:
        """The answer of the real service."""
        try:
            for method, pattern, act in ROUTES:
                if method == call.method and (found := re.fullmatch(pattern, call.path)):
                    if act is not Cloud.read_signed:
                        self._authorize(call)
                    return act(self, call, *(unquote(part) for part in found.groups()))
            raise Refusal(404, "Not Found")
        except Refusal as refusal:
            return refusal.answer()

    def _authorize(self, call: Call) -> None:
        if self.settings.token is not None and call.headers.get("authorization") != f"Bearer {self.settings.token}":
            raise Refusal(401, "Invalid Credentials", "authError")

    # ------------------------------------------------------------------------------------------------------- buckets

    def create_bucket(self, call: Call) -> Answer:
        wanted = call.json()
        name = wanted.get("name", "")
        if name in self.buckets:
            raise Refusal(409, "Your previous request to create the named bucket succeeded and you already own it.")
        if not re.fullmatch(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]", name):
            raise Refusal(400, f"Invalid bucket name: '{name}'")
        self.buckets[name] = {}
        plain = {"kind": "storage#bucket", "id": name, "location": "US", "storageClass": "STANDARD", "metageneration": "1"}
        self.bucket_resources[name] = {**plain, **wanted}
        return Answer.of(self.bucket_resources[name])

    def get_bucket(self, call: Call, bucket: str) -> Answer:
        self._bucket(bucket)
        return Answer.of(select(self.bucket_resources[bucket], call.query.get("fields")))

    def delete_bucket(self, call: Call, bucket: str) -> Answer:
        if self._bucket(bucket):
            raise Refusal(409, "The bucket you tried to delete is not empty.")
        del self.buckets[bucket], self.bucket_resources[bucket]
        return Answer(204)

    def _bucket(self, bucket: str) -> dict[str, Held]:
        if bucket not in self.buckets:
            raise Refusal(404, "The specified bucket does not exist.")
        return self.buckets[bucket]

    # ------------------------------------------------------------------------------------------------------- reading

    def _find(self, bucket: str, name: str, generation: int | None = None) -> Held:
        held = self._bucket(bucket).get(name)
        if held is None or generation not in (None, held.generation):
            raise Refusal(404, f"No such object: {bucket}/{name}")
        return held

    def read(self, call: Call, bucket: str, name: str) -> Answer:
        held = self._find(bucket, name, call.number("generation"))
        self._demand(call, held, reading=True)
        if call.query.get("alt") != "media":
            return Answer.of(select(self._seen(held, call), call.query.get("fields")))
        if held.key != key_of(call):
            raise Refusal(400, "The target object is encrypted by a customer-supplied encryption key.", "resourceIsEncryptedWith")
        return media(call, held)

    def read_signed(self, call: Call, bucket: str, name: str) -> Answer:
        if fault := signature_fault(call.path, call.query, call.headers, self.settings.signer, self._clock()):
            return Answer(403, {"Content-Type": "application/xml"}, f"<Error><Code>AccessDenied {fault}</Code></Error>".encode())
        return media(call, self._find(bucket, name))

    @staticmethod
    def _seen(held: Held, call: Call) -> dict[str, Any]:
        """The resource as this caller may see it: no checksums of what is encrypted with a key they did not give."""
        hidden = ("crc32c", "md5Hash") if held.key and held.key != key_of(call) else ()
        return {k: v for k, v in held.resource.items() if k not in hidden}

    def list(self, call: Call, bucket: str) -> Answer:
        prefix, delimiter, q = call.query.get("prefix", ""), call.query.get("delimiter"), call.query
        held = self._bucket(bucket)
        # UTF-8 order, which is not that of str beyond the basic plane
        names = sorted((n for n in held if n.startswith(prefix)), key=str.encode)
        names = [n for n in names if n >= q.get("startOffset", "") and (not q.get("endOffset") or n < q["endOffset"])]
        after = last = base64.b64decode(q["pageToken"]).decode() if "pageToken" in q else ""
        most = max(1, min(call.number("maxResults") or PAGE_MAX, PAGE_MAX))
        items: list[dict[str, Any]] = []
        prefixes: list[str] = []
        for name in names:
            end = name.find(delimiter, len(prefix)) if delimiter else -1
            entry = name if end < 0 else name[: end + len(delimiter or "")]
            if entry <= after or entry in prefixes:
                continue
            if len(items) + len(prefixes) == most:
                token = base64.b64encode(last.encode()).decode()
                break
            last = entry
            if end < 0:
                items.append(self._seen(held[name], call))
            else:
                prefixes.append(entry)
        else:
            token = ""
        page: dict[str, Any] = {"kind": "storage#objects"}
        page |= {"items": items} if items else {}
        page |= {"prefixes": prefixes} if prefixes else {}
        page |= {"nextPageToken": token} if token else {}
        return Answer.of(select(page, q.get("fields")))

    # ------------------------------------------------------------------------------------------------------- writing

    def _demand(self, call: Call, held: Held | None, *, reading: bool = False) -> None:
        """The preconditions of the query. Generation 0 stands for "there is none"."""
        unmet = Refusal(412, "At least one of the pre-conditions you specified did not hold.")
        same = Refusal(304, "Not Modified") if reading else unmet
        generation = held.generation if held else 0
        meta = int(held.resource["metageneration"]) if held else None
        if (want := call.number("ifGenerationMatch")) is not None and want != generation:
            raise unmet
        if (want := call.number("ifGenerationNotMatch")) is not None and want == generation:
            raise same
        if (want := call.number("ifMetagenerationMatch")) is not None and want != meta:
            raise unmet
        if (want := call.number("ifMetagenerationNotMatch")) is not None and want == meta:
            raise same

    def _limit(self, bucket: str, name: str) -> None:
        rate, now = self.settings.overwrites_per_s, self._clock()
        if rate and now - self._changed.get((bucket, name), 0.0) < 1 / rate:
            raise Refusal(429, f"The object {bucket}/{name} exceeded the rate limit for object mutation operations.")
        self._changed[bucket, name] = now

    def _write(self, call: Call, bucket: str, name: str, data: bytes, given: dict[str, Any], parts: int = 0) -> dict[str, Any]:
        """The one act of every write: limit, condition, checksum, then visible. `parts`: it was composed of so many."""
        objects = self._bucket(bucket)
        if not name or len(name.encode()) > 1024 or "\r" in name or "\n" in name:
            raise Refusal(400, f"Disallowed object name '{name}'")
        self._demand(call, objects.get(name))
        self._limit(bucket, name)
        sums = {"crc32c": crc32c(data)}
        if not parts:  # the service has none of a composed object
            sums["md5Hash"] = base64.b64encode(hashlib.md5(data).digest()).decode()
        for what, said in {**given, **hash_header(call)}.items():
            if what in sums and sums[what] != said:
                raise Refusal(400, f'Provided {what} "{said}" doesn\'t match calculated {what} "{sums[what]}".')
        self._generation += 1 + self._generation % 7
        now = datetime.fromtimestamp(self._clock(), UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
        resource: dict[str, Any] = {
            "kind": "storage#object",
            "id": f"{bucket}/{name}/{self._generation}",
            "name": name,
            "bucket": bucket,
            "generation": str(self._generation),
            "metageneration": "1",
            "contentType": "application/octet-stream",
            "storageClass": self.bucket_resources[bucket]["storageClass"],
            "size": str(len(data)),
            "timeCreated": now,
            "updated": now,
            "etag": base64.b64encode(str(self._generation).encode()).decode(),
            **{k: v for k, v in given.items() if k in ("contentType", "contentEncoding", "cacheControl", "metadata")},
            **sums,
        }
        if parts:
            resource["componentCount"] = parts
        if "kmsKeyName" in call.query:
            resource["kmsKeyName"] = call.query["kmsKeyName"] + "/cryptoKeyVersions/1"
        key = key_of(call)
        if key:
            resource["customerEncryption"] = {"encryptionAlgorithm": "AES256", "keySha256": key}
        held = objects[name] = Held(data, resource, key)
        return self._seen(held, call)

    def upload(self, call: Call, bucket: str) -> Answer:
        match call.query.get("uploadType"):
            case "resumable" if "upload_id" in call.query:
                return self.chunk(call, bucket)
            case "media":
                given = {"contentType": call.headers.get("content-type", "application/octet-stream")}
                return Answer.of(self._write(call, bucket, call.query.get("name", ""), call.body, given))
            case "multipart":
                given, data = multipart(call)
                return Answer.of(self._write(call, bucket, call.query.get("name") or given.get("name", ""), data, given))
            case "resumable":
                return self._begin(call, bucket)
        raise Refusal(400, "uploadType is required")

    def _begin(self, call: Call, bucket: str) -> Answer:
        name = call.query.get("name") or call.json().get("name", "")
        self._demand(call, self._bucket(bucket).get(name))
        self._serial += 1
        upload = f"ABg5-Ux{self._serial:08d}"
        self._sessions[upload] = Session(bucket, name, call)
        query = f"uploadType=resumable&name={quote(call.query.get('name', ''), safe='')}&upload_id={upload}"
        return Answer(200, {"Location": f"{call.base}{call.path}?{query}", "X-GUploader-UploadID": upload})

    def _session(self, call: Call) -> Session:
        session = self._sessions.get(call.query.get("upload_id", ""))
        if session is None:
            raise Refusal(404, "Not Found")
        return session

    def chunk(self, call: Call, bucket: str) -> Answer:
        session = self._session(call)
        if session.done is not None:
            return Answer.of(session.done)
        found = re.fullmatch(r"bytes (\*|([0-9]+)-([0-9]+))/(\*|[0-9]+)", call.headers.get("content-range", ""))
        if not found:
            raise Refusal(400, "Failed to parse Content-Range header.")
        total = None if found[4] == "*" else int(found[4])
        if found[1] != "*":
            self._take(call, session, int(found[2]), int(found[3]), total)
        if total is None or len(session.data) < total:
            return Answer(308, {"Range": f"bytes=0-{len(session.data) - 1}"} if session.data else {})
        # the conditions, the customer's key and the metadata came with the first request; a hash may come with the last
        finish = dataclasses.replace(session.start, headers={**call.headers, **session.start.headers})
        session.done = self._write(finish, session.bucket, session.name, bytes(session.data), session.start.json())
        return Answer.of(session.done)

    @staticmethod
    def _take(call: Call, session: Session, first: int, last: int, total: int | None) -> None:
        if len(call.body) != last - first + 1:
            raise Refusal(400, "Content-Range does not fit the body.")
        if (total is None or last + 1 < total) and len(call.body) % GRANULE:
            raise Refusal(400, "Invalid request.  The number of bytes uploaded is required to be equal or greater than 262144")
        if first > len(session.data):
            raise Refusal(503, "Bytes are missing before this chunk.", "backendError")
        # what it keeps of a chunk that breaks off is a multiple of 256 KiB, too
        body = call.body if call.persist is None else call.body[: call.persist - call.persist % GRANULE]
        session.data += body[len(session.data) - first :]

    def cancel(self, call: Call, bucket: str) -> Answer:
        self._session(call)
        del self._sessions[call.query["upload_id"]]
        return Answer(499)

    def compose(self, call: Call, bucket: str, name: str) -> Answer:
        wanted = call.json()
        sources = wanted.get("sourceObjects", [])
        if not 1 <= len(sources) <= COMPOSE_MAX:
            raise Refusal(400, f"The number of source components provided ({len(sources)}) exceeds the maximum (32)")
        parts = []
        for source in sources:
            generation = source.get("generation")
            part = self._find(bucket, source["name"], None if generation is None else int(generation))
            must = source.get("objectPreconditions", {}).get("ifGenerationMatch")
            if must is not None and int(must) != part.generation:
                raise Refusal(412, "At least one of the pre-conditions you specified did not hold.")
            if part.key != key_of(call):
                raise Refusal(400, "A component is encrypted with another key.")
            parts.append(part)
        count = sum(part.resource.get("componentCount", 1) for part in parts)
        given = wanted.get("destination", {})
        return Answer.of(self._write(call, bucket, name, b"".join(part.data for part in parts), given, count))

    def rewrite(self, call: Call, bucket: str, name: str, to_bucket: str, to_name: str) -> Answer:
        source = self._find(bucket, name, call.number("sourceGeneration"))
        if (want := call.number("ifSourceGenerationMatch")) is not None and want != source.generation:
            raise Refusal(412, "At least one of the pre-conditions you specified did not hold.")
        if source.key != key_of(call, "x-goog-copy-source-encryption"):
            raise Refusal(400, "The target object is encrypted by a customer-supplied encryption key.", "resourceIsEncryptedWith")
        what, size = (bucket, name, to_bucket, to_name, source.generation), len(source.data)
        self._demand(call, self._bucket(to_bucket).get(to_name))
        done, token = 0, call.query.get("rewriteToken")
        if token is not None:
            begun, done = self._rewrites.get(token, (None, 0))
            if begun != what:
                raise Refusal(400, "Invalid rewrite token.")
        done = min(size, done + (self.settings.rewrite_step or size))
        told = {"kind": "storage#rewriteResponse", "totalBytesRewritten": str(done), "objectSize": str(size)}
        if done < size:
            self._serial += 1
            self._rewrites[f"token-{self._serial}"] = (what, done)
            return Answer.of({**told, "done": False, "rewriteToken": f"token-{self._serial}"})
        kms = {"kmsKeyName": call.query["destinationKmsKeyName"]} if "destinationKmsKeyName" in call.query else {}
        here = dataclasses.replace(call, query=call.query | kms)
        given = call.json() or {k: v for k, v in source.resource.items() if k.startswith("content") or k == "metadata"}
        return Answer.of({**told, "done": True, "resource": self._write(here, to_bucket, to_name, source.data, given)})

    def delete(self, call: Call, bucket: str, name: str) -> Answer:
        held = self._find(bucket, name, call.number("generation"))
        self._demand(call, held)
        self._limit(bucket, name)
        del self._bucket(bucket)[name]
        return Answer(204)


_O = "/storage/v1/b/([^/]+)/o"
ROUTES: list[tuple[str, str, Callable[..., Answer]]] = [
    ("POST", "/storage/v1/b", Cloud.create_bucket),
    ("GET", "/storage/v1/b/([^/]+)", Cloud.get_bucket),
    ("DELETE", "/storage/v1/b/([^/]+)", Cloud.delete_bucket),
    ("GET", _O, Cloud.list),
    ("GET", f"(?:/download)?{_O}/([^/]+)", Cloud.read),
    ("DELETE", f"{_O}/([^/]+)", Cloud.delete),
    ("POST", f"/upload{_O}", Cloud.upload),
    ("PUT", f"/upload{_O}", Cloud.chunk),
    ("DELETE", f"/upload{_O}", Cloud.cancel),
    ("POST", f"{_O}/([^/]+)/compose", Cloud.compose),
    ("POST", f"{_O}/([^/]+)/rewriteTo/b/([^/]+)/o/([^/]+)", Cloud.rewrite),
    ("POST", f"{_O}/([^/]+)/copyTo/b/([^/]+)/o/([^/]+)", lambda cloud, call, *names: copied(cloud.rewrite(call, *names))),
    ("GET", "/([^/]+)/(.+)", Cloud.read_signed),
]


def copied(rewritten: Answer) -> Answer:
    """The answer of copyTo: the new resource alone."""
    return Answer.of(json.loads(rewritten.body)["resource"])


def crc32c(data: bytes) -> str:
    """As the API writes it: base64 of four bytes, big-endian."""
    return base64.b64encode(google_crc32c.value(data).to_bytes(4, "big")).decode()


def hash_header(call: Call) -> dict[str, str]:
    """What `x-goog-hash: crc32c=...,md5=...` demands."""
    pairs = [pair.strip().partition("=") for pair in call.headers.get("x-goog-hash", "").split(",") if pair]
    return {{"md5": "md5Hash"}.get(name, name): value for name, _, value in pairs}


def key_of(call: Call, prefix: str = "x-goog-encryption") -> str | None:
    """The hash of the customer's key that came along; it must be the hash of the key."""
    key, said = call.headers.get(f"{prefix}-key"), call.headers.get(f"{prefix}-key-sha256")
    if key is None:
        return None
    raw = base64.b64decode(key)
    hashed = base64.b64encode(hashlib.sha256(raw).digest()).decode()
    if call.headers.get(f"{prefix}-algorithm") != "AES256" or len(raw) != 32 or said != hashed:
        raise Refusal(400, "Missing or wrong encryption key, algorithm or SHA256 hash of the key.")
    return hashed


def media(call: Call, held: Held) -> Answer:
    """The bytes, whole or the range that was asked for; what is stored compressed is unpacked for who does not take it so."""
    data, resource = held.data, held.resource
    headers = {
        "Content-Type": resource["contentType"],
        "X-Goog-Generation": resource["generation"],
        "X-Goog-Metageneration": resource["metageneration"],
        "X-Goog-Stored-Content-Length": resource["size"],
        "X-Goog-Hash": ",".join(f"{n}={resource[k]}" for n, k in (("crc32c", "crc32c"), ("md5", "md5Hash")) if k in resource),
    }
    if resource.get("contentEncoding") == "gzip":
        if "gzip" not in call.headers.get("accept-encoding", ""):
            return Answer(200, headers, gzip.decompress(data))
        headers["Content-Encoding"] = "gzip"
    found = re.fullmatch(r"bytes=([0-9]+)-([0-9]*)", call.headers.get("range", ""))
    if not found:
        return Answer(200, headers, data)
    first, last = int(found[1]), int(found[2]) if found[2] else len(data) - 1
    if first >= len(data) or last < first:
        raise Refusal(416, "Requested range not satisfiable", headers={"Content-Range": f"bytes */{len(data)}"})
    body = data[first : last + 1]
    headers["Content-Range"] = f"bytes {first}-{first + len(body) - 1}/{len(data)}"
    return Answer(206, headers, body)


def multipart(call: Call) -> tuple[dict[str, Any], bytes]:
    """Metadata and content of a multipart/related body. Lines end in CRLF, or in LF alone, which the real service takes too."""
    found = re.search(r'boundary="?([^";]+)', call.headers.get("content-type", ""))
    if not found:
        raise Refusal(400, "Missing boundary.")
    parts = [part.removesuffix(b"\r") for part in (b"\n" + call.body).split(b"\n--" + found[1].encode())]
    if len(parts) != 4 or parts[3].strip() != b"--":
        raise Refusal(400, "Malformed multipart body.")
    halves = [re.split(rb"\r?\n\r?\n", part, maxsplit=1) for part in parts[1:3]]
    if any(len(half) != 2 for half in halves):
        raise Refusal(400, "Malformed multipart body.")
    (head, meta), (content_head, data) = halves
    if b"application/json" not in head.lower():
        raise Refusal(400, "The first part must be application/json.")
    kind = re.search(rb"(?i)content-type:\s*([^\r\n]+)", content_head)
    return {"contentType": kind[1].decode().strip() if kind else "application/octet-stream", **json.loads(meta)}, data


def select(resource: dict[str, Any], fields: str | None) -> dict[str, Any]:
    """What the `fields` of a partial response leaves: names, with those below in parentheses."""
    if not fields:
        return resource
    out: dict[str, Any] = {}
    for name, below in re.findall(r"(\w+)(?:\(([^)]*)\))?", fields):
        value = resource.get(name)
        if value is not None:
            out[name] = [select(v, below) for v in value] if below and isinstance(value, list) else value
    return out
