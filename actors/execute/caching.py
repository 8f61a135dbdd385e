"""What the outcome of a job with a cache is filed under: the function, and each argument as the body receives it.

Arguments are hashed as values, with every reference replaced by what it stands for: a parent that was run again and came to the
same output changes nothing, nor does it matter whether a value was written down or computed. What is not filed, and why, is in
decision 0008.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from hashlib import blake2b
from typing import Any

import msgspec

from towline.engine import codec, model
from towline.engine.errors import EncodingError
from towline.engine.fingerprint import fingerprint

_HASH_BYTES = 20
_SHAPING = ("schema", "compat")
"""What of a job's config has a say in what becomes of the value that its body returns."""


def may_be_filed(spec: model.Spec, config: dict[str, Any]) -> bool:
    """Does the job want it, and is its outcome that of its arguments alone (not of references or of the store)?"""
    whole = config.get("resolve", True) is True and config.get("on_missing") != "pass" and not config.get("expose_store")
    return bool(spec.options.cache) and whole


def said_of(function: Callable[..., Any], owner: type | None, path: str, cache: str) -> str:
    """The function, as `model.Cached.function` names it."""
    if cache.startswith("="):
        return f"{path} version:{cache[1:]}"
    return f"{path} code:{fingerprint(function, owner)}"


def filed_under(
    said: str, function: Callable[..., Any], arguments: tuple[Any, Any], config: dict[str, Any], allow_pickle: bool
) -> model.Cached | None:
    """The key and its parts; None if the arguments do not fit the function, or one has no encoding."""
    args, kwargs = arguments
    try:
        named = dict(inspect.signature(function).bind(*args, **kwargs).arguments)
    except (TypeError, ValueError):  # no signature, or the call is about to fail
        named = {str(place): value for place, value in enumerate(args)} | dict(sorted(kwargs.items()))
    named |= {f"({name})": config[name] for name in _SHAPING if config.get(name)}
    try:
        hashes = [(name, hash_of(value, allow_pickle)) for name, value in named.items()]
    except EncodingError:
        return None
    key = blake2b(msgspec.msgpack.encode([said, hashes]), digest_size=_HASH_BYTES).digest()
    return model.Cached(key, said, hashes)


def hash_of(value: Any, allow_pickle: bool = True) -> bytes:
    """The hash of a value's encoding, large buffers included; a class of the main program counts by its code. EncodingError."""
    header, buffers = codec.split(value, allow_pickle=allow_pickle, class_token=fingerprint)
    digest = blake2b(header, digest_size=_HASH_BYTES)
    for buffer in buffers:
        view = memoryview(buffer).cast("B")
        digest.update(len(view).to_bytes(8, "little"))
        digest.update(view)
    return digest.digest()
