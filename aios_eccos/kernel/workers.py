"""What one worker of a checkout is asked over HTTP, the others do too.

Uvicorn's workers listen on one port, so a request reaches one of them. It writes a message into
the state folder, where the others look once a second.
"""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from aios_eccos import files
from aios_eccos.errors import EccosError, raised

log = logging.getLogger("aios_eccos.kernel.workers")

#: How often a worker looks for messages, seconds.
LOOK_S = 1.0
#: The loop's own threads are full of calls when it matters most.
BESIDE = ThreadPoolExecutor(2, thread_name_prefix="eccos-beside")


class Broadcast:
    """Messages between the workers of one checkout; the last of each kind is kept.

    Those that lie in its state folder already are old.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / "broadcast.json"
        self._lock = threading.Lock()
        self._known = self._read()
        self._missed: list[tuple[str, str]] = []

    def send(self, kind: str, value: str = "") -> None:
        """Tell the other workers. Where the message cannot be written, the log says so.

        `value` is the state that is wanted; "" for an order, which no worker may miss.
        """
        try:
            files.private_dir(self._path.parent)
            with self._lock, files.locked(self._path.with_suffix(".lock")):
                found = self._read()
                if not value and found.get(kind) != self._known.get(kind):
                    # Another worker sent the same while this one carried its own out, perhaps on
                    # older files.
                    self._missed.append((kind, value))
                # Later than every message before, whatever the clock says.
                sent = (max([time.time_ns(), *(at + 1 for at, _ in found.values())]), value)
                files.write(self._path, json.dumps({**found, kind: sent}))
                self._known[kind] = sent
        except OSError as error:
            log.warning("other workers do not hear of the %s: %s", kind, error)

    def receive(self) -> list[tuple[str, str]]:
        """What others have sent since the last time: kinds and values, oldest first."""
        with self._lock:
            found = self._read()
            # Not by age: clocks may be set back.
            new = {kind: sent for kind, sent in found.items() if sent != self._known.get(kind)}
            self._known |= found
            missed, self._missed = self._missed, []
        at = sorted((sent[0], kind, sent[1]) for kind, sent in new.items())
        return missed + [(kind, value) for _, kind, value in at]

    def is_last(self, kind: str, value: str) -> bool:
        """Whether no other value of the kind was sent since; of orders always."""
        return not value or self._known[kind][1] == value

    def _read(self) -> dict[str, tuple[int, str]]:
        try:
            found = json.loads(self._path.read_text(encoding="utf-8"))
            return {str(kind): (int(at), str(value)) for kind, (at, value) in found.items()}
        except (OSError, ValueError, TypeError, AttributeError):
            return {}


async def beside(work: Callable[..., Any], *args: Any) -> Any:
    """Run what must neither hold the event loop up nor queue behind calls."""
    return await asyncio.get_running_loop().run_in_executor(BESIDE, work, *args)


async def listen(broadcast: Broadcast, act: Callable[[str, str], Awaitable[object]]) -> None:
    """Do what other workers were asked, for ever."""
    while True:
        await asyncio.sleep(LOOK_S)
        for kind, value in await beside(broadcast.receive):
            try:
                if broadcast.is_last(kind, value):
                    await act(kind, value)
            except Exception as error:  # noqa: BLE001 - the next message may do better
                why = error if isinstance(error, EccosError) else raised(error)
                log.error("a %s that another worker asked for failed here: %s", kind, why)
