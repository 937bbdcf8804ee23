"""A verdict on an answer: counted once in all sums, in the alarm, and in the price of success."""

from __future__ import annotations

from aios_eccos.floor.alarm import Alarm
from aios_eccos.floor.floors import Floors
from aios_eccos.history.rows import encode_records
from aios_eccos.observe.sums import of_verdict
from aios_eccos.observe.trace import Trace
from aios_eccos.records import Outcome, Record
from aios_eccos.workload.notes import number_of
from aios_eccos.workload.periods import KEPT_S, TOTAL, PeriodSums, add, period_sums
from aios_eccos.workload.store import Inbox, Ledger

#: Most that a verdict moves the log of a price by.
MOVED_MOST = 100.0


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
    text = ledger.swap_note(_note_of(trace.id), f"{correctness!r} {step!r}", KEPT_S["d"])
    before, moved = _read_note(text)
    sums = of_verdict(trace, correctness)
    if before is not None:
        add(sums, of_verdict(trace, before, -1.0))
    ledger.add_sums([period_sums("h", trace.at, sums), PeriodSums(TOTAL, 0.0, sums)])
    floors.judged(trace, correctness, before, step - moved)
    return before, floors.look()


def read_verdicts(ledger: Ledger, identities: list[str]) -> list[float | None]:
    """The verdicts on decisions, None where there is none.

    Raises:
        WorkloadError: the ledger cannot be used.
    """
    found = ledger.notes([_note_of(identity) for identity in identities])
    return [_read_note(text)[0] for text in found]


def hand_over(inbox: Inbox, call: str, model: str, correctness: float) -> None:
    """Hand a verdict to the owner of the embedded history, who finds its record, or does not.

    Raises:
        WorkloadError: it cannot be handed over.
    """
    # A record without text carries a verdict.
    verdict = Record(call, "", 0, (Outcome(model, correctness=correctness),), source="live")
    inbox.push_inbox([encode_records([verdict])])


def _note_of(identity: str) -> str:
    return f"verdict:{identity}"


def _read_note(text: str | None) -> tuple[float | None, float]:
    """A note's verdict, None without one, and what it has added to the log of its price."""
    words = (text or "").partition(" ")
    verdict, moved = number_of(words[0]), number_of(words[2]) or 0.0
    if verdict is None or not 0 <= verdict <= 1 or abs(moved) > MOVED_MOST:
        return None, 0.0
    return verdict, moved
