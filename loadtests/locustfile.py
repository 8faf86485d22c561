"""People before a gateway, for locust: they chat several turns, appeal, and leave in mid-stream.

    .cache/peers/locust/bin/locust -f loadtests/locustfile.py --headless --host http://127.0.0.1:8000

`SHAPE=ramp|spike|soak` in the environment chooses how many come (see shapes.py); without it,
locust's own `--users` and `--spawn-rate` do. `MODEL` names the served model, `KEY` an API key,
`PAUSE` the seconds that people take between turns at most. With `--stop-timeout 60` those who go
finish what they began, so that the gateway's outcomes are what locust reports.
"""

import json
import os
import random
import time
from itertools import count
from typing import Any

from locust import HttpUser, between, task

from loadtests.shapes import SHAPES

MODEL = os.environ.get("MODEL", "SmolLM2-135M-SafeChat")
QUESTIONS = (
    "Why is the sea salt?",
    "How do I keep a sourdough starter alive?",
    "What is a good first instrument for a child?",
    "Explain how a bicycle stays upright.",
    "Which birds stay here in winter?",
)
DECLINED = "How do I build a bomb at home?"
REPLY_TOKENS = 64
PAUSE_S = float(os.environ.get("PAUSE", "4"))
_numbers = count()


if "SHAPE" in os.environ:
    Shape = SHAPES[os.environ["SHAPE"]]


class Person(HttpUser):
    """Does one thing after the other, with a pause between. Each asks alike in every run.

    People begin at different places of what they do, so that a few of them do all of it at once.
    """

    wait_time = between(PAUSE_S / 4, PAUSE_S)

    def on_start(self) -> None:
        self.step = next(_numbers)
        self.chance = random.Random(self.step)
        if key := os.environ.get("KEY"):
            self.client.headers["authorization"] = f"Bearer {key}"

    @task
    def act(self) -> None:
        do = (*[self.chat] * 4, self.appeal, *[self.chat] * 4, self.leave)
        do[self.step % len(do)]()
        self.step += 1

    def chat(self) -> None:
        """A conversation of some turns, each with those before it."""
        messages = list[dict[str, str]]()
        for number, prompt in enumerate(self.chance.sample(QUESTIONS, 3)):
            if number:
                self.wait()
            messages.append({"role": "user", "content": prompt})
            text, _ = self._ask("chat", messages)
            if not text:
                return
            messages.append({"role": "assistant", "content": text})

    def appeal(self) -> None:
        """A question that is declined, and what a person then says to that."""
        _, guard = self._ask("declined", [{"role": "user", "content": DECLINED}])
        if guard.get("verdict") == "block":
            opinion = {"turn_id": guard["turn_id"], "kind": "appeal"}
            self.client.post("/v1/feedback", json=opinion, name="appeal")

    def leave(self) -> None:
        """Closes the connection after the first words."""
        body = self._body([{"role": "user", "content": self.chance.choice(QUESTIONS)}])
        with self.client.post(
            "/v1/chat/completions", json=body, stream=True, name="left", catch_response=True
        ) as response:
            if response.status_code != 200:
                response.failure(f"status {response.status_code}")
                return
            next(response.iter_content(64), None)
            response.success()
            response.close()

    def _ask(self, name: str, messages: list[dict[str, str]]) -> tuple[str, dict[str, Any]]:
        """Text and guard object; times of the first text are reported as their own entry."""
        begun, text, guard, done = time.perf_counter(), "", dict[str, Any](), False
        with self.client.post(
            "/v1/chat/completions",
            json=self._body(messages),
            stream=True,
            name=name,
            catch_response=True,
        ) as response:
            if response.status_code != 200:
                response.failure(f"status {response.status_code}")
                return "", guard
            for line in response.iter_lines():
                done = done or line == b"data: [DONE]"
                if not line.startswith(b"data: {"):
                    continue
                event = json.loads(line[6:])
                if "error" in event:
                    response.failure(event["error"]["type"])
                    return "", guard
                for choice in event["choices"]:
                    if not text and choice["delta"].get("content"):
                        self._report(f"{name}: first text", begun)
                    text += choice["delta"].get("content") or ""
                    guard = choice.get("guard") or guard
            if done:
                response.success()
            else:
                response.failure("ended without [DONE]")
        return text, guard

    def _report(self, name: str, begun: float) -> None:
        self.environment.events.request.fire(
            request_type="TTFT",
            name=name,
            response_time=1e3 * (time.perf_counter() - begun),
            response_length=0,
            exception=None,
            context={},
        )

    @staticmethod
    def _body(messages: list[dict[str, str]]) -> dict[str, Any]:
        return {"model": MODEL, "messages": messages, "stream": True, "max_tokens": REPLY_TOKENS}
