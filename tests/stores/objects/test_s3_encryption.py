"""Encryption: the headers of each kind, key files, and the environment."""

from __future__ import annotations

import base64
import hashlib

import pytest

from towline.engine.errors import UsageError
from towline.stores.objects.s3_encryption import KEY_FILE, KMS_KEY, Encryption

KEY = bytes(range(32))


def test_headers_of_each_kind():
    assert Encryption().write == Encryption().read == Encryption().source == {}
    assert Encryption.by_provider().write == {"ServerSideEncryption": "AES256"}
    assert Encryption.by_kms().write == {"ServerSideEncryption": "aws:kms"}
    assert Encryption.by_kms("id").write == {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": "id"}
    assert Encryption.by_kms("id").read == Encryption.by_provider().read == Encryption.by_kms("id").source == {}
    secret = Encryption.by_key(KEY)
    assert secret.write == secret.read
    assert secret.read == {
        "SSECustomerAlgorithm": "AES256",
        "SSECustomerKey": base64.b64encode(KEY).decode(),
        "SSECustomerKeyMD5": base64.b64encode(hashlib.md5(KEY).digest()).decode(),
    }
    assert secret.source == {f"CopySource{name}": value for name, value in secret.read.items()}


def test_whose_keys():
    assert not Encryption().own
    assert not Encryption.by_provider().own
    assert Encryption.by_kms().own
    assert Encryption.by_key(KEY).own


def test_a_key_is_not_shown():
    assert "key=" not in repr(Encryption.by_key(KEY)).replace("kms_key=", "")
    assert repr(KEY) not in repr(Encryption.by_key(KEY))


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n"])
def test_a_key_file_holds_32_bytes(tmp_path, end):
    path = tmp_path / "key"
    path.write_bytes(KEY + end)
    assert Encryption.by_key_file(path) == Encryption.by_key(KEY)


@pytest.mark.parametrize("data", [b"", KEY[:31], KEY + b"x", KEY + b"\nx", KEY * 100])
def test_other_files_are_no_keys(tmp_path, data):
    path = tmp_path / "key"
    path.write_bytes(data)
    with pytest.raises(UsageError, match="32 bytes"):
        Encryption.by_key_file(path)


def test_a_key_file_that_cannot_be_read(tmp_path):
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(UsageError, match="cannot be read"):
            Encryption.by_key_file(path)


def test_the_environment(tmp_path):
    path = tmp_path / "key"
    path.write_bytes(KEY)
    assert Encryption.of_environment({}) == Encryption.of_environment({KEY_FILE: "", KMS_KEY: ""}) == Encryption()
    assert Encryption.of_environment({KEY_FILE: str(path)}) == Encryption.by_key(KEY)
    assert Encryption.of_environment({KMS_KEY: "id"}) == Encryption.by_kms("id")
    with pytest.raises(UsageError, match="both set"):
        Encryption.of_environment({KEY_FILE: str(path), KMS_KEY: "id"})
