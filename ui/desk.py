"""The review desk as one rater sees it: the API's routes under `/v1/review`."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from ui.gateway import Gateway

TASKS = {"safety": "Safety", "preference": "Preference", "demonstration": "Demonstration"}


@dataclass(frozen=True, slots=True)
class Desk:
    """One rater's desk; every method raises GatewayError.

    name: who rates, where the gateway asks for no keys. With a key the rater is the key's.
    Items are the API's, as JSON.
    """

    gateway: Gateway
    api_key: str = ""
    name: str = ""

    async def claim(self, task: str) -> dict[str, Any] | None:
        """The next item of a task, held for a while; None: nothing is left."""
        return await self._claimed({"task": task})

    async def claim_named(self, item_id: str) -> dict[str, Any] | None:
        return await self._claimed({"item_id": item_id})

    async def release(self, item_id: str) -> None:
        await self._ask("DELETE", f"claims/{quote(item_id, safe='')}")

    async def rate(self, answer: Mapping[str, Any]) -> dict[str, Any]:
        """The item again, now with all that was kept from the rater before."""
        return await self._ask("POST", "ratings", answer)

    async def skip(self, item_id: str) -> None:
        await self._ask("POST", f"items/{quote(item_id, safe='')}/skip")

    async def undo(self, item_id: str) -> None:
        await self._ask("POST", "undo", {"item_id": item_id})

    async def queue(self, task: str, limit: int = 10) -> list[dict[str, Any]]:
        return list((await self._ask("GET", f"queue?task={task}&limit={limit}"))["data"])

    async def status(self) -> dict[str, Any]:
        return await self._ask("GET", "status")

    async def agreement(self) -> dict[str, Any]:
        """By task; empty until two people have rated the same thing."""
        return dict((await self._ask("GET", "agreement"))["tasks"])

    async def _claimed(self, wanted: Mapping[str, str]) -> dict[str, Any] | None:
        return (await self._ask("POST", "claims", wanted))["item"] or None

    async def _ask(
        self, method: str, path: str, body: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        with_key = self.api_key or self.gateway.has_key
        return await self.gateway.ask(
            method,
            f"/v1/review/{path}",
            api_key=self.api_key,
            body=body,
            headers={} if with_key or not self.name else {"x-safechat-rater": self.name},
        )
