"""Model servers that mean harm: a request ends in its time, as an answer or as a known failure."""

from __future__ import annotations

import pytest

from aios_eccos.serve import shared_servers
from integration.hostile.servers import SERVERS, asked, server

#: These take long or much memory: `python -m integration.hostile`.
LARGE = {"sends 50 MB", "sends 200 MB", "packs 2 GB", "packs 50 MB", "sends another to itself"}
LARGE |= {"packs twice", "redirects with a body for ever", "has 20 million values"}
ENDLESS = [name for name in SERVERS if "ever" in name or "drips" in name or name == "says nothing"]


@pytest.mark.parametrize("name", [name for name in SERVERS if name not in LARGE])
def test_a_request_ends_as_an_answer_or_a_known_failure(name: str) -> None:
    time_s = 0.3 if name in ENDLESS else 60.0
    assert asked(SERVERS[name], time_s, grace_s=120.0) == []


@pytest.mark.parametrize("name", ENDLESS)
def test_a_server_whose_load_has_no_end_is_left_after_its_time(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_servers, "ANSWER_S", 0.3)
    with server(SERVERS[name]) as url, pytest.raises((OSError, ValueError)):
        shared_servers.fetched(url)
