"""Who judges, by what rules, and what happens when nobody can."""

from enum import StrEnum
from pathlib import Path

from pydantic import Field, SecretStr

from guard.hazards import Hazard, Risk
from guard.policy import Action, Policy, Rule
from server.settings.section import Section, Url

# At its end, a stream asks for several verdicts at once.
_WAITING_PER_STREAM = 8


class OnFailure(StrEnum):
    CLOSED = "closed"
    OPEN = "open"


class ScorerKind(StrEnum):
    """`constant` judges nothing: it exists to measure the gateway without its models."""

    EMBEDDED = "embedded"
    CONSTANT = "constant"


class HarmRuleSettings(Section):
    """What to do about one kind of harm; what is left out is as for the stage."""

    action: Action | None = None
    threshold: float | None = Field(None, ge=0, le=1)
    refusal: str | None = Field(None, min_length=1)


class RuleSettings(Section):
    """What to do about an unsafe text of one stage: `guard.prompt.harms.malware.action`."""

    action: Action = Action.BLOCK
    threshold: float = Field(0.5, ge=0, le=1)
    refusal: str | None = Field(None, min_length=1)
    harms: dict[Hazard | Risk, HarmRuleSettings] = Field({}, description="other rules, by harm")

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


class JudgeSettings(Section):
    """A reward model on vLLM's pooling server, in place of the embedded one.

    spec: the file that says what its logit means; a shipped one by its name.
    """

    url: Url
    spec: str = Field(min_length=1)
    model: str | None = None
    api_key: SecretStr | None = None


class BreakerSettings(Section):
    failures: int = Field(5, ge=1, description="failures of a judge in a row")
    open_s: float = Field(10.0, gt=0, description="how long it is left alone then")


class GuardSettings(Section):
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
