"""Makes an archive of the state that a version leaves: `make_state.py VERSION.tar.gz`.

Run it with that version's source on PYTHONPATH, before its successor changes a format, and keep the
archive: `PYTHONPATH=SOURCE:. python tests/upgrade/make_state.py tests/upgrade/state-0.1.0.tar.gz`.
All of it is written by the version's own code: a checkout that is switched on, the embedded Redis
with decisions, verdicts, prices and notes, a history, a head, certificates and a journal.
"""

from __future__ import annotations

import os
import shutil
import sys
import tarfile
import tempfile
from pathlib import Path

import numpy as np

from aios_eccos.collect.journal import Answer, Journal
from aios_eccos.collect.reply import Reply
from aios_eccos.floor.certify import certify, write_papers
from aios_eccos.forecast.head.artifact import save_head
from aios_eccos.forecast.head.train import train
from aios_eccos.history.memory import MemoryHistory
from aios_eccos.history.open import open_history
from aios_eccos.kernel.setup import install, interpreter
from aios_eccos.locate import state_dir_of
from aios_eccos.records import Outcome, Record
from aios_eccos.verdicts.keys import load_secret
from aios_eccos.workload.connect import open_workload

HERE = Path(__file__).parent
MODEL = (
    '    - {{name: {0}, backend: vllm, hostname: "http://localhost:{1}/v1", '
    "input_cost_per_token: {2}, output_cost_per_token: {2}}}\n"
)
CONFIG = (
    "llms:\n  models:\n"
    + MODEL.format("small", 1, "1e-7")
    + MODEL.format("large", 2, "1e-5")
    + "  router: {strategy: sequential}\n"
)


class Circle:
    """An embedder of eight numbers, and of layers of as many."""

    name, dimension, identity = "circle", 8, "circle"

    def embed(self, texts: list[str]) -> np.ndarray:
        angle = np.array([[(len(text) + 1) * k for k in range(1, 9)] for text in texts]) / 7.0
        rows = np.cos(angle).astype(np.float32)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def records(count: int) -> list[Record]:
    return [
        Record(
            f"q{i}",
            f"{'hard' if i % 2 else 'easy'} question {'x' * i}",
            10,
            (Outcome("small", float(i % 2 == 0), 20), Outcome("large", float(i % 9 > 0), 30)),
        )
        for i in range(count)
    ]


def make(folder: Path) -> None:
    """The checkout `AIOS`, and the folder `state` of all state folders."""
    home = folder / "AIOS"
    shutil.copytree(HERE.parent / "kernel/standin", home)
    (home / "aios/config/config.yaml").write_text(CONFIG)
    os.environ["AIOS_ECCOS_STATE"] = str(folder / "state")
    site = folder / "site"
    site.mkdir()
    found = {"version": [3, 11], "site": str(site), "lacks": [], "plugin": "here"}
    interpreter.probe = lambda python: found
    install.contract.sdk_homes = list  # type: ignore[assignment]
    install.enable(home, options={"quality_floor": "0.9"})
    state, circle = state_dir_of(home), Circle()
    history = open_history("embedded", state, circle)
    rows = records(80)
    texts = [record.text for record in rows]
    history.add(rows, circle.embed(texts))
    history.close()
    memory = MemoryHistory(dimension=8)
    memory.add(rows, circle.embed(texts))
    table = memory.table()
    layers = np.concatenate([circle.embed(list(table.texts))] * 4, axis=1)
    save_head(state / "head.safetensors", train(table, layers), embedder=circle.name, data="0")
    right = np.ones((400, 2))
    grid = (1.0, 0.5)
    paper = certify(right * 0.9, right, right * [1, 2], 0.9, grid=grid, data="0")
    write_papers(state / "certificates.json", {"": paper})
    with Journal(folder / "journal.jsonl") as journal:
        journal.append(Answer("q1", "small", "hash", Reply("four", input_tokens=3)))
    load_secret(state)
    _redis(state)


def _redis(state: Path) -> None:
    store = open_workload("embedded", state_dir=state, timeout_s=10)
    store.set_prices({"floor:": 1.5})
    store.swap_note("kept", "a note")
    from aios_eccos.observe.trace import Option, Trace, to_fields

    option = Option("small", 0.9, 20.0, 1e-5, 0.0, 5.0, True, 3, 0.0)
    trace = Trace(
        "call", 1.7e9, "agent", "route", 0, "", "optimal", "cheapest", "small", 0.9, 0.001, 0.9,
        0.1, 1, 1, 0.001, 0.0, 0.5, 10, 20, True, 1e-5, True, None, 200, (option,)
    )  # fmt: skip
    store.append_decision(to_fields(trace))
    store.append_event({"what": "mode", "after": "route"})
    from aios_eccos.observe.sums import of_call
    from aios_eccos.workload.periods import TOTAL, PeriodSums

    store.add_sums([PeriodSums(TOTAL, 0.0, of_call(trace))])
    store.close()


def pack(target: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        make(Path(folder))
        keep = ("AIOS/aios/config", "state", "site", "journal.jsonl")
        with tarfile.open(target, "w:gz") as archive:
            for name in keep:
                archive.add(Path(folder) / name, name)


if __name__ == "__main__":
    pack(Path(sys.argv[1]))
