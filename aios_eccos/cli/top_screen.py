"""What `aios-eccos top` draws: the state of a kernel in a terminal of any size."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from aios_eccos.metrics import percent
from aios_eccos.observe import render
from aios_eccos.observe.audit_views import AuditsView
from aios_eccos.observe.call_views import DecisionsView
from aios_eccos.observe.money import CapView
from aios_eccos.observe.text import bar, clean_line, moment, money, rate, table
from aios_eccos.observe.views import CanaryView, ModelView, PlanView, StatusView

#: Columns of the table of models beside its bars.
BESIDE_BARS = 74
#: From this width on there is room for the reason of each decision.
WIDE = 130
#: Lines that the decisions get before anything else is cut: heads and the last ones.
LEAST_DECISIONS = 5
#: Columns that are left out of terminals of less than so many columns.
DROPPED = {
    90: ("waited>",),
    70: ("share>", "failed>", "slot price>", "id"),
    60: ("cost>", "agent"),
}
KEYS = "q quit   p pause   space look now"
NO_DECISIONS = 'no decisions yet: calls appear here; `aios-eccos route "TEXT"` tries one'


@dataclass(slots=True)
class Screen:
    """Draws the latest look in whatever size the terminal has now."""

    status: StatusView
    last: DecisionsView
    paused: bool = False

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width, height = options.max_width, options.max_height
        lines = self.lines(width, height)
        for line in lines:
            line.truncate(width, overflow="ellipsis")
        yield Text("\n").join(lines)

    def lines(self, width: int, height: int) -> list[Text]:
        """As many lines as fit: warnings and figures, models, decisions, and the keys."""
        head, models = [*self._head()], [*self._models(width)]
        figures = [*self._figures()]
        room = height - len(head) - len(models) - LEAST_DECISIONS - 3
        if len(figures) > max(room, 0):
            left = len(figures) - max(room - 1, 0)
            figures = [*figures[: max(room - 1, 0)], Text(f"... {left} more lines: status", "dim")]
        drawn = [*head, *figures, Text(), *models, Text(), *self._decisions(width)]
        keys = Text(KEYS, "reverse" if self.paused else "dim")
        keys.append("   paused" if self.paused else "")
        for line in drawn:
            line.plain = clean_line(line.plain)
        return [*drawn[: max(height - 1, 0)], *[Text()] * (height - 1 - len(drawn)), keys][:height]

    def _head(self) -> Iterator[Text]:
        """What must be seen at any size."""
        view, edge = self.status, self.status.edge
        mode = f"mode {edge.mode}" if edge is not None else "no kernel answers, from Redis"
        kernels = f"{view.kernels} kernel" + ("s" if view.kernels != 1 else "")
        yield Text(f"aios-eccos  {moment(view.at)} UTC  {mode}  {kernels}", "bold")
        for warning in warnings(view):
            yield Text(f"! {warning}", "bold red")
        flow = f"now      {view.calls_per_s:.2f} calls/s, {money(view.usd_per_h, view.money)}/h"
        if edge is not None:
            flow += f", {edge.waiting} waiting, {edge.running} running here"
        yield Text(flow)
        if edge is not None and edge.history_note:
            yield Text(f"history  {edge.history_note}", "yellow")
        start = view.windows[0]
        judged = f"realised {rate(start.realised)}" if start.verdicts else "no verdicts"
        yield Text(
            f"start    {start.calls:,} calls, {money(start.cost_usd, view.money)}; "
            f"promised {percent(start.promised)}, {judged}"
        )

    def _figures(self) -> Iterator[Text]:
        """Policies, canary, audits, caps, plans; what is not used says how it would be."""
        view = self.status
        yield from policies(view)
        if view.edge is not None and view.edge.canary is not None:
            yield canary(view.edge.canary)
        if view.audits is not None:
            yield audits(view.audits)
        else:
            yield Text("audits   off; audit: 5 % earns savings without labels", "dim")
        yield from (cap(each) for each in view.caps)
        if not view.caps:
            yield Text("cap      none; max_cost: {day: 5} stops spending at $5 a day", "dim")
        yield from (plan(each, view.money) for each in view.plans)
        if not view.plans:
            yield Text("plan     none has served; plans: auto asks two cheap models at once", "dim")

    def _models(self, width: int) -> Iterator[Text]:
        bars = min(max(width - BESIDE_BARS, 8), 60)
        rows = render.load_rows(self.status.models, self.status.money, bars)
        if not rows:
            yield Text(render.NO_MODELS)
            return
        styles = [_color(model) for model in self.status.models]
        yield from _styled(table(_fitting(rows, width), width, give=(0,)), styles)

    def _decisions(self, width: int) -> Iterator[Text]:
        wide = width >= WIDE
        rows = _fitting(render.decision_rows(self.last, reason=wide), width)
        if not rows:
            yield Text(NO_DECISIONS, "dim")
            return
        heads = [*rows[0]]
        give = [heads.index(head) for head in ("reason", "agent", "model") if head in heads]
        yield from _styled(table(rows, width, give), [])


def _fitting(rows: Sequence[Mapping[str, str]], width: int) -> list[dict[str, str]]:
    """The rows without the columns that a narrow terminal has no room for."""
    gone = {head for least, heads in DROPPED.items() if width < least for head in heads}
    return [{head: cell for head, cell in row.items() if head not in gone} for row in rows]


def warnings(view: StatusView) -> Iterator[str]:
    """What an operator has to know first, in a line each."""
    if view.degraded:
        yield "Redis is away: this kernel lends only what no other can have"
    for alarm in view.broken:
        whose = f" of {alarm.policy}" if alarm.policy else ""
        yield f"the floor{whose} is BROKEN: {percent(alarm.realised)} of {percent(alarm.floor)}"
    for each in view.caps:
        if each.left_usd <= 0:
            yield f"the cap of {each.name} is used up"
    if view.set_aside:
        yield f"{view.set_aside} messages for the history could not be carried out"
    if view.budget_per_call is not None and not view.money:
        yield "no price is known, so a budget in dollars is not kept; see doctor"


def policies(view: StatusView) -> Iterator[Text]:
    """A line a policy: its floor by verdicts, and what it has earned."""
    earning = {each.policy: each for each in (view.audits.policies if view.audits else ())}
    alarms = {alarm.policy: alarm for alarm in view.alarms}
    goal = view.floor
    if view.budget_per_call is not None:
        goal = f"budget {money(view.budget_per_call)} per call"
    for name in sorted({"", *alarms, *earning}):
        alarm, earned = alarms.get(name), earning.get(name)
        said = name or f"all, {goal}"
        state = "not verified" if alarm is None else "BROKEN" if alarm.broken else "holds"
        said += f": {state}"
        if earned is not None:
            said += f"; {earned.state}, {percent(earned.share)} routed"
            if earned.needs_calls is not None:
                said += f", about {earned.needs_calls:,} calls to go"
        if alarm is not None:
            said += f"; {percent(alarm.realised)} of {alarm.verdicts} verdicts"
        broken = alarm is not None and alarm.broken
        style = "bold red" if broken else "" if alarm is not None else "dim"
        yield Text(f"policy   {said}", style)


def canary(view: CanaryView) -> Text:
    """How mode `canary` stands."""
    routed = {"trial": view.share, "promoted": 1.0, "rolled back": 0.0}[view.stands]
    return Text(
        f"canary   {view.stands}, {percent(routed)} routed; {view.routed_failed} of {view.routed} "
        f"failed, {view.control_failed} of {view.control} others",
        "red" if view.stands == "rolled back" else "",
    )


def audits(view: AuditsView) -> Text:
    """What audits have cost, and what they have earned."""
    calls = view.break_even_calls
    paid = "" if calls is None else f"; back in about {calls:,} calls" if calls else "; paid back"
    return Text(
        f"audits   {money(view.audit_usd + view.judge_usd)} spent, {money(view.saved_usd)} saved; "
        f"{view.copies:,} copies of {view.calls:,} calls{paid}"
    )


def cap(view: CapView) -> Text:
    """How far one cap is used."""
    taken = view.spent_usd + view.held_usd
    share = taken / view.usd if view.usd else 1.0
    drawn = bar(round(1000 * min(share, 1)), 1000, 10)
    text = f"cap      {view.name:<18} {drawn} {money(view.spent_usd)} of {money(view.usd)}"
    text += f", {money(view.held_usd)} held" if view.held_usd else ""
    text += f", kept {view.kept:,} calls" if view.kept else ""
    return Text(text, "red" if share >= 1 else "yellow" if share >= 0.8 else "")


def plan(view: PlanView, known: bool) -> Text:
    """One plan's day."""
    agreed = percent(view.agreed / view.calls) if view.calls else percent(None)
    return Text(
        f"plan     {view.calls:,} calls, {agreed} agreed, {money(view.saved_usd, known)} saved: "
        f"{view.plan}"
    )


def _styled(text: str, styles: Iterable[str]) -> Iterator[Text]:
    """The lines of a table: its heads bold, the first rows in these styles."""
    for line, style in zip_longest(text.splitlines(), ["bold", *styles], fillvalue=""):
        yield Text(line, style=style)


def _color(model: ModelView) -> str:
    """Of a model's load: nothing free or at rest, nearly full, or free."""
    share = model.in_use / model.limit if model.limit else 1.0
    if model.cooling_s > 0 or model.closed_s > 0 or share >= 1:
        return "red"
    return "yellow" if share >= 0.8 else "green"
