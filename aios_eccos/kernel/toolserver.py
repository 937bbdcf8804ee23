"""AIOS's MCP tool server: a child process of every kernel, which AIOS leaves running at its end.

Each kernel notes its children in a file of its own in the state folder. A later start reads what
kernels that are gone have noted and ends only what is, by number, start time, user and command
line (as a hash), the very process noted. Nothing is ever looked for by its name.
"""

from __future__ import annotations

import atexit
import hashlib
import json
import logging
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from aios_eccos import files

log = logging.getLogger("aios_eccos.kernel.toolserver")

#: Seconds that a tool server gets to end by itself.
STOP_S = 2.0
LOOK_S = 0.02


class ToolServers:
    """The tool servers that this process has started."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._living: list[subprocess.Popen[Any]] = []
        self._in_force: subprocess.Popen[Any] | None = None
        self._note: Path | None = None

    def add(self, state_dir: Path, server: subprocess.Popen[Any]) -> None:
        """Note a server that has just been started; end what killed kernels have left.

        And what refreshes that failed have left: every server of ours that is not in force.
        """
        clear(state_dir)
        with self._lock:
            if self._note is None:
                atexit.register(self.end)
            self._note = folder_of(state_dir) / f"{socket.gethostname()}-{os.getpid()}.json"
            left = [each for each in self._living if each is not self._in_force]
            self._living = [each for each in self._living if each.poll() is None] + [server]
            names = {str(each.pid): identity(each.pid) for each in self._living}
            files.private_dir(self._note.parent)
            files.write(self._note, json.dumps({"kernel": birth(os.getpid()), "servers": names}))
        for each in left:
            _end_child(each)

    def keep(self, server: subprocess.Popen[Any] | None) -> None:
        """This one is in force now; the one before is AIOS's own clean-up's to end."""
        with self._lock:
            self._in_force = server

    def end(self) -> None:
        """End them all; idempotent."""
        with self._lock:
            living, self._living = self._living, []
            note, self._note = self._note, None
        for server in living:
            _end_child(server)
        if note is not None:
            atexit.unregister(self.end)
            note.unlink(missing_ok=True)


def clear(state_dir: Path) -> int:
    """End the tool servers whose kernel on this machine is gone; how many."""
    ended = 0
    for note in folder_of(state_dir).glob(f"{socket.gethostname()}-*.json"):
        try:
            noted = json.loads(note.read_text())
            kernel, servers = noted["kernel"], dict(noted["servers"])
            kernel_pid = int(note.stem.rpartition("-")[2])
        except (OSError, ValueError, KeyError, TypeError):  # gone by now, or not of our making
            continue
        if kernel is not None and birth(kernel_pid) == kernel:
            continue
        for number, known in servers.items():
            ended += known is not None and _end_noted(int(number), known)
        note.unlink(missing_ok=True)
    if ended:
        log.warning("ended %s tool server(s) of kernels that were killed", ended)
    return ended


def folder_of(state_dir: Path) -> Path:
    """Where a checkout's kernels note their children."""
    return state_dir / "kernels"


def birth(pid: int) -> str | None:
    """User and start time of a living process; None if there is none, or it cannot be told.

    A number alone is given to later processes again.
    """
    return _read(pid)[0]


def identity(pid: int) -> str | None:
    """`birth`, and a hash of the command line, which a process may change: for children of ours."""
    born, command = _read(pid)
    return None if born is None else f"{born} {hashlib.sha256(command).hexdigest()[:16]}"


def _read(pid: int) -> tuple[str | None, bytes]:
    process = Path("/proc", str(pid))
    if not Path("/proc/self/stat").exists():
        return _listed(pid)
    try:
        # The second field, the name in parentheses, may hold anything; state is the third, and
        # the start time, in clock ticks since boot, the 22nd (proc(5)).
        fields = (process / "stat").read_text(errors="replace").rpartition(")")[2].split()
        command = (process / "cmdline").read_bytes()
        user = process.stat().st_uid
    except OSError:
        return None, b""
    return None if fields[0] in "ZX" else f"{user} {fields[19]}", command


def _listed(pid: int) -> tuple[str | None, bytes]:
    """The same by `ps`, where there is no /proc."""
    with suppress(OSError, subprocess.SubprocessError):
        born = _ps(pid, "stat=", "uid=", "lstart=")
        state, _, rest = born.partition(" ")
        if state and not state.startswith("Z"):
            return rest.strip(), _ps(pid, "args=").encode()
    return None, b""


def _ps(pid: int, *columns: str) -> str:
    wanted = [part for column in columns for part in ("-o", column)]
    return subprocess.run(
        ["ps", "-p", str(pid), *wanted],
        capture_output=True,
        text=True,
        env={**os.environ, "LC_ALL": "C"},
        check=False,
        timeout=STOP_S,
    ).stdout.strip()


def _end_child(server: subprocess.Popen[Any]) -> None:
    _end(server.send_signal, lambda: server.poll() is None)


def _end_noted(pid: int, known: str) -> bool:
    def lives() -> bool:
        return identity(pid) == known

    def send(number: int) -> None:
        # It may have gone, and its number to somebody else, since it was looked at last.
        if lives():
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, number)

    there = lives()
    _end(send, lives)
    return there


def _end(send: Callable[[int], None], lives: Callable[[], bool]) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        send(number)
        until = time.monotonic() + STOP_S
        while lives():
            if time.monotonic() > until:
                break
            time.sleep(LOOK_S)
        else:
            return
