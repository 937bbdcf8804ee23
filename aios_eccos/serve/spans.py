"""OpenTelemetry: a span for each settled call, by its conventions for generative AI.

Numbers, names and short reasons; no message text. Nothing of OpenTelemetry is imported unless the
setting `otel` asks for it.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from aios_eccos.serve.observers import Kept

log = logging.getLogger("aios_eccos.serve.spans")

#: Modules of the OTLP exporters, either of which will do.
EXPORTERS = tuple(
    f"opentelemetry.exporter.otlp.proto.{way}.trace_exporter" for way in ("http", "grpc")
)
MISSING = (
    "the setting otel needs OpenTelemetry: pip install 'aios-eccos[otel]', and for its own export "
    "opentelemetry-exporter-otlp"
)
NANO = 1e9
#: Longest wait for a collector when a kernel ends, seconds.
CLOSE_S = 2.0


class MakesSpans:
    """Makes a span of every call that it is given.

    Args:
        provider: OpenTelemetry's, which keeps or exports spans.
        backends: by model, who serves it.
    """

    def __init__(self, provider: Any, backends: Callable[[], Mapping[str, str]]) -> None:
        self._provider, self._backends = provider, backends
        self._tracer = provider.get_tracer("aios_eccos")

    def take(self, calls: Sequence[Kept]) -> None:
        """Make a span of each call, from its arrival to its end."""
        trace = importlib.import_module("opentelemetry.trace")
        backends = self._backends()
        for call in calls:
            begun = time.time() - (time.monotonic() - call.result.query.arrived)
            span = self._tracer.start_span(
                f"chat {call.trace.model}" if call.trace.model else "chat",
                kind=trace.SpanKind.CLIENT,
                attributes=attributes(call, backends.get(call.trace.model or "")),
                start_time=round(begun * NANO),
            )
            asked = begun + call.trace.waited_s
            for tried in call.trace.tries:
                about = {"gen_ai.request.model": tried.model, "eccos.seconds": tried.seconds}
                about |= {"error.type": tried.failure} if tried.failure else {}
                span.add_event("eccos.request", about, timestamp=round(asked * NANO))
                asked += tried.seconds
            if call.trace.failure is not None:
                span.set_status(trace.StatusCode.ERROR, call.trace.failure)
            ended = begun + call.trace.waited_s + call.trace.served_s
            span.end(end_time=round(ended * NANO))

    def close(self) -> None:
        """Export what is left, as long as `CLOSE_S`: a collector that is down would take longer."""
        thread = threading.Thread(target=self._provider.shutdown, name="eccos-spans", daemon=True)
        thread.start()
        thread.join(CLOSE_S)


def attributes(call: Kept, backend: str | None = None) -> dict[str, Any]:
    """A span's attributes; what is not known is left out."""
    result, trace = call.result, call.trace
    query, answer = result.query, result.answer
    found = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": backend or None,
        "gen_ai.request.model": trace.model,
        "gen_ai.request.max_tokens": query.max_output_tokens,
        "gen_ai.agent.name": trace.agent or None,
        "gen_ai.usage.input_tokens": trace.input_tokens,
        "gen_ai.usage.output_tokens": trace.output_tokens,
        "gen_ai.usage.cache_read.input_tokens": answer.cached_tokens,
        "error.type": trace.failure,
        "eccos.call": trace.call,
        "eccos.mode": trace.mode,
        "eccos.policy": trace.policy,
        "eccos.status": trace.status,
        "eccos.reason": trace.reason,
        "eccos.floor": trace.floor,
        "eccos.promised": trace.promised,
        "eccos.success_price_usd": trace.success_price_usd,
        "eccos.cost_usd": trace.cost_usd if trace.money else None,
        "eccos.metered": trace.metered,
        "eccos.attempts": trace.attempts,
        "eccos.batch": trace.batch,
        "eccos.waited_s": trace.waited_s,
        "eccos.served_s": trace.served_s,
        "eccos.decision_s": trace.decision_s,
        "eccos.private": query.private,
        "eccos.in_tool_loop": query.in_tool_loop,
    }
    return {name: value for name, value in found.items() if value is not None}


def spans(on: bool, backends: Callable[[], Mapping[str, str]]) -> MakesSpans | None:
    """Makes spans if they are wanted and can be: for the provider that this process has set up.

    Without one, they go to an OTLP exporter, which the environment (`OTEL_EXPORTER_OTLP_ENDPOINT`
    and so on) tells where to.
    """
    if not on:
        return None
    try:
        return MakesSpans(_provider(), backends)
    except ImportError as error:
        log.error("%s (%s)", MISSING, error)
        return None


def lacking() -> str | None:
    """What is not installed that spans need, and the remedy; imports nothing of it."""
    found = {name: _installed(name) for name in ("opentelemetry.sdk.trace", *EXPORTERS)}
    exports = any(found[name] for name in EXPORTERS)
    return None if found["opentelemetry.sdk.trace"] and exports else MISSING


def _installed(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ImportError:
        return False


def _provider() -> Any:
    trace = importlib.import_module("opentelemetry.trace")
    sdk = importlib.import_module("opentelemetry.sdk.trace")
    known = trace.get_tracer_provider()
    if isinstance(known, sdk.TracerProvider):
        return _Borrowed(known)
    export = importlib.import_module("opentelemetry.sdk.trace.export")
    resources = importlib.import_module("opentelemetry.sdk.resources")
    resource = resources.Resource.create({"service.name": "aios-eccos"})
    provider = sdk.TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(export.BatchSpanProcessor(_exporter()))
    return provider


def _exporter() -> Any:
    for name in EXPORTERS:
        try:
            return importlib.import_module(name).OTLPSpanExporter()
        except ImportError:
            continue
    raise ImportError("no OTLP exporter is installed")


class _Borrowed:
    """The process's own provider, which is not ours to end."""

    def __init__(self, provider: Any) -> None:
        self.get_tracer = provider.get_tracer
        self._flush = provider.force_flush

    def shutdown(self) -> None:
        self._flush()
