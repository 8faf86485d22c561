"""Speaks LiteLLM's generic guardrail interface, and has our `/v1/score` decide.

python -m loadtests.peers.judge --port 9100 --score http://127.0.0.1:8000
"""

import argparse
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
from aiohttp import web

PATH = "/beta/litellm_basic_guardrail_api"
_SESSION = web.AppKey("session", aiohttp.ClientSession)


def conversation(asked: dict[str, Any]) -> dict[str, Any]:
    """What LiteLLM asks about, as one conversation: a prompt, or a reply to no prompt."""
    text = "\n".join(asked.get("texts") or [])
    messages = [{"role": "user", "content": text}]
    if asked.get("input_type") == "response":
        messages = [{"role": "user", "content": "?"}, {"role": "assistant", "content": text}]
    return {"messages": messages}


def application(score_url: str) -> web.Application:
    async def judge(request: web.Request) -> web.Response:
        question = {"input": conversation(await request.json())}
        async with request.app[_SESSION].post(f"{score_url}/v1/score", json=question) as answer:
            answer.raise_for_status()
            [judged] = (await answer.json())["data"]
        allowed = judged["verdict"] == "allow"
        return web.json_response({"action": "NONE" if allowed else "BLOCKED"})

    async def health(request: web.Request) -> web.Response:
        return web.Response()

    async def session(app: web.Application) -> AsyncIterator[None]:
        async with aiohttp.ClientSession() as app[_SESSION]:
            yield

    app = web.Application()
    app.cleanup_ctx.append(session)
    app.add_routes([web.post(PATH, judge), web.get("/health", health)])
    return app


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--port", type=int, default=9100)
    parser.add_argument("--score", required=True, help="URL of a gateway, without /v1")
    options = parser.parse_args()
    web.run_app(application(options.score), host="127.0.0.1", port=options.port, print=None)


if __name__ == "__main__":
    main()
