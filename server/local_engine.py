"""The engine that the gateway starts by itself: the model prepared, vLLM supervised."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Self

import structlog

from server.chat_model import BUNDLED, ChatModelError, prepare_bundled_model
from server.engine_command import EngineCommand, EngineNotInstalledError
from server.engine_process import HOST, EngineProcess, EngineStatus, free_port
from server.settings import EngineSettings

log = structlog.get_logger(__name__)

_BUNDLED_CONTEXT = 2048


class LocalEngine:
    """Opens at once; the model is prepared and vLLM started meanwhile.

    `url` is fixed before anything listens there, and stays the same over restarts. restarted: is
    told how many there were so far.
    """

    def __init__(
        self,
        settings: EngineSettings,
        *,
        max_lora_rank: int | None = None,
        restarted: Callable[[int], None],
    ) -> None:
        self._settings = settings
        self._max_lora_rank = max_lora_rank
        self._restarted = restarted
        self._port = free_port()
        self._state: dict[str, object] = {"state": "starting", "detail": "preparing the model"}
        self.url = f"http://{HOST}:{self._port}"

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run(), name="local-engine")
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    def describe(self) -> dict[str, object]:
        """State, step and restarts, for /readyz."""
        return dict(self._state)

    async def _run(self) -> None:
        try:
            command = await self._command()
            async with EngineProcess(command, port=self._port, on_change=self._changed):
                await asyncio.Event().wait()
        except (ChatModelError, EngineNotInstalledError) as error:
            self._state = {"state": "failed", "detail": str(error)}
            log.error("engine_failed", reason=str(error))
        except Exception as error:  # nobody awaits this task: its end must be seen in the state
            self._state = {"state": "failed", "detail": f"{type(error).__name__}: {error}"}
            log.exception("engine_failed")

    async def _command(self) -> EngineCommand:
        settings = self._settings
        bundled = BUNDLED.get(settings.model)
        model, context = settings.model, settings.max_model_len
        if bundled is not None:
            model = str(await prepare_bundled_model(bundled, progress=self._progress))
            context = context or _BUNDLED_CONTEXT
        return EngineCommand(
            model=model,
            served_name=settings.served_name or (bundled.name if bundled else _name(model)),
            tensor_parallel_size=settings.tensor_parallel_size,
            max_model_len=context,
            chat_template=settings.chat_template,
            max_lora_rank=self._max_lora_rank,
            vllm_args=settings.vllm_args,
        )

    def _progress(self, step: str) -> None:
        self._state = {"state": "starting", "detail": step}
        log.info("engine", state="starting", step=step)

    def _changed(self, status: EngineStatus) -> None:
        self._state = {
            "state": status.state.value,
            "detail": status.detail,
            "restarts": status.restarts,
            "since": status.since,
        }
        self._restarted(status.restarts)
        log.info("engine", state=status.state.value, step=status.detail)


def _name(model: str) -> str:
    """A folder is served under its last name, a hub model under its full one."""
    path = Path(model)
    return path.resolve().name if path.is_dir() else model
