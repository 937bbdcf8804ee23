"""Sums, events and notes in Redis, under the keys of `workload.redis`."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from aios_eccos.workload.client import RedisClient
from aios_eccos.workload.ledger import EVENTS_KEPT, PeriodSums, check_amounts

#: Periods read in one answer: a kernel gives Redis 50 ms, and 10,000 numbers take 5.
PERIODS_AT_ONCE = 100

STREAM_ID = re.compile(r"\d{1,18}-\d{1,18}")


class RedisLedger:
    """Mixed into `RedisWorkload`, which sets what is declared here."""

    _redis: RedisClient
    _decisions_kept: int

    def append_decision(self, fields: Mapping[str, str]) -> str:
        return self._append("decisions", fields, self._decisions_kept)

    def decisions(self, n: int) -> list[tuple[str, dict[str, str]]]:
        return self._newest("decisions", n)

    def add_sums(self, additions: Sequence[PeriodSums]) -> None:
        check_amounts(additions)
        full = [each for each in additions if each.amounts]
        if not full:
            return
        args: list[object] = []
        for each in full:
            args += [math.ceil(each.keep_s), len(each.amounts)]
            for name, amount in each.amounts.items():
                args += [name, repr(float(amount))]
        self._redis.run("add_sums", [self._sums_key(t.period) for t in full], args)

    def sums(self, periods: Sequence[str]) -> list[dict[str, float]]:
        found: list[dict[str, float]] = []
        for start in range(0, len(periods), PERIODS_AT_ONCE):
            keys = [self._sums_key(period) for period in periods[start : start + PERIODS_AT_ONCE]]
            found += [_sums(flat) for flat in self._redis.run("sums", keys, [])]
        return found

    def decision(self, identity: str) -> dict[str, str] | None:
        if not STREAM_ID.fullmatch(identity):
            return None
        with self._redis.using("read a decision") as client:
            entries = client.xrange(self._redis.key("decisions"), identity, identity, count=1)
        return _text(entries[0][1]) if entries else None

    def append_event(self, fields: Mapping[str, str]) -> str:
        return self._append("events", fields, EVENTS_KEPT)

    def events(self, n: int) -> list[tuple[str, dict[str, str]]]:
        return self._newest("events", n)

    def _append(self, stream: str, fields: Mapping[str, str], kept: int) -> str:
        with self._redis.using(f"add to {stream}") as client:
            identity: bytes = client.xadd(
                self._redis.key(stream), dict(fields), maxlen=kept, approximate=True
            )
            return identity.decode()

    def _newest(self, stream: str, n: int) -> list[tuple[str, dict[str, str]]]:
        if n < 1:
            return []
        with self._redis.using(f"read {stream}") as client:
            entries = client.xrevrange(self._redis.key(stream), count=n)
        return [(identity.decode(), _text(fields)) for identity, fields in entries]

    def swap_note(self, name: str, value: str, keep_s: float = 0.0) -> str | None:
        before = self._redis.run(
            "swap_note", [self._redis.key(f"note:{name}")], [value, math.ceil(keep_s)]
        )
        return None if before is None else before.decode()

    def notes(self, names: Sequence[str]) -> list[str | None]:
        if not names:
            return []
        with self._redis.using("read notes") as client:
            found = client.mget([self._redis.key(f"note:{name}") for name in names])
        return [None if value is None else value.decode() for value in found]

    def clock(self) -> float:
        with self._redis.using("tell the time") as client:
            seconds, micros = client.time()
            return float(seconds) + float(micros) / 1e6

    def _sums_key(self, period: str) -> str:
        return self._redis.key(f"tally:{period}")


def _text(fields: Mapping[bytes, bytes]) -> dict[str, str]:
    return {name.decode(): value.decode() for name, value in fields.items()}


def _sums(flat: list[Any]) -> dict[str, float]:
    return {name.decode(): float(value) for name, value in zip(flat[::2], flat[1::2], strict=True)}
