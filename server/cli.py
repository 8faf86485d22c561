"""The gateway's commands: `safechat up`, `serve`, `models`, `score`, `keys`."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table

from flywheel.journal import JournalError
from guard.types import Axis, GuardError, Message, Sample
from server.auth import hash_key, new_key
from server.settings import Scope, Settings, load_settings

# Without a name: `safechat/__main__.py` takes these commands in as its own.
app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False)
keys_app = typer.Typer(help="API keys: only their hashes are stored.", no_args_is_help=True)
app.add_typer(keys_app, name="keys")
err = Console(stderr=True, soft_wrap=True)

Model = Annotated[str | None, typer.Option(help="A folder or hub name; default: the bundled one.")]
TensorParallel = Annotated[int | None, typer.Option("--tp", help="GPUs to split the model over.")]
EngineUrl = Annotated[str | None, typer.Option(help="Use an engine that already runs there.")]
Host = Annotated[
    str | None, typer.Option(help="Address to listen on; keys are needed beyond loopback.")
]
Port = Annotated[int | None, typer.Option(help="Port to listen on; 0 takes a free one.")]


def _settings(
    model: str | None = None,
    tp: int | None = None,
    engine_url: str | None = None,
    host: str | None = None,
    port: int | None = None,
    vllm_args: tuple[str, ...] = (),
) -> Settings:
    if engine_url and vllm_args:
        raise ValueError(f"unknown options {' '.join(vllm_args)}: the engine runs elsewhere")
    engine = {
        "model": model,
        "tensor_parallel_size": tp,
        "url": engine_url,
        "vllm_args": vllm_args or None,
    }
    server = {"host": host, "port": port}
    overrides = {
        "engine": {k: v for k, v in engine.items() if v is not None},
        "server": {k: v for k, v in server.items() if v is not None},
    }
    return load_settings(**{k: v for k, v in overrides.items() if v})


@contextmanager
def explained() -> Iterator[None]:
    """Turn what a person can mend into one line that says how."""
    try:
        yield
    except ValidationError as error:
        for problem in error.errors():
            where = ".".join(str(step) for step in problem["loc"]) or "settings"
            err.print(f"safechat: {where}: {problem['msg']}", markup=False, highlight=False)
        raise typer.Exit(2) from None
    except (GuardError, JournalError, OSError, ValueError) as error:
        err.print(f"safechat: {error}", markup=False, highlight=False)
        raise typer.Exit(2) from None


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def up(
    context: typer.Context,
    model: Model = None,
    tp: TensorParallel = None,
    engine_url: EngineUrl = None,
    host: Host = None,
    port: Port = None,
) -> None:
    """Start everything: engine, guard, gateway and chat page, on one address.

    What the first start prepares is kept. Ctrl-C stops all that was started.
    Options that are not named here go to vLLM: `safechat up -- --max-num-seqs 64`.
    """
    from server.up import serve_everything

    with explained():
        settings = _settings(model, tp, engine_url, host, port, tuple(context.args))
        serve_everything(settings, with_ui=True)


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def serve(
    context: typer.Context,
    model: Model = None,
    tp: TensorParallel = None,
    engine_url: EngineUrl = None,
    host: Host = None,
    port: Port = None,
) -> None:
    """Start engine, guard and gateway without the chat page, as a deployment does."""
    from server.up import serve_everything

    with explained():
        settings = _settings(model, tp, engine_url, host, port, tuple(context.args))
        serve_everything(settings, with_ui=False)


@app.command()
def models() -> None:
    """List the models that this installation serves: chat and reward models."""
    from server.open_guard import load_reward_model

    with explained():
        settings = load_settings()
        table = Table("role", "model", "from")
        engine = settings.engine
        table.add_row("chat", engine.served_name or engine.model, engine.url or "started by us")
        for axis in Axis:
            model = load_reward_model(settings.guard, axis)
            table.add_row(axis.value, model.model_id, str(settings.guard.models / axis.value))
        Console().print(table)


@app.command()
def score(
    prompt: Annotated[str, typer.Argument(help="What the user says; `-` reads standard input.")],
    reply: Annotated[str | None, typer.Option(help="A reply to it, to be scored too.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Score a prompt, and a reply to it, with the reward models. Higher is better."""
    from server.open_guard import load_reward_model

    if prompt == "-":
        prompt = sys.stdin.read()
    with explained():
        settings = load_settings()
        conversation = (Message("user", prompt),)
        safety = load_reward_model(settings.guard, Axis.SAFETY)
        scores = {"prompt safety": safety.score([Sample(conversation)])[0]}
        if reply is not None:
            whole = Sample(conversation, reply, whole=True)
            helpfulness = load_reward_model(settings.guard, Axis.HELPFULNESS)
            scores["reply safety"] = safety.score([Sample(conversation, reply)])[0]
            scores["reply helpfulness"] = helpfulness.score([whole])[0]
    if as_json:
        rows: dict[str, Any] = {
            name: {"value": s.value, "reward": s.reward, "model": s.model}
            for name, s in scores.items()
        }
        typer.echo(json.dumps(rows))
        return
    table = Table("what", "score", "reward", "model")
    for name, s in scores.items():
        table.add_row(name, f"{s.value:.3f}", f"{s.reward:+.2f}", s.model)
    Console().print(table)


@keys_app.command("new")
def new(
    key_id: Annotated[str, typer.Argument(help="A name for the key, as logs will show it.")],
    scope: Annotated[list[Scope], typer.Option(help="May be given several times.")] = [Scope.CHAT],  # noqa: B006
    as_json: Annotated[
        bool, typer.Option("--json", help="The entry as SAFECHAT_KEYS has it, a list of them.")
    ] = False,
) -> None:
    """Make an API key: prints it once, and the settings entry that lets it in."""
    key = new_key()
    err.print(f"The key, shown this once: {key}", markup=False, highlight=False)
    if as_json:
        where = "Add this to the list in SAFECHAT_KEYS:"
        entry = json.dumps({"id": key_id, "sha256": hash_key(key), "scopes": scope})
    else:
        where = "Add this to the file that SAFECHAT_CONFIG names:"
        scopes = ", ".join(f'"{s.value}"' for s in scope)
        entry = (
            f'[[keys]]\nid = {json.dumps(key_id)}\nsha256 = "{hash_key(key)}"\nscopes = [{scopes}]'
        )
    err.print(where, markup=False)
    typer.echo(entry)
