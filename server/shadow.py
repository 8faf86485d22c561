"""A recorded turn once more, in shadow: nobody is answered, and nothing is written down.

What a turn would come to under another guard is found out by the code that serves turns. Its
reply is the recorded one, or one that another engine makes.
"""

from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass
from typing import Any, Final

from pydantic import ValidationError

from flywheel.records import AttemptKind, TurnRecord
from guard.guard import Guard
from server.engine import Engine, EngineInfo, EngineStream, Json
from server.engine_request import EngineRequest
from server.errors import ApiError, EngineUnavailable, InvalidRequest
from server.ledger import Entry
from server.observer import Observer
from server.recorder import record_of
from server.schema import ChatRequest
from server.settings import GhostSettings
from server.turn import Turn

NOT_RECORDED = "not_recorded"
"""The error of a turn whose prompt is let through now, and whose reply nobody has made yet."""

_RECORDED: Final = EngineInfo("recorded", context=1 << 30)


@dataclass(frozen=True, slots=True)
class Sampling:
    """How an engine is asked for another reply: records do not say how the first one was."""

    temperature: float = 0.0
    max_tokens: int = 512


class Shadow:
    """Runs recorded turns again. engine: makes new replies; None: the recorded ones are judged.

    A recorded reply is judged by itself: for the further attempts that a policy may ask for
    there is nobody to make them, so what would be steered is blocked.
    """

    def __init__(
        self,
        guard: Guard,
        ghost: GhostSettings,
        observer: Observer,
        *,
        engine: Engine | None = None,
        info: EngineInfo | None = None,
        sampling: Sampling | None = None,
    ) -> None:
        self._guard = guard
        self._ghost = ghost
        self._observer = observer
        self._engine = engine
        self._info = info or _RECORDED
        self._sampling = sampling or Sampling()

    @property
    def about(self) -> dict[str, Any]:
        """What is replayed here, for telling one replay from another."""
        return {
            "engine": self._info.model,
            "sampling": asdict(self._sampling) if self._engine else None,
            "guard": sorted(self._guard.models.values()),
            "policy": repr(self._guard.policy),
        }

    async def again(self, record: TurnRecord) -> TurnRecord:
        """The turn as it would be recorded now; `error` says what kept it from its end.

        Raises ValueError for a conversation that cannot be asked again.
        """
        entry = Entry(turn_id=record.turn_id)
        recording = _Recording(record)
        engine = self._engine or recording
        try:
            asked = EngineRequest(self._request(record), engine, self._info, self._ghost_of(record))
            entry.asked = asked
            again = self._engine is not None
            turn = entry.turn = Turn(
                record.turn_id,
                asked.judged,
                await asked.body() if again else {"n": recording.choices},
                engine=engine,
                guard=self._guard,
                observer=self._observer,
                rewrite=asked.body if again else None,
            )
        except InvalidRequest as error:
            raise ValueError(error.message) from error
        try:
            await turn.open()
            while await turn.next() is not None:
                pass
            entry.outcome = turn.outcome
        except ApiError as error:
            entry.outcome, entry.error = error.outcome, error.code or error.type
        finally:
            turn.close()
        return record_of(entry, self._info, tuple(self._guard.models.values()))

    def _request(self, record: TurnRecord) -> ChatRequest:
        said = [{"role": m.role, "content": m.text} for m in record.messages or ()]
        if system := _callers(record, self._ghost):
            said.insert(0, {"role": "system", "content": system})
        try:
            return ChatRequest.model_validate(
                {
                    "model": self._info.model,
                    "messages": said,
                    "temperature": self._sampling.temperature,
                    "max_tokens": self._sampling.max_tokens,
                }
            )
        except ValidationError:  # answers of tools, whose calls are not recorded
            raise ValueError("the conversation cannot be asked again") from None

    def _ghost_of(self, record: TurnRecord) -> GhostSettings:
        """The deployment's prompt is part of what was recorded, unless it has another one now."""
        if _callers(record, self._ghost) == record.system:
            return self._ghost.model_copy(update={"system_prompt": None})
        return self._ghost


def _callers(record: TurnRecord, ghost: GhostSettings) -> str | None:
    """The recorded instruction without the deployment's, which the guard does not judge."""
    deployments = (ghost.system_prompt or "").strip()
    if not deployments or record.system is None or not record.system.startswith(deployments):
        return record.system
    return record.system[len(deployments) :].strip() or None


class _Recording:
    """An `Engine` that says what was recorded, as it was first said."""

    def __init__(self, record: TurnRecord) -> None:
        originals = [a for a in record.attempts if a.kind is AttemptKind.ORIGINAL]
        self._replies = [said.reply for said in originals or record.choices]
        self.choices = max(1, len(self._replies))

    async def info(self) -> EngineInfo:
        return _RECORDED

    async def healthy(self) -> bool:
        return True

    async def count_tokens(self, body: Json) -> int:
        return 0

    async def open(self, body: Json) -> EngineStream:
        if not any(self._replies):
            raise EngineUnavailable("no reply was recorded", code=NOT_RECORDED)
        return _Said([reply or "" for reply in self._replies])


class _Said:
    def __init__(self, replies: list[str]) -> None:
        self._replies = replies

    async def __aiter__(self) -> AsyncIterator[Json]:
        for index, reply in enumerate(self._replies):
            choice = {"index": index, "delta": {"content": reply}, "finish_reason": "stop"}
            yield {"choices": [choice]}

    def close(self) -> None: ...
