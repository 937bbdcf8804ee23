"""The replay servers: what they answer, how long they take, what they count, when they end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psutil
import pytest
from waiting import made_in_time, until

from aios_eccos.errors import EccosError
from aios_eccos.lab.replay_server import ReplayServers, graded, seconds_per_token
from aios_eccos.records import Outcome, Record

ROOT = Path(__file__).parents[2]
RECORDS = [
    Record(
        id=f"q{i}",
        text=f"question {i}",
        input_tokens=10 + i,
        outcomes=(
            Outcome("small", correctness=float(i % 2), output_tokens=20),
            Outcome("large", correctness=1.0, output_tokens=40),
        ),
    )
    for i in range(200)
]


def ask(client: httpx.Client, base: str, text: object, **extra: object) -> httpx.Response:
    messages = [{"role": "system", "content": "be brief"}, {"role": "user", "content": text}]
    return client.post(f"{base}/chat/completions", json={"messages": messages, **extra})


@pytest.fixture
def client():
    with httpx.Client(timeout=60, trust_env=False) as client:
        yield client


@pytest.fixture(scope="module")
def servers():
    with ReplayServers(RECORDS, ["small", "large"], seconds_per_token=0.001) as servers:
        yield servers


@pytest.fixture(autouse=True)
def fresh(request):
    if "servers" in request.fixturenames:
        servers = request.getfixturevalue("servers")
        servers.reset()
        for name in servers.models:
            servers.inject(name, {})


def test_an_answer_carries_the_recorded_grade_and_tokens(servers, client):
    for i in (2, 3):
        body = ask(client, servers.url("small"), f"question {i}").json()
        assert graded(body["choices"][0]["message"]["content"]) == i % 2
        assert body["choices"][0]["finish_reason"] == "stop"
        assert body["usage"] == {
            "prompt_tokens": 10 + i,
            "completion_tokens": 20,
            "total_tokens": 30 + i,
        }
    assert client.get(servers.url("large") + "/models").json()["data"][0]["id"] == "large"


def test_parts_of_a_message_are_read(servers, client):
    parts = [{"type": "text", "text": "question "}, {"type": "text", "text": "3"}]
    body = ask(client, servers.url("small"), parts).json()
    assert graded(body["choices"][0]["message"]["content"]) == 1.0


def test_an_unknown_text_is_answered_without_a_grade_and_counted(servers, client):
    body = ask(client, servers.url("small"), "never recorded").json()
    assert graded(body["choices"][0]["message"]["content"]) is None
    stats = servers.stats()["small"]
    assert (stats.unknown, stats.answered) == (1, 1)


def test_a_recorded_prediction_is_the_content_and_truncation_shows(client):
    outcome = Outcome("m", output_tokens=0, prediction="B) blue", error="truncated")
    record = Record(id="r", text="which?", input_tokens=1, outcomes=(outcome,))
    with ReplayServers([record], ["m"], seconds_per_token=0) as servers:
        choice = ask(client, servers.url("m"), "which?").json()["choices"][0]
    assert choice["message"]["content"] == "B) blue"
    assert choice["finish_reason"] == "length"


def test_an_answer_takes_its_tokens_time(servers, client):
    times = []

    def one() -> float:
        started = time.perf_counter()
        ask(client, servers.url("large"), f"question {len(times) % 10}")
        times.append(time.perf_counter() - started)
        return times[-1]

    until(lambda: one() < 0.08)  # the machine, too, may hold one up
    for _ in range(9):
        one()
    assert min(times) >= 0.04


def test_the_pace_gives_the_mean_answer_time():
    assert seconds_per_token(RECORDS, ["small", "large"], 0.15) == pytest.approx(0.15 / 30)
    assert seconds_per_token(RECORDS, ["large"], 0.2) == pytest.approx(0.2 / 40)
    with pytest.raises(EccosError, match="lengths"):
        seconds_per_token([], ["large"], 0.2)


def test_concurrency_is_counted_per_model(servers):
    gate = threading.Barrier(6)

    def burst():
        servers.reset()
        with ThreadPoolExecutor(6) as pool:
            list(pool.map(one, range(6)))
        return servers.stats()

    def one(i: int) -> None:
        with httpx.Client(trust_env=False) as client:
            client.get(servers.url("large") + "/models")
            gate.wait(60)
            ask(client, servers.url("large"), f"question {i}")

    # On a busy machine some have their answers before others ask.
    stats = made_in_time(burst, lambda made: made["large"].peak_in_flight >= 4)
    assert stats["large"].peak_in_flight <= 6
    assert (stats["large"].requests, stats["large"].in_flight) == (6, 0)
    assert stats["small"].requests == stats["small"].peak_in_flight == 0
    servers.reset()
    assert servers.stats()["large"].peak_in_flight == 0


def test_a_text_asked_again_is_counted(servers, client):
    for text in ("question 1", "question 2", "question 1"):
        ask(client, servers.url("small"), text)
    assert servers.stats()["small"].repeated == 1


def test_a_client_that_gives_up_frees_its_slot(servers):
    servers.inject("small", {"hang": 1.0})
    with httpx.Client(timeout=0.1, trust_env=False) as client, pytest.raises(httpx.ReadTimeout):
        ask(client, servers.url("small"), "question 1")
    until(lambda: not servers.stats()["small"].in_flight)
    stats = servers.stats()["small"]
    assert (stats.in_flight, stats.abandoned, stats.faults) == (0, 1, {"hang": 1})


@pytest.mark.parametrize("status", ["429", "500", "503"])
def test_status_faults(servers, client, status):
    servers.inject("small", {status: 1.0})
    response = ask(client, servers.url("small"), "question 1")
    assert response.status_code == int(status)
    assert "error" in response.json()
    servers.inject("small", {})
    assert ask(client, servers.url("small"), "question 1").status_code == 200


def test_faults_of_the_body_and_the_connection(servers, client):
    base = servers.url("small")
    servers.inject("small", {"empty_choices": 1.0})
    assert ask(client, base, "question 1").json()["choices"] == []
    servers.inject("small", {"null_content": 1.0})
    message = ask(client, base, "question 1").json()["choices"][0]["message"]
    assert message["content"] is None
    servers.inject("small", {"invalid_json": 1.0})
    with pytest.raises(ValueError):
        ask(client, base, "question 1").json()
    servers.inject("small", {"close": 1.0})
    with pytest.raises(httpx.TransportError):
        ask(client, base, "question 1")
    assert servers.stats()["small"].answered == 0


def test_a_model_can_begin_to_answer_by_other_records(client):
    def answered(name: str, said: str) -> Record:
        outcome = Outcome(name, prediction=said, output_tokens=1)
        return Record("1", "q", 3, (outcome,))

    records = [answered("small", "right"), answered("large", "right")]
    with ReplayServers(records, ["small", "large"], 0.0) as servers:
        servers.replace("small", [answered("small", "wrong")])
        said = [
            ask(client, servers.url(name), "q").json()["choices"][0]["message"]["content"]
            for name in ("small", "large")
        ]
    assert said == ["wrong", "right"]


def test_faults_are_seeded_and_have_their_share():
    def statuses(seed: int) -> list[int]:
        faults = {"429": 0.2, "500": 0.1}
        with (
            ReplayServers(
                RECORDS, ["m"], seconds_per_token=0, faults=faults, seed=seed, retry_after_s=2
            ) as servers,
            httpx.Client(trust_env=False) as client,
        ):
            answers = [ask(client, servers.url("m"), "question 1") for _ in range(200)]
        limited = [a for a in answers if a.status_code == 429]
        assert all(a.headers["retry-after"] == "2" for a in limited)
        return [a.status_code for a in answers]

    first = statuses(1)
    assert first == statuses(1) != statuses(2)
    assert 20 <= first.count(429) <= 60
    assert 5 <= first.count(500) <= 40


@pytest.mark.parametrize("faults", [{"teapot": 0.1}, {"429": 1.5}, {"429": 0.6, "500": 0.6}])
def test_bad_faults_are_named(faults):
    with pytest.raises(EccosError, match=r"teapot|429|add up"):
        ReplayServers([], ["m"], 0, faults=faults)


def test_bad_requests_are_refused_and_the_connection_lives(servers, client):
    base = servers.url("small")
    assert client.post(f"{base}/chat/completions", content=b"{").status_code == 400
    assert client.post(f"{base}/chat/completions", content=b"[1]").status_code == 400
    assert ask(client, base, "question 1", stream=True).status_code == 400
    assert client.get(f"{base}/nowhere").status_code == 404
    chunks = client.post(f"{base}/chat/completions", content=iter([b"{}"]))
    assert chunks.status_code == 411
    assert ask(client, base, "question 1").status_code == 200


def test_two_hundred_requests_a_second_on_kept_connections():
    with ReplayServers(RECORDS, ["small", "large"], seconds_per_token=0.001) as servers:

        def agent(k: int) -> None:
            with httpx.Client(timeout=60, trust_env=False) as client:
                for i in range(20):
                    name = ("small", "large")[(i + k) % 2]
                    assert ask(client, servers.url(name), f"question {i}").status_code == 200

        before = computed_s(servers)
        with ThreadPoolExecutor(10) as pool:
            list(pool.map(agent, range(10)))
        took = computed_s(servers) - before
        assert sum(s.answered for s in servers.stats().values()) == 200
    assert took < 1.0


def computed_s(servers: ReplayServers) -> float:
    """Processor time of the servers' process so far: what other processes do is not in it."""
    used = psutil.Process(servers._process.pid).cpu_times()
    return used.user + used.system


def test_start_is_fast_and_the_end_leaves_nothing():
    with ReplayServers(RECORDS, ["small"], seconds_per_token=0) as servers:
        assert computed_s(servers) < 1.0
        process = servers._process
        assert process is not None
    assert process.poll() == 0
    servers.close()
    with pytest.raises(EccosError, match="small"):
        servers.url("small")


def test_a_child_that_cannot_start_is_an_error(monkeypatch, tmp_path, capfd):
    monkeypatch.setattr("aios_eccos.lab.replay_server.CHILD", tmp_path / "gone.py")
    with pytest.raises(EccosError, match="did not start"):
        ReplayServers(RECORDS, ["small"], seconds_per_token=0).__enter__()
    assert "gone.py" in capfd.readouterr().err


def test_the_child_dies_with_its_killed_parent():
    script = (
        "import sys\n"
        "from aios_eccos.lab.replay_server import ReplayServers\n"
        "servers = ReplayServers([], ['m'], 0).__enter__()\n"
        "print(servers._process.pid, flush=True)\n"
        "sys.stdin.read()\n"
    )
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", script], stdin=pipe, stdout=pipe, cwd=ROOT) as p:
        child = int(p.stdout.readline())
        os.kill(child, 0)
        p.send_signal(signal.SIGKILL)
        p.wait()
    until(lambda: not _alive(child))


def _alive(pid: int) -> bool:
    """Whether the process runs; one that nobody reaped yet does not."""
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True)
    return state.stdout.strip()[:1] not in ("", "Z")
