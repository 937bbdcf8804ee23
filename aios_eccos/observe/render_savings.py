"""Money and success beside another choice, as plain text: one model for all, or another floor."""

from __future__ import annotations

from aios_eccos.metrics import percent
from aios_eccos.observe.call_views import SavedView, SavingsView, WhatIfView
from aios_eccos.observe.render import observed
from aios_eccos.observe.text import money, rate, table, wrap


def savings(view: SavingsView) -> str:
    """Spending beside the baseline's forecast."""
    if not view.windows:
        return f"savings: {view.note}"
    lines = [wrap(f"beside {view.baseline} ({view.chosen_as}); {view.note}"), ""]
    lines.append(table([_saved(row, view.money) for row in view.windows]))
    for row in view.windows:
        lines.append(
            f"{row.name}: promised {percent(row.promised)}, realised {rate(row.realised)} on "
            f"{percent(row.verdict_share)} of calls"
        )
        lines.append(f"  {view.baseline}: success {rate(row.baseline_success)} (forecast)"[:80])
        if row.compared < row.answers:
            left = row.answers - row.compared
            lines.append(wrap(f"{left:,} answers left out: no choice or no price then", "  "))
    if view.observed is not None and view.observed.calls:
        lines.append(observed(view.observed, view.money))
    return "\n".join(lines)


def _saved(row: SavedView, known: bool) -> dict[str, str]:
    saved = row.saved_usd
    spread = f"{money(saved.low, known)} to {money(saved.high, known)}"
    return {
        "": row.name,
        "answers>": f"{row.compared:,}",
        "cost>": money(row.cost_usd, known),
        "baseline>": money(row.baseline_cost_usd.value, known),
        "saved>": money(saved.value, known),
        "95 %>": "too little known" if saved.low is None else spread,
        "share>": percent(row.saved_share),
    }


def what_if(view: WhatIfView | None) -> str:
    """Another floor, by forecast."""
    if view is None:
        return "whatif: no answered calls yet to decide again"
    sides = (
        ("now", view.cost_now_usd, view.promised_now),
        (f"floor {view.floor:.3f}", view.cost_then_usd, view.promised_then),
    )
    costs = [
        {"": name, "cost/call>": money(cost, view.money), "success>": percent(promised)}
        for name, cost, promised in sides
    ]
    shares = [
        {
            "model": name,
            "now>": percent(view.shares_now.get(name, 0.0)),
            "then>": percent(view.shares_then.get(name, 0.0)),
        }
        for name in sorted({*view.shares_now, *view.shares_then})
    ]
    lines = [f"forecast over the last {view.calls} calls, decided again without limits", ""]
    lines += [table(costs), "", table(shares)]
    if view.floor > view.reachable:
        lines.append(f"! history says that {percent(view.reachable)} is the most that can be kept")
    return "\n".join(lines)
