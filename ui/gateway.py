"""The gateway as the pages see it: models, streamed replies, verdicts, errors in plain words."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import httpx2 as httpx  # what the openai package is built on
import openai
from openai.types.chat import ChatCompletionMessageParam

READY_EVERY_S = 2.0
BROKEN_OFF = "The connection broke before the reply was complete. Please try again."


class GatewayError(Exception):
    """What went wrong, in words that a user can act on.

    code: the API's own name for it where it gave one, such as `missing_scope`.
    """

    def __init__(self, words: str, code: str = "") -> None:
        super().__init__(words)
        self.code = code


class NotReadyError(GatewayError):
    """The model is not up yet: the same request will do later."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The guard's opinion of a finished turn; scores in [0, 1], higher is better.

    blocked: the reply was stopped, or never begun; `shown` characters of it were judged
    safe and shown before. The other fields are those of the API's `guard` object.
    """

    blocked: bool
    safety: float | None
    helpfulness: float | None
    flags: frozenset[str]
    shown: int
    turn_id: str
    action: str = "none"
    hazard: str | None = None
    refusal: str | None = None
    stages: dict[str, float | None] = field(default_factory=dict)
    models: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, guard: Mapping[str, Any], finish_reason: str | None) -> "Verdict":
        return cls(
            blocked=finish_reason == "content_filter",
            safety=guard.get("safety"),
            helpfulness=guard.get("helpfulness"),
            flags=frozenset(guard.get("flags") or ()),
            shown=int(guard.get("shown_before_block") or 0),
            turn_id=str(guard.get("turn_id") or ""),
            action=str(guard.get("action") or "none"),
            hazard=guard.get("hazard"),
            refusal=guard.get("refusal"),
            stages=dict(guard.get("stages") or {}),
            models=dict(guard.get("models") or {}),
        )


class Gateway:
    """A client of one gateway, for any number of users at once; closed as a context manager.

    api_key: used for whoever brings no key; with none, whoever needs one must bring it.
    """

    def __init__(self, url: str, api_key: str | None = None) -> None:
        self.url = url.rstrip("/")
        self._http = httpx.AsyncClient(trust_env=False, timeout=httpx.Timeout(5.0, read=180.0))
        self._api_key = api_key
        self._openai = openai.AsyncOpenAI(
            base_url=f"{self.url}/v1", api_key="none", max_retries=0, http_client=self._http
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._http.aclose()

    @property
    def has_key(self) -> bool:
        return self._api_key is not None

    def _client(self, api_key: str | None) -> openai.AsyncOpenAI:
        return self._openai.with_options(api_key=api_key or self._api_key or "none")

    async def models(self, api_key: str | None = None) -> list[str]:
        """Names of the models served. Raises GatewayError."""
        try:
            return [model.id async for model in self._client(api_key).models.list()]
        except openai.APIError as error:
            raise self._explained(error) from error

    async def reply(
        self,
        messages: Sequence[ChatCompletionMessageParam],
        *,
        model: str,
        temperature: float,
        max_tokens: int,
        conversation_id: str,
        red_team: Mapping[str, str] | None = None,
        api_key: str | None = None,
    ) -> AsyncIterator[str | Verdict]:
        """Pieces of the reply as they are released, then the verdict. Raises GatewayError.

        red_team: the metadata that make the turn part of a red-team session.
        """
        try:
            stream = await self._client(api_key).chat.completions.create(
                model=model,
                messages=list(messages),
                temperature=temperature,
                max_tokens=max_tokens,
                metadata={"conversation_id": conversation_id, **(red_team or {})},
                stream=True,
            )
        except openai.APIError as error:
            raise self._explained(error) from error
        try:
            async with stream:
                async for chunk in stream:
                    for choice in chunk.choices:
                        if choice.delta.content:
                            yield choice.delta.content
                        guard = (choice.model_extra or {}).get("guard")
                        if guard is not None:
                            yield Verdict.of(guard, choice.finish_reason)
        except (openai.APIConnectionError, httpx.HTTPError) as error:
            raise GatewayError(BROKEN_OFF) from error
        except openai.APIError as error:
            raise self._explained(error) from error

    async def ask(
        self,
        method: str,
        path: str,
        *,
        api_key: str = "",
        body: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        """The JSON that any other route answers, {} where it answers nothing.

        path: with its query, for example `/v1/review/queue?task=safety`. Raises GatewayError.
        """
        key = api_key or self._api_key
        sent = {**(headers or {}), **({"authorization": f"Bearer {key}"} if key else {})}
        try:
            response = await self._http.request(
                method, f"{self.url}{path}", json=body, headers=sent
            )
        except httpx.HTTPError as error:
            raise GatewayError(f"The server at {self.url} does not answer.") from error
        if response.is_success:
            return dict(response.json()) if response.content else {}
        raise _refused(response)

    async def text(self, path: str) -> str:
        """What a route that needs no key answers, as text. Raises GatewayError."""
        return (await self._open(path)).text

    async def state(self) -> dict[str, Any]:
        """What `/readyz` says, ready or not. Raises GatewayError."""
        return dict((await self._open("/readyz")).json())

    async def _open(self, path: str) -> httpx.Response:
        try:
            return await self._http.get(f"{self.url}{path}")
        except httpx.HTTPError as error:
            raise GatewayError(f"The server at {self.url} does not answer.") from error

    async def until_ready(self) -> AsyncIterator[None]:
        """Yields before each look at a gateway that was not ready, and ends when it is."""
        ready = False
        while not ready:
            yield
            await asyncio.sleep(READY_EVERY_S)
            ready = (await self._open("/readyz")).is_success

    def _explained(self, error: openai.APIError) -> GatewayError:
        kind = error.type or ""
        if isinstance(error, openai.APITimeoutError):
            return GatewayError("The server took too long to answer. Please try again.")
        if isinstance(error, openai.APIConnectionError):
            return GatewayError(f"The server at {self.url} does not answer.")
        if isinstance(error, openai.AuthenticationError):
            return GatewayError(
                "This server asks for a valid API key: enter yours in Settings.",
                str(error.code or ""),
            )
        if isinstance(error, openai.PermissionDeniedError):
            return GatewayError("This API key does not allow chatting.")
        if isinstance(error, openai.RateLimitError):
            wait = error.response.headers.get("retry-after")
            when = f"in {wait} s" if wait else "in a moment"
            return GatewayError(f"Too many requests at the moment. Please try again {when}.")
        if kind == "engine_unavailable":
            return NotReadyError("The model is not available yet.")
        if kind == "guard_error":
            return GatewayError(
                "The guard could not judge this turn, so it was stopped. Please try again."
            )
        if kind in ("engine_error", "engine_timeout"):
            return GatewayError("The model failed to answer. Please try again.")
        if isinstance(error, openai.BadRequestError):
            return GatewayError(f"The server refused the request: {error.message}")
        return GatewayError("Something went wrong on the server. Please try again.")


def _refused(response: httpx.Response) -> GatewayError:
    """What a route other than chat says when it declines; its own words are for people."""
    try:
        said = dict(response.json()["error"])
    except (ValueError, KeyError, TypeError):
        return GatewayError(f"The server answered with status {response.status_code}.")
    code = str(said.get("code") or "")
    if response.status_code == httpx.codes.UNAUTHORIZED:
        return GatewayError("This server asks for a valid API key: enter yours.", code)
    return GatewayError(str(said.get("message") or "The server declined."), code)
