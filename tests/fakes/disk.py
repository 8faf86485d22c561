"""Disks in trouble: full for a while, small, read-only."""

import resource
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def full_disk(spare_bytes: int = 0) -> Iterator[None]:
    """No file of this process may grow beyond a size, as if the disk had no more room."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (spare_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


class Disk:
    """A file system of its own at `folder`. Skips the test where none may be mounted."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder = folder

    def __enter__(self) -> "Disk":
        mounted = _mount("-t", "tmpfs", "-o", "size=2m", "tmpfs", str(self.folder))
        if not mounted:
            pytest.skip("a disk can be mounted by root alone")
        return self

    def __exit__(self, *exc: object) -> None:
        subprocess.run(["umount", "--lazy", str(self.folder)], check=True)

    @contextmanager
    def full(self) -> Iterator[None]:
        """There is no room for one more byte."""
        filler = self.folder / "filler"
        with filler.open("wb", buffering=0) as file:
            for size in (65536, 1):
                try:
                    while file.write(b"0" * size):
                        pass
                except OSError:
                    continue
        try:
            yield
        finally:
            filler.unlink()

    @contextmanager
    def read_only(self) -> Iterator[None]:
        """Nothing can be written; only while no file is open for writing."""
        assert _mount("-o", "remount,ro", str(self.folder))
        try:
            yield
        finally:
            assert _mount("-o", "remount,rw", str(self.folder))


def _mount(*words: str) -> bool:
    return subprocess.run(["mount", *words], capture_output=True, check=False).returncode == 0
