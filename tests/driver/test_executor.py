"""`towline.Executor` as what takes a `concurrent.futures.Executor` sees it, and as its store does."""

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
import gc
import operator
import pickle
import queue
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from concurrent.futures import ALL_COMPLETED, FIRST_EXCEPTION, BrokenExecutor, CancelledError
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.kit.leaks import nothing_left
from towline import EncodingError, Executor, OutputReference, Response, RunFailed, UsageError, connect, job, run
from towline.client import Line
from towline.executor import JobFuture, error_of

GATE = threading.Event()
BEGUN = threading.Event()


def plus(x: int, y: int = 1) -> int:
    return x + y


def wait_for_gate(value: Any = None) -> Any:
    BEGUN.set()
    assert GATE.wait(60)
    return value


class Odd(Exception):
    """An exception that pickle cannot make again."""

    def __reduce__(self) -> Any:
        raise TypeError("not me")


class Particular(Exception):
    """An exception whose arguments are not those of its class."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} is particular")
        self.two = two


class Wrong(ValueError):
    code: int


def fail(kind: str = "wrong") -> None:
    if kind == "odd":
        raise Odd("1 is odd")
    if kind == "particular":
        raise Particular(1, 2)
    error = Wrong("it is wrong", 7)
    error.code = 9
    raise error


def traced(folder: str, x: Any) -> Any:
    with (Path(folder) / "ran").open("a") as file:
        file.write(f"{x!r}\n")
    return x


def ran(folder: Path) -> list[str]:
    return (folder / "ran").read_text().split()


@pytest.fixture
def executor() -> Iterator[Executor]:
    GATE.clear()
    BEGUN.clear()
    with Executor(local=True) as made:
        yield made
        GATE.set()


# ---------------------------------------------------------------------------------------------------------- results


def test_calls_give_their_results(executor: Executor) -> None:
    assert isinstance(executor, concurrent.futures.Executor)
    future = executor.submit(plus, 1, y=5)
    assert future.result(60) == 6
    assert (future.done(), future.cancelled(), future.exception()) == (True, False, None)
    assert executor.submit(operator.mul, 3, 4).result(60) == 12
    factor = 10
    assert executor.submit(lambda x: x * factor, 4).result(60) == 40
    assert executor.submit(functools.partial(plus, 5)).result(60) == 6
    assert executor.submit(dict, fn=1, self=2, key=3).result(60) == {"fn": 1, "self": 2, "key": 3}


def test_values_keep_their_types(executor: Executor) -> None:
    big, small = np.arange(50_000.0), (1, {2: {3}})
    futures = [executor.submit(operator.pos, big), executor.submit(tuple, small), executor.submit(plus, 1)]
    assert np.array_equal(futures[0].result(60), big)
    assert futures[1].result(60) == small


def test_arguments_are_taken_as_they_are_when_they_are_submitted(executor: Executor) -> None:
    values = [1, 2, 3]
    future = executor.submit(sum, values)
    values.append(100)
    assert future.result(60) == 6


def test_thousands_are_settled_by_a_few_questions(executor: Executor, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    begin, ask = Line.begin, Line.ask
    monkeypatch.setattr(Line, "begin", lambda self, verb, *rest: asked.append(verb) or begin(self, verb, *rest))
    monkeypatch.setattr(Line, "ask", lambda self, verb, *rest: asked.append(verb) or ask(self, verb, *rest))
    before = threading.active_count()
    futures = [executor.submit(plus, n) for n in range(3000)]
    assert threading.active_count() <= before + 2
    assert sum(future.result(60) for future in futures) == sum(range(1, 3001))
    assert len(asked) < 600
    assert {*asked} <= {"submit", "outcomes"}


def test_waiting_for_many(executor: Executor) -> None:
    futures = [executor.submit(plus, n) for n in range(20)]
    done, left = concurrent.futures.wait(futures, 60, return_when=ALL_COMPLETED)
    assert (len(done), left) == (20, set())
    more = [executor.submit(plus, n) for n in range(20)]
    assert sorted(future.result() for future in concurrent.futures.as_completed(more, 60)) == list(range(1, 21))
    bad = executor.submit(fail)
    done, _ = concurrent.futures.wait([bad], 60, return_when=FIRST_EXCEPTION)
    assert done == {bad}


def test_a_callback_is_called(executor: Executor) -> None:
    heard = threading.Event()
    executor.submit(plus, 1).add_done_callback(lambda future: heard.set() if future.result() == 2 else None)
    assert heard.wait(60)


def test_a_callback_may_ask_for_more(executor: Executor) -> None:
    """Also that of a future that was refused: whoever brings the refusal must be free to bring the next answer."""
    executor.submit(wait_for_gate)
    assert BEGUN.wait(60)
    waiting, said = executor.submit(plus, 1), queue.SimpleQueue[bool]()
    executor.submit(plus, OutputReference("nobody")).add_done_callback(lambda _refused: said.put(waiting.cancel()))
    assert said.get(timeout=30)


def test_a_replacement_s_output_is_the_result(executor: Executor) -> None:
    def replaced(x: int) -> Any:
        one = job(plus)(x)
        return Response(replace=[one, job(plus)(one.output)])

    assert executor.submit(replaced, 1).result(60) == [2, 3]


def test_a_result_may_refer_to_another_job(executor: Executor) -> None:
    def adds(x: int) -> Any:
        one = job(plus)(x)
        return Response(replace=one)

    later = executor.submit(plus, executor.submit(adds, 1))
    assert later.result(60) == 3


# ------------------------------------------------------------------------------------------------------- exceptions


def test_the_exception_is_the_job_s_own(executor: Executor) -> None:
    future = executor.submit(fail)
    with pytest.raises(Wrong, match="it is wrong") as caught:
        future.result(60)
    assert (caught.value.args, caught.value.code) == (("it is wrong", 7), 9)
    assert "in fail" in str(caught.value.__cause__)
    assert future.exception() is caught.value


def test_an_exception_whose_class_takes_other_arguments(executor: Executor) -> None:
    with pytest.raises(Particular, match=r"^1 is particular$") as caught:
        executor.submit(fail, "particular").result(60)
    assert caught.value.two == 2


def test_an_exception_that_cannot_travel_is_told(executor: Executor) -> None:
    with pytest.raises(RunFailed, match=r"(?s)Odd: 1 is odd.*in fail"):
        executor.submit(fail, "odd").result(60)


def test_what_is_not_an_exception_is_not_raised() -> None:
    assert isinstance(error_of(b"", ["error", "said", "", b"\x01"]), RunFailed)


def test_what_cannot_be_stored_is_refused_at_once(executor: Executor) -> None:
    with pytest.raises(EncodingError, match=r"job 'plus' .*args\[0\]\['k'\] cannot be stored"):
        executor.submit(plus, {"k": threading.Lock()})
    with pytest.raises(EncodingError, match="cannot be sent to a worker"):
        lock = threading.Lock()
        executor.submit(lambda: lock)
    with pytest.raises(TypeError, match="no function"):
        executor.submit(3)  # type: ignore[arg-type]  # that is the point
    with pytest.raises(UsageError, match="a call already"):
        executor.submit(job(plus)(1))  # type: ignore[arg-type]  # that is the point
    assert executor.submit(plus, 1).result(60) == 2


def test_one_that_is_refused_spoils_no_other(executor: Executor) -> None:
    bad = [executor.submit(plus, OutputReference(f"nobody-{n}")) for n in range(2)]
    good = [executor.submit(plus, n) for n in range(5)]
    for future in bad:
        with pytest.raises(UsageError, match="neither in it nor in the store"):
            future.result(60)
    assert [future.result(60) for future in good] == [1, 2, 3, 4, 5]


# ----------------------------------------------------------------------------------------------------- dependencies


def test_futures_among_the_arguments_are_dependencies(executor: Executor) -> None:
    one, two = executor.submit(plus, 1), executor.submit(plus, 2)
    three = executor.submit(lambda pair, *, named: [*pair, named["deep"][0]], (one, two), named={"deep": [one, one]})
    assert three.result(60) == [2, 3, 2]
    assert executor.submit(plus, three).exception(60) is not None
    chain = one
    for _ in range(200):
        chain = executor.submit(plus, chain)
    assert chain.result(60) == 202
    assert list(executor.map(plus, [one, two], [3, one])) == [5, 5]


def test_what_depends_on_a_failure_ends_as_it_did(executor: Executor) -> None:
    bad = executor.submit(fail)
    first = executor.submit(plus, bad)
    second = executor.submit(plus, [first])
    for future in (first, second):
        with pytest.raises(Wrong):
            future.result(60)
    with pytest.raises(Wrong):  # also long after
        executor.submit(plus, bad).result(60)
    uuid = bad.uuid
    del bad, first, second, future
    gc.collect()
    with pytest.raises(RunFailed, match="has failed"):
        executor.submit(plus, OutputReference(uuid)).result(60)


def test_what_depends_on_a_cancelled_one_is_cancelled(executor: Executor) -> None:
    executor.submit(wait_for_gate)
    assert BEGUN.wait(60)
    one = executor.submit(plus, 1)
    two = executor.submit(plus, one)
    assert one.cancel()
    assert two.cancelled()
    late = executor.submit(plus, one)
    with pytest.raises(CancelledError):
        late.result(60)
    GATE.set()
    assert executor.submit(plus, 1).result(60) == 2


# ------------------------------------------------------------------------------------------------------- cancelling


def test_what_has_begun_is_not_cancelled(executor: Executor) -> None:
    begun, waiting = executor.submit(wait_for_gate, 5), executor.submit(traced, "/nowhere", 1)
    assert BEGUN.wait(60)
    assert not begun.cancel()
    assert waiting.cancel()
    assert waiting.cancel()
    assert waiting.cancelled()
    with pytest.raises(CancelledError):
        waiting.result()
    assert concurrent.futures.wait([waiting], 0).done == {waiting}
    GATE.set()
    assert begun.result(60) == 5
    assert not begun.cancel()
    assert connect(executor.store).counts() == {"completed": 1, "stopped": 1}


def test_what_was_not_handed_in_yet_is_cancelled_here(executor: Executor) -> None:
    executor._flying = 99  # nothing is handed in now
    one, other = executor.submit(plus, 1), executor.submit(plus, 2)
    two = executor.submit(plus, one)
    assert one.cancel()
    assert executor.submit(plus, two).cancelled()
    executor._flying = 0
    assert executor.submit(plus, other).result(60) == 4
    assert connect(executor.store).counts() == {"completed": 2}


# -------------------------------------------------------------------------------------------------------------- map


@pytest.mark.parametrize("chunksize", [1, 3, 100])
def test_map_keeps_the_order(executor: Executor, chunksize: int) -> None:
    assert list(executor.map(plus, range(20), range(0, 200, 10), chunksize=chunksize)) == [11 * n for n in range(20)]
    assert list(executor.map(plus, [], chunksize=chunksize)) == []


def test_chunks_are_jobs(executor: Executor) -> None:
    assert list(executor.map(plus, range(10), chunksize=4)) == list(range(1, 11))
    jobs = connect(executor.store).jobs()
    assert [info.name for info in jobs] == ["plus"] * 3
    with pytest.raises(ValueError, match="chunksize"):
        executor.map(plus, [1], chunksize=0)


def test_map_raises_in_its_place(executor: Executor) -> None:
    found = executor.map(lambda x: 1 // x, [1, 0, 1])
    assert next(found) == 1
    with pytest.raises(ZeroDivisionError):
        next(found)
    with pytest.raises(TimeoutError):
        list(executor.map(wait_for_gate, [1], timeout=0))


def test_libraries_that_take_a_map(executor: Executor) -> None:
    from scipy.optimize import differential_evolution, rosen

    options = {"maxiter": 3, "popsize": 4, "polish": False, "updating": "deferred", "tol": 0}
    alone = differential_evolution(rosen, [(0, 2)] * 2, rng=1, **options)
    spread = differential_evolution(rosen, [(0, 2)] * 2, rng=1, workers=executor.map, **options)
    assert spread.x.tolist() == alone.x.tolist()


# ----------------------------------------------------------------------------------------------------------- asyncio


async def test_asyncio_waits_for_it() -> None:
    GATE.clear()
    with Executor(local=True) as executor:
        loop = asyncio.get_running_loop()
        assert await loop.run_in_executor(executor, plus, 1) == 2
        found = await asyncio.gather(*(asyncio.wrap_future(executor.submit(plus, n)) for n in range(50)))
        assert found == list(range(1, 51))
        with pytest.raises(Wrong):
            await asyncio.wrap_future(executor.submit(fail))
        executor.submit(wait_for_gate)
        waiting = executor.submit(plus, 1)
        wrapped = asyncio.wrap_future(waiting)
        wrapped.cancel()
        with pytest.raises(asyncio.CancelledError):
            await wrapped
        await asyncio.sleep(0)
        GATE.set()
        await asyncio.to_thread(concurrent.futures.wait, [waiting], 60)
        assert waiting.cancelled()


# -------------------------------------------------------------------------------------------------------- the end


def test_shutdown_waits_and_leaves_nothing() -> None:
    with nothing_left():
        executor = Executor(local=True)
        folder = Path(executor.store).parent
        assert folder.stat().st_mode & 0o777 == 0o700
        futures = [executor.submit(plus, n) for n in range(100)]
        executor.shutdown()
        assert all(future.done() for future in futures)
        assert not folder.exists()
        executor.shutdown()
        with pytest.raises(RuntimeError, match="after shutdown"):
            executor.submit(plus, 1)


def test_shutdown_without_waiting_finishes_behind_the_scene() -> None:
    GATE.clear()
    executor = Executor(local=True)
    future = executor.submit(wait_for_gate, 3)
    executor.shutdown(wait=False)
    assert not future.done()
    GATE.set()
    assert future.result(60) == 3
    executor.shutdown()
    assert not Path(executor.store).exists()


def test_shutdown_cancels_what_waits_if_it_is_told_to() -> None:
    GATE.clear()
    BEGUN.clear()
    executor = Executor(local=True)
    begun = executor.submit(wait_for_gate, 3)
    assert BEGUN.wait(60)
    waiting = [executor.submit(plus, n) for n in range(50)]
    executor.shutdown(wait=False, cancel_futures=True)
    assert all(future.cancelled() for future in waiting)
    GATE.set()
    executor.shutdown()
    assert begun.result(0) == 3


def test_a_leader_that_is_gone_breaks_it() -> None:
    GATE.clear()
    executor = Executor(local=True)
    future = executor.submit(wait_for_gate)
    executor._break(ConnectionError("the leader is gone"))
    GATE.set()
    with pytest.raises(BrokenExecutor, match="what is committed is kept"):
        future.result(60)
    with pytest.raises(BrokenExecutor):
        executor.submit(plus, 1)
    executor.shutdown()
    assert not Path(executor.store).exists()


def test_what_was_submitted_is_finished_before_the_interpreter_ends(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(
            """
            import sys
            from pathlib import Path
            from towline import Executor

            def leave(folder, n):
                (Path(folder) / f"left-{n}").touch()

            if __name__ == "__main__":
                executor = Executor(local=True)
                for n in range(20):
                    executor.submit(leave, sys.argv[1], n)
                print(executor.store)
            """
        )
    )
    told = subprocess.run([sys.executable, script, tmp_path], capture_output=True, text=True, check=True, timeout=120)
    assert told.stderr == ""
    assert len(list(tmp_path.glob("left-*"))) == 20
    assert not Path(told.stdout.strip()).exists()


def test_what_it_does_not_do_it_says(store_dir: Path) -> None:
    with pytest.raises(UsageError, match="no initializer"):
        Executor(local=True, initializer=print)
    with pytest.raises(UsageError, match="workers must be 1 or more"):
        Executor(store_dir, workers=0, local=True)
    with Executor(local=True) as executor:
        future = executor.submit(plus, 1)
        for thing in (executor, future):
            with pytest.raises(TypeError, match="cannot be pickled"):
                pickle.dumps(thing)
        assert repr(executor) == f"<Executor {executor.store!r}>"
        assert isinstance(future, JobFuture)


# ------------------------------------------------------------------------------------------------------ durable stores


def test_a_store_keeps_what_was_submitted(store_dir: Path) -> None:
    with Executor(store_dir, local=True, name="sums") as executor:
        future = executor.submit(plus, 1)
        assert future.result(60) == 2
    done = connect(store_dir)
    assert done.output(future) == 2
    assert done.status()["flows"][0][1] == "sums"
    with Executor(store_dir, local=True) as executor:
        assert executor.submit(plus, OutputReference(future.uuid)).result(60) == 3


def test_a_name_has_one_result(store_dir: Path, tmp_path: Path) -> None:
    for _ in range(2):
        with Executor(store_dir, local=True) as executor:
            one = executor.submit_as("one", traced, str(tmp_path), 1)
            assert executor.submit_as("two", plus, one).result(60) == 2
            assert executor.submit_as("one", traced, str(tmp_path), "another call").result(60) == 1
    assert ran(tmp_path) == ["1"]


def test_a_name_whose_job_failed_is_tried_again(store_dir: Path) -> None:
    with Executor(store_dir, local=True) as executor:
        assert isinstance(executor.submit_as("k", fail).exception(60), Wrong)
        assert executor.submit_as("k", plus, 1).result(60) == 2
        assert executor.submit_as("k", plus, 5).result(60) == 2


def test_a_name_that_is_under_way_is_joined(executor: Executor) -> None:
    first = executor.submit_as("k", wait_for_gate, 4)
    assert BEGUN.wait(60)
    assert executor.submit_as("k", plus, 1) is first
    GATE.set()
    assert first.result(60) == 4


def test_a_name_is_submitted_once_by_threads_that_ask_at_once(executor: Executor, monkeypatch: pytest.MonkeyPatch) -> None:
    ask, both = Line.ask, threading.Barrier(2)

    def asked(line: Line, verb: str, *rest: Any) -> Any:
        said = ask(line, verb, *rest)
        if verb == "states":
            both.wait(60)
        return said

    monkeypatch.setattr(Line, "ask", asked)
    with concurrent.futures.ThreadPoolExecutor(2) as threads:
        one, two = threads.map(lambda n: executor.submit_as("k", plus, n), range(2))
    assert one is two
    assert one.result(60) in (1, 2)
    assert connect(executor.store).counts() == {"completed": 1}


def test_one_uuid_is_one_job(executor: Executor) -> None:
    named = job(uuid="00000000-0000-4000-8000-000000000001")(wait_for_gate)
    executor.submit(named, 3)
    with pytest.raises(UsageError, match="was submitted before"):
        executor.submit(named, 4)


def test_cached_calls_are_not_made_again(store_dir: Path, tmp_path: Path) -> None:
    for _ in range(2):
        with Executor(store_dir, local=True, cache="v1") as executor:
            assert list(executor.map(functools.partial(traced, str(tmp_path)), range(3))) == [0, 1, 2]
    assert ran(tmp_path) == ["0", "1", "2"]


def test_a_call_of_a_job_function_has_its_options(executor: Executor, tmp_path: Path) -> None:
    @job(retries=2, backoff_s=0.01, name="stubborn")
    def stubborn(folder: str) -> int:
        traced(folder, 1)
        if len(ran(Path(folder))) < 3:
            raise ValueError("again")
        return 5

    assert executor.submit(stubborn, str(tmp_path)).result(60) == 5
    assert len(ran(tmp_path)) == 3
    assert connect(executor.store).jobs()[0].name == "stubborn"


def test_what_an_earlier_one_left_runs_on(store_dir: Path, tmp_path: Path) -> None:
    run(job(plus)(1), store=store_dir, local=True, progress=False)
    with Executor(store_dir, local=True) as executor:
        assert executor.submit(plus, 3).result(60) == 4
    assert connect(store_dir).counts() == {"completed": 2}


@pytest.mark.ray
def test_on_ray(store_dir: Path) -> None:
    with Executor(store_dir, workers=2) as executor:
        futures = [executor.submit(plus, n) for n in range(500)]
        last = executor.submit(sum, futures)
        assert last.result(60) == sum(range(1, 501))
        with pytest.raises(ZeroDivisionError):
            executor.submit(lambda x: 1 / x, 0).result(60)
        assert list(executor.map(plus, range(100), chunksize=10)) == list(range(1, 101))
    assert connect(store_dir).output(last) == sum(range(1, 501))
