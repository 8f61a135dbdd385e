"""What grows with the open segment, and how much of a look is taken."""

from __future__ import annotations

from array import array

from towline.stores.journal import records
from towline.stores.journal.opened import OpenSegment, blank, cut
from towline.stores.journal.segments import HEAD_BYTES, Accepted, Head, Header, digest_of, pack_header

HEADER = Header(3, 2, b"n" * 16, 0, "me")


def written(payloads, at, seq):
    return records.encode(payloads, kind=records.PAYLOAD, at=at, back=0, seq=seq, seed=records.seed_of(HEADER.nonce))


def test_length_hash_and_positions_grow_together():
    segment = blank(3, Head(HEADER, Accepted([(2, 128, bytes(32))], 7, bytes(32)), HEAD_BYTES))
    segment.offsets = array("Q")
    known, head = OpenSegment(segment, whole=False), pack_header(HEADER)
    first = written([b"a", b"bb"], HEAD_BYTES, 7)
    known.grow(head + first.data, first, verified=True)
    second = written([b"ccc"], HEAD_BYTES + len(first.data), 9)
    known.grow(second.data, second, verified=False)
    assert (segment.first_seq, segment.end_seq, segment.epoch) == (7, 10, 2)
    assert segment.length == HEAD_BYTES + len(first.data) + len(second.data)
    assert list(segment.lengths) == [1, 2, 3]
    assert bytes(segment.verified) == b"\1\1\0"
    assert known.hasher.digest() == digest_of(head + first.data + second.data)


def test_only_records_before_the_end_are_taken():
    data = written([b"a", b"bb", b"ccc"], HEAD_BYTES, 0)
    seed = records.seed_of(HEADER.nonce)
    parsed = records.parse(data.data, at=HEAD_BYTES, seq=0, seed=seed, name="k")
    assert cut(parsed, parsed.end) is parsed
    for count, end in enumerate([*parsed.offsets, parsed.end]):
        assert list(cut(parsed, end).lengths) == [1, 2, 3][:count]


def test_a_torn_head_makes_a_segment_without_records():
    segment = blank(4, Head(None, None, 0))
    assert (segment.epoch, segment.first_seq, segment.count, segment.length) == (0, 0, 0, 0)
