"""A verdict on an answer: counted once in all sums, in the alarm, and in the price of success."""

from __future__ import annotations

from aios_eccos.floor.alarm import Alarm
from aios_eccos.floor.floors import Floors
from aios_eccos.observe.sums import of_verdict
from aios_eccos.observe.trace import Trace
from aios_eccos.verdicts.notes import note_of, read_note
from aios_eccos.workload.ledger import Ledger, PeriodSums
from aios_eccos.workload.periods import KEPT_S, TOTAL, add, period_sums


def take_verdict(
    ledger: Ledger, floors: Floors, trace: Trace, correctness: float
) -> tuple[float | None, list[Alarm]]:
    """Add a verdict (0..1) to all that rests on verdicts; an earlier one is taken back.

    Returns:
        The earlier one, and every policy's alarm as it is now.

    Raises:
        WorkloadError: the ledger cannot be used.
    """
    step = floors.verdict_step(trace, correctness)
    text = ledger.swap_note(note_of(trace.id), f"{correctness!r} {step!r}", KEPT_S["d"])
    before, moved = (None, 0.0) if text is None else read_note(text)
    sums = of_verdict(trace, correctness)
    if before is not None:
        add(sums, of_verdict(trace, before, -1.0))
    ledger.add_sums([period_sums("h", trace.at, sums), PeriodSums(TOTAL, 0.0, sums)])
    floors.judged(trace, correctness, before, step - moved)
    return before, floors.look()
