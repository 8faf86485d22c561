"""Seeded requests on a real vLLM, more of them at once than fit into one of its steps."""

import asyncio

import httpx

from tests.conftest import ServedEngine

WORDS = "bread water salt flour oven yeast "
AT_ONCE = 12


async def test_seeded_long_prompts_at_once_leave_the_engine_alive(
    tiny_tp2_engine: ServedEngine,
) -> None:
    """A prompt that is read in pieces ends vLLM's CPU build when it has a seed."""
    async with httpx.AsyncClient(timeout=120, trust_env=False) as client:

        async def ask(seed: int) -> tuple[int, int]:
            body = {
                "model": tiny_tp2_engine.model,
                "messages": [{"role": "user", "content": f"{seed} {WORDS * 36}"}],
                "max_tokens": 2,
                "seed": seed,
            }
            reply = await client.post(f"{tiny_tp2_engine.url}/v1/chat/completions", json=body)
            usage = reply.json().get("usage", {})
            return reply.status_code, usage.get("prompt_tokens", 0)

        replies = await asyncio.gather(*(ask(seed) for seed in range(AT_ONCE)))
        assert {status for status, _ in replies} == {200}
        assert sum(tokens for _, tokens in replies) > 4096
        assert (await client.get(f"{tiny_tp2_engine.url}/health")).status_code == 200
