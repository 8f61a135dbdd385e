"""Real S3 servers for the tests, on free loopback ports: moto, a Ceph gateway, and Swift's s3api (which lies).

`moto`, `ceph` and `swift` are session fixtures, known everywhere by tests/conftest.py; what is not installed is skipped with
a word. The same is there as context managers (`run_moto`, `run_ceph`, `run_swift`), and by hand: `python -m tests.kit.servers
ceph` starts one and says its address. Everything lies in one temporary folder, and every process dies with whoever started
it: by its process group at the end, and by the kernel (setpriv --pdeathsig) if that end never comes.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, asynccontextmanager, contextmanager
from functools import cache
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
from aiobotocore.config import AioConfig
from aiobotocore.session import AioSession

START_S = 60.0
"""A server that has not answered by then is broken."""


class Server(NamedTuple):
    """An S3 server that answers."""

    endpoint: str
    access: str
    secret: str

    def environment(self) -> dict[str, str]:
        """What makes every AWS client use it, and no profile of the developer."""
        return {
            "AWS_ENDPOINT_URL_S3": self.endpoint,
            "AWS_ACCESS_KEY_ID": self.access,
            "AWS_SECRET_ACCESS_KEY": self.secret,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_CONFIG_FILE": "/dev/null",
            "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
            "AWS_EC2_METADATA_DISABLED": "true",
        }


@asynccontextmanager
async def bare(server: Server, **config: Any) -> AsyncIterator[Any]:
    """A client of aiobotocore with nothing of ours in between, to look behind the back of the code under test."""
    client = _session().create_client(
        "s3",
        endpoint_url=server.endpoint,
        aws_access_key_id=server.access,
        aws_secret_access_key=server.secret,
        region_name="us-east-1",
        config=AioConfig(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}, **config),
    )
    async with client as opened:
        yield opened


@cache
def _session() -> AioSession:
    return AioSession()


def make_bucket(server: Server) -> str:
    """A new bucket. Not to be called inside an event loop."""

    async def make() -> str:
        name = f"towline-{uuid4().hex[:12]}"
        async with bare(server) as client:
            await client.create_bucket(Bucket=name)
        return name

    return asyncio.run(make())


class Missing(Exception):
    """The server is not installed; the message says what to install."""


# ---------------------------------------------------------------------------------------------------------- the servers


@contextmanager
def run_moto() -> Iterator[Server]:
    """moto, from this interpreter. It checks no credentials."""
    with _Folder("moto") as folder:
        port = free_port()
        folder.environment["S3_UPLOAD_PART_MIN_SIZE"] = "1"
        folder.environment["PYTHONPATH"] = str(Path(__file__).parents[2])
        folder.start("moto", sys.executable, "-m", "tests.kit.moto_server", str(port))
        yield folder.ready(Server(f"http://127.0.0.1:{port}", "motokey", "motosecret"))


@contextmanager
def run_ceph() -> Iterator[Server]:
    """A Ceph gateway over one monitor and one storage daemon that keeps all in memory (290 MB); what is deleted goes soon."""
    _need("ceph-mon ceph-osd radosgw ceph-common", "ceph-mon", "ceph-osd", "radosgw", "radosgw-admin", "ceph")
    with _Folder("ceph") as folder:
        port, fsid = free_port(), str(uuid4())
        monitor = f"[v2:127.0.0.1:{free_port()},v1:127.0.0.1:{free_port()}]"
        folder.environment["CEPH_CONF"] = folder.write("ceph.conf", _ceph_conf(folder.path, fsid, monitor, port))
        for name in ("mon", "osd", "rgw"):
            (folder.path / name).mkdir()
        keys, chart = str(folder.path / "keyring"), str(folder.path / "monmap")
        folder.run("ceph-authtool", "--create-keyring", keys, "--gen-key", "-n", "mon.", "--cap", "mon", "allow *")
        folder.run("monmaptool", "--create", "--addv", "a", monitor, "--fsid", fsid, chart)
        folder.run("ceph-mon", "-i", "a", "--mkfs", "--monmap", chart, "--keyring", keys)
        folder.start("mon", "ceph-mon", "-i", "a", "-f")
        disk = str(uuid4())
        folder.run("ceph", "osd", "new", disk, "0")
        folder.run("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", disk)
        folder.start("osd", "ceph-osd", "-i", "0", "-f")
        folder.start("rgw", "radosgw", "-n", "client.rgw", "-f")
        server = Server(f"http://127.0.0.1:{port}", "cikey", "cisecret")
        # waits by itself until the storage daemon is up
        user = ("--uid=ci", "--display-name=ci", f"--access-key={server.access}", f"--secret={server.secret}")
        folder.run("radosgw-admin", "-n", "client.rgw", "user", "create", *user)
        yield folder.ready(server)


def _ceph_conf(path: Path, fsid: str, monitor: str, port: int) -> str:
    return f"""
[global]
fsid = {fsid}
mon host = {monitor}
public addr = 127.0.0.1
auth cluster required = none
auth service required = none
auth client required = none
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 4
osd pool default pgp num = 4
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
mon allow pool size one = true
mon max pg per osd = 1000
ms bind ipv6 = false
ms mon client mode = crc
paxos propose interval = 0.05
paxos min wait = 0.01
run dir = {path}
admin socket = {path}/$name.$pid.asok
log file = {path}/$name.log
pid file = {path}/$name.pid
mon data avail warn = 1
mon data avail crit = 1
[mon.a]
mon data = {path}/mon
[osd.0]
osd data = {path}/osd
osd objectstore = memstore
memstore device bytes = 4294967296
osd op threads = 1
osd op num shards = 2
osd op num threads per shard = 1
[client.rgw]
rgw frontends = beast endpoint=127.0.0.1:{port}
rgw thread pool size = 64
rgw data = {path}/rgw
rgw enable ops log = false
rgw enable usage log = false
rgw dns name =
rgw cache enabled = true
rgw crypt require ssl = false
rgw multipart min part size = 1
rgw gc obj min wait = 5
rgw gc processor period = 5
rgw gc processor max time = 5
"""


@contextmanager
def run_swift() -> Iterator[Server]:
    """OpenStack Swift on one folder behind its s3api, from the virtual environment $SWIFT_VENV or wherever PATH finds it.

    Swift looks for /etc/swift and nowhere else, so it runs in namespaces of its own (which takes root).
    """
    programs = Path(os.environ["SWIFT_VENV"]) / "bin" if "SWIFT_VENV" in os.environ else None
    found = shutil.which("swift-proxy-server", path=str(programs) if programs else None)
    if found is None:
        raise Missing("Swift is not installed: apt-get install liberasurecode-dev, pip install swift, SWIFT_VENV=its environment")
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        raise Missing("Swift's fixed /etc/swift needs root and unshare")
    Path("/etc/swift").mkdir(exist_ok=True)  # only to mount over it
    with _Folder("swift") as folder:
        (folder.path / "dev" / "d1").mkdir(parents=True)
        ports = {name: free_port() for name in ("object", "container", "account", "proxy")}
        folder.write("swift.conf", _SWIFT_CONF)
        folder.write("proxy-server.conf", _swift_proxy(ports["proxy"]))
        for ring in ("object", "container", "account"):
            folder.write(f"{ring}-server.conf", _swift_backend(ring, ports[ring], folder.path))
        # its servers leave every process group: the namespace of its own is what takes them along when it ends
        alone = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
        folder.start("swift", *alone, "bash", "-c", _swift_script(Path(found).parent, folder.path, ports))
        yield folder.ready(Server(f"http://127.0.0.1:{ports['proxy']}", "test:tester", "testing"))


_SWIFT_CONF = """
[swift-hash]
swift_hash_path_suffix = ci
swift_hash_path_prefix = ci
[storage-policy:0]
name = one
default = yes
policy_type = replication
"""


def _swift_backend(ring: str, port: int, path: Path) -> str:
    return f"""
[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
workers = 1
user = root
devices = {path}/dev
mount_check = false
log_address = /nonexistent
log_level = WARNING
[pipeline:main]
pipeline = {ring}-server
[app:{ring}-server]
use = egg:swift#{ring}
fallocate_reserve = 0
"""


def _swift_proxy(port: int) -> str:
    filters = {"catch_errors": "", "gatekeeper": "", "healthcheck": "", "listing_formats": "", "bulk": "", "slo": "", "dlo": ""}
    filters["s3api"] = "s3_acl = false\nlocation = us-east-1\nmin_segment_size = 1"
    filters["tempauth"] = "user_test_tester = testing .admin"
    order = "catch_errors gatekeeper healthcheck listing_formats s3api tempauth bulk slo dlo proxy-server"
    text = f"""
[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
workers = 1
user = root
log_address = /nonexistent
log_level = WARNING
[pipeline:main]
pipeline = {order}
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
"""
    return text + "".join(f"[filter:{name}]\nuse = egg:swift#{name}\n{more}\n" for name, more in filters.items())


def _swift_script(programs: Path, path: Path, ports: Mapping[str, int]) -> str:
    lines = ["set -e", f"mount --bind {path} /etc/swift", "cd /etc/swift"]
    for ring in ("object", "container", "account"):
        build = f"{programs}/swift-ring-builder {ring}.builder"
        lines += [f"{build} create 4 1 1 >/dev/null"]
        lines += [f"{build} add --region 1 --zone 1 --ip 127.0.0.1 --port {ports[ring]} --device d1 --weight 1 >/dev/null"]
        lines += [f"{build} rebalance >/dev/null"]
    lines += [f"{programs}/swift-{name}-server /etc/swift/{name}-server.conf >{path}/{name}.log 2>&1 &" for name in ports]
    return "\n".join([*lines, "wait"])


# --------------------------------------------------------------------------------------------------------- how they run


class _Folder:
    """A temporary folder (with a short name: sockets lie in it) and the processes that live off it; both go at the end."""

    def __init__(self, name: str) -> None:
        self.path = Path(tempfile.mkdtemp(prefix=f"towline-{name}-"))
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "CEPH_"))}
        self._processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> _Folder:
        return self

    def __exit__(self, *_: object) -> None:
        for process in reversed(self._processes):
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            process.wait()
        shutil.rmtree(self.path, ignore_errors=True)

    def write(self, name: str, text: str) -> str:
        (self.path / name).write_text(text)
        return str(self.path / name)

    def start(self, name: str, *command: str) -> None:
        """A process in a group of its own, its words in NAME.out."""
        with (self.path / f"{name}.out").open("wb") as out:
            self._processes.append(
                subprocess.Popen(
                    [*mortal(), *command],
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=out,
                    env=self.environment,
                    cwd=self.path,
                    start_new_session=True,
                )
            )

    def run(self, *command: str) -> None:
        """A command that must succeed."""
        done = subprocess.run(command, env=self.environment, cwd=self.path, capture_output=True, text=True, timeout=START_S)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stderr[-2000:]}\n{self.words()}")

    def ready(self, server: Server) -> Server:
        """Wait until it answers, whatever it says."""
        end = time.monotonic() + START_S
        while not _answers(server.endpoint):
            if time.monotonic() > end or any(p.poll() is not None for p in self._processes):
                raise RuntimeError(f"no answer from {server.endpoint}\n{self.words()}")
            time.sleep(0.05)
        return server

    def words(self) -> str:
        """What the processes have said last."""
        return "\n".join(f"{f.name}: {f.read_text(errors='replace')[-1500:]}" for f in sorted(self.path.glob("*.out")))


def mortal() -> Sequence[str]:
    """What to put before a command whose process shall die with this one."""
    return ("setpriv", "--pdeathsig", "KILL") if shutil.which("setpriv") else ()


def _answers(endpoint: str) -> bool:
    connection = HTTPConnection(urlsplit(endpoint).netloc, timeout=5)
    try:
        connection.request("GET", "/")
        # Swift's front is up before its backs: those it answers for with 5xx
        return connection.getresponse().status < 500
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


_given: set[int] = set()


def free_port() -> int:
    """A port of the loopback address that nobody has, and that was not given before."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
        if port not in _given:
            _given.add(port)
            return port


def _need(packages: str, *programs: str) -> None:
    missing = [name for name in programs if shutil.which(name) is None]
    if missing:
        raise Missing(f"{', '.join(missing)} not found: apt-get install --no-install-recommends {packages}")


# ------------------------------------------------------------------------------------------------------------- fixtures


@pytest.fixture(scope="session")
def moto() -> Iterator[Server]:
    """moto, for the whole session: tests take buckets of their own."""
    with run_moto() as server:
        yield server


@pytest.fixture(scope="session")
def ceph() -> Iterator[Server]:
    """A Ceph gateway, for the whole session: tests take buckets of their own."""
    yield from _or_skip(run_ceph)


@pytest.fixture(scope="session")
def swift() -> Iterator[Server]:
    """Swift's s3api, for the whole session."""
    yield from _or_skip(run_swift)


def _or_skip(run: Callable[[], AbstractContextManager[Server]]) -> Iterator[Server]:
    with ExitStack() as stack:
        try:
            server = stack.enter_context(run())
        except Missing as why:
            pytest.skip(str(why))
        yield server


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with {"moto": run_moto, "ceph": run_ceph, "swift": run_swift}[sys.argv[1]]() as started:
        print("\n".join(f"export {name}={value}" for name, value in started.environment().items()), flush=True)
        signal.pause()
