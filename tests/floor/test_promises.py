"""docs/promises.md says what the code does."""

from __future__ import annotations

import doctest
import math
from pathlib import Path

import pytest

from aios_eccos.config import Settings
from aios_eccos.floor import control, explore
from aios_eccos.floor.alarm import DELTA as ALARM_DELTA
from aios_eccos.floor.certify import DELTA, success_bound
from aios_eccos.forecast import hybrid, parts
from aios_eccos.forecast.head import refit, upkeep

PAPER = Path(__file__).parents[2] / "docs" / "promises.md"
TEXT = " ".join(PAPER.read_text(encoding="utf-8").split())
NUMBERS = {2: "two", 3: "three", 4: "four", 12: "twelve", 50: "fifty", 600: "ten"}


def test_the_worked_example_is_right() -> None:
    failed, tried = doctest.testfile(str(PAPER), module_relative=False)
    assert tried == 2 and failed == 0
    assert success_bound(420, 500, DELTA) == pytest.approx(0.817, abs=5e-4)
    assert math.log(2 / 0.002) / (control.ETA * 10_000) + 51 / 10_000 == pytest.approx(
        0.012, abs=5e-4
    )


@pytest.mark.parametrize(
    "words",
    [
        f"From {control.START_AT} verdicts on",
        f"eta = floor_step = {Settings().floor_step:g}",
        f"steps are {NUMBERS[control.BOOST]} times as large",
        f"`delta` = {DELTA:g}",
        f"one record in {NUMBERS[parts.CALIBRATE]}, by hash",
        f"One record in {NUMBERS[parts.HELD_BACK]} is fitted",
        f"probability at most {ALARM_DELTA:g}".replace("0.", "."),
        f"`exploration: {Settings().exploration:g}`",
        f"fewer than {explore.ENOUGH} verdicts",
        f"worse there by more than {refit.TOLERANCE:g}".replace("0.", "."),
        f"by a fifth and by {NUMBERS[upkeep.NEW_RECORDS]}",
        f"at most every {NUMBERS[upkeep.LOOK_S]} minutes",
        f"farther from the history than {hybrid.FAR:.0%}".replace("%", " %"),
    ],
)
def test_it_names_the_numbers_in_force(words: str) -> None:
    assert words in TEXT
    assert upkeep.GROWTH == 0.2 and Settings().exploration == 0.02
