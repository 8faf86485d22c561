"""Where traces go."""

from pydantic import Field, SecretStr

from server.settings.section import Section, Url


class TracingSettings(Section):
    """Where traces go, if anywhere. endpoint: a collector's base URL for OTLP over HTTP."""

    endpoint: Url | None = None
    headers: dict[str, SecretStr] = Field({}, description="sent with every trace")
    service: str = Field("safechat", min_length=1)
    sample: float = Field(1.0, ge=0, le=1, description="share of the requests that are traced")
