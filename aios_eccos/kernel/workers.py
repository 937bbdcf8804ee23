"""What one worker of a checkout is told over HTTP, the others do too.

Uvicorn's workers listen on one port, so a refresh, a cleanup, a change of mode or a selection of
models reaches one of them. It leaves word in the state folder, where the others look once a second.
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
from aios_eccos.errors import raised

log = logging.getLogger("aios_eccos.kernel.workers")

#: How often a worker looks for word, seconds.
LOOK_S = 1.0
#: The loop's own threads are full of calls when it matters most.
BESIDE = ThreadPoolExecutor(2, thread_name_prefix="eccos-beside")


class Word:
    """The last word of each kind that any worker has left.

    Args:
        folder: the checkout's state folder. What lies there already is old.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / "told.json"
        self._lock = threading.Lock()
        self._known = self._read()
        self._missed: list[tuple[str, str]] = []

    def leave(self, kind: str, value: str = "") -> None:
        """Tell the other workers. Where that cannot be, only this one knows, and says so.

        Args:
            kind: of the word; the last of a kind replaces the one before.
            value: "" for an order, which nobody may miss; of states the last is enough.
        """
        try:
            files.private_dir(self._path.parent)
            with self._lock, files.locked(self._path.with_suffix(".lock")):
                found = self._read()
                if not value and found.get(kind) != self._known.get(kind):
                    # Another's, left while this one was carried out, perhaps on older files.
                    self._missed.append((kind, value))
                # Later than all that was said, whatever the clock says.
                said = (max([time.time_ns(), *(at + 1 for at, _ in found.values())]), value)
                files.write(self._path, json.dumps({**found, kind: said}))
                self._known[kind] = said
        except OSError as error:
            log.warning("other workers do not hear of the %s: %s", kind, error)

    def news(self) -> list[tuple[str, str]]:
        """What others have left since the last time: kinds and values, oldest first."""
        with self._lock:
            found = self._read()
            # Not by age: clocks may be set back.
            new = {kind: word for kind, word in found.items() if word != self._known.get(kind)}
            self._known |= found
            missed, self._missed = self._missed, []
        at = sorted((word[0], kind, word[1]) for kind, word in new.items())
        return missed + [(kind, value) for _, kind, value in at]

    def stands(self, kind: str, value: str) -> bool:
        """Whether a state is still the last that was said; orders are carried out all the same."""
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


async def listen(word: Word, act: Callable[[str, str], Awaitable[object]]) -> None:
    """Do what other workers were told, for ever."""
    while True:
        await asyncio.sleep(LOOK_S)
        for kind, value in await beside(word.news):
            try:
                if word.stands(kind, value):
                    await act(kind, value)
            except Exception as error:  # noqa: BLE001 - the next word may do better
                log.error("told of a %s that failed here: %s", kind, raised(error))
