"""A whole evaluation: every split, predictor, strategy and setting, as rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from aios_eccos.errors import ConfigError
from aios_eccos.lab.baselines import STRATEGIES as PLAIN
from aios_eccos.lab.baselines import single
from aios_eccos.lab.chains import STRATEGIES as CHAINS
from aios_eccos.lab.dataset import Recorded
from aios_eccos.lab.fitted import Fitted, Kind
from aios_eccos.lab.paper import STRATEGIES as PAPER
from aios_eccos.lab.problem import Arrival, Problem, problem_of
from aios_eccos.lab.research import STRATEGIES as RESEARCH
from aios_eccos.lab.strategy import Played, Setting, Strategy, play


@dataclass(frozen=True)
class Wanted:
    """What is evaluated; of `strategies`, `single` and `all` stand for several.

    `plans` as they are configured: none, `AUTO`, or a list; with plans their rivals are played too.
    """

    strategies: tuple[str, ...]
    predictors: tuple[Kind, ...]
    asked: tuple[Setting, ...]
    splits: tuple[int, ...]
    arrival: Arrival
    plans: tuple[str, ...] = ()

    @property
    def floors(self) -> list[float]:
        return [s.value for s in self.asked if s.name == "floor" and s.value is not None]


def select(names: Sequence[str], models: Sequence[str], plans: bool = False) -> list[Strategy]:
    """The strategies named, and those that comparisons need; ConfigError names what is unknown."""
    every = [*(single(name) for name in sorted(models)), *PLAIN, *RESEARCH, *PAPER]
    every += CHAINS if plans else ()
    known = {strategy.name: strategy for strategy in every}
    names = [*names, *(strategy.name for strategy in CHAINS if plans)]
    wanted: set[str] = {name for name in known if name.startswith("single:")} | {"clairvoyant"}
    for name in names:
        if name == "all":
            wanted |= set(known)
        elif name in known:
            wanted.add(name)
        elif name != "single":
            raise ConfigError(
                f"--strategies {name}: known are all, single, "
                + ", ".join(n for n in known if not n.startswith("single:"))
                + "; single:MODEL for one model"
            )
    return [strategy for name, strategy in known.items() if name in wanted]


def steps(wanted: Wanted, models: Sequence[str]) -> int:
    """How many times `play_all` will tell of a strategy that is done."""
    chosen = select(wanted.strategies, models, bool(wanted.plans))
    first = sum(not strategy.forecasts for strategy in chosen)
    return len(wanted.splits) * (first + len(wanted.predictors) * (len(chosen) - first))


def play_all(
    data: Recorded,
    wanted: Wanted,
    *,
    progress: Callable[[str], None] = lambda strategy: None,
    inspect: Callable[[int, Problem], None] = lambda split, problem: None,
) -> list[Played]:
    """Play everything; `inspect` is shown every split's problem with the last predictor."""
    strategies = select(wanted.strategies, data.table.models, bool(wanted.plans))
    rows: list[Played] = []
    for split in wanted.splits:
        fitted: Fitted | None = None
        for number, kind in enumerate(wanted.predictors):
            problem = problem_of(data, split, kind, wanted.arrival, fitted, wanted.plans)
            fitted = problem.fitted
            for strategy in strategies:
                if number and not strategy.forecasts:
                    continue
                for setting in strategy.settings(problem, wanted.asked):
                    rows.append(play(strategy, problem, setting, split))
                progress(strategy.name)
        inspect(split, problem)
    return rows
