"""Packages are fetched once, whole and right, or not at all. No test here touches the network."""

from __future__ import annotations

import hashlib
import io
import lzma
import subprocess
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from camelid.core.errors import DataError
from camelid.data.packages import Package, cache_dir, fetch_package, fetch_packages, members

CONTENT = b"an archive"
LLAMAS = Package("npm", "@herd/llamas", "1.2.3", hashlib.sha256(CONTENT).hexdigest(), len(CONTENT), "MIT")


class FakeClient:
    """Stands in for the registries' clients: writes `content` into the folder it is called in."""

    def __init__(self) -> None:
        self.content = CONTENT
        self.calls: list[list[str]] = []
        self.returncodes: list[int] = []
        self.is_interrupted = False

    def __call__(self, command: list[str], cwd: Path, **options: object) -> subprocess.CompletedProcess[str]:
        self.calls.append(command)
        (cwd / "herd.tgz").write_bytes(self.content)
        if self.is_interrupted:
            raise KeyboardInterrupt
        status = self.returncodes.pop(0) if self.returncodes else 0
        return subprocess.CompletedProcess(command, status, stdout="", stderr="E: no such version")


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> FakeClient:
    fake = FakeClient()
    monkeypatch.setattr("camelid.data.packages.subprocess.run", fake)
    monkeypatch.setattr("camelid.data.packages.shutil.which", lambda name: f"/bin/{name}")
    return fake


def test_a_package_is_fetched_once(client: FakeClient, tmp_path: Path) -> None:
    path = fetch_package(LLAMAS, tmp_path)
    assert path == tmp_path / "npm-herd-llamas-1.2.3.tgz"
    assert path.read_bytes() == CONTENT
    assert fetch_package(LLAMAS, tmp_path) == path
    assert client.calls == [["npm", "pack", "--loglevel=error", "@herd/llamas@1.2.3"]]


def test_a_damaged_file_is_fetched_again(client: FakeClient, tmp_path: Path) -> None:
    (tmp_path / LLAMAS.file_name).write_bytes(CONTENT[:4])
    assert fetch_package(LLAMAS, tmp_path).read_bytes() == CONTENT
    assert len(client.calls) == 1


def test_a_wrong_digest_is_refused_and_leaves_nothing(client: FakeClient, tmp_path: Path) -> None:
    client.content = b"another archive"
    with pytest.raises(DataError, match=LLAMAS.sha256) as refusal:
        fetch_package(LLAMAS, tmp_path)
    assert hashlib.sha256(client.content).hexdigest() in str(refusal.value)
    assert not list(tmp_path.iterdir())


def test_an_interrupted_fetch_leaves_nothing(client: FakeClient, tmp_path: Path) -> None:
    client.is_interrupted = True
    with pytest.raises(KeyboardInterrupt):
        fetch_package(LLAMAS, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_failing_client_is_quoted(client: FakeClient, tmp_path: Path) -> None:
    client.returncodes = [1]
    with pytest.raises(DataError, match="no such version"):
        fetch_package(LLAMAS, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_missing_client_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("camelid.data.packages.shutil.which", lambda name: None)
    with pytest.raises(DataError, match="'npm'"):
        fetch_package(LLAMAS, tmp_path)


def test_debian_updates_its_list_and_tries_again(client: FakeClient, tmp_path: Path) -> None:
    client.returncodes = [100, 0, 0]
    fetch_package(replace(LLAMAS, registry="debian", name="llamas", version="1:2-3"), tmp_path)
    assert [command[1] for command in client.calls] == ["download", "update", "download"]


def test_several_packages_show_their_progress(client: FakeClient, tmp_path: Path) -> None:
    shown = io.StringIO()
    paths = fetch_packages([LLAMAS], tmp_path, console=Console(file=shown, force_terminal=True, width=100))
    assert paths == {LLAMAS: tmp_path / LLAMAS.file_name}
    assert "@herd/llamas" in shown.getvalue()


def test_the_cache_moves_with_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CAMELID_CACHE", str(tmp_path))
    assert cache_dir() == tmp_path / "packages"


def _tar(*names: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name in names:
            info = tarfile.TarInfo(name)
            info.size = len(name)
            tar.addfile(info, io.BytesIO(name.encode()))
    return buffer.getvalue()


def _ar(name: str, data: bytes) -> bytes:
    header = f"{name:16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(data):<10}`\n".encode()
    return header + data + b"\n" * (len(data) % 2)


def test_members_of_a_debian_package(tmp_path: Path) -> None:
    archive = tmp_path / "llamas.deb"
    data = lzma.compress(_tar("./usr/share/llama.txt", "./usr/share/alpaca.bin"))
    archive.write_bytes(b"!<arch>\n" + _ar("debian-binary", b"2.0") + _ar("data.tar.xz", data))
    assert list(members(archive, r".*\.txt")) == [("./usr/share/llama.txt", b"./usr/share/llama.txt")]
    archive.write_bytes(b"!<arch>\n")
    with pytest.raises(DataError, match=r"data\.tar"):
        list(members(archive, ".*"))


def test_members_of_npm_and_python_packages(tmp_path: Path) -> None:
    (tmp_path / "llamas.tgz").write_bytes(_tar("package/llama.txt", "package/alpaca.bin"))
    assert [name for name, _ in members(tmp_path / "llamas.tgz", r".*\.txt")] == ["package/llama.txt"]
    with zipfile.ZipFile(tmp_path / "llamas.whl", "w") as wheel:
        wheel.writestr("llamas/llama.txt", "hum")
        wheel.writestr("llamas/alpaca.bin", "")
    assert list(members(tmp_path / "llamas.whl", r".*\.txt")) == [("llamas/llama.txt", b"hum")]
