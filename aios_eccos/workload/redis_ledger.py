"""Prices, inbox, decisions, sums, events and notes, under the keys of `workload.redis`."""

from __future__ import annotations

import logging
import math
import re
import time
from collections.abc import Mapping, Sequence

from aios_eccos.workload.client import RedisClient
from aios_eccos.workload.periods import PeriodSums
from aios_eccos.workload.store import (
    ASIDE_KEPT,
    ASIDE_S,
    DECISIONS_KEPT,
    EVENTS_KEPT,
    MESSAGE_BYTES,
    PRICE_RANGE,
    TAKEN_BYTES,
    Ends,
    check_move,
    check_price,
    check_sizes,
    is_price,
)

log = logging.getLogger(__name__)

#: Periods in one request: a kernel gives Redis 50 ms, and 10,000 numbers take 5.
PERIODS_AT_ONCE = 100
#: Of the memory that a server may use, the part from which it is said to be nearly full.
NEARLY_FULL = 0.95

#: Largest sum that is believed; sums of sums stay finite.
SUM_MOST = 1e18
STREAM_ID = re.compile(r"\d{1,18}-\d{1,18}")


class RedisLedger:
    """What kernels share on a Redis beside slots."""

    def __init__(self, redis: RedisClient) -> None:
        self._redis = redis
        # The batch that was taken last, so that a late acknowledgment drops no other.
        self._batch = 0
        #: Prices as last read, when that was, and moved here since.
        self._prices: dict[str, float] = {}
        self._prices_at = -math.inf
        #: Names of prices that are none, as last read.
        self._odd: set[str] = set()

    def read_prices(self, age_s: float = 0.0) -> dict[str, float]:
        asked_at = time.monotonic()
        if asked_at - self._prices_at < age_s:
            return dict(self._prices)
        with self._redis.using("read prices") as client:
            found = client.hgetall(self._redis.key("prices"))
        prices = {_words(name): _number(value) for name, value in found.items()}
        odd = {name for name, price in prices.items() if not is_price(price)}
        if odd - self._odd:
            key = self._redis.key("prices")
            log.warning("Redis holds what is no price, left out, in %s: %s", key, sorted(odd))
        self._odd = odd
        self._prices = {name: price for name, price in prices.items() if name not in odd}
        self._prices_at = asked_at
        return dict(self._prices)

    def set_prices(self, prices: Mapping[str, float]) -> None:
        for value in prices.values():
            check_price(value)
        if not prices:
            return
        texts = {name: repr(float(value)) for name, value in prices.items()}
        with self._redis.using("set prices") as client:
            client.hset(self._redis.key("prices"), mapping=texts)
        self._prices = self._prices | dict(prices)

    def move_price(
        self, name: str, step: float, start: float, ends: Ends = PRICE_RANGE, *, once: str = ""
    ) -> float:
        check_move(step, start, ends)
        args = [name, *(repr(float(number)) for number in (step, start, *ends))]
        price = float(self._redis.run("move_price", ["prices"], args, once and f"{name}:{once}"))
        self._prices = self._prices | {name: price}
        return price

    def push_inbox(self, payloads: Sequence[bytes], *, once: str = "") -> None:
        check_sizes(payloads)
        if payloads:
            self._redis.run("push_inbox", ["inbox"], payloads, once)

    def take_inbox(self, most: int) -> list[bytes]:
        if most < 1:
            return []
        names = ("inbox", "taken", "batch", "aside")
        args = [most, TAKEN_BYTES, MESSAGE_BYTES, ASIDE_KEPT, ASIDE_S]
        messages: list[bytes]
        self._batch, aside, *messages = self._redis.run("take_inbox", names, args)
        if aside:
            log.warning("%d messages of more than %d bytes are set aside", aside, MESSAGE_BYTES)
        return messages

    def ack_inbox(self) -> None:
        self._redis.run("ack_inbox", ["taken", "batch"], [self._batch])

    def set_aside(self, payloads: Sequence[bytes]) -> None:
        if payloads:
            self._redis.run("set_aside", ["aside"], [ASIDE_KEPT, ASIDE_S, *payloads])

    def inbox_sizes(self) -> tuple[int, int]:
        with self._redis.using("look at the inbox") as client:
            inbox, taken, aside = (
                int(client.llen(self._redis.key(name))) for name in ("inbox", "taken", "aside")
            )
        return inbox + taken, aside

    def append_decision(self, fields: Mapping[str, str], *, once: str = "") -> str:
        return self._append("decisions", fields, DECISIONS_KEPT, once)

    def decisions(self, n: int) -> list[tuple[str, dict[str, str]]]:
        return self._newest("decisions", n)

    def decision(self, identity: str) -> dict[str, str] | None:
        if not STREAM_ID.fullmatch(identity):
            return None
        with self._redis.using("read a decision") as client:
            entries = client.xrange(self._redis.key("decisions"), identity, identity, count=1)
        return _text(entries[0][1]) if entries else None

    def append_event(self, fields: Mapping[str, str], *, once: str = "") -> str:
        return self._append("events", fields, EVENTS_KEPT, once)

    def events(self, n: int) -> list[tuple[str, dict[str, str]]]:
        return self._newest("events", n)

    def _append(self, stream: str, fields: Mapping[str, str], kept: int, once: str) -> str:
        flat = [part for pair in fields.items() for part in pair]
        identity = self._redis.run("append", [stream], [kept, *flat], once)
        return str(identity.decode())

    def _newest(self, stream: str, n: int) -> list[tuple[str, dict[str, str]]]:
        if n < 1:
            return []
        with self._redis.using(f"read {stream}") as client:
            entries = client.xrevrange(self._redis.key(stream), count=n)
        return [(identity.decode(), _text(fields)) for identity, fields in entries]

    def add_sums(self, additions: Sequence[PeriodSums], *, once: str = "") -> None:
        full = [each for each in additions if each.amounts]
        for start in range(0, len(full), PERIODS_AT_ONCE):
            part = full[start : start + PERIODS_AT_ONCE]
            args: list[object] = []
            for each in part:
                args += [math.ceil(each.keep_s), len(each.amounts)]
                for name, amount in each.amounts.items():
                    args += [name, repr(float(amount))]
            names = [f"tally:{each.period}" for each in part]
            self._redis.run("add_sums", names, args, once and f"{once}:{start}")

    def sums(self, periods: Sequence[str]) -> list[dict[str, float]]:
        found: list[dict[str, float]] = []
        for start in range(0, len(periods), PERIODS_AT_ONCE):
            names = [f"tally:{period}" for period in periods[start : start + PERIODS_AT_ONCE]]
            found += [_sums(flat) for flat in self._redis.run("sums", names, [])]
        return found

    def swap_note(
        self, name: str, value: str, keep_s: float = 0.0, *, once: str = ""
    ) -> str | None:
        args = [value, math.ceil(keep_s)]
        before = self._redis.run("swap_note", [f"note:{name}"], args, once)
        return None if before is None else _words(before)

    def change_note(self, name: str, known: str | None, value: str, *, once: str = "") -> bool:
        # As `notes` read it, whatever bytes these are: else nobody could ever change it.
        args = [value, *([] if known is None else [known.encode("utf-8", "surrogateescape")])]
        return bool(self._redis.run("change_note", [f"note:{name}"], args, once))

    def notes(self, names: Sequence[str]) -> list[str | None]:
        if not names:
            return []
        with self._redis.using("read notes") as client:
            found = client.mget([self._redis.key(f"note:{name}") for name in names])
        return [None if v is None else v.decode("utf-8", "surrogateescape") for v in found]

    def clock(self) -> float:
        with self._redis.using("tell the time") as client:
            seconds, micros = client.time()
            return float(seconds) + float(micros) / 1e6

    def warnings(self) -> list[str]:
        found = self._redis.info()
        policy, most = str(found.get("maxmemory_policy", "")), int(found.get("maxmemory", 0))
        said = []
        if policy.startswith("allkeys"):
            said.append(
                f"Redis evicts any key when its memory is full (maxmemory-policy {policy}), leases "
                "and prices too: limits would not hold; set maxmemory-policy noeviction"
            )
        if most and int(found.get("used_memory", 0)) > NEARLY_FULL * most:
            said.append(
                f"Redis has used its memory of {most:,} bytes up: writes are refused and limits "
                "not shared; raise maxmemory"
            )
        if found.get("role") == "slave":
            said.append(
                "this Redis is a replica and refuses writes, so limits are not shared: name its "
                "master, or its Sentinels by redis+sentinel://"
            )
        return said


def _words(raw: bytes) -> str:
    """A name or a text, whoever wrote it."""
    return raw.decode("utf-8", "replace")


def _text(fields: Mapping[bytes, bytes]) -> dict[str, str]:
    return {_words(name): _words(value) for name, value in fields.items()}


def _sums(flat: list[bytes]) -> dict[str, float]:
    """Names and sums; what is none, or could never be one, is left out."""
    pairs = (
        (_words(name), _number(value)) for name, value in zip(flat[::2], flat[1::2], strict=True)
    )
    return {name: value for name, value in pairs if abs(value) <= SUM_MOST}


def _number(raw: bytes) -> float:
    try:
        return float(raw)
    except ValueError:
        return math.nan
