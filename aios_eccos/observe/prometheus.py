"""`GET /eccos/metrics`: the sums and the load in Prometheus' text format.

Counters are those of all kernels of the namespace, kept in Redis: they survive restarts, and
several kernels that are scraped show the same. Aggregate over instances with `max`, not `sum`.
While Redis is away they are left out: what a kernel counts alone would look like a restart.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import get_args

from prometheus_client import generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from aios_eccos.observe.audit_views import AuditsView
from aios_eccos.observe.sums import DECIDED_LE, UNITS, WAITED_LE
from aios_eccos.observe.views import CanaryView, Stands, StatusView
from aios_eccos.workload.periods import names_of

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
PREFIX = "aios_eccos_"


def metrics_text(status: StatusView, total: Mapping[str, float] | None) -> str:
    """All metrics from a status and the sums since the start; None: those are not to be had."""
    counted = [] if total is None else [*_counters(total), *_plans(total), *_histograms(total)]
    if total is not None and status.audits is not None:
        counted += _audited(status.audits)
    return generate_latest(_Once([*counted, *_gauges(status)])).decode()


class _Once(Collector):
    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def _counters(total: Mapping[str, float]) -> Iterator[Metric]:
    for name, text, kind in (
        ("calls", "Settled calls that a model was asked for.", "calls"),
        ("call_failures", "Settled calls without an answer.", "failures"),
        ("spend_usd", "Dollars spent on calls with known prices.", "cost"),
        ("spend_units", "Size units spent while no price is known.", f"{UNITS}cost"),
        ("output_tokens", "Tokens answered.", "output_tokens"),
        ("explored_calls", "Calls given to a model by chance.", "explored"),
        ("verdicts", "Verdicts given, a changed one again.", "given"),
        ("verdict_successes", "Sum of the verdicts given, 0 to 1 each.", "given_successes"),
    ):
        family = CounterMetricFamily(PREFIX + name, text, labels=["model"])
        for model in names_of(kind, total):
            family.add_metric([model], total[f"{kind}:{model}"])
        yield family
    for name, text, kind in (
        ("requests", "Requests to models, retries included.", "attempts"),
        ("input_tokens", "Tokens asked.", "input_tokens"),
        ("answers", "Calls with an answer.", "answers"),
        ("promised_successes", "Sum of the success promised for answers.", "promised"),
        ("far_calls", "Calls far from all history.", "far"),
        ("limited_calls", "Calls that a limit kept from their model.", "limited"),
        ("unmetered_answers", "Answers without the provider's token count.", "unmetered"),
    ):
        yield CounterMetricFamily(PREFIX + name, text, value=total.get(kind, 0.0))


def _plans(total: Mapping[str, float]) -> Iterator[Metric]:
    """Of plans, once one has served a call."""
    plans = names_of("plan_calls", total)
    for name, text in (
        ("plan_calls", "Settled calls that a plan was chosen for."),
        ("plan_agreed", "Those on which its members agreed."),
        ("plan_escaped", "Those on which its escape was asked."),
    ):
        if plans:
            family = CounterMetricFamily(PREFIX + name, text, labels=["plan"])
            for plan in plans:
                family.add_metric([plan], total.get(f"{name}:{plan}", 0.0))
            yield family
    if plans:
        text = "Dollars that a plan's requests cost; each is in its model's spending as well."
        spent = CounterMetricFamily(PREFIX + "plan_spend_usd", text, labels=["plan"])
        for plan in plans:
            spent.add_metric([plan], total.get(f"plan_cost:{plan}", 0.0))
        yield spent
        saved = {plan: total.get(f"plan_saved:{plan}", 0.0) for plan in plans}
        text = "Dollars less than its escape alone would have cost, by forecast."
        yield _labelled("plan_saved_usd", text, "plan", saved)


def _audited(audits: AuditsView) -> Iterator[Metric]:
    for name, text, value in (
        ("audited_calls", "Calls of which copies were made.", audits.calls),
        ("audit_copies", "Copies of calls, to compare models.", audits.copies),
        ("audit_failures", "Copies without an answer.", audits.failed),
        ("audit_usd", "Dollars spent on copies.", audits.audit_usd),
        ("audit_judge_usd", "Dollars spent on the judge.", audits.judge_usd),
    ):
        yield CounterMetricFamily(PREFIX + name, text, value=value)
    # A call may cost more than the strongest would have: no counter.
    saved = "Dollars that routed calls would have cost more with the strongest, by forecast."
    yield GaugeMetricFamily(PREFIX + "audit_saved_usd", saved, value=audits.saved_usd)
    shares = {policy.policy: policy.share for policy in audits.policies}
    yield _labelled("earned_share", "Share of calls that is routed.", "policy", shares)
    served = {policy.policy: float(policy.state == "served") for policy in audits.policies}
    yield _labelled("earned_served", "1 where all that can be is routed.", "policy", served)


def _histograms(total: Mapping[str, float]) -> Iterator[Metric]:
    for name, text, kind, bounds in (
        ("wait_seconds", "From arrival to the first request.", "waited", WAITED_LE),
        ("decision_seconds", "Forecast and assignment, by call.", "decided", DECIDED_LE),
    ):
        buckets, so_far = [], 0.0
        for bound in [*(f"{b:g}" for b in bounds), "+Inf"]:
            so_far += total.get(f"{kind}_le:{bound}", 0.0)
            buckets.append((bound, so_far))
        yield HistogramMetricFamily(
            PREFIX + name, text, buckets=buckets, sum_value=total.get(kind, 0.0)
        )


def _gauges(status: StatusView) -> Iterator[Metric]:
    yield from _loads(status)
    success = status.success_price_usd if status.money else None
    gauges: list[tuple[str, str, float | None]] = [
        ("kernels", "Living kernels on this Redis and namespace.", status.kernels),
        ("degraded", "1 while Redis is away and local limits stand in.", float(status.degraded)),
        ("success_price_usd", "Dollars that one success is worth at the floor.", success),
        (
            "set_aside_messages",
            "Messages that nobody could carry out.",
            status.set_aside,
        ),
    ]
    if (edge := status.edge) is not None:
        gauges += [
            ("waiting_calls", "Calls that wait for a slot here.", edge.waiting),
            ("running_calls", "Calls under way here.", edge.running),
            ("history_records", "Records in the history.", edge.history),
            ("fairness", "Jain's index over agents here; 1 = equal by weight.", edge.fairness),
            ("lost_traces", "Settled calls here that were not kept.", edge.lost_traces),
        ]
    for name, text, value in gauges:
        if value is not None:
            yield GaugeMetricFamily(PREFIX + name, text, value=value)
    if edge is not None and edge.canary is not None:
        yield from _canary(edge.canary)
    yield from _kept(status)


def _kept(status: StatusView) -> Iterator[Metric]:
    """How caps and floors are kept."""
    yield from _by(
        "cap",
        {cap.name: cap for cap in status.caps},
        ("cap_usd", "Dollars that may be spent.", "usd"),
        ("cap_spent_usd", "Dollars spent under a cap in its period.", "spent_usd"),
        ("cap_held_usd", "Dollars that calls in flight hold of a cap.", "held_usd"),
        ("cap_left_usd", "Dollars that calls may still reserve of a cap.", "left_usd"),
        ("cap_over_usd", "Dollars by which a cap is passed.", "over_usd"),
        ("cap_reset_timestamp_seconds", "When its period ends, since 1970.", "resets_at"),
        ("cap_kept_calls", "Calls of the last day that it kept from a model.", "kept"),
    )
    yield from _by(
        "policy",
        {alarm.policy: alarm for alarm in status.alarms},
        ("floor_e_value", "Evidence that a floor is not kept; alarm from 20 on.", "e_value"),
        ("floor_broken", "1 while a floor's alarm is on.", "broken"),
    )


def _loads(status: StatusView) -> Iterator[Metric]:
    """How busy each model is."""
    shown = [
        ("slots_in_use", "Slots lent out, over all kernels.", "in_use"),
        ("slots_limit", "Most slots at once, in force.", "limit"),
        ("minute_requests", "Requests of the last minute, where they are limited.", "requests"),
        ("minute_tokens", "Tokens of the last minute, where they are limited.", "tokens"),
        ("closed_seconds", "Seconds for which its server asks to be left alone.", "closed_s"),
        ("cooldown_seconds", "Seconds until the model may be asked again.", "cooling_s"),
    ]
    if status.money:
        text = "Dollars that one more slot would have saved."
        shown.append(("slot_price_usd", text, "slot_price_usd"))
    yield from _by("model", {model.model: model for model in status.models}, *shown)


def _canary(canary: CanaryView) -> Iterator[Metric]:
    """How mode `canary` stands; calls and failures are those since its trial began."""
    states = {state: float(state == canary.stands) for state in get_args(Stands)}
    text = "1 for how the canary stands: trial, promoted or rolled back."
    yield _labelled("canary_state", text, "state", states)
    routed = {"trial": canary.share, "promoted": 1.0, "rolled back": 0.0}[canary.stands]
    text = "Share of the conversations that the canary routes now."
    yield GaugeMetricFamily(PREFIX + "canary_share", text, value=routed)
    calls = {"routed": canary.routed, "control": canary.control}
    failed = {"routed": canary.routed_failed, "control": canary.control_failed}
    yield _labelled("canary_calls", "Calls of each arm since the trial began.", "arm", calls)
    yield _labelled("canary_failed_calls", "Those without an answer.", "arm", failed)


def _by(label: str, views: Mapping[str, object], *gauges: tuple[str, str, str]) -> Iterator[Metric]:
    """Gauges (name, text, field) of each view."""
    for name, text, field in gauges:
        yield _labelled(name, text, label, {n: float(getattr(v, field)) for n, v in views.items()})


def _labelled(name: str, text: str, label: str, values: Mapping[str, float]) -> Metric:
    family = GaugeMetricFamily(PREFIX + name, text, labels=[label])
    for of, value in values.items():
        family.add_metric([of], value)
    return family
