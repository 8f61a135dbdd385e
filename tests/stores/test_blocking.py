"""The blocking face: everything of the async one and of Toil's document, real file objects, threads, forks and callbacks."""

from __future__ import annotations

import asyncio
import csv
import functools
import inspect
import json
import os
import pickle
import shutil
import threading
import zipfile
from pathlib import Path

import pytest

from towline.stores import background, blocking
from towline.stores.fileformat import PART
from towline.stores.jobstore import abstract
from towline.stores.jobstore.aliases import ALIASES
from towline.stores.jobstore.config import Config
from towline.stores.jobstore.description import JobDescription
from towline.stores.jobstore.errors import (
    JobStoreExistsException,
    NoSuchFileException,
    NoSuchJobException,
    NoSuchJobStoreException,
)
from towline.stores.jobstore.streams import BlobWriter

INTERFACE = (Path(__file__).parents[1] / "golden" / "toil" / "job_store.txt").read_text().splitlines()
"""Every name of Toil's AbstractJobStore, old and living, with its arguments; of its guide, what is not in there."""


@pytest.fixture
def store(store_dir):
    store = blocking.open_store(store_dir, create=True)
    yield store
    store.close()


def job(name="a job"):
    return JobDescription(requirements={"memory": 1 << 20, "cores": 1, "disk": 0}, job_name=name)


# ------------------------------------------------------------------------------------------------------------ the names


@pytest.mark.parametrize("line", INTERFACE)
def test_every_name_of_toil_is_there_with_its_arguments(line):
    name, _, arguments = line.rstrip(")").partition("(")
    member = inspect.getattr_static(blocking.AbstractJobStore, name)
    if "(" not in line:
        return
    function = member.__func__ if isinstance(member, classmethod) else member
    mine = [p for p in inspect.signature(function).parameters.values() if p.name not in ("self", "cls")]
    wanted = [argument.strip() for argument in arguments.split(",") if argument.strip()]
    if name == "clean":
        assert "jobCache" in [p.name for p in mine]
        return
    for parameter, text in zip(mine, wanted, strict=False):
        default = "" if parameter.default is parameter.empty else f"={parameter.default}"
        assert f"{parameter.name}{default}" == text
    assert len(mine) >= len(wanted)
    assert all(parameter.default is not parameter.empty for parameter in mine[len(wanted) :])


def test_everything_of_the_async_face_is_there_and_blocks():
    for name in dir(abstract.AbstractJobStore):
        if not name.startswith("_"):
            mine = inspect.getattr_static(blocking.AbstractJobStore, name)
            assert not inspect.iscoroutinefunction(getattr(mine, "__func__", mine)), name


def test_the_old_names_work(store, tmp_path):
    (tmp_path / "in").write_bytes(b"content")
    desc = job()
    store.assignID(desc)
    store.create(desc)
    assert store.exists(desc.job_store_id)
    assert store.load(jobStoreID=desc.job_store_id).job_name == "a job"
    name = store.writeFile(str(tmp_path / "in"), jobStoreID=desc.job_store_id, cleanup=True)
    assert store.fileExists(name)
    assert store.getFileSize(name) == 7
    store.readFile(name, str(tmp_path / "out"))
    assert (tmp_path / "out").read_bytes() == b"content"
    with store.updateFileStream(name, encoding="utf-8") as file:
        file.write("new")
    with store.readFileStream(jobStoreFileID=name) as file:
        assert file.read() == b"new"
    with store.writeSharedFileStream("shared", isProtected=False) as file:
        file.write(b"x")
    with store.readSharedFileStream(sharedFileName="shared", encoding="ascii") as file:
        assert file.read() == "x"
    assert store.getSharedPublicUrl("shared").startswith("file:")
    assert store.importFile(srcUrl=(tmp_path / "in").as_uri(), sharedFileName="imported") is None
    store.exportFile(jobStoreFileID=name, dstUrl=(tmp_path / "exported").as_uri())
    assert (tmp_path / "exported").read_bytes() == b"new"
    store.writeStatsAndLogging("message")
    got = []
    assert store.readStatsAndLogging(lambda file: got.append(file.read())) == 1
    assert got == ["message"]
    store.delete(desc.job_store_id)
    assert not store.fileExists(name)
    with pytest.raises(NoSuchJobException):
        store.load(desc.job_store_id)


def test_the_guides_lifecycle(store_dir):
    store = blocking.AbstractJobStore.createJobStore(f"file:{store_dir}")
    with pytest.raises(NoSuchJobStoreException):
        store.resume()
    config = Config()
    store.initialize(config)
    with pytest.raises(JobStoreExistsException):
        blocking.FileJobStore(str(store_dir)).initialize(Config())
    with blocking.open_store(store_dir) as other:
        assert other.config == store.config
        assert other.config is not store.config
        assert other.locator == str(store_dir)
    store.config.retry_count = 7
    store.writeConfig()
    with blocking.open_store(store_dir) as other:
        assert other.config.retry_count == 7
    store.destroy()
    store.destroy()
    with pytest.raises(NoSuchJobStoreException):
        blocking.open_store(store_dir)


def test_the_guides_migration(store, tmp_path):
    with blocking.open_store(tmp_path / "other", create=True) as other:
        for i in range(3):
            store.create(job(str(i)))
            with store.writeFileStream(basename=f"{i}.txt") as (file, _):
                file.write(b"%d" % i)
        for desc in store.jobs():
            other.create_job(JobDescription(requirements={"memory": 1}, job_name=desc.job_name))
        for name in store.get_all_file_ids():
            assert store.get_file_job_association(name) is None
            temp = f"{tmp_path}/migration_{name}"
            store.readFile(name, temp)
            other.writeFile(temp, jobStoreID=None)
            os.unlink(temp)
        assert sorted(desc.job_name for desc in other.jobs()) == ["0", "1", "2"]
        sizes = [other.getFileSize(name) for name in other.get_all_file_ids()]
        assert sizes == [1, 1, 1]


def test_class_methods_need_no_store(tmp_path):
    (tmp_path / "a").write_bytes(b"123")
    assert blocking.AbstractJobStore.url_exists((tmp_path / "a").as_uri())
    assert blocking.JobStoreSupport.get_size((tmp_path / "a").as_uri()) == 3
    assert blocking.AbstractJobStore.list_url(tmp_path.as_uri()) == ["a"]
    with blocking.AbstractJobStore.open_url((tmp_path / "a").as_uri()) as file:
        assert file.read(1) == b"1"
        assert file.readline() == b"23"
        assert not file.seekable()


def test_a_bad_locator_is_told_at_once():
    with pytest.raises(ValueError, match="does not name a store"):
        blocking.AbstractJobStore("what:ever")


# -------------------------------------------------------------------------------------------------------------- streams


@pytest.mark.parametrize("size", [0, 1, blocking.BUFFER_BYTES, PART, 3 * PART + 1])
def test_bytes_through_shutil(store, tmp_path, size):
    data = os.urandom(size)
    (tmp_path / "in").write_bytes(data)
    with open(tmp_path / "in", "rb") as source, store.write_file_stream() as (file, name):
        shutil.copyfileobj(source, file)
    with open(tmp_path / "out", "wb") as target, store.read_file_stream(name) as file:
        shutil.copyfileobj(file, target)
    assert (tmp_path / "out").read_bytes() == data
    assert name.size == size


def test_csv_json_and_pickle(store):
    rows = [["a", "b,c", 'd"'], ["zwei\nZeilen", "ü", ""]]
    with store.write_file_stream(encoding="utf-8", basename="t.csv") as (file, name):
        csv.writer(file).writerows(rows)
    with store.read_file_stream(name, encoding="utf-8") as file:
        assert list(csv.reader(file)) == rows
    value = {"list": list(range(1000)), "text": "ü" * 1000}
    for module, encoding in ((json, "utf-8"), (pickle, None)):
        with store.write_shared_file_stream("value", encoding=encoding) as file:
            module.dump(value, file)
        with store.read_shared_file_stream("value", encoding=encoding) as file:
            assert module.load(file) == value


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig", "latin-1"])
@pytest.mark.parametrize("text", ["", "zwei\r\nzeilen\rü"])
def test_text_is_what_open_makes_of_it(store, tmp_path, encoding, text):
    with open(tmp_path / "model", "w", encoding=encoding, newline="\n") as file:
        file.write(text)
    with store.write_file_stream(encoding=encoding) as (file, name):
        file.write(text)
    with store.read_file_stream(name) as file:
        assert file.read() == (tmp_path / "model").read_bytes()
    with store.read_file_stream(name, encoding=encoding) as file:
        assert file.read() == text


def test_a_reader_can_seek(store, tmp_path):
    with store.write_file_stream() as (file, name), zipfile.ZipFile(file, "w") as archive:
        for i in range(3):
            archive.writestr(f"{i}.txt", os.urandom(PART // 2))
    with store.read_file_stream(name) as file, zipfile.ZipFile(file) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == ["0.txt", "1.txt", "2.txt"]
        assert file.seek(-1, os.SEEK_END) == name.size - 1
        with pytest.raises(ValueError, match="negative"):
            file.seek(-1)


def test_an_exception_leaves_nothing_and_the_old_content(store):
    with store.write_shared_file_stream("s") as file:
        file.write(b"old")
    for data in (b"x", bytes(2 * PART)):
        with pytest.raises(ZeroDivisionError), store.write_file_stream() as (file, _):
            file.write(data)
            raise ZeroDivisionError
        with pytest.raises(ZeroDivisionError), store.write_shared_file_stream("s", encoding="ascii") as file:
            file.write("new")
            raise ZeroDivisionError
    assert store.get_all_file_ids() == []
    assert store.gc(older_than_s=-1).orphans == []
    with store.read_shared_file_stream("s") as file:
        assert file.read() == b"old"


def test_after_an_exception_nothing_more_is_sent(store, monkeypatch):
    """A store that hangs must not hold whoever was interrupted."""
    sent = []
    monkeypatch.setattr(BlobWriter, "write", lambda self, data: sent.append(data))
    with pytest.raises(KeyboardInterrupt), store.write_file_stream(encoding="ascii") as (file, _):
        file.write("x")
        raise KeyboardInterrupt
    assert sent == []


def test_closing_a_stream_oneself_does_no_harm(store):
    with store.write_file_stream(encoding="ascii") as (file, name):
        file.write("x")
        file.close()
        assert not store.file_exists(name)
    with store.read_file_stream(name) as file:
        file.close()
    assert store.get_file_size(name) == 1
    with pytest.raises(ZeroDivisionError), store.write_file_stream() as (file, name):
        file.write(b"x")
        file.close()
        raise ZeroDivisionError
    assert not store.file_exists(name)


def test_text_that_cannot_be_encoded_is_an_error_at_the_latest_at_the_end(store):
    with pytest.raises(UnicodeEncodeError), store.write_file_stream(encoding="ascii") as (file, _):
        file.write("ü")
    assert store.get_all_file_ids() == []


def test_what_stays_unread_does_no_harm(store):
    with store.write_file_stream() as (file, name):
        file.write(bytes(4 * PART))
    with store.read_file_stream(name) as file:
        file.read(1)
    with pytest.raises(NoSuchFileException), store.read_file_stream("0" * 32 + "-x"):
        pass


# ------------------------------------------------------------------------------------------- threads, forks and callbacks


def test_a_batch_is_one_commit_and_only_of_its_thread(store):
    created = []
    with pytest.raises(ZeroDivisionError), store.batch():
        store.create_job(job("in the batch"))
        thread = threading.Thread(target=lambda: created.append(store.create_job(job("elsewhere"))))
        thread.start()
        thread.join()
        raise ZeroDivisionError
    assert [desc.job_name for desc in store.jobs()] == ["elsewhere"]
    with store.batch():
        for i in range(300):
            store.create_job(job(str(i)))
        assert len(list(store.jobs())) == 1
    assert len(list(store.jobs())) == 301
    store.create_job(job("after"))
    assert len(list(store.jobs())) == 302


def test_an_iterator_may_be_left(store):
    with store.batch():
        for i in range(blocking._ITEMS + 5):
            store.create_job(job(str(i)))
    assert next(store.jobs()).job_name
    assert len(list(store.jobs())) == blocking._ITEMS + 5


def test_callbacks_run_in_this_thread_and_may_use_the_store(store):
    store.write_logs("a")
    store.write_logs("b")
    seen = []

    def callback(message):
        seen.append((str(message), threading.get_ident(), store.get_all_file_ids()))

    assert store.read_logs(callback) == 2
    assert seen == [("a", threading.get_ident(), []), ("b", threading.get_ident(), [])]


def test_what_a_callback_raises_comes_out_and_gives_back(store):
    store.write_logs("a")
    with pytest.raises(ZeroDivisionError):
        store.read_logs(lambda message: 1 // 0)
    got = []
    assert store.read_logs(functools.partial(got.append)) == 1


def test_progress_is_told_in_this_thread(store, tmp_path):
    (tmp_path / "a").write_bytes(b"123")
    told = []
    (name,) = store.import_files([tmp_path / "a"], progress=lambda p: told.append(threading.get_ident()))
    assert store.get_file_size(name) == 3
    assert set(told) == {threading.get_ident()}
    with pytest.raises(ZeroDivisionError):
        store.import_files([tmp_path / "a"], progress=lambda p: 1 // 0)


def test_many_threads(store):
    names = []

    def work(i):
        with store.write_file_stream(encoding="ascii") as (file, name):
            file.write(str(i) * 1000)
        names.append((i, name))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(names) == 10
    for i, name in names:
        with store.read_file_stream(name, encoding="ascii") as file:
            assert file.read() == str(i) * 1000


async def test_inside_another_event_loop_it_works_too(store):
    assert store.get_all_file_ids() == []


def test_inside_its_own_event_loop_it_is_refused(store):
    async def inside():
        store.get_all_file_ids()

    future = asyncio.run_coroutine_threadsafe(inside(), background.loop())
    with pytest.raises(RuntimeError, match="await the async method"):
        future.result()


@pytest.mark.filterwarnings("ignore:This process.*fork:DeprecationWarning")
def test_a_forked_child_has_its_own(store):
    with store.write_file_stream() as (file, _):
        file.write(b"parent")
    held = store._store()  # what runs over there in the parent will never end in the child
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            assert store._store() is not held
            with store.write_file_stream() as (file, _):
                file.write(b"child")
            code = 0 if len(store.get_all_file_ids()) == 2 else 2
        finally:
            os._exit(code)
    assert os.waitpid(pid, 0)[1] == 0
    assert sorted(store.get_file_size(name) for name in store.get_all_file_ids()) == [5, 6]


def test_a_store_may_be_pickled(store):
    name = store.get_empty_file_store_id()
    with pickle.loads(pickle.dumps(store)) as again:
        assert again.get_all_file_ids() == [name]


def test_the_aliases_have_help():
    for old in ALIASES:
        assert "old name" in inspect.getdoc(getattr(blocking.AbstractJobStore, old))
