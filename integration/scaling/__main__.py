"""Measures how a decision's cost grows, and draws it: `python -m integration.scaling`.

Real: engines, embedded Chroma, Redis, Redis Cluster, a Chroma server. Not there: AIOS, models,
embedding and the trained head. `outlook` says what follows for more kernels than fit here.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from integration.faults.servers import RedisServer, chroma, cluster, cluster_port, running
from integration.report import Report
from integration.report import Row as Line
from integration.scaling.kernels import IDLE_S, Case, Took, run
from integration.scaling.outlook import Costs, outlook
from integration.scaling.picture import draw

#: Calls at once, records, models, and kernels on one Redis.
BATCHES, RECORDS = (1, 4, 16, 64, 256, 512), (1_000, 10_000, 100_000, 300_000)
MODELS, KERNELS = (2, 10, 30, 100), (1, 2, 4, 8)
Rows = list[dict[str, Any]]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m integration.scaling", description=__doc__)
    parser.add_argument("--most-records", type=int, default=max(RECORDS))
    parser.add_argument("--calls", type=int, default=512, help="of each kernel, per row")
    parser.add_argument("--parts", default="batch,records,models,kernels,cluster,chroma")
    parser.add_argument("--json", metavar="FILE", help="write the rows (- = standard output)")
    parser.add_argument("--plot", type=Path, help="draw the rows here (SVG or PNG)")
    asked = parser.parse_args()
    report, rows = Report("scaling", judges=False), []
    for part in asked.parts.split(","):
        with tempfile.TemporaryDirectory(prefix="scaling-") as folder:
            for row in MEASURED[part](Path(folder), asked):
                rows.append({"part": part} | row)
                shown = [f"{name} {value:.4g}" for name, value in row.items()
                         if isinstance(value, int | float)]  # fmt: skip
                sized = isinstance(row["size"], int)
                note = ", ".join(shown[1:] if sized else shown)
                report.add(Line(f"{part} {row['size']}", True, note=note))
    costs = Costs.of(rows)
    steps = [] if costs is None else outlook(costs)
    for step in steps:
        print(step.line(), file=sys.stderr)
    if asked.plot is not None:
        draw(rows, asked.plot)
    more = {"rows_measured": rows, "outlook": [step.facts() for step in steps],
            "load": os.getloadavg()}  # fmt: skip
    return report.finish(asked.json, **more)


@contextmanager
def _one_redis(folder: Path) -> Iterator[Case]:
    server = RedisServer(folder / "redis", "--save", "", "--appendonly", "yes")
    with running(server):
        yield Case(f"redis://{server.address}/0", (server.address,))


def _batches(folder: Path, asked: argparse.Namespace) -> Iterator[dict[str, Any]]:
    with _one_redis(folder) as case:
        for batch in BATCHES:
            wanted = replace(case, batch=batch, calls=max(asked.calls, 4 * batch))
            yield _row(batch, run(wanted))


def _records(folder: Path, asked: argparse.Namespace) -> Iterator[dict[str, Any]]:
    with _one_redis(folder) as case:
        for count in RECORDS:
            if count <= asked.most_records:
                yield _row(count, run(replace(case, records=count, calls=asked.calls)))


def _models(folder: Path, asked: argparse.Namespace) -> Iterator[dict[str, Any]]:
    with _one_redis(folder) as case:
        for count in MODELS:
            yield _row(count, run(replace(case, models=count, calls=asked.calls)))


def _kernels(folder: Path, asked: argparse.Namespace) -> Iterator[dict[str, Any]]:
    with _one_redis(folder) as case:
        for count in KERNELS:
            wanted = replace(case, calls=asked.calls, idle=count == 1)
            yield _row(count, run(wanted, count))


def _cluster(folder: Path, asked: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Eight kernels on a Cluster of three: a namespace each, and all in one."""
    with cluster(folder, replicas=0) as nodes:
        addresses = tuple(node.address for node in nodes)
        case = Case(f"redis+cluster://{','.join(addresses)}", addresses, calls=asked.calls)
        for size, namespace in (("8 namespaces", "scaling{number}"), ("1 namespace", "scaling")):
            busy = [_commands(node) for node in nodes]
            row = _row(size, run(replace(case, namespace=namespace), 8))
            did = [_commands(node) - before for node, before in zip(nodes, busy, strict=True)]
            yield row | {"busiest_share": max(did) / sum(did)}


def _commands(node: RedisServer) -> int:
    with node.client() as client:
        told: Any = client.info("stats")
    return int(told["total_commands_processed"])


def _chroma(folder: Path, asked: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """One and four kernels on a Chroma server with 10,000 records."""
    server = chroma(folder / "chroma", cluster_port())
    with ExitStack() as ends:
        case = ends.enter_context(_one_redis(folder))
        ends.enter_context(running(server))
        case = replace(case, history=f"http://127.0.0.1:{server.port}", records=10_000)
        case = replace(case, calls=asked.calls)
        assert server.process is not None
        for count in (1, 4):
            wanted = replace(case, filled=count > 1, process=server.process.pid)
            took = run(wanted, count)
            assert took[0].redis is not None
            # A search for each call; those that only decide came before.
            spent = took[0].redis.process / sum(each.served for each in took)
            yield _row(count, took) | {"search_s": spent}


def _row(size: int | str, took: Sequence[Took]) -> dict[str, Any]:
    """One line of the table: means over the kernels; what Redis did, for each call."""
    served = sum(each.served for each in took)
    spent, idle = took[0].redis, took[0].idle
    assert spent is not None

    def mean(name: str) -> float:
        return float(sum(getattr(each, name) for each in took)) / len(took)

    row = {
        "size": size,
        "decision_ms": mean("decision"),
        "decision_cpu_ms": mean("decision_cpu"),
        "call_ms": mean("call"),
        "call_cpu_ms": mean("call_cpu"),
        "call_p99_ms": max(each.worst for each in took),
        "memory_mb": mean("memory"),
        "calls_per_s": served / (max(t.ended for t in took) - min(t.begun for t in took)),
        "redis_requests": spent.requests / served,
        "redis_commands": spent.commands / served,
        "redis_cpu_ms": spent.seconds * 1e3 / served,
        "redis_bytes": spent.traffic / served,
    }
    if idle is not None:
        row |= {"idle_requests_per_s": idle.requests / IDLE_S}
        row |= {"idle_redis_cpu_ms_per_s": idle.seconds * 1e3 / IDLE_S}
    return row


MEASURED = {"batch": _batches, "records": _records, "models": _models, "kernels": _kernels,
            "cluster": _cluster, "chroma": _chroma}  # fmt: skip

if __name__ == "__main__":
    sys.exit(main())
