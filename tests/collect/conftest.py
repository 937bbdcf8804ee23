"""Three models of different ability, as fixtures."""

from __future__ import annotations

import pytest
from fleet import ABILITY, recorded, write_models

from aios_eccos.collect.questions import SHIPPED, load_questions
from aios_eccos.lab.replay_server import ReplayServers


@pytest.fixture(scope="session")
def shipped():
    return load_questions([SHIPPED])


@pytest.fixture(scope="session")
def running(shipped):
    """Servers that answer in about 10 ms."""
    with ReplayServers(recorded(shipped), list(ABILITY), seconds_per_token=0.0002) as servers:
        yield servers


@pytest.fixture
def servers(running):
    """The same, counting anew and without faults."""
    for name in running.models:
        running.inject(name, {})
    running.reset()
    return running


@pytest.fixture
def models_file(tmp_path, servers):
    return write_models(tmp_path / "models.yaml", servers)
