"""What Google's V4 signing process demands of a signed URL, verified with the signer's public key, for the fake of GCS."""

from __future__ import annotations

import hashlib
from calendar import timegm
from time import strptime
from urllib.parse import quote

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa


def signature_fault(path: str, query: dict[str, str], headers: dict[str, str], signer: str | None, now: float) -> str | None:
    """What is wrong with the signature of a GET; None: nothing. `signer`: the public key (PEM), None when nobody may sign."""
    given = {name.lower(): value for name, value in query.items()}
    if signer is None or given.get("x-goog-algorithm") != "GOOG4-RSA-SHA256":
        return "unsigned"
    begun = timegm(strptime(given["x-goog-date"], "%Y%m%dT%H%M%SZ"))
    if not begun - 900 <= now <= begun + min(int(given["x-goog-expires"]), 604800):
        return "expired"
    names = given["x-goog-signedheaders"].split(";")
    scope = given["x-goog-credential"].split("/", 1)[1]
    signed = {name: value for name, value in query.items() if name.lower() != "x-goog-signature"}
    ask = "\n".join(
        [
            "GET",
            path,
            "&".join(f"{quote(name, safe='~')}={quote(value, safe='~')}" for name, value in sorted(signed.items())),
            *(f"{name}:{headers[name].strip()}" for name in names),
            "",
            ";".join(names),
            "UNSIGNED-PAYLOAD",
        ]
    )
    text = "\n".join(["GOOG4-RSA-SHA256", given["x-goog-date"], scope, hashlib.sha256(ask.encode()).hexdigest()])
    key = serialization.load_pem_public_key(signer.encode())
    assert isinstance(key, rsa.RSAPublicKey)
    try:
        key.verify(bytes.fromhex(given["x-goog-signature"]), text.encode(), padding.PKCS1v15(), hashes.SHA256())
    except (InvalidSignature, ValueError):
        return "forged"
    return None
