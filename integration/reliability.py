"""`python -m integration.reliability`: faults under a steady flow of calls, and what they cost.

Wants `AIOS_HOME` and `CEREBRUM_HOME` (but for `--quick`), root for a disk of its own, and Debian's
redis-server and libfaketime.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path

from integration.faults import history_faults, many, other_faults, redis_faults, soak
from integration.faults.ground import MODEL_S, Row
from integration.faults.page import of_cases, of_rows, put
from integration.faults.servers import step_clock
from integration.faults.setups import Place, fill, fill_embedded, serving
from integration.kernel import homes, workplace
from integration.report import options
from integration.stubs import Stubs

#: Seconds of the contract on one Redis, with a failover in the midst of it, and in short.
CONTRACT_S, FAILOVER_S, QUICK_S = 60.0, 15.0, 8.0
Faults = dict[str, Callable[[], object]]


@contextmanager
def pair(place: Place, stubs: Stubs) -> Iterator[Faults]:
    """Two kernels on one Redis and one Chroma server."""
    with (
        redis_faults.shared_redis(place.folder / "redis") as (redis, proxy),
        history_faults.shared_history(place.folder / "chroma") as server,
    ):
        history = f"http://127.0.0.1:{server.port}"
        fill(history, place.folder / "filling")
        settings = {"redis": f"redis://127.0.0.1:{proxy.port}", "history": history}
        kernels = [
            place.kernel(f"kernel{n}", stubs, settings, place.folder / f"state{n}")
            for n in range(2)
        ]
        with serving(place, kernels, stubs, "2 kernels") as ground:
            yield {
                **redis_faults.faults(ground, redis, proxy),
                **history_faults.server_faults(ground, server),
                **other_faults.model_faults(ground),
                "config": lambda: other_faults.config_fault(ground),
                "one-history": lambda: many.one_history(place.cases, ground),
                # The last one, as one kernel does not come back.
                "dies": lambda: many.killed(place.cases, ground),
            }


@contextmanager
def own(place: Place, stubs: Stubs) -> Iterator[Faults]:
    """One kernel as it comes: its own Redis and history, on a small disk."""
    with history_faults.disk(place.folder / "state") as state:
        kernel = place.kernel("own", stubs, {}, state)
        folder = fill_embedded(kernel, state)
        with serving(place, [kernel], stubs, "1 kernel") as ground:
            yield {
                "own-redis": lambda: redis_faults.own_killed(ground, folder),
                "load": lambda: soak.highest_rate(place.load, kernel),
                **history_faults.folder_faults(ground, state, folder / "history"),
            }


@contextmanager
def bare(place: Place, stubs: Stubs) -> Iterator[Faults]:
    """One kernel without its embedder, whose clock may be stepped."""
    clock = place.folder / "clock"
    clock.mkdir()
    step_clock(clock, 0)
    kernel = place.kernel(
        "bare",
        stubs,
        {"embedder": "./none"},
        place.folder / "bare-state",
        env={"CLOCK_FILE": str(clock / "clock")},
        command=(str(Path(__file__).parent / "faults/clock_child.py"),),
    )
    with serving(place, [kernel], stubs, "1 kernel", learned=False) as ground:
        yield {
            "embedder": lambda: ground.fault("embedder missing from the start", lambda: None),
            **other_faults.clock_faults(ground, clock),
        }


@contextmanager
def read_only(place: Place, stubs: Stubs) -> Iterator[Faults]:
    """One kernel that is started on a state folder that it cannot write."""
    with history_faults.disk(place.folder / "read-only") as state:
        kernel = place.kernel("read-only-kernel", stubs, {}, state)
        fill_embedded(kernel, state)
        history_faults.remount(state, "ro")
        with serving(place, [kernel], stubs, "1 kernel", learned=False) as ground:
            name = "state folder read-only from the start"
            yield {"state": lambda: ground.fault(name, lambda: None)}


SETUPS: Mapping[str, Callable[[Place, Stubs], AbstractContextManager[Faults]]] = {
    "pair": pair,
    "own": own,
    "bare": bare,
    "read-only": read_only,
}


def run(place: Place, wanted: Callable[[str], bool]) -> None:
    """Put the faults that are wanted, each into its setup; then what needs no kernel of AIOS."""
    for name, setup in SETUPS.items():
        if wanted(name):
            guarded(place, name, partial(_put, place, setup, lambda f, n=name: wanted(f"{n}.{f}")))  # type: ignore[misc]
    shared = {
        "one": lambda: many.on_one(place.cases, CONTRACT_S),
        "cluster": lambda: many.on_cluster(place.cases, place.folder / "cluster", FAILOVER_S),
        "sentinels": lambda: many.on_sentinels(place.cases, place.folder / "group", FAILOVER_S),
    }
    for name, case in shared.items():
        if wanted(f"many.{name}"):
            guarded(place, name, case)


def _put(
    place: Place,
    setup: Callable[[Place, Stubs], AbstractContextManager[Faults]],
    wanted: Callable[[str], bool],
) -> None:
    with Stubs(MODEL_S) as stubs, setup(place, stubs) as faults:
        for name, put in faults.items():
            if wanted(name):
                guarded(place, name, put)


def guarded(place: Place, name: str, put: Callable[[], object]) -> None:
    """Do it; what cannot be done is a row that falls short."""
    begun = time.monotonic()
    try:
        put()
    except Exception as error:  # noqa: BLE001 - whatever it is, the other rows are wanted
        place.rows.append(Row(name, "?", note=f"{type(error).__name__}: {str(error)[:200]}"))
        print(f"FAIL {name}: {error}", file=sys.stderr)
    print(f"     {name}: {time.monotonic() - begun:.0f} s", file=sys.stderr, flush=True)


def soaked(place: Place, minutes: float) -> None:
    """A history of 100,000 records, then a steady flow for so many minutes."""
    with Stubs(MODEL_S) as stubs:
        small = place.kernel("small", stubs, {}, place.folder / "small-state")
        fill_embedded(small, place.folder / "small-state")
        with serving(place, [small], stubs, "1 kernel") as ground:
            soak.steady(ground.kernels[0].url, 20.0)
            before_mb = soak.Look.at_process(soak.pid_of(small)).memory_mb
        state = place.folder / "large-state"
        kernel = place.kernel("large", stubs, {}, state)
        folder, took_s = soak.fill_large(kernel, state)
        with serving(place, [kernel], stubs, "1 kernel"):
            soak.large(place.soaked, kernel, before_mb, took_s)
            soak.soak(place.soaked, kernel, folder, minutes)


def main() -> int:
    """Run; 1 if a row falls short."""
    parser = options("reliability", __doc__, "half a minute, without AIOS")
    parser.add_argument("--only", default="", help="setups or their faults: pair.killed,own,many")
    parser.add_argument("--soak", type=float, metavar="MINUTES", help="only that, for so long")
    parser.add_argument("--write", type=Path, metavar="PAGE", help="put the tables there")
    given = parser.parse_args()
    found = homes() or (Path(), Path())
    if homes() is None and not given.quick:
        raise SystemExit("set AIOS_HOME and CEREBRUM_HOME")
    only = [name for name in given.only.split(",") if name]

    def wanted(name: str) -> bool:
        """A setup of which anything is wanted, or a fault that is, or whose setup is."""
        return not only or any(
            name == each or name.startswith(f"{each}.") or each.startswith(f"{name}.")
            for each in only
        )

    with workplace(given.keep) as folder:
        place = Place(folder, *found, given.python)
        if given.soak:
            guarded(place, "soak", lambda: soaked(place, given.soak))
        elif given.quick:
            quick(place)
        else:
            run(place, wanted)
    tables = {
        "faults": of_rows(place.rows) if place.rows else [],
        **{name: of_cases(cases) if cases else [] for name, cases in place.tables().items()},
    }
    for section, table in tables.items() if given.write and not only else ():
        if table:
            put(given.write, section, table)
    if given.json:
        document = {"schema": "aios-eccos/reliability/1", **{k: [*v] for k, v in tables.items()}}
        Path(given.json).write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    good = all(row.ok for row in place.rows) and all(
        c.ok for t in place.tables().values() for c in t
    )
    return 0 if good else 1


def quick(place: Place) -> None:
    """What needs no kernel of AIOS, for a short time."""
    guarded(place, "one", lambda: many.on_one(place.cases, QUICK_S))
    guarded(
        place, "sentinels", lambda: many.on_sentinels(place.cases, place.folder / "group", QUICK_S)
    )


if __name__ == "__main__":
    sys.exit(main())
