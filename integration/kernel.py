"""Starts the real AIOS kernel on a copy of its checkout (its configuration's path is fixed)."""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import yaml

START_S = 180.0
#: Stands in for AIOS's tool server, which wants a desktop: a child that lives until it is ended.
TOOL_SERVER = "tool_server_stub.py"
ONCE = Path(__file__).parents[1] / "aios_eccos/kernel/preload"


def homes() -> tuple[Path, Path] | None:
    """`AIOS_HOME` and `CEREBRUM_HOME`, if both are set."""
    aios, cerebrum = os.environ.get("AIOS_HOME"), os.environ.get("CEREBRUM_HOME")
    return (Path(aios), regular(Path(cerebrum))) if aios and cerebrum else None


@cache
def regular(cerebrum: Path) -> Path:
    """A folder whose package `cerebrum` is found before that of an installed SDK.

    The checkout's has no `__init__.py`, so Python would prefer the one from PyPI.
    """
    package = cerebrum.resolve() / "cerebrum"
    if (package / "__init__.py").exists() or not package.is_dir():
        return cerebrum
    folder = Path(tempfile.mkdtemp(prefix="eccos-sdk-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    (folder / "cerebrum").mkdir()
    (folder / "cerebrum/__init__.py").touch()
    for part in package.iterdir():
        (folder / "cerebrum" / part.name).symlink_to(part)
    return folder


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def copy_aios(aios: Path, target: Path) -> Path:
    """A copy of AIOS's checkout without its git data."""
    shutil.copytree(aios, target, ignore=shutil.ignore_patterns(".git", "aios-rs", "docs"))
    (target / TOOL_SERVER).write_text("import time\n\ntime.sleep(1e6)\n")
    return target


def base_config(models: list[dict[str, Any]], port: int, router: dict[str, Any]) -> dict[str, Any]:
    """A configuration that starts without a network."""
    return {
        "api_keys": {
            "openai": "",
            "gemini": "",
            "groq": "",
            "anthropic": "",
            "huggingface": {"auth_token": "", "cache_dir": ""},
        },
        "llms": {
            "models": models,
            "router": router,
            "log_mode": "console",
            "use_context_manager": False,
        },
        "memory": {"log_mode": "console", "provider": "in-house"},
        "storage": {"root_dir": "root", "use_vector_db": False},
        "scheduler": {"log_mode": "console"},
        "agent_factory": {"log_mode": "console", "max_workers": 64},
        "tool": {"mcp_server_script_path": TOOL_SERVER},
        "server": {"host": "localhost", "port": port},
    }


class Kernel:
    """One kernel process. A context manager; `stop` may be called earlier.

    Args:
        home: a copy of AIOS's checkout, which is written to.
        cerebrum: Cerebrum's checkout, or any folder that holds the package `cerebrum`.
        config: the configuration; None uses the file as it lies there.
        python: the interpreter that has what AIOS needs.
        state: the plugin's state folder.
        hook: load the plugin by PYTHONPATH; False relies on an installed hook, or wants none.
        command: how AIOS is started, without the interpreter.
        env: more environment.
        first: a folder that goes first on PYTHONPATH (harness patches).
        log: its output; default: in `home`.
    """

    def __init__(
        self,
        home: Path,
        cerebrum: Path,
        config: dict[str, Any] | None,
        *,
        state: Path,
        python: str = sys.executable,
        hook: bool = True,
        command: tuple[str, ...] = ("-m", "runtime.launch"),
        env: dict[str, str] | None = None,
        port: int | None = None,
        first: str | None = None,
        log: Path | None = None,
    ) -> None:
        self.home = home
        self.config = config
        self.log = log or home / "kernel.log"
        self._port = port
        self._python = python
        self._command = command
        path = [*([first] if first else ()), str(regular(cerebrum))]
        if hook:
            path[:0] = [str(ONCE), str(ONCE.parents[2])]
        self._env = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(path),
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "HF_HUB_OFFLINE": "1",
            "ANONYMIZED_TELEMETRY": "False",
            "AIOS_ECCOS_STATE": str(state),
            "PATH": os.pathsep.join([str(Path(python).parent), os.environ["PATH"]]),
            **(env or {}),
        }
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The kernel's base URL."""
        return f"http://localhost:{self.port}"

    @property
    def port(self) -> int:
        """The port that it listens on."""
        if self._port is not None:
            return self._port
        assert self.config is not None
        port: int = self.config["server"]["port"]
        return port

    def use_state(self, state: Path) -> None:
        """Start with another state folder from now on."""
        self._env["AIOS_ECCOS_STATE"] = str(state)

    def write(self, config: dict[str, Any]) -> None:
        """Write its configuration file."""
        self.config = config
        path = self.home / "aios/config/config.yaml"
        path.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")

    def __enter__(self) -> Kernel:
        self.start()
        return self

    def start(self) -> None:
        """Start it and wait until it answers.

        Raises:
            RuntimeError: it ended, or does not answer in time.
        """
        if self.config is not None:
            self.write(self.config)
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [self._python, *self._command],
                cwd=self.home,
                env=self._env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            self._wait()
        except BaseException:
            self.stop(signal.SIGKILL)
            raise

    def __exit__(self, *raised: object) -> None:
        self.stop()
        # A stock kernel leaves its tool server; so does any kernel after SIGKILL.
        if self.process is not None:
            end_group(self.process.pid)

    def _wait(self) -> None:
        assert self.process is not None
        end = time.monotonic() + START_S
        while time.monotonic() < end:
            if self.process.poll() is not None:
                raise RuntimeError(f"the kernel ended at its start:\n{self.tail()}")
            try:
                self.get("/status", timeout_s=2)
                return
            except OSError:
                time.sleep(0.2)
        raise RuntimeError(f"the kernel did not start in {START_S} s:\n{self.tail()}")

    def stop(self, number: int = signal.SIGTERM, timeout_s: float = 20.0) -> float:
        """End it; returns the seconds that it took. What is left after `timeout_s` is killed."""
        process = self.process
        if process is None or process.poll() is not None:
            return 0.0
        begun = time.monotonic()
        process.send_signal(number)
        try:
            process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        return time.monotonic() - begun

    def tail(self, lines: int = 40) -> str:
        """The end of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def get(self, path: str, timeout_s: float = 10.0) -> Any:
        """GET as JSON."""
        return self.request(path, None, timeout_s)

    def post(self, path: str, body: Any = None, timeout_s: float = 120.0) -> Any:
        """POST as JSON."""
        return self.request(path, {} if body is None else body, timeout_s)

    def request(self, path: str, body: Any, timeout_s: float) -> Any:
        """A JSON request; an HTTP error status is raised with its text."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            self.url + path, data, {"Content-Type": "application/json"}
        )
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=timeout_s) as response:
                return json.load(response)
        except urllib.error.HTTPError as error:
            text = error.read().decode(errors="replace")
            raise HttpStatus(error.code, text) from error

    def ask(
        self,
        text: str | list[dict[str, Any]],
        *,
        agent: str = "agent",
        llms: list[str] | list[dict[str, Any]] | None = None,
        timeout_s: float = 120.0,
        **fields: Any,
    ) -> dict[str, Any]:
        """One LLM query; returns the response as the agent gets it."""
        messages = [{"role": "user", "content": text}] if isinstance(text, str) else text
        entries = [{"name": n} if isinstance(n, str) else n for n in llms] if llms else None
        data = {"messages": messages, "llms": entries, "action_type": "chat", **fields}
        body = {"query_type": "llm", "agent_name": agent, "query_data": data}
        answer = self.post("/query", body, timeout_s)
        response: dict[str, Any] = answer.get("response", answer)
        return response

    def children(self) -> list[str]:
        """Command lines of living processes of the kernel's session."""
        if self.process is None:
            return []
        listing = subprocess.run(
            ["ps", "-o", "sid=,pid=,args=", "-e"], capture_output=True, text=True, check=True
        ).stdout
        rows = (line.split(None, 2) for line in listing.splitlines())
        return [row[2] for row in rows if len(row) == 3 and row[0] == str(self.process.pid)]


def end_group(pid: int) -> None:
    """Kill what is left of a session that `Kernel` has begun."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


def start_all(kernels: Sequence[Kernel]) -> None:
    """Start kernels beside each other: their starts are imports, and there are two cores."""
    with ThreadPoolExecutor(len(kernels)) as pool:
        list(pool.map(Kernel.start, kernels))


class HttpStatus(Exception):
    """The kernel answered with an HTTP error."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"HTTP {code}: {text}")
        self.code = code
        self.text = text


def wait_ready(kernel: Kernel, seconds: float = 120.0) -> None:
    """Wait until the plugin has learnt from its history; until then it routes on priors.

    Raises:
        RuntimeError: it has not.
    """

    def ready() -> bool:
        with contextlib.suppress(OSError, HttpStatus):
            return bool(kernel.get("/eccos/status")["edge"]["floors_from"] == "verdicts")
        return False

    if not within(seconds, ready):
        raise RuntimeError(f"no history after {seconds:.0f} s:\n{kernel.tail()}")


def within(seconds: float, met: Callable[[], object]) -> bool:
    """Whether a condition comes true before the time is over."""
    end = time.monotonic() + seconds
    while not met():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


@contextlib.contextmanager
def workplace(keep: bool) -> Iterator[Path]:
    """A temporary folder."""
    folder = Path(tempfile.mkdtemp(prefix="eccos-it-"))
    try:
        yield folder
    finally:
        if keep:
            print(f"kept {folder}", file=sys.stderr)
        else:
            shutil.rmtree(folder, ignore_errors=True)
