"""Who encrypts what lies in a bucket, and with whose key: the headers that say so, and what follows for readers.

    Encryption()                   whatever the bucket does by default
    Encryption.by_provider()       SSE-S3: the provider's key; anyone who may read gets plaintext
    Encryption.by_kms("key id")    SSE-KMS: a key of the account, guarded by its policy ("" for the account's default)
    Encryption.by_key_file(path)   SSE-C: a key of 32 bytes that only we have. It is sent with every write AND every read; the
                                   provider forgets it. Lost key, lost data; and no URL can be signed for strangers.

The last two are keys of the store's own: `Objects.plain` is the same place without them.
"""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from towline.engine.errors import UsageError

KEY_BYTES = 32
KEY_FILE = "TOWLINE_SSE_KEY_FILE"
"""Environment: path of the file that holds the key of SSE-C."""
KMS_KEY = "TOWLINE_SSE_KMS_KEY"
"""Environment: id, alias or ARN of the key of SSE-KMS."""


@dataclass(frozen=True, slots=True)
class Encryption:
    """How objects are encrypted by the server. Equal if neither can tell the other's objects apart."""

    kind: Literal["default", "provider", "kms", "customer"] = "default"
    kms_key: str = ""
    key: bytes = field(default=b"", repr=False)

    @classmethod
    def by_provider(cls) -> Encryption:
        """SSE-S3."""
        return cls("provider")

    @classmethod
    def by_kms(cls, key: str = "") -> Encryption:
        """SSE-KMS."""
        return cls("kms", kms_key=key)

    @classmethod
    def by_key(cls, key: bytes) -> Encryption:
        """SSE-C. UsageError if the key has not 32 bytes."""
        if len(key) != KEY_BYTES:
            raise UsageError(f"a key for SSE-C has {KEY_BYTES} bytes, not {len(key)}: make one with `openssl rand -out FILE 32`")
        return cls("customer", key=key)

    @classmethod
    def by_key_file(cls, path: str | os.PathLike[str]) -> Encryption:
        """SSE-C with the key in this file (a line end behind it is forgiven). UsageError if it cannot be read or is none."""
        try:
            # no more than could be right: the path may name a device
            with Path(path).open("rb") as file:
                key = file.read(KEY_BYTES + 3)
        except OSError as error:
            raise UsageError(f"the key file {path} cannot be read: {error.strerror}") from error
        ends = (b"\n", b"\r\n")
        return cls.by_key(key[:KEY_BYTES] if key[KEY_BYTES:] in ends else key)

    @classmethod
    def of_environment(cls, environment: Mapping[str, str] | None = None) -> Encryption:
        """What TOWLINE_SSE_KEY_FILE or TOWLINE_SSE_KMS_KEY say; UsageError if both do."""
        said = os.environ if environment is None else environment
        file, kms = said.get(KEY_FILE, ""), said.get(KMS_KEY, "")
        if file and kms:
            raise UsageError(f"{KEY_FILE} and {KMS_KEY} are both set: an object has one key, so unset one of them")
        return cls.by_key_file(file) if file else cls.by_kms(kms) if kms else cls()

    @property
    def own(self) -> bool:
        """Is there a key of the store's own?"""
        return self.kind in ("kms", "customer")

    @property
    def write(self) -> dict[str, str]:
        """For requests that make an object: put, copy, begin an upload."""
        match self.kind:
            case "default":
                return {}
            case "provider":
                return {"ServerSideEncryption": "AES256"}
            case "kms":
                return {"ServerSideEncryption": "aws:kms"} | ({"SSEKMSKeyId": self.kms_key} if self.kms_key else {})
            case "customer":
                return self.read

    @property
    def read(self) -> dict[str, str]:
        """For requests that touch an object's bytes: get, head, upload a part."""
        return self._customer("")

    @property
    def source(self) -> dict[str, str]:
        """For copies that are made from objects encrypted so."""
        return self._customer("CopySource")

    def _customer(self, prefix: str) -> dict[str, str]:
        if self.kind != "customer":
            return {}
        digest = hashlib.md5(self.key, usedforsecurity=False).digest()  # a checksum that S3 asks for, not a secret
        return {
            f"{prefix}SSECustomerAlgorithm": "AES256",
            f"{prefix}SSECustomerKey": base64.b64encode(self.key).decode(),
            f"{prefix}SSECustomerKeyMD5": base64.b64encode(digest).decode(),
        }
