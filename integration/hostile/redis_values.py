"""Foreign values in Redis: any type, and any value, under every key that a kernel writes.

Whoever writes to Redis is trusted as the kernel is, but what lies there may be another version's,
damaged, or somebody else's: then calls are answered all the same, and what is shown is our own
sentence.
"""

from __future__ import annotations

import itertools
import json
import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from redis import Redis

from aios_eccos.config import parse_settings
from aios_eccos.errors import EccosError
from aios_eccos.observe import render, render_calls
from aios_eccos.observe.prometheus import metrics_text
from aios_eccos.observe.reader import Reader
from aios_eccos.observe.summary import Scope
from aios_eccos.workload.connect import open_workload

from .world import ENTRIES, SETTINGS, edge, engine_on, serve

PREFIX = "eccos:{hostile}:v1:"
#: Values of a string, a field, a member or a message.
FOREIGN: tuple[bytes, ...] = (
    b"",
    b"x",
    b"nan",
    b"-inf",
    b"1e308",
    b"-1",
    b"9" * 400,
    b"\xff\xfe\x00\x1b[2J",
    b"\r\n+OK\r\n",
    b"null",
    b"[]",
    b"{}",
    b'"text"',
    b"[NaN, Infinity, 1e999]",
    b"[null, null, null, null, null, null, null, null]",
    b'[[], {}, "", -1, 0, true, null, "x"]',
    b'{"a": {"b": [1, {"c": null}]}, "\\ud800": 1}',
    b"[" * 20_000,
    b'{"schema": "aios-eccos/from-the-future/99", "v": 99}',
)
#: Scores of a sorted set.
SCORES = (math.inf, -math.inf, 1e300, -1e300, 0.5)
#: Notes that only longer runs write.
NOTES = (
    ("alarm:", "broken"),
    ("alarm-wealth:", json.dumps([19_000, 19_000, 0.0, 0.0, 0.0])),
    ("earn:", "{}"),
    ("judge:checked", "{}"),
    ("canary", '[1.0, "trial", ""]'),
)


def fill(port: int, folder: Path) -> dict[str, bytes]:
    """Let a kernel write all its keys; what they hold, as Redis dumps it."""
    with Redis(port=port) as client, engine_on(port, folder) as engine:
        bare: Any = client
        for agent in ("capped/a", "other", "capped/b"):
            serve(engine, agent)
        view = Reader.of_engine(engine, edge)
        view.feedback("last", 1.0)
        engine.workload.push_inbox([b"[]"])
        engine.workload.set_prices({"floor:": 1.5})
        engine.workload.cool_down("x", 100.0, closed=True)
        for name, text in NOTES:
            engine.ledger.swap_note(name, text)
        names = [key.decode() for key in client.keys(f"{PREFIX}*")]
        return {
            name: dump
            for name in sorted(names)
            if ":once:" not in name and (dump := bare.dump(name)) is not None
        }


def foreign_of(client: Any, name: str, dump: bytes) -> Iterator[str]:
    """Put one foreign value after the other in the place of a key; says what lies there."""
    kind = client.type(name).decode()

    def anew() -> None:
        client.delete(name)
        client.restore(name, 0, dump, replace=True)

    client.set(name, b"\xff text")
    yield "string"
    others: tuple[tuple[str, Callable[[], Any]], ...] = (
        ("list", lambda: client.rpush(name, b"\xff", b"nan", b"{}")),
        ("set", lambda: client.sadd(name, b"\xff", b"nan")),
        ("zset", lambda: client.zadd(name, {b"\xff": math.inf, b"nan": -1.0})),
        ("hash", lambda: client.hset(name, mapping={b"\xff": b"\xfe", b"": b"nan"})),
        ("stream", lambda: client.xadd(name, {b"\xff": b"\xfe", b"options": b"[[]]"})),
    )
    for other, make in others:
        client.delete(name)
        make()
        yield other
    anew()
    yield from _same_kind(client, name, kind, anew)
    anew()


def _same_kind(client: Any, name: str, kind: str, anew: Any) -> Iterator[str]:
    """Foreign values in a key of the right type."""
    if kind == "string":
        for value in FOREIGN:
            client.set(name, value)
            yield f"string {value[:12]!r}"
    if kind == "hash":
        fields = client.hkeys(name)
        for value in FOREIGN[:12]:
            anew()
            client.hset(name, mapping=dict.fromkeys(fields, value) | {value: value})
            yield f"hash of {value[:12]!r}"
    if kind == "zset":
        members = client.zrange(name, 0, -1)
        for score in SCORES:
            client.zadd(name, dict.fromkeys([*members, b"\xff\x00", b""], score))
            yield f"zset at {score:g}"
    if kind == "list":
        for value in FOREIGN:
            client.delete(name)
            client.rpush(name, value, value)
            yield f"list of {value[:12]!r}"
    if kind == "stream":
        fields = client.xrevrange(name, count=1)[0][1]
        for value in FOREIGN:
            client.xadd(name, dict.fromkeys(fields, value) | {b"\xff": value})
            yield f"entry of {value[:12]!r}"
        for field in fields:
            for value in FOREIGN:
                client.xadd(name, {**fields, field: value})
                yield f"entry with {field.decode()} of {value[:12]!r}"


def looks(reader: Reader) -> Iterator[tuple[str, Any]]:
    """All that is shown, as a name and a way to its text."""
    yield "status", lambda: render.status(reader.status())
    yield "status JSON", lambda: reader.status().model_dump_json()
    yield "models", lambda: render.models(reader.models())
    yield "last", lambda: render.last(reader.decisions())
    yield "explain", lambda: render_calls.explain(reader.explain("last"))
    yield "savings", lambda: render_calls.savings(reader.savings())
    yield "series", lambda: reader.series().model_dump_json()
    yield "events", lambda: render.events(reader.events())
    yield "metrics", lambda: metrics_text(reader.status(), reader.total())
    yield "feedback", lambda: reader.feedback("last", 0.0).model_dump_json()


def wrong(name: str, work: Any) -> str | None:
    """What is wrong with a text that is shown, or with what is raised in its place."""
    try:
        text = work()
    except EccosError as error:
        text = str(error)
    except Exception as error:  # noqa: BLE001 - that is what is looked for
        return f"{name}: {error!r:.200}"
    odd = {c for c in text if not c.isprintable() and c not in "\n"}
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return f"{name}: {error!r:.100}"
    return f"{name}: shows {sorted(odd)!r}" if odd else None


def look_at_all(port: int, dumps: dict[str, bytes], every: int = 1) -> tuple[int, list[str]]:
    """Every n-th foreign value under every key, as look-ups see it; how many, and the faults."""
    faults, tried, number = [], 0, itertools.count()
    found = parse_settings({"redis": "memory", "namespace": "hostile", **SETTINGS})
    scope = Scope(found, tuple(entry.model() for entry in ENTRIES))
    url = f"redis://127.0.0.1:{port}"
    with Redis(port=port) as client:
        store = open_workload(url, state_dir=Path("unused"), namespace="hostile", member=False)
        reader = Reader(store, lambda: scope, prices=store)
        for name, dump in dumps.items():
            for what in foreign_of(client, name, dump):
                if next(number) % every:
                    continue
                tried += 1
                for look, work in looks(reader):
                    fault = wrong(look, work)
                    if fault is not None:
                        faults.append(f"{name.removeprefix(PREFIX)} = {what}: {fault}")
                client.delete(*client.keys(f"{PREFIX}once:*"), "none")
            for other, before in dumps.items():  # what a look wrote (feedback) is put back
                client.restore(other, 0, before, replace=True)
        store.close()
    return tried, faults


def serve_under_all(
    port: int, dumps: dict[str, bytes], folder: Path, every: int
) -> tuple[int, list[str]]:
    """Calls of a kernel while every n-th foreign value lies there; how many, and the faults."""
    faults, tried, number = [], 0, itertools.count()
    with Redis(port=port) as client, engine_on(port, folder) as engine, errors_logged() as logged:
        for name, dump in dumps.items():
            for what in foreign_of(client, name, dump):
                if next(number) % every:
                    continue
                tried += 1
                if serve(engine, keep_s=0.5) is None:
                    faults.append(f"{name.removeprefix(PREFIX)} = {what}: a call was not answered")
                faults += [f"{name.removeprefix(PREFIX)} = {what}: {said}" for said in logged]
                logged.clear()
        end = time.monotonic() + 60
        while engine.workload.degraded and time.monotonic() < end:
            time.sleep(0.05)
        if engine.workload.degraded:
            faults.append("limits are not shared again once the keys are as they were")
    return tried, faults


@contextmanager
def errors_logged() -> Iterator[list[str]]:
    """What our loggers say meanwhile at level ERROR, or with signs that no terminal should get."""
    said: list[str] = []

    class Kept(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            text = record.getMessage()
            if record.levelno >= logging.ERROR or not all(c.isprintable() for c in text):
                said.append(f"logged {text[:200]!r}")

    handler, ours = Kept(), logging.getLogger("aios_eccos")
    ours.addHandler(handler)
    try:
        yield said
    finally:
        ours.removeHandler(handler)
