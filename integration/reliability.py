"""`python -m integration.reliability`: faults under a steady flow of calls, and what they cost.

Wants `AIOS_HOME` and `CEREBRUM_HOME` (but for `--quick`), root for a disk of its own, and Debian's
redis-server and libfaketime.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict
from pathlib import Path

from integration.faults import history_faults, other_faults, redis_faults
from integration.faults.ground import MODEL_S, Row
from integration.faults.servers import faked_clock
from integration.faults.setups import Place, fill, fill_embedded, serving
from integration.kernel import homes, workplace
from integration.report import options
from integration.stubs import Stubs

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
                **history_faults.folder_faults(ground, state, folder / "history"),
            }


@contextmanager
def bare(place: Place, stubs: Stubs) -> Iterator[Faults]:
    """One kernel without its embedder, whose machine's clock may be stepped."""
    clock = place.folder / "clock"
    env = faked_clock(clock)
    kernel = place.kernel("bare", stubs, {"embedder": "./none"}, place.folder / "bare-state", env)
    with serving(place, [kernel], stubs, "1 kernel", learned=False) as ground:
        yield {
            "embedder": lambda: ground.fault("embedder missing from the start", lambda: None),
            **other_faults.clock_faults(ground, clock),
        }


SETUPS: Mapping[str, Callable[[Place, Stubs], AbstractContextManager[Faults]]] = {
    "pair": pair,
    "own": own,
    "bare": bare,
}


def run(place: Place, wanted: Callable[[str], bool]) -> None:
    """Put the faults that are wanted, each into its setup."""
    for name, setup in SETUPS.items():
        if not wanted(name):
            continue
        with Stubs(MODEL_S) as stubs, setup(place, stubs) as faults:
            for fault, put in faults.items():
                if wanted(f"{name}.{fault}"):
                    _guarded(place, fault, put)


def _guarded(place: Place, fault: str, put: Callable[[], object]) -> None:
    try:
        put()
    except Exception as error:  # noqa: BLE001 - a fault that cannot be put is a row that fails
        place.rows.append(Row(fault, "?", note=f"{type(error).__name__}: {str(error)[:200]}"))
        print(f"FAIL {place.rows[-1]}", file=sys.stderr)


def main() -> int:
    """Run; 1 if a row falls short."""
    parser = options("reliability", __doc__, "under a minute, without AIOS")
    parser.add_argument("--only", default="", help="setups or their faults: pair.killed,own")
    given = parser.parse_args()
    found = homes()
    if found is None:
        raise SystemExit("set AIOS_HOME and CEREBRUM_HOME")
    only = [name for name in given.only.split(",") if name]

    def wanted(name: str) -> bool:
        """A setup of which anything is wanted, or a fault that is, or whose setup is."""
        return not only or any(
            name == each or name.startswith(f"{each}.") or each.startswith(f"{name}.")
            for each in only
        )

    rows: list[Row] = []
    with workplace(given.keep) as folder:
        run(Place(folder, *found, given.python, rows), wanted)
    if given.json:
        document = {"schema": "aios-eccos/reliability/1", "rows": [asdict(row) for row in rows]}
        Path(given.json).write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    return 0 if all(row.ok for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
