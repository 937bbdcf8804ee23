"""A whole evaluation: every split, predictor, strategy and setting, as rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from aios_eccos.errors import ConfigError
from aios_eccos.lab.baselines import STRATEGIES as PLAIN
from aios_eccos.lab.baselines import single
from aios_eccos.lab.dataset import Dataset
from aios_eccos.lab.fitted import Kind
from aios_eccos.lab.problem import Problem, Setting, Strategy
from aios_eccos.lab.replay import Embeds, Plan, Played, play, problem_of
from aios_eccos.lab.research import STRATEGIES as RESEARCH
from aios_eccos.values import Model

#: Told the split that begins, and each strategy that is done.
Progress = Callable[[str], None]


@dataclass(frozen=True)
class Wanted:
    """What is evaluated.

    Attributes:
        strategies: names; `single` stands for every single model, `all` for everything.
        predictors: of the strategies that use forecasts.
        asked: floors and budgets.
        splits: their numbers.
    """

    strategies: tuple[str, ...]
    predictors: tuple[Kind, ...]
    asked: tuple[Setting, ...]
    splits: tuple[int, ...]
    plan: Plan


def known_strategies(models: Sequence[str]) -> dict[str, Strategy]:
    """All strategies by name, in the order of reports."""
    every = [*(single(name) for name in sorted(models)), *PLAIN, *RESEARCH]
    return {strategy.name: strategy for strategy in every}


def select(names: Sequence[str], models: Sequence[str]) -> list[Strategy]:
    """The strategies named; those that comparisons need are added.

    Raises:
        ConfigError: an unknown name.
    """
    known = known_strategies(models)
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


def steps(wanted: Wanted, dataset: Dataset) -> int:
    """How many times `Progress` will be told of a strategy."""
    chosen = select(wanted.strategies, dataset.models)
    first = sum(not strategy.forecasts for strategy in chosen)
    return len(wanted.splits) * (first + len(wanted.predictors) * (len(chosen) - first))


def evaluate(
    dataset: Dataset,
    models: Sequence[Model],
    embedder: Embeds,
    wanted: Wanted,
    *,
    folder: Path | None,
    progress: Progress = lambda step: None,
    inspect: Callable[[int, Problem], None] = lambda split, problem: None,
) -> list[Played]:
    """Play everything.

    Args:
        folder: where fitted things are kept between runs.
        inspect: shown every split's problem with the last predictor.

    Raises:
        DataError, ConfigError: the data cannot be split, or a name is unknown.
    """
    strategies = select(wanted.strategies, dataset.models)
    rows: list[Played] = []
    for split in wanted.splits:
        for number, kind in enumerate(wanted.predictors):
            problem = problem_of(
                dataset.records,
                models,
                embedder,
                wanted.plan,
                split=split,
                kind=kind,
                data_hash=dataset.hash,
                folder=folder,
            )
            for strategy in strategies:
                if number and not strategy.forecasts:
                    continue
                for setting in strategy.settings(problem, wanted.asked):
                    rows.append(play(strategy, problem, setting, split))
                progress(strategy.name)
        inspect(split, problem)
    return rows
