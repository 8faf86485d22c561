"""Settings: frozen, validated at load, unknown names refused, secrets never shown."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from guard.policy import Action
from server.auth import hash_key, new_key
from server.settings import ApiKey, Settings, load_settings


def test_the_environment_wins_over_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "safechat.toml"
    file.write_text(
        '[guard]\ntimeout_s = 3\n[guard.prompt]\naction = "monitor"\n'
        f'[[keys]]\nid = "a"\nsha256 = "{hash_key("x")}"\nscopes = ["chat", "review"]\n'
    )
    monkeypatch.setenv("SAFECHAT_CONFIG", str(file))
    monkeypatch.setenv("SAFECHAT_GUARD__TIMEOUT_S", "4")
    settings = load_settings()
    assert settings.guard.timeout_s == 4
    assert settings.guard.policy().prompt.action is Action.MONITOR
    assert settings.keys[0].id == "a"


@pytest.mark.parametrize(
    ("variable", "value", "field"),
    [
        ("SAFECHAT_GUARD__TIMEOUT_S", "-1", "timeout_s"),
        ("SAFECHAT_GUARD__TIMEOUT", "1", "timeout"),
        ("SAFECHAT_SERVER__PORT", "99999", "port"),
        ("SAFECHAT_ENGINE__URL", "engine:8000", "http"),
        ("SAFECHAT_GHOST__MODE", "loud", "mode"),
    ],
)
def test_a_wrong_setting_is_named(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, field: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(ValidationError, match=field):
        load_settings()


def test_a_misspelt_section_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAFECHAT_GAURD__TIMEOUT_S", "1")
    with pytest.raises(ValueError, match="SAFECHAT_GAURD__TIMEOUT_S is no setting"):
        load_settings()


def test_a_missing_file_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAFECHAT_CONFIG", "/no/such/file.toml")
    with pytest.raises(FileNotFoundError, match="no/such"):
        load_settings()


def test_listening_beyond_loopback_needs_keys() -> None:
    with pytest.raises(ValidationError, match="safechat keys new"):
        Settings(server={"host": "0.0.0.0"})
    key = ApiKey(id="a", sha256=hash_key(new_key()))
    Settings(server={"host": "0.0.0.0"}, keys=(key,))


def test_secrets_are_in_no_repr() -> None:
    key = ApiKey(id="a", sha256=hash_key("x"))
    settings = Settings(keys=(key,), engine={"api_key": "hidden"})
    assert "hidden" not in repr(settings)
    assert hash_key("x") not in repr(settings)


def test_so_many_samples_may_wait_as_streams_need_unless_a_number_is_set() -> None:
    settings = Settings(limits={"streams": 1000})
    assert settings.guard.waiting(settings.limits.streams) == 8000
    assert Settings(guard={"max_waiting": 10}).guard.waiting(1000) == 10


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Settings().guard.timeout_s = 9  # type: ignore[misc]


def test_two_keys_with_one_id_are_refused() -> None:
    key = ApiKey(id="a", sha256=hash_key("x"))
    with pytest.raises(ValidationError, match="same id"):
        Settings(keys=(key, key))


def test_a_judge_on_vllm_is_named_by_url_and_spec(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAFECHAT_GUARD__SAFETY__URL", "http://judge:8000/")
    monkeypatch.setenv("SAFECHAT_GUARD__SAFETY__SPEC", "llama-guard-3-8b")
    monkeypatch.setenv("SAFECHAT_GUARD__SAFETY__API_KEY", "hidden")
    judge = load_settings().guard.safety
    assert judge is not None
    assert (judge.url, judge.spec) == ("http://judge:8000", "llama-guard-3-8b")
    assert "hidden" not in repr(judge)
    monkeypatch.delenv("SAFECHAT_GUARD__SAFETY__SPEC")
    with pytest.raises(ValidationError, match="spec"):
        load_settings()
