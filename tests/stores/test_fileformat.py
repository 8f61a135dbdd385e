"""The bytes of a file object: what went in comes out in place, and no flipped or missing byte is believed."""

from __future__ import annotations

from array import array

import google_crc32c
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from towline.engine.errors import CorruptionError
from towline.stores import fileformat
from towline.stores.fileformat import ALIGN, TAIL, Sealed, Sealer, unseal


def seal(buffers, kind="value", **footer):
    """(bytes of the object, what to remember); each buffer is a list of pieces."""
    sealer = Sealer()
    pieces = [bytes(piece) for buffer in buffers for piece in sealer.add(buffer)]
    tail, sealed = sealer.finish(kind, **footer)
    return b"".join([*pieces, tail]), sealed


@pytest.fixture
def small_parts(monkeypatch):
    """Parts of 100 bytes, which no buffer's end falls together with."""
    monkeypatch.setattr(fileformat, "PART", 100)


@given(st.lists(st.lists(st.binary(max_size=300), max_size=3), max_size=5), st.sampled_from([64, 100, 8 << 20]))
@settings(max_examples=60, deadline=None)
def test_what_went_in_comes_out(buffers, part):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fileformat, "PART", part)
        data, sealed = seal(buffers, header=b"head", executable=True, name="n")
    opened = unseal(pa.py_buffer(data), sealed, "x")
    assert [b.to_pybytes() for b in opened.buffers] == [b"".join(pieces) for pieces in buffers]
    assert (opened.footer.header, opened.footer.executable, opened.footer.name) == (b"head", True, "n")
    assert sealed.size == len(data)
    assert all(offset % ALIGN == 0 for offset in array("Q", opened.footer.offsets))


def test_nothing_is_copied():
    data, sealed = seal([[bytes(1000)], [bytes(5)]])
    whole = pa.py_buffer(data)
    for buffer in unseal(whole, sealed, "x").buffers:
        assert whole.address <= buffer.address < whole.address + whole.size


def test_a_file_begins_with_its_content():
    data, _ = seal([[b"#!/bin/sh\n", b"true\n"]], kind="file")
    assert data.startswith(b"#!/bin/sh\ntrue\n\0")


@pytest.mark.parametrize(
    "piece", [bytearray(b"abc"), memoryview(b"abc"), np.arange(12).reshape(3, 4), np.ones((3, 4), order="F"), np.zeros((0, 3))]
)
def test_anything_with_a_buffer_goes_in(piece):
    data, sealed = seal([[piece]])
    assert unseal(pa.py_buffer(data), sealed, "x").buffers[0].to_pybytes() == bytes(memoryview(pa.py_buffer(piece)))


def test_every_flipped_byte_is_found_and_named(small_parts):
    data, sealed = seal([[bytes(range(256))], [], [b"z" * 70]], header=b"the header", name="hint")
    for at in range(len(data)):
        bad = bytearray(data)
        bad[at] ^= 0x10
        with pytest.raises(CorruptionError, match=r"^files/x: .* at offset \d+"):
            unseal(pa.py_buffer(bytes(bad)), sealed, "files/x")


def test_every_length_but_the_right_one_is_found(small_parts):
    data, sealed = seal([[bytes(range(200))]])
    for size in range(len(data)):
        with pytest.raises(CorruptionError, match=f"{size} bytes, {len(data)} were written"):
            unseal(pa.py_buffer(data[:size]), sealed, "x")
    with pytest.raises(CorruptionError):
        unseal(pa.py_buffer(data + b"\0"), sealed, "x")


def test_another_file_of_the_same_size_is_not_this_one():
    one, sealed = seal([[b"a" * 100]])
    two, _ = seal([[b"b" * 100]])
    assert len(one) == len(two)
    with pytest.raises(CorruptionError, match="tail"):
        unseal(pa.py_buffer(two), sealed, "x")


def test_the_part_that_is_damaged_is_named(small_parts):
    data, sealed = seal([[bytes(350)]])
    bad = data[:205] + b"!" + data[206:]
    with pytest.raises(CorruptionError, match="at offset 200 or up to 100 bytes later"):
        unseal(pa.py_buffer(bad), sealed, "x")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"part": 0}, "checksums"),
        ({"crcs": b""}, "checksums"),
        ({"lengths": array("Q", [1 << 40]).tobytes()}, "beyond the content"),
        (None, "cannot be read"),
    ],
)
def test_a_footer_that_lies_consistently_is_still_no_way_out_of_the_file(change, message):
    """Checksums prove who wrote, not that what was written makes sense."""
    import msgspec

    data, _ = seal([[bytes(100)]])
    length = TAIL.unpack_from(data, len(data) - TAIL.size)[0]
    body, footer = data[: -TAIL.size - length], data[-TAIL.size - length : -TAIL.size]
    said = msgspec.msgpack.decode(footer, type=fileformat.Footer)
    lie = b"\xc0" if change is None else msgspec.msgpack.encode(msgspec.structs.replace(said, **change))
    crc = google_crc32c.value(lie)
    whole = body + lie + TAIL.pack(len(lie), crc, fileformat.MAGIC)
    with pytest.raises(CorruptionError, match=message):
        unseal(pa.py_buffer(whole), Sealed(len(whole), crc), "x")
