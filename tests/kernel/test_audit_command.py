"""`aios-eccos audit`: in the configuration, in a living kernel, and where nothing is to be told."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from aios_eccos.cli.main import app
from integration.kernel import free_port

CONFIG = """\
llms:
  models:
  - {{name: small, backend: vllm, hostname: "http://127.0.0.1:1/v1"}}
  router:
    strategy: eccos
    eccos:
      redis: memory   # a comment of the operator's
server: {{host: 127.0.0.1, port: {port}}}
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AIOS_ECCOS_STATE", str(tmp_path / "state"))
    path = tmp_path / "AIOS/aios/config/config.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(CONFIG.format(port=free_port()))
    return tmp_path / "AIOS"


@pytest.fixture
def kernel(home: Path) -> Iterator[list[tuple[str, object]]]:
    """Plays the kernel of the checkout; keeps what is posted."""
    posted: list[tuple[str, object]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            posted.append((self.path, body))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(body).encode())

        def log_message(self, *args: object) -> None:
            pass

    port = yaml.safe_load((home / "aios/config/config.yaml").read_text())["server"]["port"]
    with ThreadingHTTPServer(("127.0.0.1", port), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield posted
        server.shutdown()


def run(home: Path, *words: str) -> str:
    found = CliRunner().invoke(app, ["audit", *words, "--aios-home", str(home)])
    assert found.exit_code == 0, found.output or found.exception
    return found.output


def settings(home: Path) -> dict[str, object]:
    text = (home / "aios/config/config.yaml").read_text()
    assert "# a comment of the operator's" in text
    return dict(yaml.safe_load(text)["llms"]["router"]["eccos"])


def test_on_and_off_are_written_and_told_to_a_living_kernel(
    home: Path, kernel: list[tuple[str, object]]
) -> None:
    assert "the living kernel follows" in run(home, "on", "2.5%")
    assert settings(home)["audit"] == "2.5 %"
    run(home, "off")
    assert settings(home)["audit"] is False
    assert kernel == [("/eccos/audit", {"share": 0.025}), ("/eccos/audit", {"share": 0.0})]


def test_without_a_share_it_is_the_usual_one_and_without_a_kernel_that_is_said(home: Path) -> None:
    assert "it holds at its start" in run(home, "on")
    assert settings(home)["audit"] == "5 %"


@pytest.mark.parametrize("share", ["80%", "much", "0"])
def test_a_share_that_cannot_be_is_refused_and_nothing_is_written(home: Path, share: str) -> None:
    found = CliRunner().invoke(app, ["audit", "on", share, "--aios-home", str(home)])
    assert found.exit_code != 0
    assert share in str(found.exception)
    assert "audit" not in settings(home)


def test_enable_writes_the_share_and_the_judge(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: dict[str, str] = {}

    def enable(aios_home: Path, python: str, options: dict[str, str], keys: object) -> list[str]:
        written.update(options)
        return []

    monkeypatch.setattr("aios_eccos.cli.enable.install.enable", enable)
    words = ["enable", "--aios-home", str(home), "--audit", "5%", "--judge", "large: 70b"]
    found = CliRunner().invoke(app, words)
    assert found.exit_code == 0, found.exception
    assert written == {"audit": "5 %", "judge": '"large: 70b"'}
