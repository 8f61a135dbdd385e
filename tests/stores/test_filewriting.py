"""What is to be written is made ready in pieces, and told afterwards."""

from __future__ import annotations

import os

import numpy as np
import pyarrow as pa
import pytest

from towline.engine.errors import UsageError
from towline.stores import fileformat, filewriting


def test_a_value_is_sealed_as_its_pieces_go():
    writing = filewriting.of_value(b"head", [b"one", np.arange(3)])
    assert writing.sealed is None
    data = b"".join(writing.pieces())
    opened = fileformat.unseal(pa.py_buffer(data), writing.sealed, "x")
    assert opened.footer.header == b"head"
    assert [b.to_pybytes() for b in opened.buffers] == [b"one", np.arange(3).tobytes()]


def test_only_a_little_value_is_light():
    assert filewriting.of_value(b"", [bytes(1000)]).light
    assert not filewriting.of_value(b"", [bytes(filewriting.LIGHT), b"1"]).light
    assert not filewriting.of_value(bytes(filewriting.LIGHT + 1), []).light


@pytest.mark.parametrize("size", [0, 1, 99, 100, 101, 250])
def test_a_file_is_read_in_pieces(tmp_path, monkeypatch, size):
    monkeypatch.setattr(filewriting, "READ", 100)
    path = tmp_path / "tool"
    path.write_bytes(os.urandom(size))
    path.chmod(0o700)
    writing = filewriting.of_file(path)
    assert not writing.light
    pieces = [bytes(piece) for piece in writing.pieces()]
    assert max(len(piece) for piece in pieces[:-1]) <= 100 if size else True
    opened = fileformat.unseal(pa.py_buffer(b"".join(pieces)), writing.sealed, "x")
    assert opened.buffers[0].to_pybytes() == path.read_bytes()
    assert (opened.footer.kind, opened.footer.name, opened.footer.executable) == ("file", "tool", True)


def test_a_file_that_goes_away_is_the_callers_affair(tmp_path):
    path = tmp_path / "f"
    path.write_bytes(b"1")
    writing = filewriting.of_file(path)
    path.unlink()
    with pytest.raises(UsageError, match="cannot be stored"):
        list(writing.pieces())
    with pytest.raises(UsageError, match="cannot be stored"):
        filewriting.of_file(path)
