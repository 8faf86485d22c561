"""Tokens of one request to the engine."""

from dataclasses import dataclass, field

from server.engine import Json


@dataclass(slots=True)
class Usage:
    """Tokens as the engine counts them, for as much as was generated."""

    prompt: int = 0
    completion_by_choice: dict[int, int] = field(default_factory=dict)
    total: Json | None = None

    def take(self, chunk: Json) -> None:
        usage = chunk.get("usage")
        if usage:
            self.prompt = usage.get("prompt_tokens", self.prompt)
        choices = chunk["choices"]
        if not choices:
            self.total = usage or self.total
            return
        for choice in choices:
            index = choice["index"]
            counted = usage.get("completion_tokens") if usage else None
            known = self.completion_by_choice.get(index, 0)
            self.completion_by_choice[index] = counted if counted is not None else known + 1

    def report(self) -> Json:
        """OpenAI's `usage` object. A reply that was cut off counts what was generated."""
        if self.total is not None:
            return self.total
        completion = sum(self.completion_by_choice.values())
        return {
            "prompt_tokens": self.prompt,
            "completion_tokens": completion,
            "total_tokens": self.prompt + completion,
        }
