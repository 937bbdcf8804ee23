"""`python -m integration.run`: the real kernel, stub model servers, real SDK clients and terminal.

Wants `AIOS_HOME` and `CEREBRUM_HOME`, and an interpreter that can run AIOS (`--python`). Under
eight minutes on two idle cores; `--quick` leaves out the comparison and half of the loads.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import cases, load, lone
from .kernel import TOOL_SERVER, Kernel, base_config, copy_aios, end_group, free_port, homes
from .report import Report, Row
from .stubs import Stubs
from .typed import typed

OPPONENT = Path(__file__).parent / "opponent"
PRICES = {"small": 1e-7, "large": 1e-6}
#: Everything that runs on kernels of its own; other names in `--only` are cases of `ours`.
PARTS = {"ours", "compare", "routed", "suite", "workers", "killed", "once", "typed"}
#: Left out of a quick run.
LONG = {"compare", "routed", "suite", "once"}
#: Parts beside each other: their time is imports and waits.
TOGETHER = 3


def models(stubs: Stubs, backend: str = "vllm", limit: int = 32) -> list[dict[str, Any]]:
    """The stubs as entries of AIOS's configuration."""
    return [
        {
            "name": name,
            "backend": backend,
            "hostname": stubs.url(name),
            "concurrency": limit,
            "input_cost_per_token": PRICES[name],
            "output_cost_per_token": PRICES[name],
        }
        for name in stubs.models
    ]


class Bench:
    """Folders, stubs and interpreters of one run."""

    def __init__(self, folder: Path, python: str, report: Report) -> None:
        found = homes()
        if found is None:
            raise SystemExit("set AIOS_HOME and CEREBRUM_HOME to the two checkouts")
        self.aios, self.cerebrum = found
        self.folder, self.python, self.report = folder, python, report
        self.pypi_sdk = self._pypi_sdk()

    def _pypi_sdk(self) -> Path | None:
        """The older SDK in a folder of its own, if it can be had."""
        target = self.folder / "pypi-sdk"
        pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(target)]
        done = subprocess.run([*pip, "aios-agent-sdk==0.0.3"], capture_output=True, check=False)
        return target if done.returncode == 0 else None

    def home(self, name: str) -> Path:
        """A fresh copy of AIOS."""
        return copy_aios(self.aios, self.folder / name)

    def kernel(self, name: str, config: dict[str, Any], **options: Any) -> Kernel:
        """A kernel on a fresh copy."""
        state = self.folder / "state"
        return Kernel(
            self.home(name), self.cerebrum, config, state=state, python=self.python, **options
        )


def ours(bench: Bench, stubs: Stubs, quick: bool, selected: set[str]) -> dict[str, Any]:
    """Everything on the kernel with the plugin."""
    settings = {"redis": "embedded", "embedder": "./none"}
    config = base_config(models(stubs), free_port(), {"strategy": "eccos", "eccos": settings})
    measured: dict[str, Any] = {}
    begun = time.monotonic()
    with bench.kernel("ours", config) as kernel:
        bench.report.add(
            Row(
                "start: python -m runtime.launch",
                True,
                value=round(time.monotonic() - begun, 1),
                unit="s",
            )
        )
        ground = cases.Ground(
            kernel, stubs, bench.report, bench.cerebrum, bench.pypi_sdk, bench.python, config
        )
        run = [
            ("trace", lambda: measured.update(trace=cases.traced(ground))),
            ("lone", lambda: measured.update(lone=cases.overhead(ground, 20 if quick else 60))),
            (
                "closed",
                lambda: measured.update(closed=cases.closed_loop(ground, 4.0 if quick else 10.0)),
            ),
            ("burst", lambda: cases.bursts(ground)),
            ("limit", lambda: cases.limited(ground)),
            ("faults", lambda: cases.faulty(ground, 32, 8 if quick else 25)),
            ("sdk", lambda: cases.sdk(ground)),
            ("terminal", lambda: cases.terminal(ground)),
            ("http", lambda: cases.http_side(ground)),
            ("gone", lambda: cases.client_gone(ground)),
            ("refused", lambda: cases.refused_refresh(ground)),
            ("observe", lambda: cases.observe(ground)),
            ("guard", lambda: cases.guarded(ground)),
            ("cleanup", lambda: cases.cleanup(ground)),
            ("refreshes", lambda: cases.refreshes(ground, 3 if quick else 10)),
            ("sigterm", lambda: cases.ends(ground, signal.SIGTERM)),
        ]
        for name, case in run:
            if selected and name not in selected:
                continue
            try:
                case()
            except Exception as error:  # noqa: BLE001 - a case that breaks is a failed row
                bench.report.check(name, False, f"{type(error).__name__}: {str(error)[:300]}")
    return measured


def routed_lone(bench: Bench) -> None:
    """A lone call that names no model, with a real history."""
    data = os.environ.get("AIOS_ECCOS_DATA")
    if not data:
        print("     left out: a lone routed call wants AIOS_ECCOS_DATA", file=sys.stderr)
        return
    records, asked, prices = lone.recorded(Path(data))
    names = sorted({outcome.model for record in records for outcome in record.outcomes})
    with Stubs(dict.fromkeys(names, lone.MODEL_S)) as stubs:
        entries = lone.entries(stubs, prices)
        config = base_config(entries, free_port(), {"strategy": "eccos", "eccos": {}})
        kernel = bench.kernel("lone-routed", config)
        lone.fill(kernel.home, bench.folder / "state", records)
        with kernel:
            lone.measure(bench.report, kernel, asked)


def uvicorn_workers(bench: Bench, stubs: Stubs) -> None:
    """Two workers under uvicorn, context manager on: one limit; then SIGINT."""
    settings = {"redis": "embedded", "embedder": "./none"}
    router = {"strategy": "eccos", "eccos": settings}
    config = base_config(models(stubs, limit=4), free_port(), router)
    config["llms"]["use_context_manager"] = True
    port = config["server"]["port"]
    command = ("-m", "uvicorn", "runtime.launch:app", "--workers", "2", "--port", str(port))
    with bench.kernel("workers", config, command=command) as kernel:
        time.sleep(5)
        stubs.reset()
        replies = load.run(load.burst(kernel.url, 24, "small"))
        peak = stubs.stats("small")["peak"]
        good = all(reply.good for reply in replies)
        bench.report.calls(
            "uvicorn, 2 workers, context manager on, limit 4",
            replies,
            good and peak <= 4,
            overshoot=max(peak - 4, 0),
            note=f"peak {peak}",
        )
        assert kernel.process is not None
        session = kernel.process.pid
        took = kernel.stop(signal.SIGINT)
        time.sleep(0.5)
        left = cases.session(session)
        bench.report.add(
            Row(
                "uvicorn ends on SIGINT",
                took < 15 and not left,
                value=round(took, 2),
                unit="s",
                note=f"left: {left or 'nothing'}",
            )
        )


def killed(bench: Bench, stubs: Stubs) -> None:
    """After SIGKILL the next start adopts or clears what is left."""
    settings = {"redis": "embedded", "embedder": "./none", "lease_ttl_s": 3.0}
    router = {"strategy": "eccos", "eccos": settings}
    config = base_config(models(stubs, limit=2), free_port(), router)
    kernel = bench.kernel("killed", config)
    kernel.start()
    assert kernel.process is not None
    first = kernel.process.pid
    try:
        with contextlib.suppress(OSError):
            kernel.ask("[[hang]]", llms=["small"], timeout_s=1)
        kernel.stop(signal.SIGKILL)
        orphans = [line for line in cases.session(first) if TOOL_SERVER in line]
        with kernel:
            begun = time.monotonic()
            replies = load.run(load.burst(kernel.url, 4, "small"))
            took = time.monotonic() - begun
            good = all(reply.good for reply in replies)
            bench.report.calls("after SIGKILL, the next start serves", replies, good and took < 8)
            left = [line for line in cases.session(first) if TOOL_SERVER in line]
            bench.report.check(
                "after SIGKILL, the next start ends the tool server",
                len(orphans) == 1 and not left,
                f"left by the kill: {orphans}, now: {left or 'none'}",
            )
            second = kernel.process.pid
            kernel.stop()
            time.sleep(0.3)
            bench.report.check("no process is left at its end", not cases.session(second))
    finally:
        end_group(first)


def _left_in(folder: Path) -> list[str]:
    """Living processes that work in the run's folder: kernels, tool servers, Redis."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
            if command and (process / "cwd").readlink().is_relative_to(folder):
                found.append(f"{process.name} {command}")
    return found


def _figures(row: Row) -> dict[str, Any]:
    return {"p95_s": row.p95_s, "value": row.value}


def compared(bench: Bench, stubs: Stubs, measured: dict[str, Any]) -> dict[str, Any]:
    """Stock and the fair opponent on the same trace."""
    sides = {"ours": {key: _figures(row) for key, row in measured.items()}}
    first = os.pathsep.join([str(OPPONENT), str(OPPONENT.parents[1])])
    for name, patched in (("stock", None), ("fair opponent", first)):
        config = base_config(models(stubs), free_port(), {"strategy": "sequential"})
        side = Report("side", judges=False)
        with bench.kernel(name.replace(" ", "-"), config, hook=False, first=patched) as kernel:
            ground = cases.Ground(kernel, stubs, side, bench.cerebrum, None, bench.python, config)
            rows = {
                "trace": cases.traced(ground, f"{name}: trace"),
                "lone": cases.overhead(ground, 10 if name == "stock" else 30),
                "closed": cases.closed_loop(ground, 8.0),
            }
        sides[name] = {key: _figures(row) for key, row in rows.items()}
    mine, stock, fair = sides["ours"], sides["stock"], sides["fair opponent"]
    for text, ratio, wanted in (
        ("p95 of short calls, stock / ours", stock["trace"]["p95_s"] / mine["trace"]["p95_s"], 40),
        ("throughput, ours / stock", mine["trace"]["value"] / stock["trace"]["value"], 2.4),
        ("lone overhead, fair opponent / ours", fair["lone"]["value"] / mine["lone"]["value"], 6),
    ):
        bench.report.add(
            Row(text, ratio >= wanted, value=round(ratio, 2), unit="x", note=f"wanted {wanted}")
        )
    return sides


def once(bench: Bench, stubs: Stubs) -> None:
    """`aios-eccos run` loads the plugin into one start, and writes nothing into the checkout."""
    settings = {"redis": "memory", "embedder": "./none"}
    router = {"strategy": "sequential", "eccos": settings}
    config = base_config(models(stubs), free_port(), router)
    command = ("-m", "aios_eccos.cli.main", "run", "--", "python", "-m", "runtime.launch")
    root = str(Path(__file__).parents[1])
    with bench.kernel("once", config, command=command, hook=False, first=root) as kernel:
        served = kernel.ask("once", llms=["small"])["response_message"]
        seams = kernel.get("/eccos/kernel")["seams"]
        written = (kernel.home / "aios/config/config.yaml").read_text()
    ok = bool(served) and all(seams.values()) and "sequential" in written
    bench.report.check("aios-eccos run -- python -m runtime.launch", ok, str(seams)[:100])


def suite(bench: Bench) -> None:
    """The tests that run over the stand-in, over the real kernel in their own process."""
    root = Path(__file__).parents[1]
    command = [bench.python, "-m", "pytest", "-q", "-W", "ignore", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, "tests/kernel/test_calls_through_the_kernel.py"],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    said = (done.stdout + done.stderr).strip().splitlines()
    failed = [line for line in said if line.startswith(("FAILED", "ERROR"))]
    note = "; ".join(failed or said[-1:])[:300]
    bench.report.check("the stand-in's suite on the real kernel", done.returncode == 0, note)


def acceptance(bench: Bench, stubs: Stubs) -> None:
    """What an operator types, from `enable` to `disable`."""
    config = base_config(models(stubs), free_port(), {"strategy": "sequential"})
    home = bench.home("typed")
    typed(bench.report, bench.folder, home, bench.cerebrum, bench.python, config)


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


def main() -> int:
    """Run; 1 if a case failed."""
    parser = argparse.ArgumentParser(prog="python -m integration.run", description=__doc__)
    parser.add_argument("--python", default=sys.executable, help="the interpreter that runs AIOS")
    parser.add_argument("--quick", action="store_true", help="under four minutes")
    parser.add_argument("--only", default="", help="parts, or cases of our kernel, a,b")
    parser.add_argument("--json", metavar="FILE", help="write the rows (- = standard output)")
    parser.add_argument("--keep", action="store_true", help="keep the copies and logs")
    given = parser.parse_args()
    report = Report("integration")
    with workplace(given.keep) as folder:
        bench = Bench(folder, given.python, report)
        selected = {name for name in given.only.split(",") if name}
        parts = Parts(bench, given.quick, selected)
        parts.run()
        time.sleep(0.5)
        left = _left_in(folder)
        report.check("nothing is left running", not left, "; ".join(left)[:300])
    return report.finish(given.json, quick=given.quick, sides=parts.sides)


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of a run. What is timed goes alone; the rest goes beside each other."""

    bench: Bench
    quick: bool
    selected: set[str]
    sides: dict[str, Any] = field(default_factory=dict)
    measured: dict[str, Row] = field(default_factory=dict)

    def run(self) -> None:
        """Run the parts selected."""
        with Stubs({"small": cases.SMALL_S, "large": cases.LARGE_S}) as stubs:
            for name, part in (("ours", self._ours), ("compare", self._compare)):
                self._guarded(name, lambda part=part: part(stubs))  # type: ignore[misc]
        self._guarded("routed", lambda: routed_lone(self.bench))
        rest = (
            ("workers", uvicorn_workers),
            ("killed", killed),
            ("once", once),
            ("typed", acceptance),
        )
        with ThreadPoolExecutor(TOGETHER) as pool:
            pool.submit(self._guarded, "suite", lambda: suite(self.bench))
            for name, part in rest:
                pool.submit(self._guarded, name, lambda part=part: self._with_stubs(part))  # type: ignore[misc]

    def _ours(self, stubs: Stubs) -> None:
        self.measured.update(ours(self.bench, stubs, self.quick, self.selected - PARTS))

    def _compare(self, stubs: Stubs) -> None:
        self.sides.update(compared(self.bench, stubs, self.measured))

    def _with_stubs(self, part: Callable[[Bench, Stubs], None]) -> None:
        """With stubs of its own: others count beside it."""
        with Stubs({"small": cases.SMALL_S, "large": cases.LARGE_S}) as stubs:
            part(self.bench, stubs)

    def _guarded(self, name: str, part: Callable[[], None]) -> None:
        wanted = name in self.selected or (not self.selected and not (self.quick and name in LONG))
        if not wanted and not (name == "ours" and self.selected - PARTS):
            return
        begun = time.monotonic()
        try:
            part()
        except Exception as error:  # noqa: BLE001 - a part that breaks is a failed row
            self.bench.report.check(name, False, f"{type(error).__name__}: {str(error)[:600]}")
        print(f"     {name}: {time.monotonic() - begun:.0f} s", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
