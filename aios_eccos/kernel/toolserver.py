"""AIOS's MCP tool server: a child process of every kernel, which AIOS leaves running at its end.

Each kernel notes its children in the state folder. A later start reads the notes of kernels that
are gone, and ends a process whose number, start time, user and command line are still the same.
"""

from __future__ import annotations

import atexit
import hashlib
import json
import logging
import os
import socket
import subprocess
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from aios_eccos import files

log = logging.getLogger("aios_eccos.kernel.toolserver")

#: Seconds that a tool server gets to end by itself.
STOP_S = 2.0


class ToolServers:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._living: list[subprocess.Popen[Any]] = []
        self._in_force: subprocess.Popen[Any] | None = None
        self._note: Path | None = None

    def add(self, state_dir: Path, server: subprocess.Popen[Any]) -> None:
        """Note a server just started; end those of killed kernels and of failed refreshes."""
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
            _end(each)

    def keep(self, server: subprocess.Popen[Any] | None) -> None:
        """Note the server in force; AIOS's own clean-up ends the one before it."""
        with self._lock:
            self._in_force = server

    def end(self) -> None:
        """End them all; idempotent."""
        with self._lock:
            living, self._living = self._living, []
            note, self._note = self._note, None
        for server in living:
            _end(server)
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
    """User and start time of a living process: its number alone may be a later one's.

    None if there is none, or it cannot be told.
    """
    with suppress(psutil.Error):
        process = psutil.Process(pid)
        if process.status() != psutil.STATUS_ZOMBIE:
            return f"{process.username()} {_since_boot(process):.2f}"
    return None


def _since_boot(process: psutil.Process) -> float:
    """Seconds from the machine's start to the process's: its clock may be set meanwhile.

    Psutil adds the time of the machine's start, which Linux works out anew, rounded, at each look.
    """
    while True:
        before = psutil.boot_time()
        seconds = process.create_time() - before
        if psutil.boot_time() == before:
            return float(seconds)


def identity(pid: int) -> str | None:
    """`birth`, and a hash of the command line, which a process may change: for children of ours."""
    with suppress(psutil.Error):
        born, command = birth(pid), "\0".join(psutil.Process(pid).cmdline())
        digest = hashlib.sha256(command.encode("utf-8", "surrogateescape")).hexdigest()[:16]
        return None if born is None else f"{born} {digest}"
    return None


def _end_noted(pid: int, known: str) -> bool:
    with suppress(psutil.Error):
        process = psutil.Process(pid)  # from now on, another process of the number is not ended
        if identity(pid) == known:
            _end(process)
            return True
    return False


def _end(process: subprocess.Popen[Any] | psutil.Process) -> None:
    """Ask a process to end; where it does not, kill it."""
    for stop in (process.terminate, process.kill):
        try:
            stop()
            process.wait(STOP_S)
            return
        except (subprocess.TimeoutExpired, psutil.TimeoutExpired):
            continue
        except psutil.Error:
            return
