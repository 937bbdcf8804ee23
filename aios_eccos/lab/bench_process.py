"""What a command costs before it says anything, and what a history costs in memory.

Each is measured in a process of its own.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from aios_eccos.lab.bench_rows import Row, Took, percentile, timed, times_cheaper
from aios_eccos.values import Model, Outcome, Query, Record

#: With how many times less processor time they take at least than to import Chroma.
COMMANDS = {"--help": 3.0, "status": 0.8}
#: Records added at a time, models, and queries decided before memory is read.
PART, MODELS, QUERIES = 5000, 10, 20
#: Megabytes per 100,000 records, beyond a process that has imported Chroma as AIOS does.
BUDGET_MB, PER = 1200.0, 100_000


def startup(times: int) -> list[Row]:
    """Commands against an interpreter that imports what no look-up may import."""
    with tempfile.TemporaryDirectory() as folder:
        env = {**os.environ, "AIOS_ECCOS_STATE": folder}

        def took(*words: str) -> Took:
            return timed(lambda: _run(words, env), _of_children)

        peer = [took("-c", "import chromadb") for _ in range(times)]
        rows = []
        for word, least in COMMANDS.items():
            took("-m", "aios_eccos.cli.main", word)
            ours = [took("-m", "aios_eccos.cli.main", word) for _ in range(times)]
            rows.append(
                Row("startup", f"aios-eccos {word}", times, percentile(ours, 50),
                    p99=percentile(ours, 99), budget=500.0, peer="import chromadb",
                    peer_value=percentile(peer, 50), times_cheaper=times_cheaper(ours, peer),
                    least=least)
            )  # fmt: skip
        return rows


def _of_children() -> float:
    used = os.times()
    return used.children_user + used.children_system


def memory(records: int) -> list[Row]:
    """Resident memory behind so many records, against Chroma with the same rows alone."""
    with tempfile.TemporaryDirectory() as folder:
        _child("fill", folder, records)
        base, ours, peer = (float(_child(do, folder, records)) for do in ("base", "ours", "peer"))
    value, other = ours - base, peer - base
    return [
        Row("memory", f"{records:,} records", records, value, "MB",
            budget=BUDGET_MB * max(records, PER) / PER, peer="Chroma alone", peer_value=other,
            least=0.05)
    ]  # fmt: skip


def _child(do: str, folder: str, records: int) -> str:
    done = _run(("-m", __name__, do, folder, str(records)), os.environ)
    done.check_returncode()
    return done.stdout


def _run(words: Sequence[str], env: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words], env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )


def _fill(folder: Path, records: int) -> None:
    from aios_eccos.history.open import open_embedder, open_history

    history = open_history("embedded", folder, open_embedder())
    draw = np.random.default_rng(0)
    for start in range(0, records, PART):
        count = min(PART, records - start)
        vectors = draw.normal(size=(count, 384)).astype(np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        right = draw.random((count, MODELS)) < 0.6
        rows = [
            Record(
                f"{start + at}",
                f"question {start + at} of a made-up set, as long as such questions are",
                20,
                tuple(Outcome(f"model{j}", float(right[at, j]), 200) for j in range(MODELS)),
            )
            for at in range(count)
        ]
        history.add(rows, vectors)
    history.close()


def _ours(folder: Path) -> None:
    """Decide a few queries on the history, as a kernel does."""
    from aios_eccos.config import Settings
    from aios_eccos.floor.learn import learn_from
    from aios_eccos.history.embed.embedding import BackgroundEmbedder
    from aios_eccos.history.open import open_embedder, open_history
    from aios_eccos.serve.router import Router
    from aios_eccos.workload.memory import MemoryWorkload

    embedder = open_embedder()
    background = BackgroundEmbedder(lambda: embedder)
    background.wait()
    history = open_history("embedded", folder, embedder)
    models = [
        Model(f"model{j}", input_price=1e-7 * j, output_price=1e-7 * j) for j in range(MODELS)
    ]
    learned = learn_from(history, background, Settings(), models)
    router = Router(models, Settings(), MemoryWorkload(), learned)
    for number in range(QUERIES):
        router.route([Query(f"how many are {number}?")])
    _say_resident_mb()


def _peer(folder: Path) -> None:
    """Ask Chroma alone for neighbors of as many vectors."""
    import chromadb

    client = chromadb.PersistentClient(str(folder / "history" / "chroma"))
    rows = client.get_collection("eccos_history", embedding_function=None)
    for _ in range(QUERIES):
        rows.query(query_embeddings=np.random.default_rng(0).normal(size=(1, 384)), n_results=32)
    _say_resident_mb()


def _say_resident_mb() -> None:
    """The most that this process held: Linux' `ru_maxrss` begins at what its parent held."""
    status = Path("/proc/self/status")
    if status.exists():
        (most,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        used = int(most.split()[1]) / 1024
    else:
        import resource

        used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    sys.stdout.write(str(used))


def _main(do: str, folder: str, records: str) -> None:
    import chromadb  # noqa: F401 - AIOS's kernel imports it with or without the plugin

    if do == "fill":
        _fill(Path(folder), int(records))
    elif do == "base":
        _say_resident_mb()
    else:
        (_ours if do == "ours" else _peer)(Path(folder))


if __name__ == "__main__":
    _main(*sys.argv[1:])
