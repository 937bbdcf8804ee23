"""The commands that are killed: what each starts from, and what may not be torn."""

from __future__ import annotations

import importlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from .crash import Case, Torn, environment, inside, run
from .stubs import Stubs

STANDIN = Path(__file__).parents[1] / "tests/kernel/standin"
CONFIG = Path("aios/config/config.yaml")
HOOK = "aios_eccos_kernel.pth"
#: Rows of the history, questions of a collection.
ROWS, QUESTIONS = 80, 6
#: Rows of a history whose index was written once and is again, within so many rows.
LARGE, MORE = 1990, 60
MODELS = {"small": 0.005, "large": 0.005}
#: Requests under way when a collection is killed, which are asked again.
IN_FLIGHT = 2 * len(MODELS)


def imported(names: Sequence[str]) -> None:
    """Import what the commands use, once for all forks."""
    importlib.import_module("aios_eccos.cli.enable")
    for name in (
        ()
        if {*names} <= {"enable", "disable"}
        else (
            *(
                "chromadb",
                "chromadb.api.rust",
                "numpy",
                "onnxruntime",
                "scipy.optimize",
                "scipy.stats",
            ),
            *("safetensors.numpy", "tokenizers", "sklearn.cluster", "httpx", "rich.progress"),
            *("aios_eccos.cli.collect", "aios_eccos.cli.certify", "aios_eccos.cli.train"),
            *("aios_eccos.cli.ingest", "aios_eccos.cli.enable", "aios_eccos.floor.configured"),
        )
    ):
        importlib.import_module(name)


def cases(made: Path, names: Sequence[str]) -> Iterator[Case]:
    """The named cases; `made` keeps what they start from."""
    with Stubs(MODELS) as stubs:
        ground = Ground(made, stubs)
        found = {
            "enable": ground.switched(on=True),
            "disable": ground.switched(on=False),
            "ingest": ground.ingested(),
            "ingest-large": ground.ingested_again(),
            "collect": ground.collected(),
            "train": ground.trained(),
            "certify": ground.certified(),
        }
        for name in names:
            yield found[name]()


class Ground:
    """Makes the templates of trials, each at its first use."""

    def __init__(self, made: Path, stubs: Stubs) -> None:
        self._made, self._stubs = made, stubs

    # What trials start from.

    def _home(self, folder: Path) -> Path:
        home = folder / "AIOS"
        shutil.copytree(STANDIN, home)
        models = [
            f"    - {{name: {name}, backend: vllm, hostname: '{self._stubs.url(name)}', "
            f"input_cost_per_token: {price}, output_cost_per_token: {price}}}\n"
            for name, price in (("small", "1e-7"), ("large", "1e-5"))
        ]
        router = "  router: {strategy: sequential}\n"
        (home / CONFIG).write_text("llms:\n  models:\n" + "".join(models) + router)
        return home

    def _rows(self, folder: Path, first: int = 0, last: int = ROWS) -> Path:
        path = folder / "rows.jsonl"
        lines = []
        for i in range(first, last):
            outputs = [
                {"model_name": name, "correctness": right, "output_token_length": 20}
                for name, right in (("small", i % 2), ("large", int(i % 9 > 0)))
            ]
            row = {"query": f"What is {i} plus {i * i}?", "input_token_length": 9}
            lines.append(json.dumps({**row, "outputs": outputs}) + "\n")
        path.write_text("".join(lines))
        return path

    def _with_history(self, folder: Path, rows: int = ROWS) -> None:
        """A home, a state folder with so many rows in its history, and the embeddings kept."""
        template = self._made / f"history-{rows}"
        if not template.exists():
            template.mkdir()
            (template / "site").mkdir()
            self._home(template)
            file = str(self._rows(template, last=rows))
            if run(template, ["ingest", *_home_of(template), file]).code:
                raise RuntimeError((template / "log").read_text())
        shutil.copytree(template, folder, dirs_exist_ok=True)
        (before,) = (folder / "state").glob("?" * 12)
        before.rename(_state(folder))
        (folder / "log").unlink()

    # The cases.

    def switched(self, *, on: bool) -> Callable[[], Case]:
        def ready(folder: Path) -> None:
            self._home(folder)
            if not on:
                run(folder, ["enable", *_home_of(folder)])

        def arguments(folder: Path) -> list[str]:
            return ["enable" if on else "disable", *_home_of(folder)]

        def make() -> Case:
            with self._scratch() as folder:
                old = self._home(folder).joinpath(CONFIG).read_bytes()
                run(folder, ["enable", *_home_of(folder)])
                new, hook = (
                    (folder / "AIOS" / CONFIG).read_bytes(),
                    (folder / "site" / HOOK).read_bytes(),
                )
            if old == new:
                raise RuntimeError("enable changed nothing")

            def torn(folder: Path) -> Torn:
                found, at = [], folder / "site" / HOOK
                if (folder / "AIOS" / CONFIG).read_bytes() not in (old, new):
                    found.append("config.yaml is neither the old nor the new one")
                if at.exists() and at.read_bytes() != hook:
                    found.append("the hook is torn")
                return found

            def again(folder: Path) -> Torn:
                found, at = [], folder / "site" / HOOK
                for verb in ("enable", "disable") if on else ("disable",):
                    code = run(folder, [verb, *_home_of(folder)]).code
                    wanted = new if verb == "enable" else old
                    if code or (folder / "AIOS" / CONFIG).read_bytes() != wanted:
                        found.append(f"{verb} does not complete ({code})")
                    if at.exists() != (verb == "enable"):
                        found.append(f"after {verb} the hook is not as it should be")
                return found

            return Case("enable" if on else "disable", ready, arguments, torn, again)

        return make

    def ingested(self) -> Callable[[], Case]:
        def ready(folder: Path) -> None:
            self._home(folder)
            self._rows(folder)

        return lambda: _ingest("ingest", ready, 0, ROWS)

    def ingested_again(self) -> Callable[[], Case]:
        def ready(folder: Path) -> None:
            self._with_history(folder, LARGE)
            self._rows(folder, LARGE, LARGE + MORE)

        return lambda: _ingest(f"ingest into {LARGE:,} rows", ready, LARGE, LARGE + MORE)

    def collected(self) -> Callable[[], Case]:
        def ready(folder: Path) -> None:
            self._home(folder)
            asked = [
                {"id": f"q{i}", "task": "t", "question": f"What is {i}?", "answer": str(i)}
                | {"grader": "exact"}
                for i in range(QUESTIONS)
            ]
            (folder / "asked.jsonl").write_text("".join(json.dumps(q) + "\n" for q in asked))
            self._stubs.reset()

        def arguments(folder: Path) -> list[str]:
            options = [
                "--questions",
                str(folder / "asked.jsonl"),
                "--out",
                str(folder / "out.jsonl"),
            ]
            return ["collect", *_home_of(folder), *options, "--concurrency", "2", "--resume"]

        def torn(folder: Path) -> Torn:
            return inside(folder, lambda: _unreadable(folder / "out.jsonl"))

        def again(folder: Path) -> Torn:
            code = run(folder, arguments(folder)).code
            lines = (folder / "out.jsonl").read_text().splitlines()
            answers = [len(json.loads(line)["outputs"]) for line in lines]
            asked = sum(self._stubs.stats(name)["requests"] for name in MODELS)
            found = []
            if code or answers != [len(MODELS)] * QUESTIONS:
                found.append(f"ended with {code}, answers {answers}")
            if asked > QUESTIONS * len(MODELS) + IN_FLIGHT:
                found.append(f"asked {asked} times")
            return found

        return lambda: Case("collect", ready, arguments, torn, again, alike=False)

    def trained(self) -> Callable[[], Case]:
        def ready(folder: Path) -> None:
            self._with_history(folder)
            old = self._made / "old-head"
            if not old.exists():
                run(folder, ["train", *_home_of(folder), "--seed", "7"])
                shutil.copy2(_state(folder) / "head.safetensors", old)
            shutil.copy2(old, _state(folder) / "head.safetensors")

        def arguments(folder: Path) -> list[str]:
            return ["train", *_home_of(folder)]

        def torn(folder: Path) -> Torn:
            return _unread(folder, ROWS, ROWS) + inside(folder, lambda: _head(_state(folder)))

        def again(folder: Path) -> Torn:
            code = run(folder, arguments(folder)).code
            old = (self._made / "old-head").read_bytes()
            same = (_state(folder) / "head.safetensors").read_bytes() == old
            found = [f"ended with {code}"] if code else []
            return found + (["the head is still the old one"] if same else []) + torn(folder)

        return lambda: Case("train", ready, arguments, torn, again)

    def certified(self) -> Callable[[], Case]:
        def ready(folder: Path) -> None:
            self._with_history(folder)
            (folder / "out.json").write_text('{"old": true}\n')

        def arguments(folder: Path) -> list[str]:
            return [
                "certify",
                *_home_of(folder),
                "--floor",
                "0.2",
                "--json",
                str(folder / "out.json"),
            ]

        def torn(folder: Path) -> Torn:
            return _unread(folder, ROWS, ROWS) + _unreadable(folder / "out.json")

        def again(folder: Path) -> Torn:
            code = run(folder, arguments(folder)).code
            made = "floors" in json.loads((folder / "out.json").read_text())
            return [] if code == 0 and made else [f"ended with {code}"]

        return lambda: Case("certify", ready, arguments, torn, again)

    @contextmanager
    def _scratch(self) -> Iterator[Path]:
        folder = self._made / "scratch"
        folder.mkdir()
        (folder / "site").mkdir()
        yield folder
        shutil.rmtree(folder)


def _ingest(name: str, ready: Callable[[Path], None], before: int, after: int) -> Case:
    """Rows come to so many that are there before."""

    def arguments(folder: Path) -> list[str]:
        return ["ingest", *_home_of(folder), str(folder / "rows.jsonl")]

    def torn(folder: Path) -> Torn:
        return _unread(folder, before, after)

    def again(folder: Path) -> Torn:
        code, count = run(folder, arguments(folder)).code, _count(folder)
        return [] if (code, count) == (0, [str(after)]) else [f"ended with {code}, rows {count}"]

    return Case(name, ready, arguments, torn, again)


def _home_of(folder: Path) -> list[str]:
    return ["--aios-home", str(folder / "AIOS")]


def _state(folder: Path) -> Path:
    from aios_eccos.locate import state_dir_of

    os.environ.update(environment(folder))
    return state_dir_of(folder / "AIOS")


def _unreadable(path: Path) -> Torn:
    """What of a file of JSON lines cannot be parsed; "" where there is no file."""
    text = path.read_text() if path.exists() else ""
    try:
        json.loads(text or "{}")
    except ValueError:
        for line in text.splitlines():
            json.loads(line)
    return []


def _count(folder: Path) -> Torn:
    """How many records a trial's history has, as a process of its own reads them; or its fault."""
    state = _state(folder)

    def look() -> Torn:
        import numpy as np

        from aios_eccos.history.open import open_embedder, open_history

        history = open_history("embedded", state, open_embedder(None))
        count = history.count()
        table = history.table()
        history.close()
        lengths = np.linalg.norm(table.embeddings, axis=1)
        if len(table) != count or not np.allclose(lengths, 1.0, atol=1e-3):
            return [f"{len(table)} rows, count {count}, vectors of lengths {lengths}"]
        return [str(count)]

    return inside(folder, look)


def _unread(folder: Path, least: int, most: int) -> Torn:
    """What is wrong with a trial's history; one that was not begun yet is right."""
    if not (_state(folder) / "history").exists():
        return []
    (count,) = _count(folder)
    whole = count.isdigit() and least <= int(count) <= most
    return [] if whole else [f"the history: {count}"]


def _head(state: Path) -> Torn:
    from aios_eccos.forecast.head.artifact import load_head
    from aios_eccos.history.open import open_embedder

    load_head(state / "head.safetensors", embedder=open_embedder(None).name)
    return []
