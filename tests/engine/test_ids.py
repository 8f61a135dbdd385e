"""uuids to keys and back."""

from __future__ import annotations

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from towline.engine.ids import NEVER, Attempt, pack_uuid, unpack_uuid

CANONICAL = "0123abcd-89ab-4cde-8f01-23456789abcd"

ANY = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20) | st.uuids().map(str)


@given(ANY)
def test_a_key_gives_its_uuid_back(name: str) -> None:
    assert unpack_uuid(pack_uuid(name)) == name


@given(ANY, ANY)
def test_two_uuids_never_share_a_key(one: str, other: str) -> None:
    assert (pack_uuid(one) == pack_uuid(other)) == (one == other)


@pytest.mark.parametrize("name", ["x" * 15, "x" * 14 + "\0", "x" * 15 + "\0", ":" + "x" * 14, ";" + "x" * 14, ";", "\0"])
def test_texts_beside_the_marker_s_limit(name: str) -> None:
    key = pack_uuid(name)
    assert len(key) != 16, "16 bytes are a canonical uuid"
    assert unpack_uuid(key) == name


def test_a_canonical_uuid_is_its_sixteen_bytes() -> None:
    assert pack_uuid(CANONICAL) == uuid.UUID(CANONICAL).bytes
    assert len(pack_uuid(CANONICAL.upper())) == 37, "other spellings are other names"


def test_attempts_are_ordered_by_epoch_first() -> None:
    assert NEVER < Attempt(1, 9) < Attempt(2, 1)
