"""One Redis whose namespace a kernel has filled."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))

from integration.hostile.redis_values import fill
from integration.hostile.world import redis_server


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, dict[str, bytes]]]:
    """The server's port, and what lies under each key."""
    with redis_server() as port:
        yield port, fill(port, tmp_path_factory.mktemp("state"))
