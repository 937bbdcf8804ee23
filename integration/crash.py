"""`python -m integration.crash`: commands killed at random points; nothing is torn afterwards.

Each point is a SIGKILL: after a random part of the time that the command takes, just before a
random one of its changes to files, or just after a random one, which may be one that a library
makes. At every fourth point the command is killed once more when it runs again. Then: files are the
old or the new ones, the history opens, and the command, run again, completes. A process that has
all libraries imported forks for each run; what a kill leaves that another one of that command left
before, byte by byte, is not looked at again.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .crash_watch import Watch
from .faults.page import put
from .report import Report, Row

#: Events of Python before something in files changes.
CHANGES = {
    *("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.chmod", "os.truncate"),
    *("shutil.copyfile", "sqlite3.connect", "subprocess.Popen"),
}
#: What this command itself keeps in a trial's folder.
OWN = ("log", "changes", "looked")
#: A run that takes longer hangs, seconds.
LONGEST_S = 120.0
#: What is torn, in words.
Torn = list[str]


@dataclass(frozen=True)
class Kill:
    """When a run is killed: before or after its n-th change to files, or after so many seconds."""

    change: int | None = None
    seconds: float | None = None
    changed: int | None = None


@dataclass(frozen=True)
class Ran:
    """A run: its exit code (-9 = killed), changes to files as Python and as the system counts them,
    and seconds."""

    code: int
    changes: int
    changed: int
    took: float

    def somewhere(self, draw: random.Random, number: int) -> Kill:
        """A random kill of a run like it, by the point's number of another kind."""
        kinds = (
            Kill(seconds=draw.uniform(0, self.took)),
            Kill(change=draw.randint(1, max(1, self.changes))),
            Kill(changed=draw.randint(1, max(1, self.changed))),
        )
        return kinds[number % 3]


@dataclass(frozen=True)
class Case:
    """A command to kill.

    Attributes:
        ready: fills a trial's folder.
        arguments: of the command, in that folder.
        torn: what is torn after a kill, looked at in a process of its own.
        again: runs it again, and says what is wrong then.
        alike: whether files alone decide what comes of that.
    """

    name: str
    ready: Callable[[Path], None]
    arguments: Callable[[Path], list[str]]
    torn: Callable[[Path], Torn]
    again: Callable[[Path], Torn]
    alike: bool = True


def run(folder: Path, arguments: Sequence[str], kill: Kill | None = None) -> Ran:
    """Run the command line in a fork."""
    kill, changed = kill or Kill(), 0
    with Watch(folder, OWN) as watch:
        pid, begun = fork(folder, lambda: command(arguments), kill), time.monotonic()
        ended = begun + (LONGEST_S if kill.seconds is None else kill.seconds)
        while True:
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                break
            reached = kill.changed is not None and changed >= kill.changed
            if reached or time.monotonic() > ended:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            changed += watch.seen(0.002)
    counted = folder / "changes"
    changes = int(counted.read_text() or 0) if counted.exists() else 0
    return Ran(os.waitstatus_to_exitcode(status), changes, changed, time.monotonic() - begun)


def fork(folder: Path, work: Callable[[], int], kill: Kill | None) -> int:
    """Start work in a fork of this process, its output in the folder's `log`; the fork's id."""
    pid = os.fork()
    if pid:
        return pid
    code = 70
    try:
        with (folder / "log").open("ab") as log:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
        os.environ.update(environment(folder))
        changes = watch(kill)
        code = work()
        (folder / "changes").write_text(str(changes[0]))
    except BaseException:  # noqa: BLE001 - the fork must not go on as its parent
        os.write(2, traceback.format_exc().encode("utf-8", "replace"))
    finally:
        os._exit(code)


def watch(kill: Kill | None) -> list[int]:
    """Count this process' changes to files, and kill it before the one that is asked for."""
    changes = [0]

    def hook(event: str, args: tuple[Any, ...]) -> None:
        writes = (
            event == "open" and isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR)
        )
        if writes or event in CHANGES:
            changes[0] += 1
            if kill is not None and changes[0] == kill.change:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
    return changes


def command(arguments: Sequence[str]) -> int:
    """The command line's exit code."""
    from aios_eccos.cli.main import main
    from aios_eccos.kernel.setup import interpreter

    site = os.environ["CRASH_SITE"]
    found = {"version": [3, 11], "site": site, "lacks": [], "plugin": "here"}
    interpreter.probe = lambda python: found
    try:
        main([*arguments])
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else 1
    return 0


def environment(folder: Path) -> dict[str, str]:
    """Where a trial's runs keep what they keep."""
    return {
        "AIOS_ECCOS_STATE": str(folder / "state"),
        "AIOS_ECCOS_CACHE": str(folder / "cache"),
        "CRASH_SITE": str(folder / "site"),
        "HF_HUB_OFFLINE": "1",
        "COLUMNS": "80",
    }


def inside(folder: Path, look: Callable[[], Torn]) -> Torn:
    """What a look finds, from a fork: what it opens must not stay in the parent."""
    answer = folder / "looked"
    answer.unlink(missing_ok=True)

    def work() -> int:
        try:
            found = look()
        except Exception as error:  # noqa: BLE001 - whatever is raised is what is looked for
            found = [f"{type(error).__name__}: {error}"]
        answer.write_text(json.dumps(found))
        return 0

    _, status = os.waitpid(fork(folder, work, None), 0)
    if not answer.exists():
        return [f"looking failed: {os.waitstatus_to_exitcode(status)}"]
    found: Torn = json.loads(answer.read_text())
    return found


def points(case: Case, count: int, seed: int) -> Iterator[tuple[list[Kill], Torn]]:
    """Kill a case at random points, and say what is torn after each."""
    draw, seen = random.Random(f"{seed}:{case.name}"), dict[str, Torn]()
    with trial(case) as folder:
        whole = run(folder, case.arguments(folder))
        faults = case.torn(folder) + case.again(folder)
        if whole.code or faults:
            log = (folder / "log").read_text(errors="replace")[-2000:]
            raise RuntimeError(f"{case.name} does not work unkilled: {whole.code} {faults}\n{log}")
    for number in range(count):
        kills = [whole.somewhere(draw, number)]
        if number % 4 == 3:
            kills.append(whole.somewhere(draw, number // 4))
        with trial(case) as folder:
            for kill in kills:
                run(folder, case.arguments(folder), kill)
            left = left_in(folder)
            if left not in seen or not case.alike:
                seen[left] = looked_at(case, folder)
            yield kills, seen[left]


def looked_at(case: Case, folder: Path) -> Torn:
    """What is torn, then what is wrong when the command is run again, with what that has said."""
    log = folder / "log"
    log.unlink(missing_ok=True)
    faults = case.torn(folder) + [f"again: {fault}" for fault in case.again(folder)]
    said = log.read_text(errors="replace")[-3000:] if faults and log.exists() else ""
    if said:
        sys.stderr.write(f"{case.name}: {faults}\n{said}\n")
    return faults


def left_in(folder: Path) -> str:
    """A digest of all files of a trial."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if name not in OWN and not path.is_socket():
            content = path.read_bytes() if path.is_file() else b""
            digest.update(f"{name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


@contextlib.contextmanager
def trial(case: Case) -> Iterator[Path]:
    """A fresh folder that the case has filled."""
    from aios_eccos.workload.embedded import stop_embedded

    # Always there: what names its place is then the same each time.
    folder = Path(tempfile.gettempdir()) / f"eccos-crash-{os.getpid()}"
    try:
        folder.mkdir()
        (folder / "site").mkdir()
        case.ready(folder)
        yield folder
    finally:
        for state in (folder / "state").glob("*"):
            if (state / "redis").exists():
                stop_embedded(state)
        shutil.rmtree(folder, ignore_errors=True)


def worker(names: Sequence[str], count: int, seed: int) -> None:
    """Run cases in this process, and print a line of JSON for each."""
    from .crash_cases import cases, imported

    imported(names)
    with tempfile.TemporaryDirectory(prefix="eccos-crash-") as made:
        for case in cases(Path(made), names):
            begun, torn, killed = time.monotonic(), [], 0
            for kills, faults in points(case, count, seed):
                killed += 1
                torn += [f"{kills}: {fault}" for fault in faults]
            took = round(time.monotonic() - begun, 1)
            print(
                json.dumps({"case": case.name, "points": killed, "torn": torn, "s": took}),
                flush=True,
            )


def rows(report: Report, count: int, seed: int, parallel: int, names: Sequence[str]) -> None:
    """Kill all cases, so many at a time; a row each."""
    shares = [names[number::parallel] for number in range(parallel)]
    command = [sys.executable, "-m", "integration.crash", "--points", str(count)]
    command += ["--seed", str(seed), "--worker"]
    pipe = subprocess.PIPE
    children = [
        subprocess.Popen([*command, ",".join(share)], stdout=pipe, text=True)
        for share in shares
        if share
    ]
    with ThreadPoolExecutor(len(children)) as readers:
        for ended in readers.map(lambda child: _read(report, child, count, seed), children):
            if ended.returncode:
                report.check("a worker", False, f"{ended.args!r:.80} ended with {ended.returncode}")


def _read(
    report: Report, child: subprocess.Popen[str], count: int, seed: int
) -> subprocess.Popen[str]:
    """A row for each line of a worker, when it comes; the worker, which has ended."""
    for line in child.stdout or ():
        found = json.loads(line)
        torn = found["torn"]
        report.add(
            Row(
                f"{found['case']} killed",
                not torn and found["points"] == count,
                sent=found["points"],
                answered=found["points"] - len(torn),
                lost=len(torn),
                value=found["s"],
                unit="s",
                note=f"seed {seed}" + "".join(f"; {fault[:200]}" for fault in torn[:3]),
            )
        )
    child.wait()
    return child


#: In this order the two workers end at the same time.
NAMES = ("train", "collect", "enable", "certify", "ingest", "ingest-large", "disable")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m integration.crash", description=__doc__)
    parser.add_argument("--points", type=int, default=50, help="kills of each command")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--parallel", type=int, default=2)
    parser.add_argument("--only", default=",".join(NAMES), help="commands, comma-separated")
    parser.add_argument("--json", metavar="FILE", help="write the rows (- = standard output)")
    parser.add_argument("--write", type=Path, metavar="PAGE", help="put the table there")
    parser.add_argument("--worker", default="", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker:
        worker(given.worker.split(","), given.points, given.seed)
        return 0
    report = Report("crash")
    rows(report, given.points, given.seed, given.parallel, given.only.split(","))
    if given.write:
        put(given.write, "crash", [("command", "points", "torn", "s"), *report.counts()])
    return report.finish(given.json, seed=given.seed, points=given.points)


if __name__ == "__main__":
    raise SystemExit(main())
