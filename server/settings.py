"""All settings: one frozen tree, from a TOML file and `SAFECHAT_` environment variables.

`SAFECHAT_GUARD__TIMEOUT_S=2` sets `guard.timeout_s`; the environment wins over the file
that `SAFECHAT_CONFIG` names. An unknown name or an impossible value is refused at load.
"""

import os
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from flywheel.journal import DAY_S, JournalOptions, Keep, first_come
from flywheel.records import TurnRecord
from flywheel.redaction import Redactor
from flywheel.registry.gate import Margins
from flywheel.registry.promotion import Rules
from guard.hazards import Hazard, Risk
from guard.policy import Action, Policy, Rule

_PREFIX = "SAFECHAT_"
_FILE_VARIABLE = f"{_PREFIX}CONFIG"
_TEST_PREFIX = f"{_PREFIX}TEST_"
RESERVED_IDS = frozenset({"local", "unknown"})
"""Key ids that stand for everybody on the loopback address, and for callers without a key."""
# At its end, a stream asks for several verdicts at once.
_WAITING_PER_STREAM = 8
LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Scope(StrEnum):
    """What a key may do."""

    CHAT = "chat"
    REVIEW = "review"
    ADMIN = "admin"


class ApiKey(_Section):
    """One API key, by its hash. `safechat keys new` prints a key and this entry for it."""

    id: str = Field(min_length=1, max_length=64)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$", repr=False)
    scopes: frozenset[Scope] = frozenset({Scope.CHAT})
    requests_per_minute: int | None = Field(None, ge=1)
    tokens_per_minute: int | None = Field(None, ge=1)


class ServerSettings(_Section):
    host: str = "127.0.0.1"
    port: int = Field(8000, ge=0, le=65535)
    drain_s: float = Field(60.0, ge=0, description="how long streams may go on at shutdown")
    log_json: bool = False


def _without_slash(url: str) -> str:
    if not url.startswith(("http://", "https://")):
        raise ValueError("must start with http:// or https://")
    return url.rstrip("/")


Url = Annotated[str, AfterValidator(_without_slash)]


def _redis(url: SecretStr) -> SecretStr:
    if not url.get_secret_value().startswith(("redis://", "rediss://", "unix://")):
        raise ValueError("must start with redis://, rediss:// or unix://")
    return url


class EngineSettings(_Section):
    """An engine that runs elsewhere (`url`), or one that we start as a child process.

    model: for a child, a folder or a hub name; `bundled` is the small model of the package.
    """

    url: Url | None = None
    api_key: SecretStr | None = None
    model: str = "bundled"
    served_name: str | None = None
    tensor_parallel_size: int = Field(1, ge=1)
    max_model_len: int | None = Field(None, ge=64)
    chat_template: Path | None = None
    vllm_args: tuple[str, ...] = ()
    health_path: str = Field(
        "/health", pattern="^/", description="`/readiness` where the engine is vllm-router"
    )
    connect_timeout_s: float = Field(2.0, gt=0)
    first_chunk_timeout_s: float = Field(120.0, gt=0)
    chunk_timeout_s: float = Field(30.0, gt=0)


class OnFailure(StrEnum):
    CLOSED = "closed"
    OPEN = "open"


class ScorerKind(StrEnum):
    """`constant` judges nothing: it exists to measure the gateway without its models."""

    EMBEDDED = "embedded"
    CONSTANT = "constant"


class HarmRuleSettings(_Section):
    """What to do about one kind of harm; what is left out is as for the stage."""

    action: Action | None = None
    threshold: float | None = Field(None, ge=0, le=1)
    refusal: str | None = Field(None, min_length=1)


class RuleSettings(_Section):
    """What to do about an unsafe text of one stage: `guard.prompt.harms.malware.action`."""

    action: Action = Action.BLOCK
    threshold: float = Field(0.5, ge=0, le=1)
    refusal: str | None = Field(None, min_length=1)
    harms: dict[Hazard | Risk, HarmRuleSettings] = {}

    def rule(self) -> Rule:
        harms = {
            harm: Rule(
                own.action or self.action,
                self.threshold if own.threshold is None else own.threshold,
                refusal=own.refusal,
            )
            for harm, own in self.harms.items()
        }
        return Rule(self.action, self.threshold, harms, self.refusal)


class JudgeSettings(_Section):
    """A reward model on vLLM's pooling server, in place of the embedded one.

    spec: the file that says what its logit means; a shipped one by its name.
    """

    url: Url
    spec: str = Field(min_length=1)
    model: str | None = None
    api_key: SecretStr | None = None


class BreakerSettings(_Section):
    failures: int = Field(5, ge=1, description="failures of a judge in a row")
    open_s: float = Field(10.0, gt=0, description="how long it is left alone then")


class GuardSettings(_Section):
    scorer: ScorerKind = ScorerKind.EMBEDDED
    models: Path = Path(".cache/guard")
    threads: int = Field(1, ge=1, description="threads of the embedded reward models")
    timeout_s: float = Field(5.0, gt=0)
    max_waiting: int | None = Field(None, ge=1, description="unset: as many as streams need")
    on_failure: OnFailure = OnFailure.CLOSED
    safety: JudgeSettings | None = None
    helpfulness: JudgeSettings | None = None
    breaker: BreakerSettings = BreakerSettings()
    prompt: RuleSettings = RuleSettings()
    response: RuleSettings = RuleSettings()
    recover: bool = Field(False, description="a second attempt where a harmless prompt is refused")
    best_of: int = Field(1, ge=1, le=16, description="samples a turn; the best is served")
    unhelpful_below: float = Field(0.2, ge=0, le=1)
    doubt_margin: float = Field(
        0.1, ge=0, le=1, description="a block so near its threshold may be a false refusal"
    )

    def policy(self) -> Policy:
        return Policy(
            prompt=self.prompt.rule(),
            response=self.response.rule(),
            recover=self.recover,
            best_of=self.best_of,
            unhelpful_below=self.unhelpful_below,
            doubt_margin=self.doubt_margin,
        )

    def waiting(self, streams: int) -> int:
        """Samples that may wait at a time, where so many streams may be open."""
        return self.max_waiting or _WAITING_PER_STREAM * streams


class GhostMode(StrEnum):
    """How an instruction stays in force over many turns (Llama 2, §3.3).

    once: rendered once, with the first turn that is kept.
    concatenate: for models not trained so, repeated in every user message.
    """

    ONCE = "once"
    CONCATENATE = "concatenate"


class GhostSettings(_Section):
    mode: GhostMode = GhostMode.ONCE
    system_prompt: str | None = None
    reply_reserve: int = Field(512, ge=1, description="tokens kept free for the reply")


class OnJournalFailure(StrEnum):
    """`refuse`: a turn that cannot be recorded fails; `serve`: it is counted and served."""

    SERVE = "serve"
    REFUSE = "refuse"


class JournalSettings(_Section):
    """What is remembered of turns, where, and for how long."""

    enabled: bool = True
    folder: Path = Path(".var/journal")
    keep: Keep = Keep.FLAGGED
    sample: float = Field(0.0, ge=0, le=1, description="share of unflagged turns to keep")
    grace_hours: float = Field(24.0, ge=0)
    max_age_days: float | None = Field(None, gt=0)
    max_bytes: int | None = Field(None, ge=1_000_000)
    redact: bool = False
    redact_regions: tuple[str, ...] = ()
    on_failure: OnJournalFailure = OnJournalFailure.SERVE

    def options(self, priority: Callable[[TurnRecord], float] = first_come) -> JournalOptions:
        """priority: of a flagged turn in the review queue, in [0, 1]."""
        return JournalOptions(
            priority=priority,
            keep=self.keep,
            sample=self.sample,
            grace_s=self.grace_hours * 3600,
            max_age_s=None if self.max_age_days is None else self.max_age_days * DAY_S,
            max_bytes=self.max_bytes,
            redact=self.redactor,
        )

    @property
    def redactor(self) -> Redactor | None:
        return Redactor(self.redact_regions) if self.redact else None


class ReviewSettings(_Section):
    """How people review flagged turns."""

    raters: int = Field(3, ge=1, le=9, description="raters a round; two of three that agree do")
    all_raters: bool = Field(False, description="ask all of them, even once two agree")
    lease_s: float = Field(600.0, gt=0, description="how long a claim holds an item")
    figures_s: float = Field(
        300.0, gt=0, description="from one look at all flagged turns to the next"
    )
    sample: float = Field(
        0.05, ge=0, le=1, description="share of blocks that is reviewed whatever else is known"
    )


class RegistrySettings(_Section):
    """Versions of models that the flywheel made. Without a folder, none are served."""

    folder: Path | None = None
    poll_s: float = Field(2.0, gt=0, description="how soon a switch is noticed")
    max_lora_rank: int = Field(16, ge=1, description="of adapters, for an engine that we start")
    shadow_share: float = Field(
        0.1, ge=0, le=1, description="share of the turns that the version in shadow answers too"
    )


class PromotionSettings(_Section):
    """By how much a new version may be worse, at the unfavourable end of a 95 % interval."""

    violation: float = Field(0.01, ge=0, le=1)
    false_refusal: float = Field(0.02, ge=0, le=1)
    helpfulness: float = Field(0.02, ge=0, le=1)
    benchmark: float = Field(0.05, ge=0, le=1, description="of each benchmark of a chat version")
    items: int = Field(100, ge=1, description="fewest items that both versions were measured on")
    shadow_turns: int = Field(200, ge=0, description="mirrored turns before it goes live; 0: none")

    def rules(self) -> Rules:
        margins = Margins(
            violation=self.violation,
            false_refusal=self.false_refusal,
            helpfulness=self.helpfulness,
            benchmark=self.benchmark,
            items=self.items,
        )
        return Rules(margins, self.shadow_turns)


class LimitSettings(_Section):
    streams: int = Field(256, ge=1, description="turns in flight; more are refused with 429")
    streams_per_key: int | None = Field(None, ge=1)
    requests_per_minute: int | None = Field(None, ge=1, description="for keys without their own")
    tokens_per_minute: int | None = Field(None, ge=1, description="for keys without their own")
    body_bytes: int = Field(1_000_000, ge=1024)
    messages: int = Field(2_000, ge=1)
    choices: int = Field(8, ge=1)
    batch: int = Field(64, ge=1, description="texts judged in one request")


class TracingSettings(_Section):
    """Where traces go, if anywhere. endpoint: a collector's base URL for OTLP over HTTP."""

    endpoint: Url | None = None
    headers: dict[str, SecretStr] = {}
    service: str = Field("safechat", min_length=1)
    sample: float = Field(1.0, ge=0, le=1, description="share of the requests that are traced")


class Settings(BaseSettings):
    model_config = SettingsConfigDict(
        env_prefix=_PREFIX,
        env_nested_delimiter="__",
        frozen=True,
        extra="forbid",
        hide_input_in_errors=True,  # it may be a secret
    )

    server: ServerSettings = ServerSettings()
    engine: EngineSettings = EngineSettings()
    guard: GuardSettings = GuardSettings()
    ghost: GhostSettings = GhostSettings()
    limits: LimitSettings = LimitSettings()
    journal: JournalSettings = JournalSettings()
    review: ReviewSettings = ReviewSettings()
    tracing: TracingSettings = TracingSettings()
    registry: RegistrySettings = RegistrySettings()
    promotion: PromotionSettings = PromotionSettings()
    keys: tuple[ApiKey, ...] = ()
    redis_url: Annotated[SecretStr, AfterValidator(_redis)] | None = None
    redis_timeout_s: float = Field(0.05, gt=0, description="a request's wait for Redis")

    @model_validator(mode="after")
    def _closed_to_strangers(self) -> Self:
        if not self.keys and self.server.host not in LOOPBACK:
            raise ValueError(
                f"server.host {self.server.host!r} is open to others, so keys are needed: "
                "make one with `safechat keys new`, or listen on 127.0.0.1"
            )
        if reserved := {key.id for key in self.keys} & RESERVED_IDS:
            raise ValueError(f"keys: the id {min(reserved)!r} is reserved")
        if len({key.id for key in self.keys}) < len(self.keys):
            raise ValueError("keys: two keys have the same id")
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        path = os.environ.get(_FILE_VARIABLE)
        if path is None:
            return init_settings, env_settings
        if not Path(path).is_file():
            raise FileNotFoundError(f"SAFECHAT_CONFIG names {path}, which is no file")
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, Path(path))


def load_settings(**overrides: Any) -> Settings:
    """Read file and environment; `overrides` win. Raises ValidationError or ValueError."""
    known = {f"{_PREFIX}{name.upper()}" for name in Settings.model_fields}
    for variable in os.environ:
        section = variable.upper().split("__")[0]
        if section.startswith(_TEST_PREFIX) or section == _FILE_VARIABLE:
            continue
        if section.startswith(_PREFIX) and section not in known:
            raise ValueError(f"{variable} is no setting: known are {', '.join(sorted(known))}")
    return Settings(**overrides)
