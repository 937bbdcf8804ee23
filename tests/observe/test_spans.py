"""OpenTelemetry's span of a call: by its conventions, without text, and only where it is wanted."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from observe_world import LARGE, SMALL, make_engine

from aios_eccos.config import parse_settings
from aios_eccos.observe import health
from aios_eccos.serve import spans as module
from aios_eccos.serve.engine import Engine
from aios_eccos.serve.spans import MakesSpans, spans
from aios_eccos.values import Answer, Failure, Query, Session

sdk = pytest.importorskip("opentelemetry.sdk.trace")
PROMPT = "0.3 a secret canary-8812"


@pytest.fixture
def exported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    """An engine that makes spans, and what it has exported."""
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter, provider = InMemorySpanExporter(), sdk.TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))

    def made(on: bool, backends: Any) -> MakesSpans | None:
        return MakesSpans(provider, backends) if on else None

    monkeypatch.setattr("aios_eccos.serve.engine.spans", made)
    entries = [entry.model_copy(update={"backend": "vllm"}) for entry in (SMALL, LARGE)]
    with make_engine(tmp_path, (entries[0], entries[1]), otel=True, cooldown_s=0.05) as engine:
        assert engine.wait_ready(20)
        yield engine, exporter


def served(engine: Engine, answer: Answer, **query: Any) -> None:
    """Serve a call, and have its span made."""
    asked = Query(PROMPT, agent="writer", input_tokens=900, **query)
    engine.dispatcher.submit(asked, lambda model, left: answer).result(60)
    assert engine.recorder.flush(60)


def test_a_call_is_a_span(exported: Any) -> None:
    engine, exporter = exported
    session = Session("large", in_tool_loop=True)
    answer = Answer("said canary-8812", 900, 40, cached_tokens=512)
    served(engine, answer, max_output_tokens=99, session=session)
    (span,) = exporter.get_finished_spans()
    found = dict(span.attributes)
    assert span.name == f"chat {found['gen_ai.request.model']}"
    assert span.kind.name == "CLIENT"
    assert found["gen_ai.operation.name"] == "chat"
    assert found["gen_ai.provider.name"] == "vllm"
    assert found["gen_ai.usage.input_tokens"] == 900
    assert found["gen_ai.usage.output_tokens"] == 40
    assert found["gen_ai.usage.cache_read.input_tokens"] == 512
    assert found["gen_ai.request.max_tokens"] == 99
    assert found["gen_ai.agent.name"] == "writer"
    assert found["eccos.cost_usd"] > 0
    assert found["eccos.in_tool_loop"] is True
    assert found["eccos.private"] is False
    assert found["eccos.attempts"] == 1
    assert {"eccos.status", "eccos.reason", "eccos.policy", "eccos.waited_s"} <= found.keys()
    assert span.end_time >= span.start_time
    assert span.status.status_code.name == "UNSET"


def test_a_failed_call_says_why_and_what_was_tried(exported: Any) -> None:
    engine, exporter = exported
    served(engine, Answer(failure=Failure("503", 503)))
    (span,) = exporter.get_finished_spans()
    assert span.attributes["error.type"] == "503"
    assert span.status.status_code.name == "ERROR"
    assert [event.attributes["error.type"] for event in span.events] == ["503", "503"]
    assert len({event.attributes["gen_ai.request.model"] for event in span.events}) == 2


def test_no_span_holds_text(exported: Any) -> None:
    engine, exporter = exported
    for answer in (Answer("canary-8812"), Answer(failure=Failure("400", 400, retryable=False))):
        served(engine, answer)
    found = exporter.get_finished_spans()
    assert len(found) == 2
    assert not any("canary" in span.to_json() for span in found)


def test_a_collector_that_is_down_does_not_keep_a_kernel_from_ending() -> None:
    class Provider:
        ended = threading.Event()

        def get_tracer(self, name: str) -> None:
            return None

        def shutdown(self) -> None:
            self.ended.wait()

    provider = Provider()
    MakesSpans(provider, dict).close()  # which would never return
    provider.ended.set()


def test_without_the_setting_nothing_is_made_or_imported(tmp_path: Path) -> None:
    assert spans(False, dict) is None
    code = (
        "import sys, aios_eccos.serve.engine, aios_eccos.serve.spans\n"
        "aios_eccos.serve.spans.spans(False, dict)\n"
        "assert not [m for m in sys.modules if m.startswith('opentelemetry')], sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)


def test_what_is_not_installed_is_named_with_the_remedy(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "EXPORTERS", ("opentelemetry.no_such_exporter",))
    assert spans(True, dict) is None
    assert "aios-eccos[otel]" in caplog.text
    (found,) = health.check_otel(parse_settings({"otel": True}))
    assert found.ok is False and "aios-eccos[otel]" in found.detail
    monkeypatch.undo()
    assert [check.ok for check in health.check_otel(parse_settings({"otel": True}))] == [True]
    assert [*health.check_otel(parse_settings({}))] == []
