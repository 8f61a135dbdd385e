"""The words as bytes: every record and frame of every released format is read as it was written (tests/golden/records).

`python -m tests.engine.test_model` writes the files that are missing. A file that is there is never written again: that a
word has grown shows as a new file beside it, and the old one must still read as what it was, defaults filled in.
"""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.kit.builders import chunk, failure, hello, led, plain, spec, uuid_of
from towline.engine import model
from towline.engine.model import EXTERNAL, Input, LeasedJob, Location

GOLDEN = Path(__file__).parents[1] / "golden" / "records"
FORMATS = {"ended": 2, "ended-short": 2, "pull": 2, "ended-cached": 2}
"""Number of the newest file of words that have grown; 1 for all others."""

FULL = msgspec.structs.replace(
    spec("name", retries=2, backoff_s=0.5, backoff_max_s=9.0, priority=7, release="committed", requirements={"cores": 2.0},
         mode="process", timeout_s=3.0, limits=["license"], cache="v1", stores={"data": msgspec.Raw(b"\xa1x")}),
    hosts=["host-uuid"], metadata=b"meta", config=b"conf",
)  # fmt: skip
CHUNK = chunk(
    [[], [0, EXTERNAL]], indices=[1, 3], specs=[FULL, spec()], spec_of=[0, 1], edges=[0x10, 0x21],
    externals=[(uuid_of(9), 0)], functions=[model.Function("key", "m:f", b"pickle")],
)  # fmt: skip
NAMED = chunk(1, uuids=["odd"])
GROWTH = model.Growth(CHUNK, 1, NAMED, chunk(1, first=5), True, True)
ENDING = model.Ending(3, 4, b"output", model.Failure("exit", "msg", "trace", retry=False), GROWTH, b"stored", 1.5, 2.5)
PLAIN = plain([(1, 2), (3, 4)], [b"a", b"bc"])
LOG = model.Log(1, 2, b"out", b"err")
WHO = ("host", "boot", "pid:[1]", 10, 1.0, 11, 1.5)

WORDS: dict[str, msgspec.Struct] = {
    "opened": model.Opened("store", "0.1.0", 5.0),
    "led": led(3, lease_s=30.0, grants=False),
    "beat": model.Beat(5.0),
    "closed": model.Closed(5.0),
    "added": model.Added(7, 5.0, CHUNK),
    "added-named": model.Added(0, 5.0, NAMED),
    "joined": model.Joined("w1", *WHO, 5.0),
    "left": model.Left("w1", "cause", 5.0, [1, 2], [2]),
    "completed": model.Completed("w1", 3, 5.0, PLAIN),
    "ended": model.Ended("w1", 3, 5.0, ENDING, 7, 2, 9.0, 12),
    "ended-short": model.Ended("w1", 3, 5.0, model.Ending(1, 2), 6, 0),
    "ended-cached": model.Ended(
        "w1", 3, 5.0,
        model.Ending(
            1, 2, b"output", model.Failure("error", "msg", "trace", error=b"exception"),
            cached=model.Cached(b"key", "m:f code:1", [("x", b"hash")], 7),
        ), 6, 0,
    ),
    "logged": model.Logged(3, [LOG]),
    "steered": model.Steered("stop", b"\1\0\0\0", 9, 5.0, "stopped"),
    "snapshotted": model.Snapshotted(4, "key", "digest", 5.0),
    "alone": model.Alone(4, "w1", 3, 5, 6.0),
    "hello": hello("w1", [model.Held(1, 2, 3, [(4, 5, 6)], running=True)], stream=2),
    "pull": model.Pull("w1", 1, 3, PLAIN, [ENDING], [LOG], [(1, 2)], 5, 0.5),
    "pull-short": model.Pull("w1", 0, 3),
    "touch": model.Touch("w1", 5.0),
    "goodbye": model.Goodbye("w1", "cause"),
    "ask": model.Ask(1, "verb", b"payload"),
    "lease": model.Lease(
        3,
        [
            LeasedJob(1, 2, 0, b"args", b"u" * 16, 2, [
                Input(1, 2, 3, b"data"), Input(1, 2, 3, place=Location(4, 5, 6)), Input(1, 0, 0, missing=True, uuid="u"),
            ], True, [7], 2),
            LeasedJob(2, 3, 0, b"args", b"u" * 16),
        ],
        [(0, FULL)],
        [model.Function("key", "m:f")],
    ),
    "welcome": model.Welcome(3, 60.0, 15.0, False),
    "refused": model.Refused("why"),
    "revoke": model.Revoke([1, 2]),
    "ack": model.Ack(3),
    "touched": model.Touched(3, 5.0, 6.0),
    "stop": model.Stop("why"),
    "answer": model.Answer(1, True, b"payload"),
}  # fmt: skip
"""One of each, with no field at its default, and short forms where fields may be left out."""

DECODERS = {
    word: decode
    for union, decode in (
        (model.Record, model.decode_record),
        (model.ToLeader, model.decode_to_leader),
        (model.ToWorker, model.decode_to_worker),
    )
    for word in get_args(union)
}


def newest(name: str) -> Path:
    """The file that holds what this version writes."""
    return GOLDEN / f"{name}-{FORMATS.get(name, 1)}.bin"


def test_there_is_one_of_each_word() -> None:
    assert {type(word) for word in WORDS.values()} == set(DECODERS)


@pytest.mark.parametrize("name", WORDS)
def test_a_word_is_read_as_it_was_written(name: str) -> None:
    word = WORDS[name]
    assert DECODERS[type(word)](model.encode(word)) == word


@pytest.mark.parametrize("name", WORDS)
def test_the_bytes_are_those_of_the_released_format(name: str) -> None:
    path = newest(name)
    assert path.read_bytes() == model.encode(WORDS[name]), f"the bytes of {name} changed; older journals hold {path.name}"


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.bin")), ids=lambda path: path.stem)
def test_every_released_file_is_read(path: Path) -> None:
    word = WORDS[path.stem.rpartition("-")[0]]
    assert DECODERS[type(word)](path.read_bytes()) == word


def test_no_two_words_of_one_direction_share_a_tag() -> None:
    for union in (model.Record, model.ToLeader, model.ToWorker):
        tags = [word.__struct_config__.tag for word in get_args(union)]
        assert len(set(tags)) == len(tags)


def test_words_cannot_be_changed() -> None:
    for word in WORDS.values():
        with pytest.raises(AttributeError):
            setattr(word, word.__struct_fields__[0], None)


def test_a_record_of_a_newer_version_still_reads() -> None:
    """New fields stand at the end: an older reader leaves them out."""
    fields = msgspec.msgpack.decode(model.encode(WORDS["beat"]))
    assert model.decode_record(msgspec.msgpack.encode([*fields, "new"])) == WORDS["beat"]


def test_a_record_of_an_older_version_still_reads() -> None:
    """What an older writer did not know has a default."""
    fields = msgspec.msgpack.decode(model.encode(model.Left("w", "c", 1.0)))
    assert model.decode_record(msgspec.msgpack.encode(fields[:4])) == model.Left("w", "c", 1.0)


@given(st.binary(max_size=60), st.lists(st.binary(max_size=30), min_size=1, max_size=5))
def test_the_blob_stands_last(args: bytes, outputs: list[bytes]) -> None:
    """So the place of each slice of it follows from the length of the record alone."""
    one = chunk(1, args=[args])
    assert model.encode(model.Added(0, 1.0, one)).endswith(args)
    record = model.Completed("w", 1, 1.0, plain([(0, 1)] * len(outputs), outputs))
    assert model.encode(record).endswith(b"".join(outputs))


@pytest.mark.parametrize("noise", [b"", b"\xc0", b"\x91\xa4nope", b"\x92\xa4beat\xa1x", b"\xff" * 20])
def test_noise_is_an_error_of_one_kind(noise: bytes) -> None:
    for decode in (model.decode_record, model.decode_to_leader, model.decode_to_worker, model.decode_chunk):
        with pytest.raises(msgspec.DecodeError):
            decode(noise)


def test_failures_keep_their_kind() -> None:
    assert msgspec.msgpack.decode(model.encode(failure("exit")), type=model.Failure).kind == "exit"


if __name__ == "__main__":
    GOLDEN.mkdir(parents=True, exist_ok=True)
    for name, word in WORDS.items():
        path = newest(name)
        if not path.exists():
            path.write_bytes(model.encode(word))
