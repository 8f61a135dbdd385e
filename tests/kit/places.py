"""Every kind of place that a URL can name, at once and on loopback: put a file there, get its URL, look what has arrived."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tests.kit import ftp, web
from tests.kit.clouds import Cloud, GsCloud, S3Cloud

SOURCES = ["path", "file", "s3", "gs", "http", "https", "ftp", "ftps"]
TARGETS = ["path", "file", "s3", "gs", "http", "ftp"]

LOGIN = f"{quote(ftp.USER, safe='')}:{quote(ftp.PASSWORD, safe='')}"


class Places:
    """One of each kind."""

    def __init__(self, folder: Path, clouds: dict[str, Cloud], webs: dict[str, web.Web], ftps: dict[str, ftp.Ftp]) -> None:
        self.folder = folder
        self.clouds = clouds
        self.webs = webs
        self.ftps = ftps

    def url(self, kind: str, name: str) -> str:
        """Of a file of this name."""
        match kind:
            case "path":
                return str(self.folder / name)
            case "file":
                return (self.folder / name).as_uri()
            case "s3" | "gs":
                return self.clouds[kind].url(name)
            case "http" | "https":
                return f"{self.webs[kind].url}/{quote(name)}"
            case _:
                return f"{kind}://{LOGIN}@localhost:{self.ftps[kind].port}/{quote(name)}"

    def put(self, kind: str, name: str, data: bytes) -> str:
        """Make such a file, and give its URL."""
        match kind:
            case "s3" | "gs":
                self.clouds[kind].put(name, data)
            case "http" | "https":
                self.webs[kind].files[f"/{name}"] = data
            case _:
                self._path(kind, name).write_bytes(data)
        return self.url(kind, name)

    def peek(self, kind: str, name: str) -> bytes | None:
        """What such a file holds; None if there is none."""
        match kind:
            case "s3" | "gs":
                return self.clouds[kind].peek(name)
            case "http" | "https":
                return self.webs[kind].files.get(f"/{name}")
            case _:
                path = self._path(kind, name)
                return path.read_bytes() if path.exists() else None

    def _path(self, kind: str, name: str) -> Path:
        return (self.ftps[kind].folder if kind in self.ftps else self.folder) / name


@asynccontextmanager
async def places(folder: Path, moto: Any, gcs: Any, monkeypatch: Any) -> AsyncIterator[Places]:
    """All of them, empty."""
    authority = web.Authority(folder)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    clouds: dict[str, Cloud] = {"s3": S3Cloud(moto), "gs": GsCloud(gcs)}
    for cloud in clouds.values():
        for name, value in cloud.environment().items():
            monkeypatch.setenv(name, value)
    below = {name: folder / name for name in ("local", "ftp", "ftps")}
    for path in below.values():
        path.mkdir()
    async with AsyncExitStack() as held:
        webs = {
            "http": await held.enter_async_context(web.serving()),
            "https": await held.enter_async_context(web.serving(authority.context())),
        }
        ftps = {
            "ftp": held.enter_context(ftp.serving(below["ftp"])),
            "ftps": held.enter_context(ftp.serving(below["ftps"], pair=authority.pair)),
        }
        yield Places(below["local"], clouds, webs, ftps)
