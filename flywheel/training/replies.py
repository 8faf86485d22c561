"""Samples a chat model's replies: raw material for the reward models and the classifier.

    python -m flywheel.training.replies --engine URL --ask requests --data DIR --out FILE

--ask requests: a share of the labelled prompts of every source, so {"prompt", "harmful",
"source", "split", "reply"}. A small chat model readily does what a harmful prompt asks, so
its replies to harmful prompts are mostly unsafe and those to harmless ones mostly safe;
safety_mix.py labels them by that rule, less the refusals.
--ask twins: our own contrast sets, in rows as those of requests. A weak reply to a harmless
question that sounds dangerous is what a safety model takes for harm most easily.
--ask helpful: conversations to which people gave or chose a good reply, so {"messages",
"split", "reply"}: beside that one, a small model's is worse (helpfulness_mix.py).
--ask prose: stories, reports and posts on dark matters, in rows as those of requests, of the
source "prose". The safety model learns from them that such a text by itself is harmless.

The model is any that an OpenAI-compatible server answers for, vLLM for instance.
"""

import argparse
import json
import random
from collections import defaultdict
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
from rich.progress import track

from flywheel.training.data import Row, rows, sampled
from flywheel.training.safety_mix import CONTRAST, held_out
from flywheel.training.wording import PROSE_FORMS, PROSE_TOPICS

STREAMS = 32
LONGEST_PROMPT = 600  # characters
SHARES = {
    "advbench": 250,
    "catqa": 300,
    "do-not-answer": 250,
    "harmfulqa": 250,
    "malicious-instruct": 60,
    "dangerousqa": 100,
    "certified-safe": 180,
    "dolly-1k": 180,
    "hh-helpful-openers": 220,
    "webgpt-questions": 160,
    "oasst": 100,
    "self-instruct": 60,
    "mitre-frr": 120,
    "mtbench": 30,
}
TWINS = {"handwritten": (800, 300), "compounds": (130, 0), "generated": (700, 200)}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--engine", required=True, help="base URL, such as http://127.0.0.1:8001")
    parser.add_argument("--ask", choices=list(CHOICES), required=True)
    parser.add_argument("--data", type=Path, default=Path(), help="folder of data sets")
    parser.add_argument("--split", default="train")
    parser.add_argument("--share", type=float, default=1.0, help="of what is asked about")
    parser.add_argument("--system", help="a system prompt")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--tokens", type=int, default=48)
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()

    asked = CHOICES[options.ask](
        options.data, options.split, options.share, random.Random(options.seed)
    )
    instruction = [{"role": "system", "content": options.system}] if options.system else []
    with httpx.Client(base_url=options.engine, timeout=600) as engine:
        model = engine.get("/v1/models").raise_for_status().json()["data"][0]["id"]

        def reply(row: Row) -> Row:
            messages = row.get("messages") or [{"role": "user", "content": row["prompt"]}]
            body = {
                "model": model,
                "messages": [*instruction, *messages],
                "max_tokens": options.tokens,
                "temperature": 0.6,
                "seed": options.seed,
            }
            answer = engine.post("/v1/chat/completions", json=body).raise_for_status().json()
            return row | {"reply": answer["choices"][0]["message"]["content"].strip()}

        with options.out.open("a", encoding="utf-8") as file, ThreadPoolExecutor(STREAMS) as pool:
            replies: Iterable[Row] = pool.map(reply, asked)
            for row in track(replies, "sampling replies", total=len(asked), update_period=5):
                print(json.dumps(row), file=file, flush=True)


def requests(data: Path, split: str, share: float, chance: random.Random) -> list[Row]:
    """A share of every source's labelled prompts."""
    by_source = defaultdict(list)
    for row in rows(data / "prompt_harm.jsonl", split):
        if len(row["prompt"]) <= LONGEST_PROMPT:
            by_source[row["source"]].append(row)
    fields = ("prompt", "harmful", "source", "split")
    chosen = []
    for source, most in SHARES.items():
        count = min(int(share * most), len(by_source[source]))
        chosen += [
            {key: row[key] for key in fields} for row in chance.sample(by_source[source], count)
        ]
    chance.shuffle(chosen)
    return chosen


def twins(_: Path, split: str, share: float, chance: random.Random) -> list[Row]:
    """Harmless requests that sound dangerous and their harmful twins, more of the former."""
    found = []
    for name, (harmless, harmful) in TWINS.items():
        known = [
            {"prompt": row["prompt"], "harmful": row["harmful"], "source": name, "split": split}
            for row in rows(CONTRAST / f"{name}.jsonl")
            if held_out(row["template"]) == (split == "dev")
        ]
        for label, most in ((0, harmless), (1, harmful)):
            alike = [row for row in known if row["harmful"] == label]
            found += sampled(alike, int(share * most), chance)
    chance.shuffle(found)
    return found


def helpful(data: Path, split: str, share: float, chance: random.Random) -> list[Row]:
    """A share of the conversations that have a good reply, none of them twice."""
    unique = {
        str(row["messages"]): {"messages": row["messages"], "split": split}
        for row in rows(data / "helpful_pairs.jsonl", split)
        if sum(len(m["content"]) for m in row["messages"]) <= LONGEST_PROMPT
        and row["messages"][0]["role"] == "user"
    }
    return chance.sample(list(unique.values()), int(share * len(unique)))


def prose(_: Path, split: str, share: float, chance: random.Random) -> list[Row]:
    """Our own wishes for long texts; one topic in ten is for `dev`."""
    wishes = [
        form.format(topic)
        for index, topic in enumerate(PROSE_TOPICS)
        if (index % 10 == 9) == (split == "dev")
        for form in PROSE_FORMS
    ]
    return [
        {"prompt": wish, "harmful": 0, "source": "prose", "split": split}
        for wish in chance.sample(wishes, int(share * len(wishes)))
    ]


CHOICES: dict[str, Callable[[Path, str, float, random.Random], list[Row]]] = {
    "requests": requests,
    "twins": twins,
    "helpful": helpful,
    "prose": prose,
}

if __name__ == "__main__":
    main()
