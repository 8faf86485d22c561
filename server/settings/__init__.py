"""All settings: one frozen tree, from a TOML file and `SAFECHAT_` environment variables.

`SAFECHAT_GUARD__TIMEOUT_S=2` sets `guard.timeout_s`; the environment wins over the file
that `SAFECHAT_CONFIG` names. An unknown name or an impossible value is refused at load.
A section stands in the file of its subject, and `load.py` puts them together.
"""

from server.settings.access import (
    LOOPBACK,
    RESERVED_IDS,
    ApiKey,
    LimitSettings,
    Scope,
    ServerSettings,
)
from server.settings.engine import EngineSettings, GhostMode, GhostSettings
from server.settings.guard import (
    BreakerSettings,
    GuardSettings,
    HarmRuleSettings,
    JudgeSettings,
    OnFailure,
    RuleSettings,
    ScorerKind,
)
from server.settings.load import Settings, load_settings
from server.settings.memory import JournalSettings, OnJournalFailure, ReviewSettings
from server.settings.tracing import TracingSettings
from server.settings.versions import PromotionSettings, RegistrySettings

__all__ = [
    "LOOPBACK",
    "RESERVED_IDS",
    "ApiKey",
    "BreakerSettings",
    "EngineSettings",
    "GhostMode",
    "GhostSettings",
    "GuardSettings",
    "HarmRuleSettings",
    "JournalSettings",
    "JudgeSettings",
    "LimitSettings",
    "OnFailure",
    "OnJournalFailure",
    "PromotionSettings",
    "RegistrySettings",
    "ReviewSettings",
    "RuleSettings",
    "Scope",
    "ScorerKind",
    "ServerSettings",
    "Settings",
    "TracingSettings",
    "load_settings",
]
