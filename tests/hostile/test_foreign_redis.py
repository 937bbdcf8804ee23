"""What lies in Redis may be another version's, damaged, or somebody else's."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path

import pytest
from redis import Redis

from aios_eccos.errors import WorkloadError
from aios_eccos.floor.alarm import read_alarms
from aios_eccos.kernel.sessions import Known
from aios_eccos.values import Cap, Lease, Need, Rates, Used
from aios_eccos.verdicts.draws import read_draws
from aios_eccos.verdicts.people import Checked, read_checked
from aios_eccos.verdicts.taken import read_verdicts
from aios_eccos.workload.connect import open_workload
from aios_eccos.workload.memory import MemoryWorkload
from aios_eccos.workload.periods import PeriodSums
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


NAMES = ("kernels", "charged", "settled", "slots:m", "limits:m", "rpm:m", "recent:m", "spent:c")


@pytest.mark.parametrize("name", [*NAMES, "prices", "tally:total", "inbox", "note:n", "decisions"])
@pytest.mark.parametrize("kind", ["string", "hash", "list"])
def test_a_foreign_type_under_our_key_is_dropped_and_all_goes_on(
    filled: tuple[int, dict[str, bytes]], name: str, kind: str
) -> None:
    prefix = "eccos:{typed}:v1:"
    with Redis(port=filled[0]) as client:
        client.flushall()
        store = open_workload(
            f"redis://127.0.0.1:{filled[0]}",
            state_dir=Path("unused"),
            namespace="typed",
            member=False,
            timeout_s=60,
        )
        made = {
            "string": lambda key: client.set(key, "x"),
            "hash": lambda key: client.hset(key, "a", "x"),
            "list": lambda key: client.rpush(key, "x"),
        }
        made[kind](prefix + name)
        cap = Cap("c a day", "c", 1.0, time.time() + 1000)
        lease = Lease("call", "m", Need(5, 0.001, (cap,)))
        works = {
            "take": lambda: store.acquire([lease], {"m": 1}, {"m": Rates(9, 999)}) == [True],
            "price": lambda: store.move_price("p", 0.1, 1.0) > 0,
            "sums": lambda: store.add_sums([PeriodSums("total", 0.0, {"calls": 1.0})]) is None,
            "inbox": lambda: store.take_inbox(1) is not None and store.inbox_sizes()[1] == 0,
            "note": lambda: store.swap_note("n", "x") is None or True,
            "decide": lambda: store.append_decision({"a": "1"}) and store.decisions(1),
            "settle": lambda: store.settle([(lease, Used(1, 5, 0.001))]) is None,
        }
        for what, work in works.items():
            with suppress(WorkloadError):
                work()
            assert work(), f"{what} does not come back"
        store.close()


@pytest.mark.parametrize("foreign", [b"x", b"", b"nan", b"-inf", b"\xff", b"1e308"])
def test_a_number_that_is_none_begins_anew(
    filled: tuple[int, dict[str, bytes]], foreign: bytes
) -> None:
    with Redis(port=filled[0]) as client:
        client.flushall()
        client.hset("eccos:{typed}:v1:prices", "p", foreign)
        client.hset("eccos:{typed}:v1:tally:total", "calls", foreign)
        client.hset("eccos:{typed}:v1:spent:c", mapping={"spent": foreign, "held:gone": foreign})
        store = open_workload(
            f"redis://127.0.0.1:{filled[0]}",
            state_dir=Path("unused"),
            namespace="typed",
            member=False,
            timeout_s=60,
        )
        assert 1 < store.move_price("p", 0.1, 1.0) < 2
        store.add_sums([PeriodSums("total", 0.0, {"calls": 2.0})])
        assert store.sums(["total"]) == [{"calls": 2.0}]
        (spent,) = store.spent([Cap("c a day", "c", 1.0, time.time() + 1000)])
        assert (spent.usd, spent.held_usd) == (0.0, 0.0)
        store.close()


@pytest.mark.parametrize("upto", [b"x", b"99999999999", b"-5"])
def test_a_minute_that_ends_at_no_time_begins_anew(
    filled: tuple[int, dict[str, bytes]], upto: bytes
) -> None:
    with Redis(port=filled[0]) as client:
        client.flushall()
        long_ago, key = int(time.time()) - 100, "eccos:{typed}:v1:recent:m"
        counted = {"requests": 9, "tokens": 9, f"r{long_ago}": 9, f"t{long_ago}": 9}
        client.hset(key, mapping={**counted, "upto": upto})
        store = open_workload(
            f"redis://127.0.0.1:{filled[0]}",
            state_dir=Path("unused"),
            namespace="typed",
            member=False,
            timeout_s=60,
        )
        lease = Lease("call", "m", Need(5))
        assert store.acquire([lease], {"m": 1}, {"m": Rates(9, 99)}) == [True]
        load = store.loads({"m": 1}, {"m": Rates(9, 99)})["m"]
        assert (load.requests, load.tokens) == (1, 5)
        store.close()
