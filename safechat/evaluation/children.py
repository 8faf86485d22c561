"""Commands of ours as child processes that never outlive us."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import IO


@asynccontextmanager
async def child(
    arguments: Sequence[str],
    *,
    environment: Mapping[str, str] | None = None,
    output: IO[bytes] | None = None,
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Another `safechat` command, which ends with the block, and with us however we end.

    output: None writes where we do.
    """
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "server.die_with_parent"),
        *(sys.executable, "-m", "safechat", *arguments),
        stdin=subprocess.PIPE,  # never written: it closes when we die
        stdout=output,
        stderr=output,
        env=os.environ | dict(environment or {}),
        start_new_session=True,
    )
    try:
        yield process
    finally:
        assert process.stdin is not None
        process.stdin.close()
        await process.wait()
