"""The load tests' free engine as a process, to be killed and frozen."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from types import TracebackType
from typing import Final, Self
from urllib.error import URLError

MODEL: Final = "free"
_START_S: Final = 20.0


class EngineProcess:
    """Streams 60 words a reply, a word every 20 ms."""

    def __init__(self) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port: int = free.getsockname()[1]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill()

    def start(self) -> None:
        """Start, or start again on the same port. Raises TimeoutError."""
        options = ["--port", str(self._port), "--chunks", "60", "--delay-ms", "20"]
        self._process = subprocess.Popen([sys.executable, "-m", "loadtests.free_engine", *options])
        give_up = time.monotonic() + _START_S
        while not self._answers():
            if time.monotonic() > give_up:
                raise TimeoutError(f"the free engine did not start within {_START_S:g} s")
            time.sleep(0.02)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def freeze(self) -> None:
        os.kill(self._process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self._process.pid, signal.SIGCONT)

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/health", timeout=1):
                return True
        except URLError:
            return False
