"""Who is asked: an address that speaks the OpenAI API, and a guard that scores texts.

A fault that may pass (no connection, 429, 5xx) is retried for about a minute by the client, which
heeds `Retry-After`. One that stays ends the run, which can be resumed. What is wrong with a
single request (400, 413, 422) is the answer to its item.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self

import httpx2 as httpx  # what the openai package is built on
import openai
from openai.types.chat import ChatCompletionMessageParam
from pydantic import BaseModel, ValidationError

Messages = Sequence[Mapping[str, str]]
RETRIES = 10
_TOO_MUCH = (openai.BadRequestError, openai.UnprocessableEntityError)


class EndpointFailed(ValueError):
    """An address does not answer as it should, so the run ends here for now."""


class ItemRefused(Exception):
    """The endpoint will not answer this one request, however often it is asked."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How replies are drawn. At temperature 0 the same request gets the same reply."""

    temperature: float = 0.0
    max_tokens: int = 256
    seed: int = 0

    def as_json(self) -> dict[str, float | int]:
        return {
            "temperature": self.temperature,
            "max_tokens": self.max_tokens,
            "seed": self.seed,
        }


@dataclass(frozen=True, slots=True)
class Reply:
    """What a client got. blocked: a guard put a refusal in place of the reply or its rest.

    by_model: what of it the model wrote: of a blocked reply what was shown before the block.
    turn_id: by which a gateway knows the turn; None of a bare engine.
    """

    text: str
    by_model: str
    blocked: bool = False
    turn_id: str | None = None


class Scored(BaseModel):
    """A guard's scores of one conversation, in [0, 1], higher is better for both.

    refusals: probability of each kind of answer; hazards: of each kind of harm.
    """

    safety: float
    helpfulness: float | None = None
    refusals: dict[str, float] | None = None
    hazards: dict[str, float] | None = None
    models: list[str] = []

    @property
    def refusal(self) -> str | None:
        return _likeliest(self.refusals)

    @property
    def hazard(self) -> str | None:
        return _likeliest(self.hazards)


def _likeliest(shares: Mapping[str, float] | None) -> str | None:
    return max(shares, key=lambda name: shares[name]) if shares else None


class Endpoint:
    """A client of one address, used as a context manager.

    url: with or without `/v1`. model: None takes the only one that is served.
    retries: of one request, with growing pauses of at most eight seconds; default: `RETRIES`.
    """

    def __init__(
        self,
        url: str,
        *,
        model: str | None = None,
        api_key: str | None = None,
        sampling: Sampling | None = None,
        retries: int | None = None,
        timeout_s: float = 300.0,
    ) -> None:
        if not url.startswith(("http://", "https://")):
            raise ValueError(f"an address starts with http:// or https://, and {url!r} does not")
        self.url = url.rstrip("/").removesuffix("/v1")
        self.sampling = sampling or Sampling()
        self._model = model
        self._http = httpx.AsyncClient(
            trust_env=False, timeout=httpx.Timeout(10.0, read=timeout_s), follow_redirects=True
        )
        self._openai = openai.AsyncOpenAI(
            base_url=f"{self.url}/v1",
            api_key=api_key or "none",
            max_retries=RETRIES if retries is None else retries,
            http_client=self._http,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._http.aclose()

    async def model(self) -> str:
        """The model that is asked. Raises EndpointFailed, also where there are several."""
        if self._model is None:
            with self._explained():
                served = [model.id async for model in self._openai.models.list()]
            if len(served) != 1:
                names = ", ".join(served) or "none"
                raise EndpointFailed(f"name one of the models of {self.url}: {names}")
            [self._model] = served
        return self._model

    async def chat(self, messages: Messages, *, metadata: Mapping[str, str] | None = None) -> Reply:
        """One reply. Raises EndpointFailed, ItemRefused."""
        with self._explained():
            completion = await self._openai.chat.completions.create(
                model=await self.model(),
                messages=[_param(message) for message in messages],
                temperature=self.sampling.temperature,
                max_tokens=self.sampling.max_tokens,
                # At temperature 0 nothing is drawn, and some engines fail on seeds.
                seed=self.sampling.seed if self.sampling.temperature else openai.omit,
                metadata=dict(metadata) if metadata else openai.omit,
            )
        if not completion.choices:
            raise EndpointFailed(f"{self.url} answered without a choice")
        choice = completion.choices[0]
        guard = (choice.model_extra or {}).get("guard") or {}
        text = choice.message.content or ""
        blocked = choice.finish_reason == "content_filter"
        return Reply(
            text=text,
            by_model=text[: guard.get("shown_before_block")] if blocked else text,
            blocked=blocked,
            turn_id=guard.get("turn_id"),
        )

    async def score(self, conversations: Sequence[Messages]) -> list[Scored]:
        """A guard's scores, in order: a conversation that ends with the assistant is a reply.

        Raises EndpointFailed, ItemRefused.
        """
        body = {"input": [{"messages": list(messages)} for messages in conversations]}
        answer = await self._post("/score", body)
        try:
            found = [Scored.model_validate(one) for one in answer.get("data", ())]
        except ValidationError as error:
            raise EndpointFailed(f"{self.url}/v1/score answers otherwise: {error}") from None
        if len(found) != len(conversations):
            raise EndpointFailed(f"{self.url}/v1/score gave {len(found)} scores")
        return found

    async def score_reply(self, before: Messages, reply: str) -> Scored | None:
        """The scores of one reply; None where there is nothing to judge.

        Raises EndpointFailed, ItemRefused.
        """
        if not reply.strip():
            return None
        [found] = await self.score([[*before, {"role": "assistant", "content": reply}]])
        return found

    async def report(self, turn_id: str, words: str) -> None:
        """Flag a turn for review. Raises EndpointFailed, ItemRefused."""
        await self._post("/feedback", {"turn_id": turn_id, "kind": "report", "text": words})

    async def _post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        with self._explained():
            answer: dict[str, Any] = (
                await self._openai.post(path, cast_to=httpx.Response, body=dict(body))
            ).json()
        return answer

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except _TOO_MUCH as error:
            raise ItemRefused(error.message) from error
        except openai.NotFoundError as error:
            raise EndpointFailed(f"{self.url} has no {error.request.url.path}") from error
        except (openai.AuthenticationError, openai.PermissionDeniedError) as error:
            raise EndpointFailed(f"{self.url} wants another key: {error.message}") from error
        except openai.APIStatusError as error:
            if error.status_code == httpx.codes.CONTENT_TOO_LARGE:
                raise ItemRefused(error.message) from error
            raise EndpointFailed(
                f"{self.url} still answers {error.status_code} after all retries: {error.message}"
            ) from error
        except openai.APIConnectionError as error:
            raise EndpointFailed(f"{self.url} does not answer") from error


def _param(message: Mapping[str, str]) -> ChatCompletionMessageParam:
    content = message["content"]
    if message["role"] == "system":
        return {"role": "system", "content": content}
    if message["role"] == "assistant":
        return {"role": "assistant", "content": content}
    return {"role": "user", "content": content}
