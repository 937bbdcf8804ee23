"""What lies in Redis may be another version's, damaged, or somebody else's."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from redis import Redis

from aios_eccos.floor.alarm import read_alarms
from aios_eccos.kernel.sessions import Known
from aios_eccos.values import Rates
from aios_eccos.verdicts.draws import read_draws
from aios_eccos.verdicts.people import Checked, read_checked
from aios_eccos.verdicts.taken import read_verdicts
from aios_eccos.workload.connect import open_workload
from aios_eccos.workload.memory import MemoryWorkload
from integration.hostile.redis_values import FOREIGN, PREFIX, look_at_all, serve_under_all

TEXTS = [value.decode("utf-8", "surrogateescape") for value in FOREIGN]
#: Every n-th of about 1,200 foreign values; `python -m integration.hostile` tries them all.
EVERY = 131


def test_foreign_values_show_as_our_own_words(filled: tuple[int, dict[str, bytes]]) -> None:
    tried, faults = look_at_all(*filled, every=EVERY)
    assert tried >= 5
    assert faults == []


def test_calls_are_answered_over_foreign_values(
    filled: tuple[int, dict[str, bytes]], tmp_path: Path
) -> None:
    tried, faults = serve_under_all(*filled, tmp_path, every=4 * EVERY)
    assert tried >= 2
    assert faults == []


@pytest.mark.parametrize("upto", [b"-1", b"nan", b"-inf", b"1e308", b"x", b"", b"9" * 400])
def test_a_last_minute_that_begins_anywhere_is_walked_in_no_time(
    filled: tuple[int, dict[str, bytes]], upto: bytes
) -> None:
    port, slot = filled[0], "walked"
    with Redis(port=port) as client:
        client.hset(
            f"{PREFIX}recent:{slot}", mapping={"upto": upto, "requests": b"nan", "r1": upto}
        )
        store = open_workload(
            f"redis://127.0.0.1:{port}",
            state_dir=Path("unused"),
            namespace="hostile",
            member=False,
            timeout_s=60,
        )
        begun = client.info("commandstats").get("cmdstat_hmget", {}).get("calls", 0)
        load = store.loads({slot: 5}, {slot: Rates(10, 1000)})[slot]
        walked = client.info("commandstats")["cmdstat_hmget"]["calls"] - begun
        store.close()
    assert (load.limit, load.requests, load.tokens) == (5, 0, 0)
    assert walked < 1000


@pytest.mark.parametrize("text", TEXTS, ids=lambda text: ascii(text)[:20])
def test_a_note_of_another_shape_is_none(text: str) -> None:
    ledger = MemoryWorkload()
    for name in ("since", "judge:checked", "audited:c", "verdict:1-1", "alarm-wealth:p"):
        ledger.swap_note(name, text)
    assert read_draws(ledger, "c") == []
    assert read_checked(ledger) == Checked()
    assert read_verdicts(ledger, ["1-1"]) == [None]
    assert read_alarms(ledger, time.time()) == []
    assert Known.of(text) is None
