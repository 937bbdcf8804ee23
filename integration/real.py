"""`python -m integration.real`: an operator's day with three real small models on the real kernel.

Enable, first calls, `collect`, `train`, routed calls with answers graded afterwards, tool calls and
JSON, a plan, a server that is killed, AIOS's terminal, audits with a judge from an empty history,
disable. Each step says what it found and how long it took. Wants `AIOS_HOME`, `CEREBRUM_HOME`,
`AIOS_ECCOS_DATA` and `ECCOS_GGUF`; under 30 minutes on two idle cores, `--quick` under 10. A broken
promise makes the exit code 1: a call lost, doubled or hung, a limit exceeded, a file left by
disable. How well small models answer does not.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from . import real_steps as steps
from . import real_trials as trials
from .kernel import Kernel, base_config, copy_aios, free_port, homes, workplace
from .models_real import POOL, SLOTS, Server, gguf_folder
from .real_calls import Agents
from .real_day import Day
from .report import Report, data_folder, options
from .typed import SITE, Shell, changed, listing, run


@dataclass(frozen=True, slots=True)
class Size:
    """How much is asked.

    Attributes:
        first: calls before there is any history. collected: shipped questions, of so many tokens.
        routed: other questions. audited: the same ones, from an empty history.
        planned, killed: calls with a plan, and while a server dies. pairs: for the judge alone.
    """

    first: int = 6
    collected: int = 75
    collected_tokens: int = 128
    routed: int = 200
    audited: int = 200
    planned: int = 24
    killed: int = 24
    pairs: int = 8


QUICK = Size(2, 4, 64, 10, 8, 4, 9, 2)


def prices() -> dict[str, tuple[float, float]]:
    """Dollars per token in and out, in proportion to the models' sizes."""
    return {each.name: (each.size_b * 1e-7, each.size_b * 4e-7) for each in POOL}


def entries_of(servers: list[Server]) -> list[dict[str, Any]]:
    """The servers as entries of AIOS's configuration, the strongest first."""
    return [
        {
            "name": server.name,
            "backend": "vllm",
            "hostname": server.url,
            "concurrency": SLOTS,
            "input_cost_per_token": prices()[server.name][0],
            "output_cost_per_token": prices()[server.name][1],
        }
        for server in reversed(servers)
    ]


def begin(folder: Path, python: str, report: Report, quick: bool) -> Day:
    """Servers that load, a copy of AIOS with its files listed, a shell; nothing switched on."""
    found = homes()
    assert found is not None
    models = gguf_folder()
    servers = [Server(weights, models, folder / f"{weights.name}.log") for weights in POOL]
    home, state = copy_aios(found[0], folder / "aios"), folder / "state"
    config = base_config(entries_of(servers), free_port(), {"strategy": "sequential"})
    config["storage"]["root_dir"] = str(folder / "root")
    path = home / "aios/config/config.yaml"
    path.write_text("# Ours.\n" + yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    shell = Shell(folder / "env", python, found[1], {"AIOS_ECCOS_STATE": str(state)})
    # What AIOS does not need and the plugin does, such as the graders' libraries.
    (shell.site / "more.pth").write_text(run(sys.executable, "-c", SITE) + "\n")
    kernel = Kernel(
        home,
        found[1],
        None,
        state=state,
        python=shell.python,
        hook=False,
        port=config["server"]["port"],
        log=folder / "kernel.log",
    )
    agents = Agents(kernel, found[1], python)
    size = QUICK if quick else Size()
    servers_by_name = {server.name: server for server in servers}
    return Day(folder, report, size, shell, kernel, agents, servers_by_name, listing(home))


@dataclass(slots=True)
class Clock:
    """Says which step begins, how long it took, and what the models computed meanwhile."""

    servers: list[Server]
    report: Report
    begun: float = field(default_factory=time.monotonic)
    took: dict[str, float] = field(default_factory=dict)

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[None]:
        since = time.monotonic()
        minutes, seconds = divmod(since - self.begun, 60)
        print(f"\n== {minutes:02.0f}:{seconds:02.0f} {name}", file=sys.stderr, flush=True)
        before = {server.name: server.cpu_s() for server in self.servers}
        try:
            yield
        except Exception as error:  # noqa: BLE001 - what follows is to be seen all the same
            told = f"{type(error).__name__}: {error}"
            self.report.check(f"step: {name}", False, told[-400:])
        self.took[name] = round(time.monotonic() - since, 1)
        used = {s.name: round(max(s.cpu_s() - before[s.name], 0)) for s in self.servers}
        print(f"   {self.took[name]} s; of computing {used}", file=sys.stderr, flush=True)


def live(day: Day, clock: Clock) -> None:
    """The day, from enable to disable."""
    with clock.step("enable, start AIOS, load the models"):
        steps.enable(day)
    with day.kernel:
        with clock.step("first calls: no history"):
            steps.first_calls(day)
        with clock.step("collect over the shipped questions, train"):
            steps.collect(day)
        with clock.step("routed calls on other questions, graded afterwards"):
            steps.routed(day)
        with clock.step("tool calls and JSON, as these models give them"):
            trials.forms(day)
        with clock.step("AIOS's terminal"):
            trials.terminal(day)
        with clock.step("a plan: two small models, the largest where they differ"):
            trials.planned(day)
    trials.forget(day)
    with day.kernel:
        with clock.step("audits and a judge, from an empty history"):
            trials.audited(day)
        with clock.step("the judge alone, on pairs of which one is right"):
            trials.judging(day)
        with clock.step("a server is killed and started again while calls flow"):
            trials.killed(day)
    with clock.step("disable"):
        trials.disable(day)


def main() -> int:
    """Run; 1 if a promise was broken."""
    given = options("real", __doc__, "few questions").parse_args()
    data_folder()
    gguf_folder()
    report = Report("integration-real")
    with workplace(given.keep) as folder, contextlib.ExitStack() as running:
        day = begin(folder, given.python, report, given.quick)
        for server in day.servers.values():
            running.enter_context(server)
        clock = Clock([*day.servers.values()], report)
        live(day, clock)
        left = changed(day.before, listing(day.kernel.home))
        report.check("AIOS's files are as before", not left, str(left or ""))
    return report.finish(given.json, quick=given.quick, steps=clock.took, tables=day.tables)


if __name__ == "__main__":
    sys.exit(main())
