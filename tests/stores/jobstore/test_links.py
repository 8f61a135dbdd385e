"""One link of the chain: what `build` makes, `read` proves, and nothing else passes."""

from __future__ import annotations

import pytest

from towline.engine.errors import CorruptionError
from towline.stores.jobstore.links import Position, build, follows, read

NONCE = b"n" * 16


def chain(*batches):
    """The links of these batches of payloads."""
    position, links = Position(), []
    for payloads in batches:
        links.append(build(position, payloads, NONCE, "writer"))
        position = links[-1].after
    return links


def test_a_chain_reads_back():
    position = Position()
    for link, payloads in zip(
        chain([b"a"], [b"b", b"c" * 3000], [b"\0" * 999]), ([b"a"], [b"b", b"c" * 3000], [b"\0" * 999]), strict=True
    ):
        found = read(position, link.image, "object")
        assert list(found.payloads) == payloads
        assert found.after == link.after
        position = found.after
    assert (position.number, position.seq) == (3, 4)


def test_every_flipped_byte_is_found():
    first, second = chain([b"a"], [b"payload"])
    for at in range(len(second.image)):
        image = bytearray(second.image)
        image[at] ^= 1
        with pytest.raises(CorruptionError, match="object"):
            read(first.after, bytes(image), "object")


@pytest.mark.parametrize("size", [0, 50, 127, 128, 200])
def test_a_cut_segment_is_corrupt(size):
    first, second = chain([b"a"], [b"b"])
    with pytest.raises(CorruptionError):
        read(first.after, second.image[:size], "object")


def test_a_segment_of_another_chain_does_not_follow():
    ours, theirs = chain([b"a"], [b"b"]), chain([b"x"], [b"b"])
    with pytest.raises(CorruptionError, match="chain"):
        read(ours[0].after, theirs[1].image, "object")
    assert follows(ours[0].after, ours[1].image, "object")
    assert not follows(ours[0].after, theirs[1].image, "object")
    assert not follows(ours[0].after, b"garbage", "object")


def test_a_segment_in_the_wrong_place_is_refused():
    first, second, third = chain([b"a"], [b"b"], [b"c"])
    with pytest.raises(CorruptionError, match="segment 3"):
        read(first.after, third.image, "object")
    assert second.after.key == "journal/00000000000000000003.seg"
