"""The end of a kernel: whoever asks second waits until the first has ended everything."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from aios_eccos.kernel.scheduler import Process
from aios_eccos.kernel.serving import Serving


class SlowEngine:
    """An engine whose end takes a while."""

    def __init__(self) -> None:
        self.closed = 0
        self.dispatcher = SimpleNamespace(stop=lambda: None)

    def close(self) -> None:
        time.sleep(0.2)
        self.closed += 1


def test_the_second_waits_for_the_first() -> None:
    engine: Any = SlowEngine()
    serving = Serving(lambda config: engine)
    serving.engine = engine
    first = threading.Thread(target=serving.close)
    first.start()
    time.sleep(0.05)
    serving.close()
    assert engine.closed == 1, "the process would have ended before its stores"
    first.join()
    serving.close()
    assert engine.closed == 1


def test_the_tool_server_ends_though_stores_cannot_be_closed(tmp_path: Path) -> None:
    def fail() -> None:
        raise OSError("Redis is away")

    process, ended = Process(tmp_path), threading.Event()
    engine: Any = SimpleNamespace(dispatcher=SimpleNamespace(stop=lambda: None), close=fail)
    process.serving.engine = engine
    process.tool_servers.end = ended.set  # type: ignore[method-assign]
    with pytest.raises(OSError, match="Redis is away"):
        process.end()
    assert ended.is_set()
