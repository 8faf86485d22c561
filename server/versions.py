"""Serves the model versions that the registry's aliases name, and switches without a pause.

A chat version is an adapter on the engine's own model, under a name of its own. A new one is
loaded while the old one answers; then new turns ask for it, and those under way end where they
began. A reward model is loaded and self-tested beside the old one, and takes its place between
two samples. What cannot be loaded changes nothing: the old version goes on, and says so.
"""

import asyncio
from collections.abc import Callable
from time import monotonic
from typing import Protocol, Self

import structlog
from pydantic import ValidationError

from flywheel.registry import aliases
from flywheel.registry.aliases import Aliases
from flywheel.registry.versions import BASE, Kind, Registry, RegistryError
from guard.types import Axis, GuardError, RewardModel
from server.errors import ApiError, EngineUnavailable

log = structlog.get_logger(__name__)

_PREFIX = "safechat-"
# An adapter that is no longer named stays loaded for the turns that began with it.
_LINGER_S = 900.0
_AXES = {Kind.SAFETY: Axis.SAFETY, Kind.HELPFULNESS: Axis.HELPFULNESS}


class AdapterHost(Protocol):
    """An engine that takes adapters while it serves. Every method may raise an `ApiError`."""

    async def served(self) -> set[str]:
        """Names that a request may ask for."""
        ...

    async def load_adapter(self, name: str, folder: str) -> None: ...

    async def unload_adapter(self, name: str) -> None: ...


class Versions:
    """Follows the aliases of a registry. Open and close it as a context manager.

    load: makes the reward model of an axis from a version's files, or for None the shipped one;
    blocking. replace: puts it in place. behind: told by kind whether a live version is not
    served yet. Without load and replace, reward models stay as they are.
    """

    def __init__(
        self,
        registry: Registry,
        host: AdapterHost,
        *,
        load: Callable[[Axis, str | None], RewardModel] | None = None,
        replace: Callable[[Axis, RewardModel], None] | None = None,
        behind: Callable[[Kind, bool], None] = lambda kind, is_behind: None,
        every_s: float = 2.0,
    ) -> None:
        self.registry = registry
        self.live = BASE
        self.shadow: str | None = None
        self._host = host
        self._load, self._replace = load, replace
        self._behind = behind
        self._every_s = every_s
        self._reward = dict.fromkeys(_AXES, BASE)
        self._trouble: dict[Kind, str] = {}
        self._loaded = False
        self._unused: dict[str, float] = {}
        self._one_at_a_time = asyncio.Lock()

    async def __aenter__(self) -> Self:
        await self.follow()
        self._task = asyncio.create_task(self._watch(), name="versions")
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    def model(self, base: str) -> str:
        """What the engine is asked for where a client asks for its own model.

        Raises EngineUnavailable while the engine has lost the version in service.
        """
        if self.live == BASE:
            return base
        if not self._loaded:
            raise EngineUnavailable(
                "the model is being loaded again; try again in a moment", retry_after_s=5.0
            )
        return adapter_name(self.live)

    async def ready(self) -> bool:
        """Whether the engine has the chat version that turns ask for, loaded now if need be."""
        self._loaded = self.live == BASE
        await self.follow()
        return self._loaded

    async def follow(self) -> None:
        """Bring what is served in line with the aliases, once. Never raises what it can log."""
        async with self._one_at_a_time:
            for kind in Kind:
                try:
                    wanted = await asyncio.to_thread(aliases.read, self.registry, kind)
                    if kind is Kind.CHAT:
                        await self._follow_chat(wanted)
                        behind = self.live != wanted.live
                    else:
                        await self._follow_reward(kind, wanted)
                        behind = self._reward[kind] != wanted.live
                except (ApiError, RegistryError, GuardError, OSError, ValidationError) as error:
                    self._tell(kind, str(error))
                    behind = True
                else:
                    self._trouble.pop(kind, None)
                self._behind(kind, behind)

    def _tell(self, kind: Kind, reason: str) -> None:
        """Log a trouble once, however often it is met in a row."""
        if self._trouble.get(kind) != reason:
            self._trouble[kind] = reason
            log.error("version_not_served", kind=kind.value, reason=reason)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(self._every_s)
            try:
                await self.follow()
            except Exception:  # whatever it met, the next round must come
                log.exception("versions_fault")

    async def _follow_chat(self, wanted: Aliases) -> None:
        named = {v for v in (wanted.live, wanted.shadow) if v is not None and v != BASE}
        if not named and self.live == BASE and not self._unused:
            self.shadow = None
            return  # an engine that never had an adapter need not know what one is
        served = await self._host.served()
        self._loaded = self.live == BASE or adapter_name(self.live) in served
        # For one step back without a wait, the version before stays loaded as well.
        keep = named | ({wanted.previous} - {BASE})
        for version in sorted(keep):
            if adapter_name(version) not in served:
                await self._load_adapter(version)
        if self.live != wanted.live:
            log.info("chat_version", live=wanted.live, before=self.live)
        self.live, self.shadow, self._loaded = wanted.live, wanted.shadow, True
        await self._unload(served - {adapter_name(v) for v in keep})

    async def _load_adapter(self, version: str) -> None:
        await asyncio.to_thread(self.registry.verified, Kind.CHAT, version)
        folder = self.registry.files(Kind.CHAT, version).resolve()
        await self._host.load_adapter(adapter_name(version), str(folder))
        self._unused.pop(adapter_name(version), None)

    async def _unload(self, served: set[str]) -> None:
        """Unload adapters of ours that have not been named for longer than any turn takes."""
        now = monotonic()
        ours = {name for name in served if name.startswith(_PREFIX)}
        self._unused = {name: self._unused.get(name, now) for name in ours}
        for name in [n for n, since in self._unused.items() if now - since > _LINGER_S]:
            await self._host.unload_adapter(name)
            del self._unused[name]

    async def _follow_reward(self, kind: Kind, wanted: Aliases) -> None:
        if self._load is None or self._replace is None or self._reward[kind] == wanted.live:
            return
        folder = None
        if wanted.live != BASE:
            await asyncio.to_thread(self.registry.verified, kind, wanted.live)
            folder = str(self.registry.files(kind, wanted.live))
        model = await asyncio.to_thread(self._load, _AXES[kind], folder)
        self._replace(_AXES[kind], model)
        log.info("reward_version", kind=kind.value, live=wanted.live, before=self._reward[kind])
        self._reward[kind] = wanted.live


def adapter_name(version: str) -> str:
    """The name under which the engine serves a chat version."""
    return f"{_PREFIX}{version}"
