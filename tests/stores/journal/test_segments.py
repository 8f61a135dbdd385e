"""Headers, judgements, the head and the chain, as pure functions."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from towline.engine.errors import CorruptionError
from towline.stores.errors import NewerFormat
from towline.stores.journal import records, segments
from towline.stores.journal.segments import GENESIS, HEAD_BYTES, Accepted, Header, MoreBytes, first_gap

HEADER = Header(7, 3, b"n" * 16, 0, "me@here")


@given(st.sets(st.integers(1, 30)), st.integers(0, 30))
def test_the_head_is_the_first_gap(numbers, after):
    gap, beyond = first_gap(numbers, after)
    assert gap > after
    assert gap not in numbers
    assert all(n in numbers for n in range(after + 1, gap))
    assert beyond == any(n > gap for n in numbers)


def test_a_slot_that_parts_cover_is_never_open():
    assert first_gap({2, 5, 6}, 4) == (7, False)  # 2 was written into an emptied slot by a late writer (R4)
    assert first_gap([], 0) == (1, False)
    assert first_gap([1, 2, 4], 0) == (3, True)


def test_keys_and_numbers():
    assert segments.segment_key(12) == "journal/00000000000000000012.seg"
    assert segments.number_of(segments.segment_key(12)) == 12
    for key in ("journal/12.seg", "journal/x", "journal/0000000000000000001x.seg", "parts/00000000000000000012.seg"):
        assert segments.number_of(key) is None


def test_a_header_comes_back_and_every_flip_is_found():
    data = segments.pack_header(HEADER)
    assert len(data) == HEAD_BYTES
    assert segments.unpack_header(data, "k") == HEADER
    for at in range(HEAD_BYTES):
        bad = bytearray(data)
        bad[at] ^= 4
        with pytest.raises(CorruptionError, match=r"^k: .* at offset 0$"):
            segments.unpack_header(bytes(bad), "k")


def test_a_newer_format_is_one_clear_sentence(monkeypatch):
    monkeypatch.setattr(segments, "FORMAT", 9)
    data = segments.pack_header(HEADER)
    monkeypatch.undo()
    with pytest.raises(NewerFormat, match="has journal format 9; this towline reads up to 1: upgrade towline"):
        segments.unpack_header(data, "k")


def test_long_names_of_leaders_are_cut():
    data = segments.pack_header(HEADER._replace(leader="ä" * 100))
    assert segments.unpack_header(data, "k").leader.startswith("ä" * 31)


def with_accepted(header=HEADER, count=1):
    entries = [(header.number - count + i, 200, bytes(32)) for i in range(count)]
    accepted = Accepted(entries, 5, segments.fold_all(GENESIS, entries))
    seed = records.seed_of(header.nonce)
    first = records.encode(
        [segments.encode_accepted(accepted)], kind=records.ACCEPTED, at=HEAD_BYTES, back=0, seq=5, seed=seed
    ).data
    return segments.pack_header(header) + first, accepted


def tried(data, size):
    """The head that so many bytes show, or how many are needed."""
    try:
        return segments.read_head(data[:size], 600, len(data), "k")
    except MoreBytes as more:
        return more.need


def test_the_judgement_is_read_however_much_is_fetched():
    data, accepted = with_accepted(HEADER._replace(number=600), 500)
    data += b"whatever comes behind it"
    sizes = [HEAD_BYTES + 32]
    while isinstance(found := tried(data, sizes[-1]), int):
        sizes.append(found)
    assert sizes == sorted(set(sizes))
    head = found
    assert head.accepted == accepted
    assert head.accepted_end == len(data) - 24


def test_a_judgement_that_did_not_arrive_is_none_and_a_damaged_one_is_corrupt():
    data, accepted = with_accepted()
    assert segments.read_head(data, 7, len(data), "k").accepted == accepted
    for cut in range(len(data)):
        head = segments.read_head(data[:cut], 7, cut, "k")
        assert (head.header is None) == (cut < HEAD_BYTES)
        assert head.accepted is None
    for at in range(HEAD_BYTES, len(data)):
        bad = bytearray(data)
        bad[at] ^= 0x10
        with pytest.raises(CorruptionError, match=f"^k: .* at offset {HEAD_BYTES}$"):
            segments.read_head(bytes(bad), 7, len(data), "k")


def test_a_whole_segment_cannot_be_torn():
    data, _ = with_accepted()
    whole = segments.pack_header(HEADER._replace(size=len(data)))
    data = whole + data[HEAD_BYTES:]
    assert segments.read_head(data, 7, len(data), "k").accepted
    with pytest.raises(CorruptionError, match=f"has {len(data) - 1} bytes but was written with {len(data)}"):
        segments.read_head(data[:-1], 7, len(data) - 1, "k")
    with pytest.raises(CorruptionError, match=f"header is damaged, at offset {HEAD_BYTES}"):
        segments.read_head(whole + bytes(len(data) - HEAD_BYTES), 7, len(data), "k")


def test_a_segment_under_a_wrong_name_is_refused():
    data, _ = with_accepted()
    with pytest.raises(CorruptionError, match="says that it is segment 7"):
        segments.read_head(data, 8, len(data), "k")
    with pytest.raises(CorruptionError, match="no towline segment"):
        segments.read_head(b"some text", 8, 9, "k")


def test_a_judgement_with_a_hole_is_refused():
    bad = Accepted([(1, 2, b""), (3, 2, b"")], 0, b"")
    for payload in (segments.encode_accepted(bad), b"\xc1", segments.encode_accepted(Accepted([], 0, b""))):
        with pytest.raises(CorruptionError):
            segments.decode_accepted(payload, "k")


def test_the_chain_depends_on_everything():
    base = [(1, 10, b"a" * 32), (2, 20, b"b" * 32)]
    seen = {
        segments.fold_all(GENESIS, entries)
        for entries in ([], base[:1], base, base[::-1], [(1, 11, b"a" * 32)], [(1, 10, b"c" * 32)])
    }
    assert len(seen) == 6
