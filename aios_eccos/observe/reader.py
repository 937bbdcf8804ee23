"""Answers every question about the plugin: for the terminal, HTTP and the command line alike.

With a living engine it knows the queue, the history and what another floor would do; without one
(a shell beside a kernel that does not answer) it reads Redis alone, and says so.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aios_eccos.config import Floor
from aios_eccos.errors import DataError, EccosError, HistoryError
from aios_eccos.observe import call_views, views
from aios_eccos.observe.summary import Scope, read_series, read_status
from aios_eccos.observe.sums import spending_in
from aios_eccos.observe.trace import Trace, of_fields, read_traces
from aios_eccos.workload.notes import moment_of
from aios_eccos.workload.periods import DAY_S, SINCE, TOTAL, periods, window_of
from aios_eccos.workload.store import Observed, PriceStore

# What imports numpy is imported where it is used: `status` has to be fast.
if TYPE_CHECKING:
    from aios_eccos.floor.curve import PriceBook
    from aios_eccos.observe.frontier import FrontierView
    from aios_eccos.serve.engine import Engine

#: Decisions searched for a call's id; the stream's own ids are found directly.
SEARCHED = 1_000
#: Decisions that `whatif` decides again.
REPLAYED = 500
#: Most decisions, or events, in one answer.
MOST = 500


@dataclass(frozen=True)
class Reader:
    """Reads what was kept and says what it means.

    Raises `WorkloadError` where the store cannot be used, and `DataError` where what is asked for
    is not kept, or only a living engine could tell.

    Attributes:
        workload: where it is kept.
        scope: settings and models now.
        engine: the living engine, if this is its process.
        edge: what only the kernel's edge knows.
        prices: moves prices by verdicts, where no engine does.
    """

    workload: Observed
    scope: Callable[[], Scope]
    engine: Engine | None = None
    edge: Callable[[], views.EdgeView | None] = lambda: None
    prices: PriceStore | None = None

    @classmethod
    def of_engine(cls, engine: Engine, edge: Callable[[], views.EdgeView]) -> Reader:
        """The reader of a living engine; it follows the engine's refreshes."""
        return cls(
            engine.ledger, lambda: Scope(engine.config.settings, engine.router.models), engine, edge
        )

    def status(self) -> views.StatusView:
        """Load, queue, calls, spending, success and whether the floor holds."""
        view = read_status(self.workload, self.scope(), self.edge())
        engine, own = self.engine, list[str]()
        if engine is not None:
            servers = engine.dispatcher.attempts.warnings()
            own = [*engine.lacks, *engine.teaches.warnings(), *servers]
        return view.model_copy(update={"warnings": [*own, *view.warnings]})

    def models(self) -> views.ModelsView:
        status = self.status()
        return views.ModelsView(at=status.at, money=status.money, models=status.models)

    def total(self) -> dict[str, float] | None:
        """All sums since the start, for metrics; None while Redis, which has them, is away."""
        away = self.workload.degraded
        (found,) = self.workload.sums([TOTAL])
        return None if away or self.workload.degraded else found

    def decisions(self, n: int = 10) -> call_views.DecisionsView:
        from aios_eccos.verdicts.taken import read_verdicts

        traces = read_traces(self.workload.decisions(min(max(n, 0), MOST)))
        verdicts = read_verdicts(self.workload, [trace.id for trace in traces])
        return call_views.DecisionsView(decisions=traces, verdicts=verdicts)

    def find(self, which: str) -> Trace:
        """A decision: `last`, its id, or the beginning of its call's id."""
        if which == "last":
            if found := read_traces(self.workload.decisions(1)):
                return found[0]
            raise DataError("no decision has been kept yet")
        if (flat := self.workload.decision(which)) is not None:
            return of_fields(which, flat)
        recent = read_traces(self.workload.decisions(SEARCHED)) if len(which) >= 6 else []
        matches = [trace for trace in recent if trace.call.startswith(which)]
        if len(matches) != 1:
            raise DataError(f"decision {which!r} is not among those kept; `last` shows their ids")
        return matches[0]

    def explain(self, which: str) -> call_views.ExplainView:
        """One decision in full, found as by `find`."""
        from aios_eccos.floor.configured import certificate_void
        from aios_eccos.observe.explain import explain
        from aios_eccos.verdicts.draws import read_draws
        from aios_eccos.verdicts.taken import read_verdicts

        trace = self.find(which)
        (verdict,) = read_verdicts(self.workload, [trace.id])
        drawn = [draw._asdict() for draw in read_draws(self.workload, trace.call)]
        near, note = self._near(trace)
        view = explain(trace, verdict=verdict, neighbors=near, neighbors_note=note, audited=drawn)
        return _with_note(view, certificate_void(self.scope().settings, view.bound_by) or "")

    def explain_text(self, text: str, agent: str = "") -> call_views.ExplainView:
        """What would be decided for a text now; asks no model and takes no slot."""
        from aios_eccos.observe.explain import explain

        trace, _ = self._decide_dry(text, agent)
        found, closed = self._neighbors_of(text)
        view = explain(trace, neighbors=found, neighbors_note=closed, dry=True)
        note = state_of(self._living())
        return _with_note(view, f"{note[0].upper()}{note[1:]}." if note else "")

    def route(self, text: str, agent: str = "", floor: Floor | None = None) -> call_views.RouteView:
        """Which model would serve a text now, under `floor` or the configured one."""
        from aios_eccos.observe.explain import route_view

        trace, limits = self._decide_dry(text, agent, floor)
        return route_view(trace, limits, state_of(self._living()))

    def _decide_dry(
        self, text: str, agent: str, floor: Floor | None = None
    ) -> tuple[Trace, dict[str, int]]:
        """The trace of a decision that nobody carries out, and the columns' slots in all."""
        from aios_eccos.serve.tracing import decide_dry, limits_of

        engine = self._living()
        router, slots = engine.router, engine.router.slots()
        asked = None if floor is None else _absolute(router.learned.book, floor)
        return decide_dry(router, slots, text, agent, asked), limits_of(router, slots)

    def savings(self, baseline: str | None = None) -> call_views.SavingsView:
        """Spending beside the baseline's forecast: since the start, in a week and in a day."""
        from aios_eccos.observe.savings import savings

        now, scope = time.time(), self.scope()
        read = self.workload.sums([TOTAL, *periods("h", now, 7 * 24 + 1)])
        total, *hours = (spending_in(sums, scope.money) for sums in read)
        (since,) = self.workload.notes([SINCE])
        edge = self.edge()
        return savings(
            now,
            scope.money,
            [
                ("start", moment_of(since), total),
                ("week", now - 7 * DAY_S, window_of("h", now, hours)),
                ("day", now - DAY_S, window_of("h", now, hours[-25:])),
            ],
            baseline or scope.settings.baseline,
            edge.observed if edge is not None else None,
            pool=[model.name for model in scope.models],
        )

    def series(self) -> views.SeriesView:
        return read_series(self.workload, self.scope().money)

    def frontier(self) -> FrontierView:
        """What success costs on the history, and where the calls of now stand on that."""
        from aios_eccos.observe.frontier import read_frontier

        return read_frontier(self._living().router.learned.book, self.status())

    def events(self, n: int = 20) -> views.EventsView:
        found = self.workload.events(min(max(n, 0), MOST))
        events = [
            views.EventView.model_validate(
                fields | {"id": identity, "at": int(identity.split("-")[0]) / 1000}
            )
            for identity, fields in found
        ]
        return views.EventsView(events=events)

    def what_if(self, floor: Floor) -> call_views.WhatIfView | None:
        """The last calls decided again at another floor; None where no call was answered yet."""
        from aios_eccos.observe.whatif import what_if

        book = self._living().router.learned.book
        if book is None or (curve := book.curve()) is None:
            raise DataError("the history holds too few verdicts to tell what a floor would cost")
        traces = read_traces(self.workload.decisions(REPLAYED))
        return what_if(traces, _absolute(book, floor), curve)

    def feedback(self, which: str, correctness: float) -> call_views.FeedbackView:
        """Take a verdict (0..1) on a decision's answer: into the sums, the alarm, the history."""
        from aios_eccos.floor.floors import Floors
        from aios_eccos.serve.events import note_alarms
        from aios_eccos.verdicts.taken import hand_over, take_verdict

        trace = self.find(which)
        if trace.model is None or trace.failure is not None:
            raise DataError(f"decision {which!r} has no answer to judge")
        if self.engine is not None:
            before, learnt = self.engine.judge(trace, correctness)
        else:
            if self.prices is None:
                raise DataError("prices cannot be moved from here, so no verdict is taken")
            floors = Floors(self.scope().settings, self.prices, self.workload)
            floors.look()
            before, alarms = take_verdict(self.workload, floors, trace, correctness)
            note_alarms(self.workload, alarms)
            for model in trace.answered_by:
                hand_over(self.workload, trace.call, model, correctness)
            learnt = False
        return call_views.FeedbackView(
            id=trace.id, model=trace.model, correctness=correctness, before=before, learnt=learnt
        )

    def _living(self) -> Engine:
        if self.engine is None:
            raise DataError("only a living kernel can tell, and none answers")
        return self.engine

    def _neighbors_of(self, text: str) -> tuple[list[call_views.NeighborView], str | None]:
        from aios_eccos.observe.neighbors import NEAREST, neighbors

        engine = self._living()
        if engine.history is None or engine.embedder is None:
            return [], "the history is not open"
        vectors = engine.embedder.try_embed([text])
        models = [model.name for model in engine.router.models]
        found = [] if vectors is None else neighbors(engine.history, vectors[0], models, NEAREST)
        return found, None

    def _near(self, trace: Trace) -> tuple[list[call_views.NeighborView], str | None]:
        """The neighbors of a past call; its record holds the vector, not the text."""
        from aios_eccos.observe.neighbors import neighbors_of_call

        if self.engine is None or self.engine.history is None:
            return [], "the history is not open here"
        try:
            found = neighbors_of_call(self.engine.history, trace)
        except EccosError as error:
            return [], str(error)
        return found, None if found else "this call is not in the history (yet)"


def _with_note(view: call_views.ExplainView, note: str) -> call_views.ExplainView:
    return view.model_copy(update={"sentence": f"{view.sentence} {note}".rstrip()})


def _absolute(book: PriceBook | None, floor: Floor) -> float:
    """The success that a floor asks for; a share is one of 100 % while no model's is known."""
    strongest = book.strongest() if book is not None else None
    return floor.of(1.0 if strongest is None else strongest[1])


def state_of(engine: Engine) -> str:
    """What keeps an engine's decisions from resting on all of its history; "" = nothing."""
    history, embedder, fault = engine.history, engine.embedder, engine.upkeep.error
    if history is None or embedder is None:
        return f"forecast on priors: {fault or 'the history is still being opened'}"
    try:
        count = history.count()
    except HistoryError as error:
        return f"forecast on priors: {error}"
    if not count:
        return "forecast on priors: no history yet"
    if not embedder.ready:
        loads = "is still loading" if embedder.error is None else f"failed: {embedder.error}"
        return f"forecast on priors: the embedder {loads}"
    if fault is not None:
        return str(fault)
    book = engine.router.learned.book
    if book is not None and book.curve() is not None:
        return ""
    serves = "the strongest model serves"
    if engine.upkeep.learning:
        return f"{count:,} records are still being learned from; until then {serves}"
    return f"the history has too few verdicts to say what a success costs: {serves}"
