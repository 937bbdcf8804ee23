"""AIOS's own terminal under a pty: types lines, reads what it shows."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import time
from pathlib import Path

ESCAPES = re.compile(r"\x1b(\[[0-9;?]*[a-zA-Z]|\][^\x07]*\x07|[()][A-Z0-9]|[=>])")
#: The terminal waits for its next line when it says nothing for so long, seconds.
QUIET_S = 1.0


class Terminal:
    """scripts/run_terminal.py of a checkout, past its mount question. A context manager."""

    def __init__(self, home: Path, cerebrum: Path, url: str, python: str) -> None:
        self._command = [python, "scripts/run_terminal.py"]
        self._home = home
        self._env = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(cerebrum), str(home)]),
            "CEREBRUM_KERNEL_URL": url,
            "PROMPT_TOOLKIT_NO_CPR": "1",
            "TERM": "xterm",
            "COLUMNS": "120",
            "AIOS_ECCOS": "off",
        }

    def __enter__(self) -> Terminal:
        self._master, slave = pty.openpty()
        self._process = subprocess.Popen(
            self._command,
            cwd=self._home,
            env=self._env,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
        )
        os.close(slave)
        self.read("[y/n]", 120)
        self.type("n", "mounted at")
        return self

    def __exit__(self, *raised: object) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._master)

    def type(self, line: str, expect: str, timeout_s: float = 60.0) -> str:
        """Type a line and return what is shown, up to the silence after `expect`."""
        os.write(self._master, line.encode() + b"\r")
        return self.read(expect, timeout_s)

    def read(self, expect: str, timeout_s: float) -> str:
        """What is shown until `expect` and a moment's silence.

        Raises:
            TimeoutError: it never came.
        """
        shown = ""
        end = time.monotonic() + timeout_s
        while time.monotonic() < end:
            quiet = expect in shown
            ready, _, _ = select.select([self._master], [], [], QUIET_S)
            if not ready:
                if quiet:
                    return shown
                continue
            try:
                chunk = os.read(self._master, 65536)
            except OSError:
                break
            shown += ESCAPES.sub("", chunk.decode("utf-8", "replace"))
        raise TimeoutError(f"the terminal never showed {expect!r}: {shown[-500:]}")
