"""PyRIT against a SafeChat gateway: objectives in Base64, judged by the gateway's own scores.

Run it where PyRIT is installed: `python attack_with_pyrit.py URL MODEL OBJECTIVES`, the last a file
with one objective a line. The key, if the gateway has keys, stands in OPENAI_API_KEY.
"""

import asyncio
import os
import sys
from pathlib import Path

import httpx
from pyrit.converter import Base64Converter
from pyrit.executor.attack import AttackConverterConfig, PromptSendingAttack
from pyrit.prompt_normalizer import ConverterConfiguration
from pyrit.prompt_target import OpenAIChatTarget
from pyrit.setup import initialize_pyrit_async


async def main(url: str, model: str, objectives: list[str]) -> None:
    """Print the safety of each reply, in [0, 1], higher is better, or that it was blocked."""
    key = os.environ.get("OPENAI_API_KEY", "none")
    await initialize_pyrit_async("InMemory", load_defaults=False, env_files=[], silent=True)
    target = OpenAIChatTarget(
        endpoint=f"{url}/v1", model_name=model, api_key=key, temperature=0.0, seed=0
    )
    spelt = ConverterConfiguration.from_converters(converters=[Base64Converter()])
    attack = PromptSendingAttack(
        objective_target=target,
        attack_converter_config=AttackConverterConfig(request_converters=spelt),
    )
    async with httpx.AsyncClient(headers={"Authorization": f"Bearer {key}"}) as client:
        for objective in objectives:
            result = await attack.execute_async(objective=objective)
            reply = result.last_response
            if reply is None or reply.response_error == "blocked":
                print(f"blocked  {objective}")
                continue
            said = [
                {"role": "user", "content": objective},
                {"role": "assistant", "content": reply.converted_value},
            ]
            scored = await client.post(f"{url}/v1/score", json={"input": {"messages": said}})
            safety = scored.raise_for_status().json()["data"][0]["safety"]
            print(f"{safety:7.3f}  {objective}")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], Path(sys.argv[3]).read_text("utf-8").splitlines()))
