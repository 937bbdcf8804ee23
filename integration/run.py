"""`python -m integration.run`: the real kernel, stub model servers, real SDK clients and terminal.

Wants `AIOS_HOME` and `CEREBRUM_HOME`, and an interpreter that can run AIOS (`--python`). Under
eight minutes on two idle cores; `--quick` leaves out the comparison and half of the loads.
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from . import cases, load
from .kernel import Kernel, base_config, copy_aios, free_port, homes
from .report import Report, Row
from .stubs import Stubs

OPPONENT = Path(__file__).parent / "opponent"
PRICES = {"small": 1e-7, "large": 1e-6}


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


def routed_lone(bench: Bench, stubs: Stubs, records: int = 10_000) -> None:
    """A lone call that names no model, with a history of 10 k records (random vectors)."""
    import os

    import numpy as np

    from aios_eccos.history.open import open_embedder, open_history
    from aios_eccos.locate import state_dir_of
    from aios_eccos.values import Outcome, Record

    config = base_config(models(stubs), free_port(), {"strategy": "eccos", "eccos": {}})
    kernel = bench.kernel("routed", config)
    os.environ["AIOS_ECCOS_STATE"] = str(bench.folder / "state")
    embedder = open_embedder()
    draw = np.random.default_rng(0)
    vectors = draw.normal(size=(records, embedder.dimension)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    good = draw.random((records, 2)) < (0.6, 0.8)
    rows = [
        Record(
            f"r{i}",
            f"question {i}",
            20,
            (
                Outcome("small", float(good[i, 0]), output_tokens=20),
                Outcome("large", float(good[i, 1]), output_tokens=20),
            ),
        )
        for i in range(records)
    ]
    history = open_history("embedded", state_dir_of(kernel.home), embedder)
    for start in range(0, records, 1000):
        history.add(rows[start : start + 1000], vectors[start : start + 1000])
    history.close()
    with kernel:
        # The history opens in the background; calls before that are routed on priors.
        time.sleep(20)
        load.run(load.lone(kernel.url, 5, None))
        replies = load.run(load.lone(kernel.url, 40, None, "a short question"))
        times = {"small": cases.SMALL_S, "large": cases.LARGE_S}
        extra = [(reply.seconds - times[reply.model]) * 1000 for reply in replies if reply.good]
        last = kernel.get("/eccos/kernel")["last"][-1]["reason"]
        middle = load.median(extra)
        bench.report.calls(
            "lone routed call, 10 k records, overhead",
            replies,
            all(reply.good for reply in replies) and middle <= 30,
            value=round(middle, 2),
            unit="ms",
            note=f"p95 {load.percentile(extra, 0.95):.1f} ms; {last}",
        )


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
        left = cases._session(session)
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
    with kernel:
        with contextlib.suppress(OSError):
            kernel.ask("[[hang]]", llms=["small"], timeout_s=1)
        kernel.stop(signal.SIGKILL)
    with kernel:
        begun = time.monotonic()
        replies = load.run(load.burst(kernel.url, 4, "small"))
        took = time.monotonic() - begun
        good = all(reply.good for reply in replies)
        bench.report.calls("after SIGKILL, the next start serves", replies, good and took < 8)
        assert kernel.process is not None
        session = kernel.process.pid
        kernel.stop()
    time.sleep(0.3)
    left = [line for line in _redis_of(bench.folder) if line]
    bench.report.check("no Redis is left at the end", not left, "; ".join(left)[:200])
    bench.report.check("no process is left at the end", not cases._session(session))


def _redis_of(folder: Path) -> list[str]:
    """Redis servers that work in the run's folder; their command line does not say so."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
            if "redis-server" in command and str(folder) in str((process / "cwd").readlink()):
                found.append(f"{process.name} {command}")
    return found


def compared(bench: Bench, stubs: Stubs, measured: dict[str, Any]) -> dict[str, Any]:
    """Stock and the fair opponent on the same trace."""
    table: dict[str, Any] = {
        name: {"p95_s": row.p95_s, "value": row.value} for name, row in measured.items()
    }
    sides: dict[str, Any] = {"ours": table}
    for name, first in (
        ("stock", None),
        ("fair opponent", str(OPPONENT)),
    ):
        config = base_config(models(stubs), free_port(), {"strategy": "sequential"})
        side = Report("side", judges=False)
        with bench.kernel(name.replace(" ", "-"), config, hook=False, first=first) as kernel:
            ground = cases.Ground(kernel, stubs, side, bench.cerebrum, None, bench.python, config)
            rows = {
                "trace": cases.traced(ground, f"{name}: trace"),
                "lone": cases.overhead(ground, 10 if name == "stock" else 30),
                "closed": cases.closed_loop(ground, 8.0),
            }
        sides[name] = {key: {"p95_s": row.p95_s, "value": row.value} for key, row in rows.items()}
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
    command = [bench.python, "-m", "pytest", "-q", "-W", "default", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, "tests/kernel/test_calls_through_the_kernel.py"],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    last = (done.stdout.strip().splitlines() or done.stderr.strip().splitlines() or [""])[-1]
    bench.report.check("the stand-in's suite on the real kernel", done.returncode == 0, last[-120:])


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
    parser.add_argument("--only", default="", help="cases of our kernel, a,b")
    parser.add_argument("--json", metavar="FILE", help="write the rows (- = standard output)")
    parser.add_argument("--keep", action="store_true", help="keep the copies and logs")
    given = parser.parse_args()
    report = Report("integration")
    selected = {name for name in given.only.split(",") if name}
    sides: dict[str, Any] = {}
    with (
        workplace(given.keep) as folder,
        Stubs({"small": cases.SMALL_S, "large": cases.LARGE_S}) as stubs,
    ):
        bench = Bench(folder, given.python, report)
        parts: list[tuple[str, Any]] = []
        if selected - {"workers", "routed", "suite", "killed", "once"} or not selected:
            parts.append(
                (
                    "ours",
                    lambda: sides.update(measured=ours(bench, stubs, given.quick, selected)),
                )
            )
        if not selected or "workers" in selected:
            parts.append(("workers", lambda: uvicorn_workers(bench, stubs)))
        if (not selected and not given.quick) or "routed" in selected:
            parts.append(("routed", lambda: routed_lone(bench, stubs)))
        if (not selected and not given.quick) or "once" in selected:
            parts.append(("once", lambda: once(bench, stubs)))
        if (not selected and not given.quick) or "suite" in selected:
            parts.append(("suite", lambda: suite(bench)))
        if (not selected and not given.quick) or "killed" in selected:
            parts.append(("killed", lambda: killed(bench, stubs)))
        if (not selected and not given.quick) or "compare" in selected:
            parts.append(
                ("compare", lambda: sides.update(compared(bench, stubs, sides["measured"])))
            )
        for name, part in parts:
            try:
                part()
            except Exception as error:  # noqa: BLE001 - a case that breaks is a failed row
                report.check(name, False, f"{type(error).__name__}: {str(error)[:600]}")
    sides.pop("measured", None)
    return report.finish(given.json, quick=given.quick, sides=sides)


if __name__ == "__main__":
    sys.exit(main())
