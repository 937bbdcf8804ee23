"""What `doctor` says of AIOS, the hook and a living kernel; each fault is named."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import socket
import sys
import threading
import venv
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from aios_eccos.cli.doctor import doctor
from aios_eccos.kernel import http, status
from aios_eccos.kernel.setup import contract, install, interpreter
from aios_eccos.kernel.setup import doctor as inspect
from aios_eccos.locate import load_config, locate, state_dir_of
from aios_eccos.manifest import manifest
from aios_eccos.observe import health
from integration.kernel import free_port

STANDIN = Path(__file__).with_name("standin")
CONFIG = """\
llms:
  models:
  - {{name: small, backend: vllm, hostname: "http://127.0.0.1:1/v1"}}
  - {{name: large, backend: vllm, hostname: "http://127.0.0.1:1/v1"}}
  router: {{strategy: {strategy}}}
server: {{host: 127.0.0.1, port: {port}}}
"""
#: What GET /eccos/kernel answers where all is well, as far as `doctor` reads it.
SOUND: dict[str, Any] = {
    "mode": "route",
    "models": ["small", "large"],
    "seams": {"adapter": True, "query route": True},
    "executor": 1024,
}
STOCK = {"/status": {"status": "ok"}}
NESTED = b"HTTP/1.0 200 OK\r\n\r\n" + b"[" * 100_000


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout of the stand-in, whose port nobody listens on."""
    monkeypatch.setenv("AIOS_ECCOS_STATE", str(tmp_path / "state"))
    monkeypatch.setattr(contract, "sdk_homes", lambda: [STANDIN])
    target = tmp_path / "AIOS"
    shutil.copytree(STANDIN, target)
    configure(target, free_port())
    return target


@pytest.fixture
def free() -> int:
    """A port that nobody listens on."""
    return free_port()


@pytest.fixture
def enabled(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same, switched on in an interpreter of its own; returns the hook there."""
    monkeypatch.setenv("PYTHONPATH", str(Path(install.__file__).parents[3]))
    nothing = manifest().aios.model_copy(update={"needs": ()})
    changed = manifest().model_copy(update={"aios": nothing})
    monkeypatch.setattr(interpreter, "manifest", lambda: changed)
    venv.create(tmp_path / "venv", symlinks=True)
    install.enable(home, str(tmp_path / "venv/bin/python"))
    (hook,) = (tmp_path / "venv").glob(f"lib/*/site-packages/{interpreter.HOOK_FILE}")
    return hook


@pytest.fixture
def serve(home: Path) -> Iterator[Callable[[dict[str, Any]], None]]:
    """Plays a kernel at the checkout's port, which answers these paths and no others."""
    with contextlib.ExitStack() as stack:

        def start(replies: dict[str, Any]) -> None:
            class Handler(BaseHTTPRequestHandler):
                def do_GET(self) -> None:
                    found = replies.get(self.path)
                    self.send_response(404 if found is None else 200)
                    self.end_headers()
                    self.wfile.write(json.dumps(found).encode())

                def log_message(self, *args: object) -> None:
                    pass

            port = port_of(home)
            server = stack.enter_context(ThreadingHTTPServer(("127.0.0.1", port), Handler))
            threading.Thread(target=server.serve_forever, daemon=True).start()
            stack.callback(server.shutdown)

        yield start


def configure(home: Path, port: int, strategy: str = "eccos") -> None:
    path = home / "aios/config/config.yaml"
    path.write_text(CONFIG.format(strategy=strategy, port=port), encoding="utf-8")


def port_of(home: Path) -> int:
    url = inspect.client.url_of(load_config(locate(aios_home=home)))
    assert url is not None
    return int(url.rpartition(":")[2])


def checks(home: Path) -> dict[str, inspect.Check]:
    return {check.name: check for check in inspect.check_aios(load_config(locate(aios_home=home)))}


# A living kernel.


def test_nothing_listening_is_no_fault(home: Path) -> None:
    assert checks(home)["kernel"].ok is None
    assert "none answers" in checks(home)["kernel"].detail


def test_a_kernel_with_the_plugin_in_all_places(home: Path, serve: Any) -> None:
    serve({"/eccos/kernel": SOUND, **STOCK})
    found = {name: c.ok for name, c in checks(home).items() if name.startswith("kernel")}
    places = ("adapter", "query route", "threads", "models")
    assert found == {"kernel": True, **{f"kernel: {place}": True for place in places}}


@pytest.mark.parametrize(("strategy", "ok"), [("eccos", False), ("sequential", None)])
def test_a_kernel_without_the_plugin_is_a_fault_where_it_was_asked_for(
    home: Path, serve: Any, strategy: str, ok: bool | None
) -> None:
    configure(home, port_of(home), strategy)
    serve(STOCK)
    found = checks(home)["kernel"]
    assert found.ok is ok
    assert f"{port_of(home)} without the plugin" in found.detail
    assert ("restart it" in found.detail) is (ok is False)


@pytest.mark.parametrize(
    ("change", "name", "ok", "says"),
    [
        ({"seams": {"query route": False}}, "query route", False, "not the plugin's"),
        ({"models": ["small"]}, "models", False, "could not set up large"),
        ({"executor": 6}, "threads", False, "6, http_threads: 1024; restart"),
        ({"executor": None}, "threads", None, "older"),
    ],
)
def test_what_is_wrong_in_a_living_kernel_is_named(
    home: Path, serve: Any, change: dict[str, Any], name: str, ok: bool | None, says: str
) -> None:
    serve({"/eccos/kernel": SOUND | change, **STOCK})
    found = checks(home)
    assert found[f"kernel: {name}"].ok is ok
    assert says in found[f"kernel: {name}"].detail
    others = {key: c for key, c in found.items() if key.startswith("kernel") and name not in key}
    assert all(check.ok for check in others.values())


@pytest.mark.parametrize("answer", [[], {}, "up", {"mode": "route"}, 5])
def test_something_else_that_answers_is_no_kernel(home: Path, serve: Any, answer: object) -> None:
    serve({"/eccos/kernel": answer})
    found = checks(home)["kernel"]
    assert found.ok is False
    assert "server.port" in found.detail


@pytest.mark.parametrize(
    "answer", [b"SSH-2.0-OpenSSH_9.6\r\n", b"", b"HTTP/1.0 200 OK\r\n\r\n[", NESTED]
)
def test_what_speaks_no_http_or_json_is_no_kernel(home: Path, answer: bytes) -> None:
    with socket.create_server(("127.0.0.1", port_of(home))) as server:

        def play() -> None:
            with contextlib.suppress(OSError):
                while True:
                    with server.accept()[0] as connection:
                        connection.recv(10_000)
                        connection.sendall(answer)

        threading.Thread(target=play, daemon=True).start()
        assert checks(home)["kernel"].ok is None


def test_the_token_goes_nowhere_else(home: Path, free: int) -> None:
    path = home / "aios/config/config.yaml"
    token = 'strategy: eccos, eccos: {http_token: "tk-4f1-long"}'
    path.write_text(path.read_text().replace("strategy: eccos", token))
    seen: list[str | None] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(self.headers["Authorization"])
            self.send_response(302)
            self.send_header("Location", f"http://127.0.0.1:{free}/")
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    servers = [ThreadingHTTPServer(("127.0.0.1", port), Handler) for port in (port_of(home), free)]
    with servers[0], servers[1]:
        for server in servers:
            threading.Thread(target=server.serve_forever, daemon=True).start()
        assert checks(home)["kernel"].ok is False
        for server in servers:
            server.shutdown()
    assert seen == ["Bearer tk-4f1-long"]


@pytest.mark.parametrize(
    ("server", "names"),
    [
        ("5", "server: wanted a mapping"),
        ("{port: x}", "server.port = 'x'"),
        ("{port: 0}", "server.port = 0"),
        ("{port: 99999}", "server.port = 99999"),
        ("{port: true}", "server.port = True"),
        ("{host: 'a b'}", "server.host = 'a b'"),
        ("{host: [a]}", "server.host"),
    ],
)
def test_a_server_that_is_none_is_named(home: Path, server: str, names: str) -> None:
    path = home / "aios/config/config.yaml"
    path.write_text(re.sub(r"server: .*", f"server: {server}", path.read_text()))
    found = checks(home)["kernel"]
    assert found.ok is False
    assert found.detail.startswith(names)


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("0.0.0.0", "http://localhost:8000"),
        ("'::'", "http://localhost:8000"),
        ("'::1'", "http://[::1]:8000"),
        ("''", "http://localhost:8000"),
        ("aios.example", "http://aios.example:8000"),
    ],
)
def test_a_kernel_is_asked_where_it_listens(home: Path, host: str, url: str) -> None:
    path = home / "aios/config/config.yaml"
    path.write_text(re.sub(r"server: .*", f"server: {{host: {host}}}", path.read_text()))
    assert inspect.client.url_of(load_config(locate(aios_home=home))) == url


@pytest.mark.parametrize(
    ("hostname", "says"),
    [
        ("http://u:hunter2@127.0.0.1:1/v1", "does not answer"),
        ("https://127.0.0.1:1/v1?key=hunter2", "does not answer"),
    ],
)
def test_an_endpoint_that_does_not_answer_is_named_without_its_password(
    home: Path, hostname: str, says: str
) -> None:
    path = home / "aios/config/config.yaml"
    path.write_text(path.read_text().replace("http://127.0.0.1:1/v1", hostname))
    found = load_config(locate(aios_home=home))
    (check, _) = (c for c in inspect.check_aios(found, reach=True) if c.name.startswith("model "))
    assert check.ok is False
    assert says in check.detail
    assert "hunter2" not in check.detail


def test_a_shared_server_that_does_not_tell_its_load_is_named_with_the_remedy(home: Path) -> None:
    path = home / "aios/config/config.yaml"
    shared = '"http://u:hunter2@127.0.0.1:1/v1", shared_server: true'
    path.write_text(path.read_text().replace('"http://127.0.0.1:1/v1"', shared, 1))
    checks = [*inspect.check_aios(load_config(locate(aios_home=home)), reach=True)]
    (check,) = (check for check in checks if check.name.endswith(": load"))
    assert check.ok is False
    assert "--enable-metrics" in check.detail and "hunter2" not in check.detail


def test_the_kernel_says_what_doctor_reads(kernel: Any) -> None:
    said = status.kernel_status(kernel.process)
    assert said.keys() >= SOUND.keys()
    assert said["seams"].keys() >= SOUND["seams"].keys()


@pytest.mark.parametrize("ours_first", [True, False])
def test_the_kernel_knows_its_threads_and_whose_query_is(
    monkeypatch: pytest.MonkeyPatch, ours_first: bool
) -> None:
    pytest.importorskip("fastapi")
    launch: Any = SimpleNamespace(QueryRequest=object)
    process: Any = SimpleNamespace(serving=None, scheduler=None, schedulers=())
    ours = SimpleNamespace(path="/query", endpoint=http.query_handler(launch, process.serving))
    theirs = SimpleNamespace(path="/query", endpoint=configure)
    routes = [SimpleNamespace(path="/status"), ours, theirs]
    launch.app = SimpleNamespace(
        state=SimpleNamespace(),
        router=SimpleNamespace(routes=routes if ours_first else routes[::-1]),
    )
    monkeypatch.setattr(status, "find_launch", lambda: launch)
    assert status.seams(process)["query route"] is ours_first
    assert status.executor() is None
    launch.app.state.eccos_threads = 7
    assert status.executor() == 7


# The hook.


def test_a_hook_that_its_interpreter_loads(
    home: Path, enabled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = checks(home)
    assert (found["hook"].ok, found["hook"].detail) == (True, str(enabled))
    assert found["interpreter"].ok is True
    assert f"not {sys.executable}" in found["interpreter"].detail
    monkeypatch.setattr(inspect.sysconfig, "get_path", lambda name: str(enabled.parent))
    assert sys.executable not in checks(home)["interpreter"].detail


def test_a_hook_that_is_gone(home: Path, enabled: Path) -> None:
    enabled.unlink()
    assert checks(home)["hook"].ok is False
    assert f"{enabled} is gone" in checks(home)["hook"].detail


def test_a_hook_in_site_packages_of_another_python(home: Path, enabled: Path) -> None:
    other = enabled.replace(home / interpreter.HOOK_FILE)
    note = state_dir_of(home) / "enabled.json"
    note.write_text(json.dumps(json.loads(note.read_text()) | {"hook": str(other)}))
    found = checks(home)
    assert found["hook"].ok is False
    assert f"does not load {other}" in found["hook"].detail
    assert str(enabled.parent) in found["hook"].detail
    assert found["interpreter"].ok is True


def test_an_interpreter_that_is_gone(home: Path, enabled: Path) -> None:
    shutil.rmtree(enabled.parents[3] / "bin")
    found = checks(home)
    assert found["interpreter"].ok is False
    assert found["hook"].ok is True, "the file is there; more cannot be known"


# The contract.


def test_each_point_says_where_what_and_why() -> None:
    points = contract.points()
    assert len(points) == 43
    assert len(set(points)) == 43
    for point in points:
        assert point.file.endswith(".py") and point.wanted and point.why
        assert all(isinstance(each, str) for each in point.wanted)


@pytest.mark.parametrize(
    ("file", "old", "new", "named"),
    [
        (
            "aios/syscall/syscall.py",
            "def _execute_syscall",
            "def _run_syscall",
            "SyscallExecutor._execute_syscall: is gone",
        ),
        (
            "aios/syscall/syscall.py",
            "def execute_llm_syscall(self, agent_name",
            "def execute_llm_syscall(self, agent",
            "SyscallExecutor.execute_llm_syscall: lacks agent_name",
        ),
        (
            "aios/syscall/syscall.py",
            "def execute_storage_syscall",
            "def execute_store_syscall",
            "SyscallExecutor.execute_storage_syscall: is gone",
        ),
        (
            "aios/hooks/stores/queue.py",
            "q.get(block=True, timeout=0.1)",
            "q.get()",
            "getMessage: lacks get(timeout=)",
        ),
    ],
)
def test_a_point_that_moved_is_named(home: Path, file: str, old: str, new: str, named: str) -> None:
    assert checks(home)["contract"].ok is True, checks(home)["contract"].detail
    path = home / file
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    found = checks(home)["contract"]
    assert found.ok is False
    assert f"{file}: {named}" in found.detail


def test_a_part_of_the_sdk_that_is_gone_is_named(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contract, "sdk_homes", lambda: [home])
    (home / "cerebrum/tool/apis.py").unlink()
    assert "cerebrum/tool/apis.py: no such file" in checks(home)["contract"].detail
    shutil.rmtree(home / "cerebrum")
    assert checks(home)["contract"].ok is True, "doctor's interpreter may have none"


# The command.


@pytest.mark.usefixtures("enabled")
def test_doctor_ends_with_1_where_a_kernel_lives_without_the_plugin(
    home: Path, serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "check_plugin", lambda config, models: [])
    app = typer.Typer(add_completion=False)
    app.command()(doctor)
    words = ["--aios-home", str(home)]
    alone = CliRunner().invoke(app, words)
    assert alone.exit_code == 0, alone.output
    serve(STOCK)
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 1, done.output
    (fault,) = (line for line in done.output.splitlines() if line.startswith("FAULT"))
    assert "without the plugin" in fault
    assert "venv/bin/python -m runtime.launch" in fault
