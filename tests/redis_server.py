"""A real Redis for tests, on a port and in a folder of its own."""

import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Self

import pytest

_START_S: Final = 10.0


class RedisServer:
    """Starts, kills and restarts one redis-server with an append-only file.

    fsync: `always` for tests that kill it: what it acknowledged is on the disk.
    """

    def __init__(self, folder: Path, *, fsync: str = "everysec") -> None:
        if shutil.which("redis-server") is None:
            pytest.skip("redis-server is not installed")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        self._folder = folder
        self._fsync = fsync
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.kill()

    def start(self, **more: object) -> None:
        """more: options of redis-server, for this once."""
        self._folder.mkdir(parents=True, exist_ok=True)
        options = {
            "port": self.port,
            "bind": "127.0.0.1",
            "dir": self._folder,
            "appendonly": "yes",
            "appendfsync": self._fsync,
            "save": "",
            **more,
        }
        words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        self._process = subprocess.Popen(["redis-server", *words], stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + _START_S
        while not self._answers():
            if time.monotonic() > deadline:
                raise TimeoutError("redis-server does not start")
            time.sleep(0.02)

    def kill(self) -> None:
        """As a power cut would: no time for last words."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def send(self, signal: int) -> None:
        if self._process is not None:
            self._process.send_signal(signal)

    @contextmanager
    def silent(self) -> Iterator[None]:
        """Connections stay, and nothing is answered."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(64).startswith(b"+PONG")
        except OSError:
            return False
