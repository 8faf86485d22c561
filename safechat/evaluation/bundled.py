"""The bundled model and a gateway before it, up for as long as an evaluation takes.

Both listen where they did when the same folder was evaluated before, so that runs in it go on.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from time import monotonic
from typing import Final

import httpx

from safechat.evaluation.children import child
from safechat.evaluation.outcome import note
from server.chat_model import TUNED, ChatModelError, prepare_bundled_model
from server.engine_command import EngineCommand, EngineNotInstalledError
from server.engine_process import HOST, EngineFailedError, EngineProcess, free_port

_CONTEXT: Final = 2048
_READY_WITHIN_S: Final = 300.0


@dataclass(frozen=True, slots=True)
class Ports:
    """Where a folder's engine and gateway listen."""

    engine: int
    gateway: int

    @classmethod
    def of(cls, folder: Path) -> "Ports":
        """Those of the folder, chosen now if it has none yet. Raises OSError."""
        file = folder / "ports.json"
        if file.is_file():
            return cls(**json.loads(file.read_bytes()))
        found = cls(free_port(), free_port())
        file.write_text(json.dumps(asdict(found)) + "\n", encoding="utf-8")
        return found


@asynccontextmanager
async def bundled_system(folder: Path) -> AsyncIterator[tuple[str, str]]:
    """The addresses of a gateway and of its engine. Logs and journal lie in the folder.

    Raises ValueError where one of them does not come up, OSError.
    """
    ports = Ports.of(folder)
    try:
        model = await prepare_bundled_model(TUNED, progress=note)
        command = EngineCommand(str(model), TUNED.name, max_model_len=_CONTEXT)
        note(f"starting {TUNED.name} on vLLM, which takes a minute or two …")
        async with EngineProcess(command, folder / "engine.log", port=ports.engine) as engine:
            await engine.ready()
            async with _gateway(engine.url, ports.gateway, folder) as url:
                yield url, engine.url
    except (ChatModelError, EngineNotInstalledError, EngineFailedError) as error:
        raise ValueError(str(error)) from error


@asynccontextmanager
async def _gateway(engine_url: str, port: int, folder: Path) -> AsyncIterator[str]:
    url, log = f"http://{HOST}:{port}", folder / "gateway.log"
    served = ["serve", "--engine-url", engine_url, "--host", HOST, "--port", str(port)]
    where = {"SAFECHAT_JOURNAL__FOLDER": str(folder / "journal")}
    with log.open("ab") as output:
        async with child(served, environment=where, output=output) as process:
            give_up = monotonic() + _READY_WITHIN_S
            async with httpx.AsyncClient(trust_env=False) as client:
                while not await _ready(client, url):
                    if process.returncode is not None or monotonic() > give_up:
                        raise ValueError(f"the gateway does not start: see {log}")
                    await asyncio.sleep(0.2)
            yield url


async def _ready(client: httpx.AsyncClient, url: str) -> bool:
    try:
        return (await client.get(f"{url}/readyz")).is_success
    except httpx.TransportError:
        return False
