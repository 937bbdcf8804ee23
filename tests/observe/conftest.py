"""The living toy engine, as a fixture."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from observe_world import World, make_engine


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with make_engine(tmp_path, cooldown_s=0.05) as engine:
        assert engine.wait_ready(20)
        yield World(engine)
    assert not [t for t in threading.enumerate() if t.name == "eccos-recorder"]
