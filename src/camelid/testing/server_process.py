"""`camelid serve` as a process of its own, watched through /proc and /metrics. Linux only."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

__all__ = ["Footprint", "ServerProcess"]

COMMAND = (sys.executable, "-m", "camelid.cli.main", "serve")
START_SECONDS = 120.0


@dataclass(frozen=True)
class Footprint:
    """What the process holds."""

    rss_mb: float
    num_threads: int
    num_files: int


class ServerProcess:
    """Started by `with`, on a port that stays the same over restarts; killed at the end. The log is in `log_path`."""

    def __init__(self, log_path: Path, *flags: str, model: str | None = None) -> None:
        self.log_path, self._flags, self._model = log_path, flags, model
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """Base URL."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> float:
        """Seconds until /health answers."""
        words: Sequence[str] = [*COMMAND, *([self._model] if self._model else []), "--port", str(self.port)]
        began = time.perf_counter()
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen([*words, *self._flags], stdout=log, stderr=log)
        while time.perf_counter() - began < START_SECONDS:
            assert self._process.poll() is None, self.log_path.read_text(encoding="utf-8")
            try:
                urllib.request.urlopen(f"{self.address}/health", timeout=5).close()
                return time.perf_counter() - began
            except (urllib.error.URLError, OSError):
                time.sleep(0.05)
        raise AssertionError(f"no answer after {START_SECONDS:g} seconds")

    def send_signal(self, number: signal.Signals) -> None:
        """SIGTERM asks it to stop, SIGKILL does not ask."""
        assert self._process is not None
        self._process.send_signal(number)

    def wait(self, timeout_seconds: float) -> int:
        """Its exit status once it has ended; minus the signal that ended it."""
        assert self._process is not None
        return self._process.wait(timeout_seconds)

    def footprint(self) -> Footprint:
        """As the kernel tells it."""
        assert self._process is not None
        folder = Path(f"/proc/{self._process.pid}")
        lines = (line.partition(":") for line in (folder / "status").read_text().splitlines())
        fields = {key: value.split() for key, _, value in lines}
        # Connections that have ended, that of the last look at /metrics too, are closed a moment later.
        num_files = min(_count_after(folder / "fd", seconds) for seconds in (0, 0.05, 0.1, 0.2))
        return Footprint(int(fields["VmRSS"][0]) / 1024, int(fields["Threads"][0]), num_files)

    def metrics(self) -> dict[str, float]:
        """All numbers without labels."""
        with urllib.request.urlopen(f"{self.address}/metrics", timeout=30) as response:
            lines = response.read().decode().splitlines()
        pairs = (line.split() for line in lines if line[0] != "#" and "{" not in line)
        return {name: float(value) for name, value in pairs}

    def seconds_until_idle(self, timeout_seconds: float = 60.0) -> float | None:
        """Until no request is open, waits or runs, and no page is held; None if that does not come."""
        began = time.perf_counter()
        while time.perf_counter() - began < timeout_seconds:
            now = self.metrics()
            busy = sum(now[f"camelid_{name}"] for name in ("open_requests", "waiting", "running"))
            if not busy and now["camelid_pages_free"] == now["camelid_pages_total"]:
                return time.perf_counter() - began
            time.sleep(0.05)
        return None

    def __enter__(self) -> ServerProcess:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()


def _count_after(folder: Path, seconds: float) -> int:
    time.sleep(seconds)
    return len(os.listdir(folder))
