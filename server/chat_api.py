"""Any address that speaks OpenAI's chat API, as an engine: vLLM, another gateway, a service.

What vLLM has beyond that API is used where it is there: the special tokens of its tokenizer are
neutralised, and conversations are fitted into its context. All others do that by themselves.
"""

import asyncio
from typing import Any, Final

from server.engine import EngineInfo, Json, VllmEngine, VllmStream, special_tokens
from server.errors import EngineBroken, EngineFailed, EngineUnavailable, InvalidRequest
from server.settings import EngineSettings

_UNBOUNDED: Final = 1 << 30
_PAUSES_S: Final = (0.5, 1, 2, 4, *[8] * 7)
"""About a minute: rates are counted by the minute."""


class ChatApi(VllmEngine):
    """Used as `VllmEngine` is. url: with or without `/v1`.

    model: the one to ask; None takes the only one that is served, adapters aside.
    """

    def __init__(self, url: str, settings: EngineSettings, *, model: str | None = None) -> None:
        super().__init__(url.rstrip("/").removesuffix("/v1"), settings)
        self._model = model

    async def info(self) -> EngineInfo:
        """Raises ApiError; ValueError where it has to be said which model is meant."""
        served = await self._served()
        if self._model is None:
            names = [name for name, model in served.items() if not model.get("parent")]
        else:
            names = [name for name in served if name == self._model]
        if len(names) != 1:
            raise ValueError(f"{self.url} serves {', '.join(served) or 'no model'}: name one")
        version = await self._of_vllm("/version")
        context = served[names[0]].get("max_model_len") if version else None
        return EngineInfo(
            model=names[0],
            context=context or _UNBOUNDED,
            special_tokens=special_tokens(await self._of_vllm("/tokenizer_info")),
            version=str(version.get("version", "unknown")),
        )

    async def open(self, body: Json) -> VllmStream:
        plain = {**body, "stream_options": {"include_usage": True}}
        for pause_s in _PAUSES_S:
            try:
                return await super().open(plain)
            except EngineUnavailable:
                await asyncio.sleep(pause_s)
        return await super().open(plain)

    async def _served(self) -> dict[str, Any]:
        try:
            models = (await self._json("GET", "/v1/models")).get("data")
        except InvalidRequest as error:
            raise EngineBroken("it has no /v1/models; is it an OpenAI API?") from error
        try:
            return {model["id"]: model for model in models or ()}
        except (TypeError, KeyError) as error:
            raise EngineBroken("its list of models is not OpenAI's") from error

    async def _of_vllm(self, path: str) -> Json:
        """What vLLM answers, and nothing of all others."""
        try:
            return await self._json("GET", path, missing={})
        except EngineFailed:
            return {}
