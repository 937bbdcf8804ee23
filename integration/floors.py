"""`python -m integration.floors`: is the floor that was asked for kept, seen from outside?

As an operator has it: `enable`, `ingest`, `train`, default settings. Recorded questions that the
history has not seen are asked through the real kernel, and after each answer its recorded verdict
is given to `/eccos/feedback`, as `aios-eccos feedback` does. In the last run the cheap model that
is used most answers 30 points worse from half-time on. Wants `AIOS_HOME`, `CEREBRUM_HOME` and
`AIOS_ECCOS_DATA`; under ten minutes on two idle cores, `--quick` under two.
"""

from __future__ import annotations

import json
import math
import os
import random
import shutil
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any

import yaml

from aios_eccos.lab.replay_server import ReplayServers
from aios_eccos.records import Record

from .kernel import Kernel, base_config, copy_aios, free_port, homes, wait_ready, workplace
from .report import Report, Row, options, recorded
from .routed import entries_of, labelled
from .stream import Call, Worth, stream, strongest_of, worse
from .typed import Shell

DATA = "math10.jsonl.gz"
FLOORS = ("95 %", "0.75")
#: From so many calls on (after a change: so many calls later) the floor is to be kept within this.
SETTLED = 300
WITHIN = 0.03
CALLS, CALLS_WORSE, CALLS_QUICK = 600, 1000, 250


@dataclass(slots=True)
class Run:
    """The calls of one floor, in the order in which they were settled.

    Attributes:
        changed: calls before the cheap model became worse; None: it did not.
        spoiled: that model.
    """

    case: str
    strongest: str
    floor: float = 0.0
    success: list[float] = field(default_factory=list)
    strongest_success: list[float] = field(default_factory=list)
    cost: list[float] = field(default_factory=list)
    strongest_cost: list[float] = field(default_factory=list)
    models: list[str] = field(default_factory=list)
    alarms: list[bool] = field(default_factory=list)
    lost: int = 0
    changed: int | None = None
    spoiled: str = ""

    def row(self, quick: bool) -> Row:
        """Asked and realised; right if the floor is kept."""
        n, known = len(self.success), self.figures()
        # Few calls are a small sample: then the error of their mean is allowed for.
        allowed = WITHIN + (known["standard_error"] if quick else 0.0)
        lowest = known["after_change"] or known["worst_after_300"]
        moment = f"worst mean from {SETTLED} calls on {known['worst_after_300']}"
        if self.changed is not None:
            moment += (
                f"; {self.spoiled} worse from call {self.changed} on, from {SETTLED} later "
                f"{known['after_change']} +- {known['standard_error_after']}"
            )
        return Row(
            self.case,
            not self.lost and lowest >= self.floor - allowed,
            sent=n + self.lost,
            answered=n,
            lost=self.lost,
            value=known["realised"],
            unit=f"+- {known['standard_error']} realised, asked {self.floor:.4f}",
            note=f"{moment}; strongest {known['strongest_success']}; "
            f"${known['cost_per_call_usd']} a call, {known['cost_share']} of the strongest's; "
            f"alarm in {known['alarmed_calls']} calls",
        )

    def figures(self) -> dict[str, Any]:
        """What a reader of the table wants; success is the mean over the calls."""
        n = len(self.success)
        realised = sum(self.success) / n
        running = [total / (i + 1) for i, total in enumerate(accumulate(self.success))]
        late = [] if self.changed is None else self.success[self.changed + SETTLED :]
        share = Counter(self.models)
        return {
            "realised": round(realised, 4),
            "standard_error": standard_error(self.success),
            "worst_after_300": round(min(running[min(SETTLED, n) - 1 :]), 4),
            "after_change": round(sum(late) / len(late), 4) if late else None,
            "standard_error_after": standard_error(late),
            "spoiled": self.spoiled or None,
            "spoiled_share": self._spoiled_share(),
            "strongest": self.strongest,
            "strongest_success": round(sum(self.strongest_success) / n, 4),
            "cost_per_call_usd": round(sum(self.cost) / n, 6),
            "cost_share": round(sum(self.cost) / sum(self.strongest_cost), 4),
            "alarmed_calls": sum(self.alarms),
            "share": {name: round(count / n, 3) for name, count in share.most_common()},
        }

    def _spoiled_share(self) -> list[float] | None:
        """Of the last hundred calls, before the change and at the end."""
        if self.changed is None:
            return None
        before, end = self.models[: self.changed][-100:], self.models[-100:]
        return [part.count(self.spoiled) / len(part) for part in (before, end)]


def standard_error(success: Sequence[float]) -> float | None:
    """Of the mean of right (1) and wrong (0) answers; None of none."""
    n, mean = len(success), sum(success) / max(len(success), 1)
    return round(math.sqrt(mean * (1 - mean) / n), 4) if n else None


@dataclass(frozen=True, slots=True)
class Bench:
    """One enabled checkout with a trained history, from which every run starts anew."""

    folder: Path
    kernel: Kernel
    servers: ReplayServers
    records: list[Record]
    prices: dict[str, tuple[float, float]]
    strongest: str

    def measure(self, case: str, floor: str, calls: int, spoil: bool) -> tuple[Run, Any]:
        """Stream calls at a floor; the run, and the alarm of `/eccos/status` at its end."""
        state = self.folder / "state"
        shutil.rmtree(state)
        shutil.copytree(self.folder / "trained", state)
        path = self.kernel.home / "aios/config/config.yaml"
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
        config["llms"]["router"]["eccos"]["quality_floor"] = floor
        path.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
        run = Run(case, self.strongest)
        with self.kernel:
            wait_ready(self.kernel)
            texts = [record.text for record in self.records[:calls]]
            stream(self.kernel, texts, Judging(self, run, calls // 2 if spoil else None))
            alarms = self.kernel.get("/eccos/status")["alarms"]
        if spoil:
            self.servers.replace(run.spoiled, self.records)
        return run, alarms


class Judging:
    """Gives each answer its recorded verdict, and makes a model worse when its time comes."""

    def __init__(self, bench: Bench, run: Run, spoil_at: int | None) -> None:
        self._bench, self._run, self._spoil_at = bench, run, spoil_at
        self._worth = Worth({record.text: record for record in bench.records}, bench.prices)

    def __call__(self, call: Call) -> None:
        run, kernel = self._run, self._bench.kernel
        if call.said is None or not call.decision:
            run.lost += 1
            return
        said = json.loads(call.said)
        kernel.post(
            "/eccos/feedback", {"id": call.decision["id"], "correctness": said["correctness"]}
        )
        run.floor = call.decision["floor"] or run.floor
        run.success.append(said["correctness"])
        run.models.append(said["model"])
        run.cost.append(self._worth.cost(call.text, said["model"]))
        run.strongest_success.append(self._worth.success(call.text, run.strongest))
        run.strongest_cost.append(self._worth.cost(call.text, run.strongest))
        if len(run.success) % 25 == 0:
            broken = any(alarm["broken"] for alarm in kernel.get("/eccos/status")["alarms"])
            run.alarms += [broken] * 25
        if len(run.success) == self._spoil_at:
            self._spoil()

    def _spoil(self) -> None:
        run, bench = self._run, self._bench
        used = Counter(name for name in run.models if name != run.strongest)
        run.spoiled, run.changed = used.most_common(1)[0][0], len(run.success)
        bench.servers.replace(run.spoiled, map(labelled, worse(bench.records, run.spoiled)))


def prepared(
    folder: Path, python: str, servers: ReplayServers, prices: dict[str, tuple[float, float]]
) -> Kernel:
    """Type `enable`, `ingest` and `train` on a copy of AIOS; its kernel, not started."""
    found = homes()
    assert found is not None
    home = copy_aios(found[0], folder / "aios")
    config = base_config(entries_of(servers, prices), free_port(), {"strategy": "sequential"})
    port = config["server"]["port"]
    path = home / "aios/config/config.yaml"
    path.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    state = folder / "state"
    shell = Shell(folder / "env", python, found[1], {"AIOS_ECCOS_STATE": str(state)})
    data = str(Path(os.environ["AIOS_ECCOS_DATA"]) / DATA)
    at = ("--aios-home", str(home))
    shell.type("aios-eccos", "enable", *at)
    shell.type("aios-eccos", "ingest", data, "--split", "train", *at)
    shell.type("aios-eccos", "train", *at)
    shutil.copytree(state, folder / "trained")
    return Kernel(home, found[1], None, state=state, python=shell.python, hook=False, port=port)


def main() -> int:
    """Run all floors; 1 if one was not kept."""
    given = options("floors", __doc__, f"one floor, {CALLS_QUICK} calls").parse_args()
    dataset, prices = recorded(DATA)
    records = [labelled(record) for record in dataset.split("test", "val")]
    random.Random(0).shuffle(records)
    runs: list[tuple[str, str, int, bool]] = [
        (f"floor {floor}", floor, CALLS_QUICK if given.quick else CALLS, False) for floor in FLOORS
    ]
    runs.append((f"floor {FLOORS[0]}, a cheap model worse", FLOORS[0], CALLS_WORSE, True))
    report, table = Report("integration-floors"), []
    with (
        workplace(given.keep) as folder,
        ReplayServers(records, dataset.models, 0.0) as servers,
    ):
        kernel = prepared(folder, given.python, servers, prices)
        strongest = strongest_of(dataset.split("train"))
        bench = Bench(folder, kernel, servers, records, prices, strongest)
        for case, floor, calls, spoil in runs[: 1 if given.quick else None]:
            run, alarms = bench.measure(case, floor, calls, spoil)
            report.add(run.row(given.quick))
            table.append({"case": case, "asked": run.floor, **run.figures(), "alarms": alarms})
    return report.finish(given.json, data_hash=dataset.hash, quick=given.quick, table=table)


if __name__ == "__main__":
    sys.exit(main())
