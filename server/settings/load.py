"""The tree of all sections, from a TOML file and `SAFECHAT_` environment variables."""

import os
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import AfterValidator, Field, SecretStr, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from server.settings.access import (
    LOOPBACK,
    RESERVED_IDS,
    ApiKey,
    LimitSettings,
    ServerSettings,
)
from server.settings.engine import EngineSettings, GhostSettings
from server.settings.guard import GuardSettings
from server.settings.memory import JournalSettings, ReviewSettings
from server.settings.tracing import TracingSettings
from server.settings.versions import PromotionSettings, RegistrySettings

_PREFIX = "SAFECHAT_"
_FILE_VARIABLE = f"{_PREFIX}CONFIG"
_TEST_PREFIX = f"{_PREFIX}TEST_"


def _redis(url: SecretStr) -> SecretStr:
    if not url.get_secret_value().startswith(("redis://", "rediss://", "unix://")):
        raise ValueError("must start with redis://, rediss:// or unix://")
    return url


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
