"""Who may ask, where, and how much: the listener, API keys and limits."""

from enum import StrEnum

from pydantic import Field

from server.settings.section import Section

RESERVED_IDS = frozenset({"local", "unknown"})
"""Key ids that stand for everybody on the loopback address, and for callers without a key."""
LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


class ServerSettings(Section):
    host: str = "127.0.0.1"
    port: int = Field(8000, ge=0, le=65535)
    drain_s: float = Field(60.0, ge=0, description="how long streams may go on at shutdown")
    keep_alive_s: int = Field(
        75, ge=1, description="how long an idle connection stays open, past any load balancer's"
    )
    log_json: bool = False


class Scope(StrEnum):
    """What a key may do."""

    CHAT = "chat"
    REVIEW = "review"
    ADMIN = "admin"


class ApiKey(Section):
    """One API key, by its hash. `safechat keys new` prints a key and this entry for it."""

    id: str = Field(min_length=1, max_length=64)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$", repr=False)
    scopes: frozenset[Scope] = frozenset({Scope.CHAT})
    requests_per_minute: int | None = Field(None, ge=1)
    tokens_per_minute: int | None = Field(None, ge=1)


class LimitSettings(Section):
    streams: int = Field(256, ge=1, description="turns in flight; more are refused with 429")
    streams_per_key: int | None = Field(None, ge=1)
    requests_per_minute: int | None = Field(None, ge=1, description="for keys without their own")
    tokens_per_minute: int | None = Field(None, ge=1, description="for keys without their own")
    body_bytes: int = Field(1_000_000, ge=1024)
    messages: int = Field(2_000, ge=1)
    choices: int = Field(8, ge=1)
    batch: int = Field(64, ge=1, description="texts judged in one request")
