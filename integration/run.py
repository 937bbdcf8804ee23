"""`python -m integration.run`: the real kernel, stub model servers, real SDK clients and terminal.

Wants `AIOS_HOME` and `CEREBRUM_HOME`, and an interpreter that can run AIOS (`--python`). Under
eight minutes on two idle cores; `--quick` leaves out the comparison and half of the loads.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from . import cases, load, lone
from .kernel import (
    TOOL_SERVER,
    Kernel,
    base_config,
    copy_aios,
    end_group,
    free_port,
    homes,
    start_all,
    within,
    workplace,
)
from .report import Report, Row, options
from .stubs import Stubs
from .typed import typed

#: Kernels that are compared under the same loads.
SIDES = {"ours", "stock", "fair opponent"}
OPPONENT = Path(__file__).parent / "opponent"
MODEL_S = {"small": cases.SMALL_S, "large": cases.LARGE_S}
PRICES = {"small": 1e-7, "large": 1e-6}
#: Everything that runs on kernels of its own; other names in `--only` are cases of `ours`.
PARTS = {"ours", "compare", "routed", "suite", "workers", "killed", "once", "typed"}
#: Left out of a quick run.
LONG = {"compare", "routed", "once"}
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


Case = tuple[str, Callable[[cases.Ground], Any]]


def timed(quick: bool) -> list[Case]:
    """The cases of our kernel that measure times; nothing else may run beside them."""
    return [
        *((name, partial(cases.traced, seed=seed)) for name, seed in cases.ORDERS.items()),
        ("lone", lambda ground: cases.overhead(ground, 20 if quick else 60)),
        ("closed", lambda ground: cases.closed_loop(ground, 4.0 if quick else 10.0)),
        ("burst", cases.bursts),
        ("limit", cases.limited),
        ("faults", lambda ground: cases.faulty(ground, 32, 8 if quick else 25)),
    ]


def untimed(quick: bool) -> list[Case]:
    """The other cases of our kernel, to its end."""
    return [
        ("sdk", cases.sdk),
        ("terminal", cases.terminal),
        ("http", cases.http_side),
        ("storage", cases.slow_storage),
        ("gone", cases.client_gone),
        ("refused", cases.refused_refresh),
        ("observe", cases.observe),
        ("guard", cases.guarded),
        ("cleanup", cases.cleanup),
        ("refreshes", lambda ground: cases.refreshes(ground, 3 if quick else 10)),
        ("sigterm", lambda g: cases.ends(g.report, g.kernel, g.stubs, signal.SIGTERM)),
    ]


def uvicorn_workers(bench: Bench, stubs: Stubs) -> None:
    """Two workers under uvicorn, context manager on: one limit; then SIGINT."""
    settings = {"redis": "embedded", "embedder": "./none"}
    router = {"strategy": "eccos", "eccos": settings}
    config = base_config(models(stubs, limit=4), free_port(), router)
    config["llms"]["use_context_manager"] = True
    port = config["server"]["port"]
    command = ("-m", "uvicorn", "runtime.launch:app", "--workers", "2", "--port", str(port))
    with bench.kernel("workers", config, command=command) as kernel:
        within(10.0, lambda: kernel.get("/eccos/status")["kernels"] == 2)
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
        _told_to_one(bench, stubs, kernel)
        assert kernel.process is not None
        session = kernel.process.pid
        took = kernel.stop(signal.SIGINT)
        within(0.5, lambda: not cases.session(session))
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


def _told_to_one(bench: Bench, stubs: Stubs, kernel: Kernel) -> None:
    """A mode and a refresh that one of two workers hears of reach the other."""

    def modes() -> dict[int, str]:
        found = (kernel.get("/eccos/kernel") for _ in range(20))  # one of the two answers
        return {worker["process"]: worker["mode"] for worker in found}

    kernel.post("/eccos/mode", {"mode": "observe"})
    told = within(10.0, lambda: sorted(modes().values()) == ["observe"] * 2)
    assert kernel.config is not None
    for entry in kernel.config["llms"]["models"]:
        entry["concurrency"] = 7
    kernel.write(kernel.config)
    kernel.post("/core/refresh")

    peaks: list[int] = []

    def peak() -> int:
        stubs.reset()
        load.run(load.burst(kernel.url, 24, "small"))
        peaks.append(stubs.stats("small")["peak"])
        return peaks[-1]

    # The smallest limit that any worker declares holds: both must have heard.
    refreshed = within(20.0, lambda: peak() == 7)
    back = within(5.0, lambda: sorted(modes().values()) == ["route"] * 2)
    bench.report.check(
        "2 workers: what one is told, both do",
        told and refreshed and back,
        f"mode: {told}, refresh: {refreshed} {peaks[-5:]}, mode after it: {back}",
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
            cases.ends(bench.report, kernel, stubs, signal.SIGINT)
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


def compared(report: Report, sides: dict[str, dict[str, Row]]) -> None:
    """Rows of what ours has over stock and over the fair opponent, on the same loads."""
    mine, stock, fair = sides["ours"], sides["stock"], sides["fair opponent"]

    def judge(text: str, ratio: float, wanted: float, note: str = "") -> None:
        said = f"wanted {wanted:.2f}{note}"
        report.add(Row(text, ratio >= wanted, value=round(ratio, 2), unit="x", note=said))

    lone = over(fair["lone"].value, mine["lone"].value)
    judge("lone overhead, fair opponent / ours", lone, 6)
    for key, seed in cases.ORDERS.items():
        order = cases.order_name(seed)
        p95 = over(stock[key].p95_s, mine[key].p95_s)
        judge(f"p95 of short calls, stock / ours, {order}", p95, 40)
        # Six calls come a second: where stock gets little to wait for, no scheduler is 2.4 x as
        # quick, and all that the arrivals allow is asked.
        most = over(cases.most_per_second(seed), stock[key].value)
        ratio = over(mine[key].value, stock[key].value)
        note = f"; the arrivals allow {most:.2f}"
        judge(f"throughput, ours / stock, {order}", ratio, min(2.4, 0.98 * most), note)


def over(one: float | None, other: float | None) -> float:
    """The quotient; NaN, which passes no check, where a part is missing."""
    return (one or float("nan")) / (other or float("nan"))


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


def main() -> int:
    """Run; 1 if a case failed."""
    parser = options("run", __doc__, "under four minutes")
    parser.add_argument("--only", default="", help="parts, or cases of our kernel, a,b")
    given = parser.parse_args()
    report = Report("integration")
    with workplace(given.keep) as folder:
        bench = Bench(folder, given.python, report)
        selected = {name for name in given.only.split(",") if name}
        parts = Parts(bench, given.quick, selected)
        parts.run()
        within(0.5, lambda: not _left_in(folder))
        left = _left_in(folder)
        report.check("nothing is left running", not left, "; ".join(left)[:300])
    return report.finish(given.json, quick=given.quick, sides=parts.figures())


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of a run. What is timed goes alone; starts, and the rest, go beside each other."""

    bench: Bench
    quick: bool
    selected: set[str]
    rows: dict[str, dict[str, Row]] = field(default_factory=dict)

    def run(self) -> None:
        """Run the parts selected."""
        with contextlib.ExitStack() as running:
            stubs = running.enter_context(Stubs(MODEL_S))
            kernels = self._kernels(running, stubs)
            self._start(list(kernels.values()))
            grounds = {name: self._ground(kernels[name], stubs) for name in kernels.keys() & SIDES}
            with ThreadPoolExecutor() as pool:
                list(pool.map(cases.warm_up, grounds.values()))
            if "ours" in grounds:
                self.rows["ours"] = self._cases(grounds["ours"], timed(self.quick))
            if "stock" in grounds:
                self._guarded("compare", lambda: self._compare(grounds))
            if "routed" in kernels:
                self._guarded("routed", lambda: lone.measure(self.bench.report, kernels["routed"]))
            for name in kernels.keys() - {"ours"}:
                kernels[name].stop()
            with ThreadPoolExecutor(TOGETHER) as pool:
                if self._wanted("suite"):
                    pool.submit(self._guarded, "suite", lambda: suite(self.bench))
                if "ours" in grounds:
                    pool.submit(self._cases, grounds["ours"], untimed(self.quick))
                for name, part in APART.items():
                    if self._wanted(name):
                        pool.submit(self._guarded, name, partial(self._with_stubs, part))

    def figures(self) -> dict[str, Any]:
        """What ours, stock and the fair opponent came to, for the JSON."""
        return {
            side: {name: {"p95_s": row.p95_s, "value": row.value} for name, row in rows.items()}
            for side, rows in self.rows.items()
        }

    def _wanted(self, name: str) -> bool:
        if self.selected:
            own = {case for case, _ in timed(False) + untimed(False)}
            # Ours is compared, too.
            wants_ours = name == "ours" and bool((own | {"compare"}) & self.selected)
            return name in self.selected or wants_ours
        return not (self.quick and name in LONG)

    def _kernels(self, running: contextlib.ExitStack, stubs: Stubs) -> dict[str, Kernel]:
        """The kernels that timed cases run on, not started."""
        settings = {"redis": "embedded", "embedder": "./none"}
        router = {"strategy": "eccos", "eccos": settings}
        made: dict[str, Kernel] = {}
        if self._wanted("ours"):
            config = base_config(models(stubs), free_port(), router)
            made["ours"] = self.bench.kernel("ours", config)
        if self._wanted("compare"):
            patched = os.pathsep.join([str(OPPONENT), str(OPPONENT.parents[1])])
            for name, first in (("stock", None), ("fair opponent", patched)):
                config = base_config(models(stubs), free_port(), {"strategy": "sequential"})
                folder = name.replace(" ", "-")
                made[name] = self.bench.kernel(folder, config, hook=False, first=first)
        data = os.environ.get("AIOS_ECCOS_DATA")
        if self._wanted("routed") and data:
            known = lone.Known.read(Path(data))
            servers = running.enter_context(Stubs(dict.fromkeys(known.models, lone.MODEL_S)))
            router = {"strategy": "eccos", "eccos": {}}
            config = base_config(known.entries(servers), free_port(), router)
            made["routed"] = self.bench.kernel("routed", config)
            known.fill(made["routed"].home, self.bench.folder / "state")
        elif self._wanted("routed"):
            print("     left out: a lone routed call wants AIOS_ECCOS_DATA", file=sys.stderr)
        for kernel in made.values():
            running.push(kernel)
        return made

    def _start(self, kernels: list[Kernel]) -> None:
        begun = time.monotonic()
        if kernels:
            start_all(kernels)
            took = round(time.monotonic() - begun, 1)
            text = "start: python -m runtime.launch"
            note = f"{len(kernels)} kernels beside each other"
            self.bench.report.add(Row(text, True, value=took, unit="s", note=note))

    def _ground(self, kernel: Kernel, stubs: Stubs) -> cases.Ground:
        bench = self.bench
        assert kernel.config is not None
        return cases.Ground(
            kernel, stubs, bench.report, bench.cerebrum, bench.pypi_sdk, bench.python, kernel.config
        )

    def _cases(self, ground: cases.Ground, found: list[Case]) -> dict[str, Row]:
        """Run cases of our kernel; the rows of those that return one."""
        rows = {}
        for name, case in found:
            if self.selected - PARTS and name not in self.selected:
                continue
            try:
                rows[name] = case(ground)
            except Exception as error:  # noqa: BLE001 - a case that breaks is a failed row
                reason = f"{type(error).__name__}: {str(error)[:300]}"
                self.bench.report.check(name, False, reason)
        return {name: row for name, row in rows.items() if isinstance(row, Row)}

    def _compare(self, grounds: dict[str, cases.Ground]) -> None:
        """Stock and the fair opponent under the loads that ours had."""
        for name in ("stock", "fair opponent"):
            ground = replace(grounds[name], report=Report("side", judges=False))
            self.rows[name] = {
                **{
                    key: cases.traced(ground, seed, name)
                    for key, seed in cases.ORDERS.items()
                    if name == "stock" or seed is None
                },
                "lone": cases.overhead(ground, 8 if name == "stock" else 30),
                "closed": cases.closed_loop(ground, 6.0),
            }
        compared(self.bench.report, self.rows)

    def _with_stubs(self, part: Callable[[Bench, Stubs], None]) -> None:
        """With stubs of its own: others count beside it."""
        with Stubs(MODEL_S) as stubs:
            part(self.bench, stubs)

    def _guarded(self, name: str, part: Callable[[], None]) -> None:
        begun = time.monotonic()
        try:
            part()
        except Exception as error:  # noqa: BLE001 - a part that breaks is a failed row
            self.bench.report.check(name, False, f"{type(error).__name__}: {str(error)[:600]}")
        print(f"     {name}: {time.monotonic() - begun:.0f} s", file=sys.stderr, flush=True)


#: Parts on kernels of their own, where times do not count.
APART = {"workers": uvicorn_workers, "killed": killed, "once": once, "typed": acceptance}


if __name__ == "__main__":
    sys.exit(main())
