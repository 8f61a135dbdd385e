"""Names of files: readable, safe everywhere, never the same twice."""

from __future__ import annotations

import copy
import pickle
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from towline.engine.errors import UsageError
from towline.stores.jobstore import hints
from towline.stores.jobstore.hints import FileID
from towline.stores.objects.base import check_key


@pytest.mark.parametrize(
    ("hint", "name"),
    [
        ("reads.fastq.gz", "reads.fastq.gz"),
        ("/data/in/reads.fq", "reads.fq"),
        ("trailing/", "trailing"),
        ("two words\n.txt", "two_words_.txt"),
        ("größe.txt", "gr_e.txt"),
        ("..hidden", "hidden"),
        ("", "file"),
        (None, "file"),
        ("/", "file"),
        (".", "file"),
        ("..", "file"),
        ("\n", "file"),
        ("日本", "file"),
        ("7", "7"),
    ],
)
def test_a_hint_becomes_a_safe_name(hint, name):
    assert hints.clean_hint(hint) == name
    assert hints.new_id(hint).endswith("-" + name)


@given(st.text(max_size=400))
def test_any_hint_makes_an_id_that_is_safe_short_and_known_again(hint):
    made = hints.new_id(hint)
    assert len(made) < 200
    assert re.fullmatch(r"[A-Za-z0-9._-]+", made)
    assert hints.digits_of(made) == made[:32]
    assert hints.hint_of(made) == hints.clean_hint(hint)


def test_a_very_long_name_keeps_its_end():
    made = hints.new_id("x" * 5000 + ".tar.gz")
    assert len(made) == hints.ID_CHARS_MAX
    assert made.endswith("xxx.tar.gz")


def test_the_same_hint_never_gives_the_same_id():
    assert len({hints.new_id("1") for _ in range(1000)} | {hints.new_id("11") for _ in range(1000)}) == 2000


@pytest.mark.parametrize(
    "text", ["", "x", "../etc/passwd", "0" * 32, "0" * 32 + "-", "0" * 32 + "-a/b", "0" * 32 + "-.x", "0" * 32 + "-\n"]
)
def test_what_is_no_id_names_no_file(text):
    assert hints.digits_of(text) is None


def test_blob_keys_are_keys_and_say_what_they_belong_to():
    digits = hints.digits_of(hints.new_id("a"))
    one, two = hints.new_blob(digits), hints.new_blob(digits)
    assert one != two
    assert check_key(one) == one
    assert hints.parse_blob(one).digits == digits
    assert hints.parse_blob(two).version != hints.parse_blob(one).version


@pytest.mark.parametrize("key", ["blobs/ab/x", "towline.json", "blobs/00/" + "f" * 32 + "." + "0" * 16])
def test_other_keys_are_no_blobs(key):
    assert hints.parse_blob(key) is None


@pytest.mark.parametrize("name", ["a", "pid.log", "..", "A-b_c.9"])
def test_shared_names(name):
    assert hints.check_shared_name(name) == name


@pytest.mark.parametrize("name", ["", "a/b", "../a", "a b", "ü", "a\n", "a" * 2000])
def test_shared_names_are_no_paths(name):
    with pytest.raises(ValueError, match="cannot name a shared file"):
        hints.check_shared_name(name)


def test_a_file_id_is_a_string_that_knows_more():
    one = FileID("abc", 5, True)
    assert one == "abc"
    assert {one: 1}["abc"] == 1
    for again in (pickle.loads(pickle.dumps(one)), copy.deepcopy(one), FileID.unpack(one.pack())):
        assert (again, again.size, again.executable) == ("abc", 5, True)


@pytest.mark.parametrize("text", ["", "5:abc", "x:1:abc", "5:2:abc", "5:1:", "²:1:a"])
def test_other_text_is_no_packed_id(text):
    with pytest.raises(UsageError):
        FileID.unpack(text)
