"""Servers as child processes: started on chosen cores, waited for, and their CPU time read."""

import asyncio
import os
import shlex
import socket
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from tempfile import TemporaryFile

import aiohttp
import psutil
from rich.console import Console

READY_WITHIN_S = 60.0
progress = Console(stderr=True)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def started(
    command: str, environment: Mapping[str, str], cores: Iterable[int]
) -> Iterator[psutil.Process]:
    """Run a server pinned to some cores; terminate it and its children afterwards.

    What it prints is kept from the terminal, and shown if the block fails.
    """
    own = os.sched_getaffinity(0)
    with TemporaryFile("w+") as log:
        os.sched_setaffinity(0, cores)  # inherited, so that no thread starts elsewhere
        child = subprocess.Popen(
            shlex.split(command), env={**os.environ, **environment}, stdout=log, stderr=log
        )
        os.sched_setaffinity(0, own)
        process = psutil.Process(child.pid)
        try:
            yield process
        except BaseException:
            log.seek(0)
            progress.print(log.read()[-2000:], markup=False)
            raise
        finally:
            family = [*process.children(recursive=True), process] if child.poll() is None else []
            for member in family:
                member.terminate()
            for member in psutil.wait_procs(family, timeout=10)[1]:
                member.kill()
            child.wait()


async def ready(
    session: aiohttp.ClientSession,
    url: str,
    process: psutil.Process,
    within_s: float = READY_WITHIN_S,
) -> None:
    """Wait for a 200. Raises RuntimeError when the server ends or takes too long."""
    give_up = time.monotonic() + within_s
    while time.monotonic() < give_up:
        if not process.is_running() or process.status() == psutil.STATUS_ZOMBIE:
            raise RuntimeError(f"the server for {url} ended while starting")
        try:
            async with session.get(url) as response:
                if response.status == 200:
                    return
        except aiohttp.ClientConnectionError:
            pass
        await asyncio.sleep(0.1)
    raise RuntimeError(f"{url} did not answer 200 within {within_s:.0f} s")


def cpu_seconds(process: psutil.Process, *, children: bool = True) -> float:
    """User and system time of the process so far, and of the children that it has now."""
    family = [process, *(process.children(recursive=True) if children else ())]
    times = [member.cpu_times() for member in family]
    return float(sum(t.user + t.system for t in times))
