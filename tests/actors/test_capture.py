"""What a job writes is kept with it: of Python, of C, of child processes; head and tail of what is long."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from towline.actors import capture
from towline.actors.capture import KEEP_BYTES, Said, TeeCapture, shorten

HEAD = """
import ctypes, json, os, subprocess, sys
console = os.dup(1)
from towline.actors import capture
from towline.actors.capture import FileCapture, KEEP_BYTES
capture.RESET_BYTES = 1000
c = FileCapture()
def kept(body):
    c.begin()
    body()
    said = c.end()
    return said and [said.stdout.decode("latin-1"), said.stderr.decode("latin-1")]
def tell(*found): os.write(console, json.dumps(found).encode())
"""


def redirected(code: str) -> Any:
    """What a program whose descriptors are captured tells."""
    said = subprocess.run([sys.executable, "-c", HEAD + code], capture_output=True, timeout=120)
    assert said.returncode == 0, said.stderr
    return json.loads(said.stdout)


# -------------------------------------------------------------------------------------------------- descriptors


def test_python_c_and_children_in_order() -> None:
    code = """
libc = ctypes.CDLL(None)
def body():
    print("python")
    libc.write(1, b"c\\n", 2)
    subprocess.run(["sh", "-c", "echo child; echo wrong >&2"])
    os.write(2, b"\\xff\\x00")
    sys.stdout.buffer.write(b"bytes")
tell(kept(body), kept(lambda: None), kept(lambda: print("next", file=sys.stderr)))
"""
    assert redirected(code) == [["python\nc\nchild\nbytes", "wrong\n\xff\0"], None, ["", "next\n"]]


def test_head_and_tail_of_what_is_long() -> None:
    code = """
def body():
    sys.stdout.write("<" + "x" * 3 * KEEP_BYTES + ">")
    os.write(2, b"y" * 2 * KEEP_BYTES)
out, err = kept(body)
tell(out[0], out[-1], out.count("x"), out[KEEP_BYTES:-KEEP_BYTES], err == "y" * 2 * KEEP_BYTES)
"""
    first, last, count, note, whole = redirected(code)
    assert (first, last, count) == ("<", ">", 2 * KEEP_BYTES - 2)
    assert note == f"\n... {KEEP_BYTES + 2} bytes left out ...\n"
    assert whole


def test_the_files_are_emptied_when_they_are_large() -> None:
    code = """
found = [kept(lambda: print("x" * 999)), os.fstat(1).st_size, kept(lambda: print("after")), os.fstat(1).st_size]
child = subprocess.Popen(["sh", "-c", "read _; echo late"], stdin=subprocess.PIPE)
def body():
    child.communicate(b"go\\n")
tell(len(found[0][0]), *found[1:], kept(lambda: print("y" * 2000))[0][:3], kept(body), os.fstat(1).st_size, os.fstat(2).st_size)
"""
    # the child's own copy of the descriptor shares the place in the file: its line does not land behind a hole
    assert redirected(code) == [1000, 1000, ["after\n", ""], 1006, "yyy", ["late\n", ""], 5, 0]


@pytest.mark.parametrize(
    "mischief",
    [
        "os.close(1); os.close(2)",
        "sys.stdout.close(); sys.stderr.close()",
        "sys.stdout = sys.stderr = None",
        "sys.stdout = sys.stderr = open('/dev/null', 'w')",
        "os.dup2(os.open('/dev/null', os.O_WRONLY), 1)",
        "sys.stdout.detach(); sys.stderr.detach()",
    ],
)
def test_a_body_that_breaks_its_own_streams_breaks_no_others(mischief: str) -> None:
    code = f"""
def body():
    print("before", flush=True)
    {mischief}
tell(kept(body)[0], kept(lambda: (print("out"), print("err", file=sys.stderr), os.write(1, b"raw"))))
"""
    first, then = redirected(code)
    assert first == "before\n"
    if "dup2" not in mischief:
        assert then == ["out\nraw", "err\n"]


def test_what_a_replaced_stream_held_back_is_handed_on() -> None:
    code = """
def body():
    sys.stdout = open(1, "w", closefd=False)
    print("held back")
tell(kept(body))
"""
    assert redirected(code) == [["held back\n", ""]]


# --------------------------------------------------------------------------------------------------------- a tee


Console = Callable[[], tuple[io.TextIOWrapper, io.TextIOWrapper]]


@pytest.fixture
def open_console(monkeypatch: pytest.MonkeyPatch) -> Console:
    """To be called inside the test: pytest sets its own streams after the fixtures."""
    return lambda: _opened(monkeypatch)


def _opened(monkeypatch: pytest.MonkeyPatch) -> tuple[io.TextIOWrapper, io.TextIOWrapper]:
    streams = tuple(io.TextIOWrapper(io.BytesIO(), "utf-8", "backslashreplace") for _ in range(2))
    monkeypatch.setattr(sys, "stdout", streams[0])
    monkeypatch.setattr(sys, "stderr", streams[1])
    return streams  # type: ignore[return-value]  # two


def shown(stream: io.TextIOWrapper) -> bytes:
    stream.flush()
    return stream.buffer.getvalue()  # type: ignore[attr-defined]  # a BytesIO


def test_a_tee_copies_and_lets_go(open_console: Console) -> None:
    console = open_console()
    tee = TeeCapture()
    for text in ("one", "zwei €"):
        tee.begin()
        assert not sys.stdout.isatty()
        assert sys.stdout.encoding == "utf-8"
        print(text)
        sys.stdout.flush()
        sys.stderr.write("\udcff")  # what cannot be encoded is no reason to fail
        sys.stdout.buffer.write(b"raw")
        sys.stdout.buffer.flush()
        assert tee.end() == Said(f"{text}\nraw".encode(), b"?")
        assert (sys.stdout, sys.stderr) == console
    tee.begin()
    assert tee.end() is None
    tee.close()
    assert shown(console[0]) == "one\nrawzwei €\nraw".encode()


def test_a_body_that_closes_or_replaces_its_tee(open_console: Console) -> None:
    console = open_console()
    tee = TeeCapture()
    tee.begin()
    print("said")
    sys.stdout.close()
    sys.stderr = None  # type: ignore[assignment]  # that is the test
    assert tee.end() == Said(b"said\n", b"")
    assert (sys.stdout, sys.stderr) == console
    assert not sys.stdout.closed


def test_a_program_without_a_console(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    tee = TeeCapture()
    tee.begin()
    print("into the void", flush=True)
    assert not sys.stdout.isatty()
    with pytest.raises(io.UnsupportedOperation):
        sys.stdout.fileno()
    assert tee.end() == Said(b"into the void\n", b"")
    assert sys.stdout is None


def test_a_tee_holds_no_more_than_head_and_tail(open_console: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    console = open_console()
    monkeypatch.setattr(capture, "KEEP_BYTES", 10)
    tee = TeeCapture()
    tee.begin()
    for number in range(10_000):
        print(f"{number:03d}")
        assert sum(map(len, sys.stdout.copy._parts)) <= 8 * 10 + 5  # type: ignore[attr-defined]  # the tee's own
    said = tee.end()
    assert said is not None
    assert said.stdout == b"000\n001\n00" + b"\n... 48980 bytes left out ...\n" + b"\n9998\n9999\n"[-10:]
    assert len(shown(console[0])) == 4 * 1000 + 5 * 9000


@pytest.mark.parametrize("size", [0, 1, 20, 21, 79, 80, 81, 82, 200])
def test_a_tee_and_shorten_agree(size: int, open_console: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    open_console()
    monkeypatch.setattr(capture, "KEEP_BYTES", 10)
    text = "".join(chr(65 + n % 57) for n in range(size))
    tee = TeeCapture()
    tee.begin()
    for char in text:
        sys.stdout.write(char)
    said = tee.end()
    assert (said.stdout if said else b"") == shorten(text.encode())


def test_shorten() -> None:
    whole = bytes(2 * KEEP_BYTES)
    assert shorten(whole) == whole
    cut = shorten(b"a" + whole + b"z")
    assert cut.startswith(b"a")
    assert cut.endswith(b"z")
    assert b"\n... 2 bytes left out ...\n" in cut
