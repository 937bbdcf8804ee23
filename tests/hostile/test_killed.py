"""Commands killed at random points; `python -m integration.crash` kills all of them, 50 times."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from waiting import until

from aios_eccos.cli.output import write_json

ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no forks here")
def test_commands_that_are_killed_leave_nothing_torn(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "integration.crash", "--points", "3", "--parallel", "1"]
    told = tmp_path / "rows.json"
    done = subprocess.run(
        [*command, "--only", "enable,disable", "--json", str(told)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    rows = json.loads(told.read_text())["rows"]
    assert [row["answered"] for row in rows] == [3, 3]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes by name here")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_command_that_is_ended_says_so_and_leaves_nothing(
    tmp_path: Path, number: int, code: int
) -> None:
    pipe = tmp_path / "rows.jsonl"
    os.mkfifo(pipe)
    keep = {
        "AIOS_ECCOS_STATE": str(tmp_path / "state"),
        "AIOS_ECCOS_CACHE": str(tmp_path / "cache"),
    }
    child = subprocess.Popen(
        [sys.executable, "-m", "aios_eccos.cli.main", "ingest", str(pipe)],
        env={**os.environ, **keep, "PYTHONPATH": str(ROOT), "AIOS_HOME": ""},
        stderr=subprocess.PIPE,
        text=True,
        # A shell lets what it starts in the background ignore Ctrl-C, and that is inherited.
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),
    )
    held: list[int] = []

    def is_read() -> bool:
        with suppress(OSError):  # nobody has opened it yet
            held.append(os.open(pipe, os.O_WRONLY | os.O_NONBLOCK))
        return bool(held)

    try:
        until(lambda: is_read() or child.poll() is not None)
        said = ""
        for _ in range(6):
            # One that comes after Python has looked for signals, and before it reads, waits for the
            # next: nothing interrupts a read that has not begun.
            child.send_signal(number)
            with suppress(subprocess.TimeoutExpired):
                _, said = child.communicate(timeout=10)
                break
    finally:
        child.kill()
        for handle in held:
            os.close(handle)
    assert (child.returncode, "Traceback" in said) == (code, False), said
    assert not [*tmp_path.rglob("*.part")]


def test_a_file_of_json_is_replaced_as_a_whole_and_a_pipe_is_written_to(tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    path.write_text('{"old": true}')
    read = path.open()  # whoever has the old file open keeps it
    write_json({"new": True}, str(path))
    assert json.load(read) == {"old": True}
    read.close()
    assert json.loads(path.read_text()) == {"new": True}
    out, into = os.pipe()
    write_json({"piped": True}, f"/dev/fd/{into}")
    os.close(into)
    with os.fdopen(out) as piped:
        assert json.load(piped) == {"piped": True}
