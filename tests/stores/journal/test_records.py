"""Records: what is written is read; a tail that did not arrive is torn; everything else is corruption and is named."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from towline.engine.errors import CorruptionError
from towline.stores.journal import records
from towline.stores.journal.records import END, HEAD_BYTES, PAYLOAD, SECTOR, encode, parse, record_bytes

SEED = records.seed_of(b"0123456789abcdef")

runs = st.builds(lambda byte, n: bytes([byte]) * n, st.sampled_from([0, 0, 1, 255]), st.integers(0, 1300))
payload = st.lists(st.binary(max_size=60) | runs, max_size=4).map(b"".join)


def write(appends, at=HEAD_BYTES, seq=0):
    """The bytes of several appends, and where each begins."""
    data, starts = b"", []
    for batch in appends:
        starts.append(len(data))
        encoded = encode(batch, kind=PAYLOAD, at=at + len(data), back=0, seq=seq, seed=SEED)
        data, seq = data + encoded.data, seq + len(batch)
    return data, starts


def read(data, at=HEAD_BYTES, seq=0, may_tear=True):
    return parse(data, at=at, seq=seq, seed=SEED, name="seg", may_tear=may_tear)


@given(st.lists(st.lists(payload, min_size=1, max_size=4), max_size=4))
@settings(max_examples=60, deadline=None)
def test_what_was_written_is_read(appends):
    data, starts = write(appends)
    parsed = read(data, may_tear=False)
    assert parsed.payloads == [p for batch in appends for p in batch]
    assert list(parsed.lengths) == [len(p) for p in parsed.payloads]
    assert (parsed.end, parsed.torn) == (HEAD_BYTES + len(data), "")
    assert parsed.appended_at == HEAD_BYTES + (starts[-1] if starts else 0)
    for offset, length, mask, want in zip(parsed.offsets, parsed.lengths, parsed.masks, parsed.payloads, strict=True):
        at = offset - HEAD_BYTES + records.HEADER.size
        assert records.unmask(data[at : at + length], mask) == want


@given(st.lists(payload, min_size=1, max_size=4), st.integers(0, 200))
@settings(max_examples=80, deadline=None)
def test_no_sector_is_written_that_one_flip_could_make_zero(batch, shift):
    """The promise on which the judgement rests (module docstring)."""
    at = HEAD_BYTES + 8 * shift
    data = encode(batch, kind=PAYLOAD, at=at, back=0, seq=0, seed=SEED).data
    for sector in range(at // SECTOR * SECTOR, at + len(data), SECTOR):
        piece = data[max(0, sector - at) : sector + SECTOR - at]
        assert len(piece) - piece.count(0) >= 2
    assert read(data, at=at).payloads == batch


def test_a_long_run_of_zeros_is_masked_and_a_payload_of_all_runs_is_marked():
    assert records.choose_mask(bytes(199)) == (0, 0)
    assert records.choose_mask(bytes(200)) == (1, 0)
    assert records.choose_mask(bytes(300) + b"\1" * 300) == (2, 0)
    assert records.choose_mask(b"".join(bytes([b]) * 200 for b in range(256))) == (0, records.UNMASKABLE)


APPENDS = [[b"first", b"x" * 700], [b"", bytes(900), b"last one" * 30], [bytes(range(256)) * 2, b"end"]]


def test_a_file_cut_anywhere_gives_the_records_before_the_cut():
    data, _ = write(APPENDS)
    flat = [p for batch in APPENDS for p in batch]
    ends = [sum(record_bytes(len(p)) for p in flat[: i + 1]) for i in range(len(flat))]
    for cut in range(len(data)):
        parsed = read(data[:cut])
        assert parsed.payloads == [p for p, end in zip(flat, ends, strict=True) if end <= cut]
        assert bool(parsed.torn) == (cut not in [0, *ends])


def test_zeros_behind_the_last_record_are_a_torn_append():
    data, _ = write(APPENDS)
    for zeros in (1, 7, 8, 31, 32, 40, 511, 512, 5000):
        parsed = read(data + bytes(zeros))
        assert len(parsed.payloads) == 7
        assert parsed.torn


@pytest.mark.parametrize("change", [lambda b: b ^ 0xFF, lambda b: b ^ 1, lambda b: 0 if b else 1])
def test_every_flipped_byte_is_named_and_never_torn(change):
    data, _ = write(APPENDS)
    flat = [p for batch in APPENDS for p in batch]
    ends = [sum(record_bytes(len(p)) for p in flat[: i + 1]) for i in range(len(flat))]
    for at in range(len(data)):
        bad = bytearray(data)
        bad[at] = change(bad[at])
        start = max([0, *[e for e in ends if e <= at]])
        with pytest.raises(CorruptionError, match=rf"^seg: .* at offset {HEAD_BYTES + start}$"):
            read(bytes(bad))


def test_lost_sectors_of_the_last_append_are_torn_and_of_earlier_ones_corrupt():
    rng = random.Random(7)
    appends = [[rng.randbytes(1500), rng.randbytes(10)], [rng.randbytes(900)], [rng.randbytes(2000), b"a", bytes(1200)]]
    data, starts = write(appends)
    for sector in range(0, HEAD_BYTES + len(data), SECTOR):
        for begin in starts:
            lo, hi = max(sector - HEAD_BYTES, begin), min(sector + SECTOR - HEAD_BYTES, len(data))
            if lo >= hi or (begin != starts[-1] and hi > starts[starts.index(begin) + 1]):
                continue
            lost = data[:lo] + bytes(hi - lo) + data[hi:]
            if begin == starts[-1]:
                parsed = read(lost)
                assert parsed.torn
                assert parsed.end <= HEAD_BYTES + lo
                assert parsed.end >= HEAD_BYTES + begin
            else:
                with pytest.raises(CorruptionError):
                    read(lost)


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_any_loss_of_the_last_append_keeps_all_before_it(data):
    appends = data.draw(st.lists(st.lists(payload, min_size=1, max_size=3), min_size=1, max_size=3))
    whole, starts = write(appends)
    begin, size = starts[-1], data.draw(st.integers(starts[-1], len(whole)))
    found = bytearray(whole[:size])
    for sector in range(0, HEAD_BYTES + size, SECTOR):
        lo, hi = max(sector - HEAD_BYTES, begin), min(sector + SECTOR - HEAD_BYTES, size)
        if lo < hi and data.draw(st.booleans()):
            found[lo:hi] = bytes(hi - lo)
    before = [p for batch in appends[:-1] for p in batch]
    got = read(bytes(found)).payloads
    assert got[: len(before)] == before
    assert got == [p for batch in appends for p in batch][: len(got)]


def test_where_nothing_may_tear_a_short_tail_is_corrupt():
    data, _ = write(APPENDS)
    with pytest.raises(CorruptionError, match="the file ends inside a record"):
        read(data[:-1], may_tear=False)


def test_records_of_another_segment_or_another_place_do_not_pass():
    data, _ = write([[b"one"], [b"two"]])
    size = record_bytes(3)
    for wrong in (data[size:] + data[:size], data[:size] + data[:size]):
        with pytest.raises(CorruptionError):
            read(wrong)
    with pytest.raises(CorruptionError):
        parse(data, at=HEAD_BYTES, seq=0, seed=SEED ^ 1, name="seg", may_tear=True)
    with pytest.raises(CorruptionError, match="out of place"):
        read(data, seq=1)


def test_a_payload_that_looks_like_a_record_proves_nothing():
    """The scan for a later append must not fall for bytes that a job returned."""
    inner, _ = write([[b"inner"]], at=HEAD_BYTES)
    data, starts = write([[b"one"], [b"pad" * 200 + inner * 5 + b"pad" * 200]])
    torn = data[: starts[1] + 600]
    assert read(torn).payloads == [b"one"]


def test_a_sector_of_zeros_in_an_unmaskable_payload_proves_nothing():
    every = b"".join(bytes([b]) * 600 for b in range(256))
    data, _ = write([[every]])
    bad = bytearray(data)
    bad[-len(END) - 100] ^= 1
    with pytest.raises(CorruptionError):
        read(bytes(bad))
