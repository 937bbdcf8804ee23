"""`aios-eccos init`: proposals with reasons, a diff, and a yes before anything is written."""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml
from checkouts import checkout
from typer.testing import CliRunner

from aios_eccos.cli.main import app, main
from aios_eccos.config import parse_models
from aios_eccos.kernel.setup import install
from aios_eccos.kernel.setup.propose import ask, propose

CONFIG = """\
llms:
  models:
  - {{name: mini, backend: ollama, hostname: "{local}"}}
  - name: small
    backend: openai
    input_cost_per_token: 1.0e-7
    output_cost_per_token: 4.0e-7
    concurrency: 7
  - name: large
    backend: openai   # the good one
    input_cost_per_token: 2.0e-6
    output_cost_per_token: 8.0e-6
  router:
    strategy: sequential
"""
#: What servers answer, by path; each is read as if a stranger had written it.
ANSWERS: dict[str, object] = {
    "/v1/models": {"data": [{"id": "mini", "max_model_len": 8192}]},
    "/props": {"total_slots": 3, "default_generation_settings": {"n_ctx": 4096}},
}
ODD: tuple[object, ...] = (
    [],
    {"data": 3},
    {"data": [{"id": "mini", "max_model_len": -1}]},
    {"data": [{"id": "mini", "max_model_len": True}, None]},
    {"data": [{"id": "mini", "max_model_len": 1e99}]},
    "x" * 2_000_000,
)


@pytest.fixture
def server() -> Iterator[tuple[str, dict[str, object]]]:
    answers = dict(ANSWERS)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = answers.get(self.path)
            self.send_response(404 if found is None else 200)
            self.end_headers()
            self.wfile.write(json.dumps(found).encode())

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as found:
        threading.Thread(target=found.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{found.server_port}", answers
        found.shutdown()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: tuple[str, object]) -> Path:
    return checkout(tmp_path, monkeypatch, CONFIG.format(local=server[0]))


def llms(home: Path) -> dict[str, dict[str, object]]:
    found = yaml.safe_load((home / "aios/config/config.yaml").read_text())["llms"]
    return {each["name"]: each for each in found["models"]} | {"eccos": found["router"]["eccos"]}


def run(home: Path, *words: str, said: str = "") -> tuple[int, str]:
    done = CliRunner().invoke(app, ["init", "--aios-home", str(home), *words], input=said)
    return done.exit_code, done.output


def test_it_writes_what_the_servers_and_the_prices_say_and_keeps_what_is_there(home: Path) -> None:
    before = (home / "aios/config/config.yaml").read_bytes()
    code, said = run(home, "--reach", "--yes")
    assert code == 0, said
    found = llms(home)
    assert (found["mini"]["concurrency"], found["mini"]["context_window"]) == (3, 8192)
    assert found["mini"]["input_cost_per_token"] == found["mini"]["output_cost_per_token"] == 0
    assert found["small"]["concurrency"] == 7 and found["large"]["concurrency"] == 32
    assert (found["eccos"]["audit"], found["eccos"]["judge"]) == ("5 %", "large")
    assert found["eccos"]["plans"] == "auto"
    assert "# the good one" in (home / "aios/config/config.yaml").read_text()
    assert "+    concurrency: 32" in said and "copies of calls in free slots" in said
    install.disable(home)
    assert (home / "aios/config/config.yaml").read_bytes() == before


@pytest.mark.parametrize("said", ["n\n", ""])
def test_without_a_yes_nothing_is_written(home: Path, said: str) -> None:
    before = (home / "aios/config/config.yaml").read_bytes()
    code, _ = run(home, said=said)
    assert code == 1
    assert (home / "aios/config/config.yaml").read_bytes() == before
    assert install.note_of(home) is None


@pytest.mark.parametrize("first", ["init --yes", "enable", "enable --observe"])
def test_work_is_done_though_nobody_reads_what_is_said(
    home: Path, monkeypatch: pytest.MonkeyPatch, first: str
) -> None:
    there = f"--aios-home {home}"
    for words, done in (
        (f"{first} {there}", "strategy: eccos"),
        (f"mode canary {there}", "mode: canary"),
        (f"audit on 3% {there}", "audit: 3 %"),
        (f"disable {there}", "strategy: sequential"),
    ):
        assert unread(monkeypatch, words) == 0
        assert done in (home / "aios/config/config.yaml").read_text()


def unread(monkeypatch: pytest.MonkeyPatch, words: str) -> object:
    """The exit code of a command whose reader has gone."""
    reads, writes = os.pipe()
    os.close(reads)
    with monkeypatch.context() as patch, os.fdopen(writes, "w") as stdout:
        patch.setattr(sys, "stdout", stdout)
        with pytest.raises(SystemExit) as ended:
            main(words.split())
    return ended.value.code


def test_what_the_operator_has_set_is_not_proposed(home: Path) -> None:
    assert run(home, "--yes")[0] == 0
    written = (home / "aios/config/config.yaml").read_bytes()
    code, said = run(home, "--yes")
    assert code == 0 and "why" not in said
    assert (home / "aios/config/config.yaml").read_bytes() == written


def test_a_pool_without_prices_gets_no_share_of_money() -> None:
    entries = parse_models([{"name": name, "backend": "ollama"} for name in ("a", "b", "c")])
    keys = [(each.model, each.key) for each in propose(entries, {}, {})]
    assert keys == [("a", "concurrency"), ("b", "concurrency"), ("c", "concurrency")] + [
        (None, "plans")
    ]


def test_one_model_needs_no_choice() -> None:
    entries = parse_models([{"name": "a", "backend": "vllm", "concurrency": 2}])
    assert [*propose(entries, {}, {})] == []


@pytest.mark.parametrize("answer", ODD)
@pytest.mark.parametrize("path", [*ANSWERS])
def test_a_hostile_server_is_not_believed(
    server: tuple[str, dict[str, object]], path: str, answer: object
) -> None:
    url, answers = server
    answers.clear()
    answers[path] = answer
    (entry,) = parse_models([{"name": "mini", "hostname": url + "/v1"}])
    found = ask(entry)
    assert (found.slots, found.window) == (None, None)


#: Of `/props` of llama.cpp's server, with SmolLM2 135M and with Qwen2.5-Coder.
SMOLLM = {"supports_tools": False, "supports_tool_calls": False, "supports_system_role": True}
QWEN = {"supports_tools": True, "supports_tool_calls": True, "supports_system_role": True}


@pytest.mark.parametrize(
    ("caps", "modalities", "abilities"),
    [
        (SMOLLM, {"vision": False, "audio": False}, ("json",)),
        (SMOLLM, {"vision": True}, ("json", "vision")),
        (SMOLLM, None, ("json",)),
        (QWEN, {"vision": False}, None),
        ({"supports_tools": False, "supports_tool_calls": True}, {}, None),
        ({}, {}, None),
        ([True], 3, None),
    ],
)
def test_a_model_whose_template_has_no_tools_is_proposed_without_them(
    server: tuple[str, dict[str, object]],
    caps: object,
    modalities: object,
    abilities: tuple[str, ...] | None,
) -> None:
    url, answers = server
    answers["/props"] = {"chat_template_caps": caps, "modalities": modalities}
    (entry,) = parse_models([{"name": "mini", "hostname": url + "/v1"}])
    found = ask(entry)
    assert found.abilities == abilities
    lines = [each for each in propose([entry], {}, {"mini": found}) if each.key == "abilities"]
    assert [json.loads(each.value) for each in lines] == ([[*abilities]] if abilities else [])
    (set_already,) = parse_models([{"name": "mini", "abilities": ["tools"]}])
    assert "abilities" not in [each.key for each in propose([set_already], {}, {"mini": found})]


def test_a_server_that_is_away_is_named_without_its_password() -> None:
    (entry,) = parse_models([{"name": "mini", "hostname": "http://u:hunter2@127.0.0.1:1/v1"}])
    remark = ask(entry).remark
    assert "does not answer" in remark and "hunter2" not in remark
