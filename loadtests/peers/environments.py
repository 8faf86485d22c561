"""A virtual environment for each peer and outside tool, with exactly what its list pins.

    python -m loadtests.peers.environments [litellm nemo vllm-router locust aiperf]

They clash with this project and with each other, so each has its own under .cache/peers. A
peer that cannot be installed is reported and left out of the comparison.
"""

import argparse
import hashlib
import subprocess
import sys
from pathlib import Path

from loadtests.servers import progress

LISTS = Path(__file__).parent
HOME = Path(".cache/peers")
NAMES = tuple(sorted(path.stem for path in LISTS.glob("*.txt")))


def installed(name: str) -> Path | None:
    """The folder of a peer's programs; None when it is not installed as pinned."""
    folder = HOME / name
    mark = folder / ".installed"
    same = mark.is_file() and mark.read_text() == _digest(name)
    return (folder / "bin").absolute() if same else None


def install(name: str) -> None:
    """Make the environment unless it is there. Raises CalledProcessError."""
    if installed(name) is not None:
        return
    folder = HOME / name
    progress.log(f"installing {name} into {folder}")
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
    pins = ["--no-deps", "-r", str(LISTS / f"{name}.txt")]
    subprocess.run([str(folder / "bin" / "pip"), "install", "--quiet", *pins], check=True)
    (folder / ".installed").write_text(_digest(name))


def _digest(name: str) -> str:
    return hashlib.sha256((LISTS / f"{name}.txt").read_bytes()).hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}; all")
    names = parser.parse_args().names or NAMES
    if unknown := set(names) - set(NAMES):
        parser.error(f"no list for {', '.join(sorted(unknown))}: there are {', '.join(NAMES)}")
    failed = list[str]()
    for name in names:
        try:
            install(name)
        except subprocess.CalledProcessError as error:
            failed.append(f"{name} could not be installed: {error}")
    if failed:
        sys.exit("\n".join(failed))


if __name__ == "__main__":
    main()
