"""Servers that others use, too: their requests take slots, as far as the servers tell of them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from waiting import until

from aios_eccos.config import parse_models, parse_settings
from aios_eccos.serve import shared_servers
from aios_eccos.serve.dispatch import Dispatcher
from aios_eccos.serve.router import Router
from aios_eccos.serve.shared_servers import SharedServers, metrics_url, requests_in
from aios_eccos.values import Answer, Lease, Model, Query
from aios_eccos.workload.memory import MemoryWorkload

#: As the three servers write them, with lines beside that are none of them.
VLLM = """\
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="meta-llama/Llama-3.1-8B"} %d.0
# TYPE vllm:num_requests_waiting gauge
vllm:num_requests_waiting{engine="0",model_name="meta-llama/Llama-3.1-8B"} %d.0
vllm:num_requests_waiting_by_reason{reason="capacity"} 9.0
vllm:gpu_cache_usage_perc{model_name="a b"} 0.25
"""
LLAMA = """\
# HELP llamacpp:requests_processing Number of requests processing.
# TYPE llamacpp:requests_processing gauge
llamacpp:requests_processing %d
# TYPE llamacpp:requests_deferred gauge
llamacpp:requests_deferred %d
llamacpp:kv_cache_usage_ratio 0.1
"""
SGLANG = """\
sglang:num_running_reqs{model_name="m"} %d.0
sglang:num_queue_reqs{model_name="m"} %d.0
"""


@pytest.mark.parametrize("form", [VLLM, LLAMA, SGLANG])
def test_what_runs_and_what_waits_is_read(form: str) -> None:
    assert requests_in(form % (3, 2)) == 5
    assert requests_in(form % (0, 0)) == 0


def test_all_models_of_a_server_count_and_times_are_let_be() -> None:
    two = 'vllm:num_requests_running{model_name="a"} 1\nvllm:num_requests_running{x="}"} 2e0 1712\n'
    assert requests_in(two) == 3


RUNNING = "vllm:num_requests_running"


@pytest.mark.parametrize("text", ["", "<html>", "up 1", RUNNING, "{}", f"{RUNNING} 1e999"])
def test_what_is_none_of_them_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no gauge"):
        requests_in(text)


class Metrics(BaseHTTPRequestHandler):
    status, text, asked = 200, VLLM % (0, 0), 0

    def do_GET(self) -> None:
        Metrics.asked += self.path == "/metrics"
        self.send_response(Metrics.status)
        self.end_headers()
        self.wfile.write(Metrics.text.encode())

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    Metrics.status, Metrics.text, Metrics.asked = 200, VLLM % (0, 0), 0
    with ThreadingHTTPServer(("127.0.0.1", 0), Metrics) as running:
        thread = threading.Thread(target=running.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}/v1"
        running.shutdown()
        thread.join()


def entries(url: str, **more: Any) -> Any:
    return parse_models([{"name": "m", "backend": "vllm", "hostname": url, **more}])


def test_only_who_asks_for_it_has_its_server_looked_at(server: str) -> None:
    assert metrics_url(entries(server)[0]) is None
    shared = entries(server, shared_server=True)
    assert metrics_url(shared[0]) == f"{server.removesuffix('/v1')}/metrics"
    nowhere = parse_models([{"name": "m", "backend": "openai", "shared_server": True}])
    assert metrics_url(nowhere[0]) is None


def test_the_kernels_own_requests_are_not_anothers(server: str) -> None:
    model, workload = Model("m", limit=8), MemoryWorkload()
    servers = SharedServers(workload, lambda: [model])
    try:
        servers.use(entries(server, shared_server=True))
        Metrics.text = VLLM % (5, 1)
        until(lambda: servers.others() == {"m": 6})
        leases = [Lease(f"call {number}", model.slot) for number in range(4)]
        workload.acquire(leases, {model.slot: model.limit})
        until(lambda: servers.others() == {"m": 2})
        Metrics.text = VLLM % (1, 0)
        until(lambda: servers.others() == {"m": 0}), "never below none"
    finally:
        servers.close()
        workload.close()


@pytest.mark.parametrize("fault", ["status", "no metrics", "no server"])
def test_a_server_that_does_not_tell_counts_as_unshared(server: str, fault: str) -> None:
    model, workload = Model("m", limit=8), MemoryWorkload()
    servers = SharedServers(workload, lambda: [model])
    Metrics.status = 404 if fault == "status" else 200
    Metrics.text = "<html>" if fault == "no metrics" else VLLM % (5, 1)
    url = "http://127.0.0.1:9/v1" if fault == "no server" else server
    try:
        servers.use(entries(url, shared_server=True))
        servers.look()
        assert servers.others() == {}
    finally:
        servers.close()
        workload.close()


def test_calls_wait_for_what_others_leave_them() -> None:
    model, workload, settings = Model("m", limit=4), MemoryWorkload(), parse_settings({})
    others = {"m": 4}
    router = Router([model], settings, workload, others=lambda: others)
    assert router.slots().free == {"m": 0}
    gate = threading.Event()
    peak: list[int] = []

    def run(name: str, left: float) -> Answer:
        peak.append(1)
        assert gate.wait(60)
        return Answer("x", output_tokens=1)

    with Dispatcher(router, settings) as dispatcher:
        futures = [dispatcher.submit(Query("?"), run) for _ in range(5)]
        assert not any(future.done() for future in futures)
        others["m"] = 2
        until(lambda: len(peak) == 2)
        others["m"] = 0
        until(lambda: len(peak) == 4)
        gate.set()
        assert all(future.result(60).answer.failure is None for future in futures)
    workload.close()


@pytest.mark.parametrize(
    ("metrics", "loaded"),
    [("vllm:num_requests_running 1e999\n", "{}"), (VLLM % (5, 1), "[" * 100_000)],
)
def test_no_answer_keeps_other_servers_from_being_looked_at(
    monkeypatch: pytest.MonkeyPatch, metrics: str, loaded: str
) -> None:
    told = {"http://odd/metrics": metrics, "http://fine/metrics": VLLM % (5, 1)}
    monkeypatch.setattr(shared_servers, "fetched", lambda url: told.get(url, loaded))
    models = [Model("odd", limit=8), Model("fine", limit=8)]
    workload = MemoryWorkload()
    servers = SharedServers(workload, lambda: models)
    vllm = [
        {"name": name, "backend": "vllm", "hostname": f"http://{name}/v1", "shared_server": True}
        for name in ("odd", "fine")
    ]
    try:
        servers.use(parse_models([*vllm, {"name": "local", "backend": "ollama"}]))
        servers.look()
        assert servers.others()["fine"] == 6
        assert "eccos-shared" in {thread.name for thread in threading.enumerate()}
    finally:
        servers.close()
        workload.close()


def test_servers_are_asked_at_once_so_that_none_waits_for_those_that_hang(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    together = threading.Barrier(6)

    def fetched(url: str) -> str:
        together.wait(60)
        return VLLM % (5, 1)

    monkeypatch.setattr(shared_servers, "fetched", fetched)
    monkeypatch.setattr(SharedServers, "_loop", lambda self: None)
    names = [f"m{number}" for number in range(6)]
    workload = MemoryWorkload()
    servers = SharedServers(workload, lambda: [Model(name, limit=8) for name in names])
    host = "http://{}/v1"
    servers.use(
        parse_models(
            [
                {"name": n, "backend": "vllm", "hostname": host.format(n), "shared_server": True}
                for n in names
            ]
        )
    )
    servers.look()
    assert servers.others() == dict.fromkeys(names, 6)
    servers.close()
    workload.close()
