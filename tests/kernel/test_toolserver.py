"""The tool server ends with its kernel, and a later start ends what a kill left; no other."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
from waiting import until

from aios_eccos.kernel import toolserver
from aios_eccos.kernel.toolserver import ToolServers, birth, clear, folder_of, identity

SLEEPER = "import time; time.sleep(600)"
#: A kernel as far as its tool server goes: notes a child, says its number, is killed.
KERNEL = f"""
import pathlib, subprocess, sys, time
from aios_eccos.kernel.toolserver import ToolServers
child = subprocess.Popen([sys.executable, "-c", {SLEEPER!r}])
ToolServers().add(pathlib.Path(sys.argv[1]), child)
print(child.pid, flush=True)
time.sleep(600)
"""


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[Any]]:
    child = subprocess.Popen([sys.executable, "-c", SLEEPER])
    yield child
    child.kill()
    child.wait()


def note(folder: Path, pid: int, noted: object) -> Path:
    file = folder_of(folder) / f"{socket.gethostname()}-{pid}.json"
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(noted))
    return file


def gone_pid() -> int:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    return child.pid


def test_it_ends_with_its_kernel(tmp_path: Path, sleeper: subprocess.Popen[Any]) -> None:
    servers = ToolServers()
    servers.add(tmp_path, sleeper)
    assert len(list(folder_of(tmp_path).iterdir())) == 1
    servers.end()
    servers.end()
    assert sleeper.poll() is not None
    assert list(folder_of(tmp_path).iterdir()) == []


def test_one_that_ignores_the_request_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(toolserver, "STOP_S", 0.1)
    deaf = "import signal, time; signal.signal(15, signal.SIG_IGN); print(1, flush=True)"
    with subprocess.Popen(
        [sys.executable, "-c", f"{deaf}; time.sleep(600)"], stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        servers = ToolServers()
        servers.add(tmp_path, child)
        servers.end()
        assert child.poll() == -signal.SIGKILL


def test_a_refresh_notes_the_new_one_and_forgets_the_one_that_has_ended(
    tmp_path: Path, sleeper: subprocess.Popen[Any]
) -> None:
    before = subprocess.Popen([sys.executable, "-c", SLEEPER])
    servers = ToolServers()
    servers.add(tmp_path, before)
    before.kill()
    before.wait()
    servers.add(tmp_path, sleeper)
    (file,) = folder_of(tmp_path).iterdir()
    assert list(json.loads(file.read_text())["servers"]) == [str(sleeper.pid)]
    servers.end()
    assert sleeper.poll() is not None


def test_what_a_failed_refresh_left_ends_with_the_next_and_the_one_in_force_stays(
    tmp_path: Path, sleeper: subprocess.Popen[Any]
) -> None:
    servers = ToolServers()
    servers.add(tmp_path, sleeper)
    servers.keep(sleeper)
    failed = subprocess.Popen([sys.executable, "-c", SLEEPER])
    servers.add(tmp_path, failed)
    assert failed.poll() is None, "nobody knows yet that it fails"
    third = subprocess.Popen([sys.executable, "-c", SLEEPER])
    servers.add(tmp_path, third)
    assert failed.poll() is not None
    assert sleeper.poll() is None
    servers.end()
    assert third.poll() is not None


def test_the_next_start_ends_what_a_killed_kernel_left(tmp_path: Path) -> None:
    kernel = subprocess.Popen(
        [sys.executable, "-c", KERNEL, str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(toolserver.__file__).parents[2])},
    )
    with kernel:
        assert kernel.stdout is not None
        orphan = int(kernel.stdout.readline())
        assert clear(tmp_path) == 0, "its kernel lives"
        assert identity(orphan) is not None
        kernel.kill()
    assert clear(tmp_path) == 1
    until(lambda: identity(orphan) is None)
    assert list(folder_of(tmp_path).iterdir()) == []
    assert clear(tmp_path) == 0


def test_a_process_that_has_the_number_now_is_let_live(
    tmp_path: Path, sleeper: subprocess.Popen[Any]
) -> None:
    file = note(tmp_path, gone_pid(), {"kernel": "x", "servers": {str(sleeper.pid): "0 1 another"}})
    assert clear(tmp_path) == 0
    assert sleeper.poll() is None
    assert not file.exists()


def test_another_machines_note_is_let_be(tmp_path: Path, sleeper: subprocess.Popen[Any]) -> None:
    known = identity(sleeper.pid)
    file = note(tmp_path, gone_pid(), {"kernel": "x", "servers": {str(sleeper.pid): known}})
    file = file.rename(file.with_name("elsewhere-1.json"))
    assert clear(tmp_path) == 0
    assert file.exists()
    assert sleeper.poll() is None


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"kernel": 1, "servers": 2}'])
def test_a_note_that_cannot_be_read_is_let_be(tmp_path: Path, text: str) -> None:
    note(tmp_path, gone_pid(), "x").write_text(text)
    assert clear(tmp_path) == 0


def test_one_that_has_ended_but_is_not_reaped_is_gone() -> None:
    with subprocess.Popen([sys.executable, "-c", ""], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.read()  # its end closes the pipe
        until(lambda: identity(child.pid) is None)
        assert (identity(child.pid), birth(child.pid)) == (None, None)


def test_a_kernel_that_goes_by_another_command_line_is_still_alive(tmp_path: Path) -> None:
    changed = KERNEL.replace(
        "time.sleep(600)\n",
        f"import os; os.execv(sys.executable, ['renamed', '-c', {SLEEPER!r}])\n",
    )
    assert changed != KERNEL
    with subprocess.Popen(
        [sys.executable, "-c", changed, str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(toolserver.__file__).parents[2])},
    ) as kernel:
        assert kernel.stdout is not None
        server = int(kernel.stdout.readline())
        cmdline = Path("/proc", str(kernel.pid), "cmdline")
        until(lambda: not cmdline.exists() or cmdline.read_bytes().startswith(b"renamed"))
        assert clear(tmp_path) == 0
        assert identity(server) is not None
        kernel.kill()
    assert clear(tmp_path) == 1


def test_a_process_is_the_same_while_the_machines_start_is_rounded_another_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looks = cycle([1e9, 1e9, 1e9 + 1, 1e9 + 1, 1e9])
    boot_time = lambda: next(looks)  # noqa: E731
    monkeypatch.setattr("psutil.boot_time", boot_time)
    monkeypatch.setattr("psutil.Process.create_time", lambda process: 77.25 + boot_time())
    found = {birth(os.getpid()) for _ in range(20)}
    assert len(found) == 1
    assert (found.pop() or "").endswith(" 77.25")


def test_a_note_holds_no_command_line(tmp_path: Path, sleeper: subprocess.Popen[Any]) -> None:
    servers = ToolServers()
    servers.add(tmp_path, sleeper)
    (file,) = folder_of(tmp_path).iterdir()
    assert "sleep" not in file.read_text()
    servers.end()
