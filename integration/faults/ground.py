"""Kernels under a steady flow of calls; a fault comes and goes, and a row says what was seen."""

from __future__ import annotations

import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from aios_eccos.observe import render
from aios_eccos.observe.views import StatusView
from integration.faults.flow import Flow, Sent, p99_s
from integration.kernel import HttpStatus, Kernel
from integration.stubs import Stubs

#: The pool: what an answer takes, seconds, and slots. The better one is the busy one.
MODEL_S = {"small": 0.25, "large": 0.3}
SLOTS = {"small": 8, "large": 6}
PRICES = {"small": 1e-7, "large": 5e-6}
#: Before a fault, while it lasts, and longest wait for all to be as before, seconds.
CALM_S, FAULT_S, HEAL_S = 2.0, 5.0, 30.0
#: What `status` says of the past, too: it does not go away.
COUNTED = "decisions without forecasts"
#: Between two looks at `status`, and how long all must be well to be as before.
LOOK_S, WELL_S = 0.25, 1.0


@dataclass(frozen=True, slots=True)
class Row:
    """What was seen of one fault.

    Attributes:
        answered: within the call's time limit; errors: of these, with an error that names a cause.
        doubled: calls that model servers have answered more than once.
        over: most requests that a server had at once beyond its limit; peaks: in words.
        added_s: p99 of the calls' waits while the fault lasted, less that before it.
        status: what `status` said, in its own words.
        normal_s: from the fault's end until `status` and answers were as before; None: never.
        causes: of the errors.
    """

    fault: str
    on: str
    sent: int = 0
    answered: int = 0
    errors: int = 0
    doubled: int = 0
    over: int = 0
    peaks: str = ""
    added_s: float = 0.0
    status: str = ""
    normal_s: float | None = None
    causes: dict[str, int] = field(default_factory=dict)
    note: str = ""

    @property
    def lost(self) -> int:
        return self.sent - self.answered

    @property
    def ok(self) -> bool:
        return not self.lost and not self.doubled and not self.over and self.normal_s is not None


@dataclass(slots=True)
class Ground:
    """Kernels, the model servers behind them, and how long calls wait there while all is well."""

    kernels: Sequence[Kernel]
    stubs: Stubs
    on: str
    rows: list[Row]
    calm: list[Sent] = field(default_factory=list)

    def fault(
        self,
        name: str,
        begin: Callable[[], object],
        end: Callable[[], object] = lambda: None,
        *,
        lasts_s: float = FAULT_S,
        note: str = "",
    ) -> Row:
        """Let calls flow, begin a fault, end it, wait until all is as before; the row."""
        self.stubs.reset()
        flow = Flow(f"{name} {time.time():.0f}", [k.url for k in self.kernels], [*MODEL_S])
        flow.start()
        usual = self._calm()
        begun, words = time.monotonic(), Counter[str]()
        try:
            begin()
            self._watch(words, begun + lasts_s)
        finally:
            end()
        ended = time.monotonic()
        well = self._heal(words, usual, ended)
        sent = flow.stop()
        self.calm += [call for call in sent if call.at + call.reply.seconds < begun]
        found = self._row(name, sent, begun, ended, well)
        said = "; ".join(word for word, _ in words.most_common()) or "nothing"
        return self.keep(replace(found, status=said, note=note))

    def keep(self, row: Row) -> Row:
        """Keep and print a row."""
        self.rows.append(row)
        print(line(row), file=sys.stderr, flush=True)
        return row

    def note(self, text: str) -> None:
        """Add to the last row."""
        self.rows[-1] = replace(self.rows[-1], note=text)

    def _calm(self) -> set[str]:
        """What `status` warns of anyway."""
        seen, until = Counter[str](), time.monotonic() + CALM_S
        self._watch(seen, until)
        return set(seen)

    def _watch(self, words: Counter[str], until: float) -> None:
        while time.monotonic() < until:
            words.update(self._warned())
            time.sleep(LOOK_S)

    def _warned(self) -> set[str]:
        """What the kernels' `status` warns of now."""
        found: set[str] = set()
        for kernel in self.kernels:
            try:
                view = StatusView.model_validate(kernel.get("/eccos/status", timeout_s=5.0))
            except (OSError, HttpStatus) as error:
                found.add(f"({type(error).__name__}: {str(error)[:80]})")
            else:
                found |= warnings_of(view, len(self.kernels))
        return found

    def _heal(self, words: Counter[str], usual: set[str], ended: float) -> float | None:
        """When `status` began to say no more than usual; None: never."""
        since: float | None = None
        while time.monotonic() < ended + HEAL_S:
            now = self._warned()
            words.update(now - usual)
            if now - usual:
                since = None
            else:
                since = since or time.monotonic()
                if time.monotonic() > since + WELL_S:
                    return since
            time.sleep(LOOK_S)
        return None

    def _row(
        self, name: str, sent: Sequence[Sent], begun: float, ended: float, well: float | None
    ) -> Row:
        errors = [call for call in sent if call.error is not None and not call.lost]
        last_bad = max((call.at for call in sent if call.lost or call.error), default=0.0)
        during = [c for c in sent if c.at + c.reply.seconds >= begun and c.at < (well or ended)]
        peaks, over, good = {}, 0, Counter[str]()
        for model, limit in SLOTS.items():
            peaks[model] = self.stubs.stats(model)["peak"]
            over = max(over, peaks[model] - limit)
            good.update(self.stubs.control(model, "/answers"))
        return Row(
            fault=name,
            on=self.on,
            sent=len(sent),
            answered=sum(not call.lost for call in sent),
            errors=len(errors),
            doubled=sum(times > 1 for times in good.values()),
            over=over,
            peaks=", ".join(f"{model} {peaks[model]}/{SLOTS[model]}" for model in SLOTS),
            added_s=round(p99_s(during, MODEL_S) - p99_s(self.calm, MODEL_S), 3),
            normal_s=None if well is None else round(max(well, last_bad, ended) - ended, 1),
            causes=dict(Counter(str(call.error)[:60] for call in errors).most_common(3)),
        )


def warnings_of(view: StatusView, kernels: int) -> set[str]:
    """What a state warns of, as `status` writes it, without numbers that grow."""
    shown = render.headline(view)
    found = {_short(text) for text in shown if text.startswith("!") and COUNTED not in text}
    found |= {f"{m.model} rests" for m in view.models if m.cooling_s > 0}
    edge = view.edge
    if edge is not None and edge.history_note:
        found.add(_short(edge.history_note.removeprefix("forecast on priors: ")))
    if view.kernels != kernels:
        found.add(f"{view.kernels} of {kernels} kernels")
    return found


def _short(text: str) -> str:
    """Without numbers, and of paths the last part: they are of the machine that ran this."""
    named = re.sub(r"(?<![:/\w])/(?:[\w.-]+/)+", "", " ".join(text.lstrip("! ").split()))
    return re.sub(r"\d[\d,.]*", "N", named)[:200]


def line(row: Row) -> str:
    """A row for the eyes."""
    normal = "never" if row.normal_s is None else f"{row.normal_s:.1f} s"
    mark = "ok  " if row.ok else "FAIL"
    said = (
        f"{mark} {row.fault:42} {row.answered}/{row.sent} ({row.errors} errors)  "
        f"doubled {row.doubled}  lost {row.lost}  over {row.over} ({row.peaks})  "
        f"p99 +{row.added_s:.2f} s  normal after {normal}  said: {row.status}"
    )
    return said + (f"  {row.causes}" if row.causes else "") + (f"  {row.note}" if row.note else "")
