"""The commands: from a kernel's HTTP side, else from Redis; fast, and JSON where asked."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pty
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import typer
from observe_world import SMALL, World, make_engine
from rich.console import Console
from typer.testing import CliRunner

from aios_eccos.cli.ask import Asker
from aios_eccos.cli.look_ups import events, explain, feedback, last, savings, status
from aios_eccos.cli.route import route
from aios_eccos.cli.top import top
from aios_eccos.cli.top_screen import Screen
from aios_eccos.errors import ConfigError, EccosError, WorkloadError
from aios_eccos.locate import state_dir_of
from aios_eccos.observe.audit_views import AuditsView, PolicyView
from aios_eccos.observe.call_views import ExplainRequest, FeedbackRequest, RouteRequest
from aios_eccos.observe.http import routes
from aios_eccos.observe.money import CapView
from aios_eccos.observe.views import CanaryView, PlanView

CONFIG = """
llms:
  models:
    - {name: "small: 8b", backend: vllm, hostname: "http://small", concurrency: 64,
       input_cost_per_token: 1.0e-7, output_cost_per_token: 1.0e-7}
    - {name: large, backend: vllm, hostname: "http://large", concurrency: 64,
       input_cost_per_token: 1.0e-5, output_cost_per_token: 1.0e-5}
  router: {strategy: eccos, eccos: {quality_floor: 0.9, redis: REDIS}}
server: {host: 127.0.0.1, port: PORT}
"""
COMMANDS = {"status": status, "last": last, "savings": savings, "events": events}
SHAPES = {
    "/eccos/feedback": FeedbackRequest,
    "/eccos/explain": ExplainRequest,
    "/eccos/route": RouteRequest,
}
FORBIDDEN = ("numpy", "scipy", "torch", "chromadb", "sklearn", "sentence_transformers", "litellm")


def write_config(folder: Path, port: int, redis: str = "embedded") -> Path:
    home = folder / "AIOS"
    path = home / "aios/config/config.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(CONFIG.replace("PORT", str(port)).replace("REDIS", redis), encoding="utf-8")
    return home


def run(command, *arguments: str):
    app = typer.Typer(add_completion=False)
    app.command()(command)
    return CliRunner().invoke(app, arguments)


@pytest.fixture
def kernel(world: World):
    """A kernel's HTTP side with our routes; yields its port and the paths asked."""
    found = {r.path: r for r in routes(lambda: world.reader, lambda s, r: LookupError(r))}
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            path, _, query = self.path.partition("?")
            fields = dict(part.split("=") for part in query.split("&") if part)
            arguments = {k: int(v) if v.isdecimal() else v for k, v in fields.items()}
            if path.startswith("/eccos/decisions/"):
                arguments, path = {"id": path.split("/")[-1]}, "/eccos/decisions/{id}"
            self.reply(found[path].endpoint(**arguments))

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self.reply(found[self.path].endpoint(SHAPES[self.path].model_validate(body)))

        def reply(self, view) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(view.model_dump_json(by_alias=True).encode())

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port, asked
        server.shutdown()


@pytest.mark.parametrize("name", COMMANDS)
def test_a_living_kernel_is_asked(world: World, kernel, tmp_path: Path, name: str) -> None:
    world.calls(3)
    port, asked = kernel
    home = str(write_config(tmp_path, port))
    text = run(COMMANDS[name], "--aios-home", home)
    assert text.exit_code == 0, text.output
    assert all(len(line) <= 80 for line in text.stdout.splitlines())
    view = json.loads(run(COMMANDS[name], "--aios-home", home, "--json").stdout)
    assert view["schema"].startswith("aios-eccos/")
    assert len(asked) == 2


def test_explain_asks_a_living_kernel(
    world: World, kernel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIOS_ECCOS_STATE", str(tmp_path / "state"))
    world.call("0.97")
    home = str(write_config(tmp_path, kernel[0]))
    assert "> large" in run(explain, "last", "--aios-home", home).stdout
    dry = json.loads(run(explain, "0.97 which model?", "--aios-home", home, "--json").stdout)
    assert dry["dry"] and dry["decision"]["model"] == "large"


def test_route_asks_a_living_kernel(
    world: World, kernel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the kernel can read its history: beside it, a shell would decide on priors."""
    monkeypatch.setenv("AIOS_ECCOS_STATE", str(tmp_path / "state"))
    home = str(write_config(tmp_path, kernel[0], "memory"))
    for text, model in (("0.03 which?", SMALL.name), ("0.97 which?", "large")):
        found = run(route, text, "--aios-home", home, "--json")
        body = json.loads(found.stdout)
        assert (body["schema"], body["model"], body["note"]) == ("aios-eccos/route/1", model, "")
        assert {row["support"] > 1 for row in body["models"]} == {True}, "not priors"
        assert {(row["in_use"], row["limit"]) for row in body["models"]} == {(0, 64)}
        assert body["success_price_usd"] == pytest.approx(
            world.reader.explain_text(text).decision.success_price_usd
        )
    low = json.loads(
        run(route, "0.97 which?", "--aios-home", home, "--floor", "0.1", "--json").stdout
    )
    assert (low["floor"], low["model"]) == (0.1, SMALL.name)
    assert "large" in run(route, "0.97 which?", "--aios-home", home).stdout


def test_feedback_is_given_to_a_living_kernel(world: World, kernel, tmp_path: Path) -> None:
    world.calls(1)
    (decision,) = world.reader.decisions(1).decisions
    home = ("--aios-home", str(write_config(tmp_path, kernel[0])))
    assert "judged 1" in run(feedback, decision.id, "--correct", *home).stdout
    changed = json.loads(run(feedback, decision.id, "--score", "0.5", "--json", *home).stdout)
    assert (changed["correctness"], changed["before"]) == (0.5, 1.0)
    for words in ([], ["--wrong", "--score", "1"]):
        refused = run(feedback, decision.id, *words, *home).exception
        assert isinstance(refused, ConfigError)


@pytest.mark.usefixtures("patient_redis")
def test_feedback_beside_no_kernel_is_handed_to_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIOS_ECCOS_STATE", str(tmp_path / "state"))
    home = write_config(tmp_path, 9)
    with make_engine(state_dir_of(home), redis="embedded") as engine:
        assert engine.wait_ready(60)
        World(engine).calls(1)
    (decision,) = json.loads(run(last, "1", "--aios-home", str(home), "--json").stdout)["decisions"]
    told = run(feedback, decision["id"], "--wrong", "--aios-home", str(home))
    assert "judged 0; handed to the owner" in told.stdout


@pytest.mark.usefixtures("patient_redis")
def test_without_a_kernel_redis_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIOS_ECCOS_STATE", str(tmp_path / "state"))
    home = write_config(tmp_path, 9)
    with make_engine(state_dir_of(home), redis="embedded") as engine:
        assert engine.wait_ready(60)
        World(engine).calls(3)
    view = json.loads(run(status, "--aios-home", str(home), "--json").stdout)
    assert (view["source"], view["edge"], view["windows"][0]["calls"]) == ("redis", None, 3)
    assert "from Redis" in run(status, "--aios-home", str(home)).stdout
    assert (
        len(json.loads(run(last, "2", "--aios-home", str(home), "--json").stdout)["decisions"]) == 2
    )
    assert run(savings, "--aios-home", str(home)).exit_code == 0


def test_a_broken_floor_is_exit_code_1(world: World, kernel, tmp_path: Path) -> None:
    world.calls(30)
    for trace in world.reader.decisions(30).decisions:
        world.reader.feedback(trace.id, 0.0)
    found = run(status, "--aios-home", str(write_config(tmp_path, kernel[0])))
    assert found.exit_code == 1
    assert "BROKEN" in found.stdout


def test_a_workload_inside_the_kernel_can_only_be_asked_of_it(tmp_path: Path) -> None:
    found = run(status, "--aios-home", str(write_config(tmp_path, 9, "memory")))
    assert isinstance(found.exception, WorkloadError)


def test_a_kernel_that_refuses_is_named_and_redis_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIOS_ECCOS_STATE", str(tmp_path / "state"))

    class Refusing(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(403)

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        found = run(status, "--aios-home", str(write_config(tmp_path, server.server_port)))
        server.shutdown()
    assert found.exit_code == 0
    assert "HTTP 403" in found.stderr


def test_a_text_without_a_kernel_is_sent_to_route(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIOS_ECCOS_STATE", str(tmp_path / "state"))
    found = run(explain, "what now?", "--aios-home", str(write_config(tmp_path, 9)))
    assert isinstance(found.exception, EccosError)
    assert "aios-eccos route" in str(found.exception)


def test_status_imports_nothing_heavy(world: World, kernel, tmp_path: Path) -> None:
    home = write_config(tmp_path, kernel[0])
    code = (
        "import sys, runpy\n"
        "from aios_eccos.cli.look_ups import status\n"
        "from pathlib import Path\n"
        f"status(aios_home=Path({str(home)!r}))\n"
        "sys.stderr.write(' '.join(sorted(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.split(".")[0] for name in done.stderr.split()}
    assert not loaded & {*FORBIDDEN, "redis"}
    assert "aios-eccos" in done.stdout


CANARY = CanaryView(
    stands="rolled back", since=1e9, share=0.1,
    routed=90, routed_failed=2, control=80, control_failed=3,
)  # fmt: skip
CAP = CapView(
    name="all agents a day", usd=10, spent_usd=9, held_usd=1, left_usd=0, beyond_usd=0,
    over_usd=0, resets_at=1e9, at_cap="refuse", kept=7, worth=None,
)  # fmt: skip
EARNED = PolicyView(
    policy="", state="earned", share=0.25, hold=0.05, shadowed=40, loss=0.01, allowed=0.05,
    needs_calls=1200, suspects=[], models=[],
)  # fmt: skip
AUDITS = AuditsView(
    share=0.05, judge="large", left_usd=1, audit_usd=1, judge_usd=0.5, saved_usd=2,
    break_even_calls=0, calls=5, copies=7, failed=0, agreed=4, judged=3, differed=0, ungraded=0,
    missed=0, dropped=0, unjudged=0, judge_repeats=0, judge_consistency=None, people=None,
    policies=[EARNED],
)  # fmt: skip
PLAN = PlanView(
    plan="small + mini, else large", calls=4, share=0.5, agreed=3, escaped=1, cost_usd=0.1,
    saved_usd=0.5, verdicts=0, realised=None,
)  # fmt: skip


@pytest.mark.parametrize(("width", "height"), [(80, 24), (160, 50), (40, 10), (80, 5)])
def test_top_fills_any_screen_and_no_more(world: World, width: int, height: int) -> None:
    world.calls(70)
    screen = Screen(world.reader.status(), world.reader.decisions(60))
    console = Console(
        width=width, height=height, file=io.StringIO(), force_terminal=True, color_system=None
    )
    options = console.options.update(width=width, height=height)
    lines = console.render_lines(screen, options, pad=False)
    text = ["".join(segment.text for segment in line) for line in lines]
    assert len(text) <= height
    assert all(len(line) <= width for line in text)
    if height >= 24:
        assert len(text) == height
        assert any("small: 8b" in line and "0/64" in line for line in text)
        assert any("promise" in line for line in text)
    assert ("reason" in "".join(text)) == (width >= 130)


def drawn(world: World, width: int = 80, height: int = 24, **changes: object) -> list[str]:
    status = world.reader.status().model_copy(update=changes)
    lines = Screen(status, world.reader.decisions(60)).lines(width, height)
    return [line.plain for line in lines]


def test_top_says_how_to_use_what_is_off_and_which_keys_there_are(world: World) -> None:
    text = "\n".join(drawn(world))
    for hint in ("audit: 5 %", "max_cost: {day: 5}", "plans: auto", "aios-eccos route", "q quit"):
        assert hint in text


def test_top_shows_policies_audits_caps_plans_and_the_canary(world: World) -> None:
    world.calls(3)
    world.reader.feedback("last", 1.0)
    edge = world.edge().model_copy(update={"canary": CANARY})
    text = drawn(world, caps=[CAP], audits=AUDITS, plans=[PLAN], edge=edge)
    for begins, said in (
        ("policy", "all, 0.9: holds; earned, 25.0 % routed, about 1,200 calls to go; 100.0 % of 1"),
        ("canary", "rolled back, 0.0 % routed; 2 of 90 failed, 3 of 80 others"),
        ("audits", "$1.50 spent, $2.00 saved; 7 copies of 5 calls; paid back"),
        ("cap", "all agents a day   ########## $9.00 of $10.00, $1.00 held, kept 7 calls"),
        ("plan", "4 calls, 75.0 % agreed, $0.500 saved: small + mini, else large"),
        ("! ", "the cap of all agents a day is used up"),
    ):
        assert any(line.startswith(begins) and said in line for line in text), begins


@pytest.mark.parametrize("odd", ["\x1b[2J", "\x9b31m", "\u202e", "\x07", "a\r\nb"])
def test_top_draws_names_of_others_without_what_a_terminal_obeys(world: World, odd: str) -> None:
    world.calls(3)
    canary = CANARY.model_copy(update={"why": odd})
    edge = world.edge().model_copy(update={"canary": canary, "history_note": odd, "mode": odd})
    audits = AUDITS.model_copy(update={"policies": [EARNED.model_copy(update={"policy": odd})]})
    cap, plan = CAP.model_copy(update={"name": odd}), PLAN.model_copy(update={"plan": odd})
    text = drawn(world, height=60, caps=[cap], audits=audits, plans=[plan], edge=edge)
    assert [line for line in text if not line.isprintable()] == []


def test_top_drops_columns_before_it_cuts_what_a_narrow_terminal_shows(world: World) -> None:
    world.calls(3)
    for width in (120, 80, 60, 44):
        lines = drawn(world, width=width)
        assert all(len(line) <= width for line in lines if "small: 8b" in line)
        assert any(line.endswith("ok") for line in lines)


def test_top_in_a_pipe_prints_one_look_and_ends(world: World, kernel, tmp_path: Path) -> None:
    found = run(top, "--aios-home", str(write_config(tmp_path, kernel[0])))
    assert found.exit_code == 0
    assert "small: 8b" in found.stdout
    assert "\x1b" not in found.stdout and "q quit" not in found.stdout


def test_top_takes_two_keys_that_are_typed_at_once(world: World, kernel, tmp_path: Path) -> None:
    words = ["top", "--every", "60", "--aios-home", str(write_config(tmp_path, kernel[0]))]
    start = f"from aios_eccos.cli.main import main; main({words!r})"
    ours, theirs = pty.openpty()
    shown = subprocess.Popen([sys.executable, "-c", start], stdin=theirs, stdout=theirs)
    try:
        os.close(theirs)
        assert os.read(ours, 1)  # it has the terminal now
        os.write(ours, b"pq")
        threading.Thread(target=drain, args=(ours,), daemon=True).start()
        assert shown.wait(60) == 0
    finally:
        shown.kill()
        shown.wait()


def drain(terminal: int) -> None:
    with contextlib.suppress(OSError):
        while os.read(terminal, 65536):
            pass


def test_top_as_json_prints_a_line_a_look(
    world: World, kernel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", stop)
    found = run(top, "--json", "--aios-home", str(write_config(tmp_path, kernel[0])))
    monkeypatch.undo()
    assert json.loads(found.stdout)["schema"] == "aios-eccos/status/1"


def test_a_reader_is_opened_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIOS_ECCOS_STATE", str(tmp_path / "state"))
    with Asker(None, write_config(tmp_path, 9)) as asker:
        assert asker.reader() is asker.reader()
