"""What is run on a living kernel with the plugin. Each function adds its rows to the report."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import load
from .kernel import HttpStatus, Kernel, within
from .report import Report, Row
from .stubs import Stubs
from .terminal import Terminal

#: Model time of the two stub servers, seconds.
SMALL_S, LARGE_S = 0.2, 2.0
SHARE = {"small": 0.8, "large": 0.2}
#: Seeds of the traces' orders of arrival, since stock's speed depends on it: stock takes six calls
#: at a time, and waits for the longest. None spreads the long calls evenly.
ORDERS = {"trace": None, "trace-1": 1, "trace-2": 2}
HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Ground:
    """What the cases run on."""

    kernel: Kernel
    stubs: Stubs
    report: Report
    cerebrum: Path
    pypi_sdk: Path | None
    python: str
    config: dict[str, Any]

    def change(self, **models: int) -> None:
        """Set models' limits and refresh."""
        for entry in self.config["llms"]["models"]:
            entry["concurrency"] = models.get(entry["name"], entry["concurrency"])
        self.kernel.write(self.config)
        self.kernel.post("/core/refresh")


def of(replies: list[load.Reply], model: str) -> list[float]:
    """Times of the calls of one model."""
    return [reply.seconds for reply in replies if reply.model == model]


def warm_up(g: Ground) -> None:
    """A kernel's first calls import what was not yet."""
    load.run(load.lone(g.kernel.url, 3, "small"))
    load.run(load.burst(g.kernel.url, 8, "large"))


def traced(g: Ground, seed: int | None, name: str = "ours") -> Row:
    """Short calls among long ones."""
    g.stubs.reset()
    replies = load.run(load.trace(g.kernel.url, 60, 6.0, SHARE, seed))
    small = of(replies, "small")
    p95 = load.percentile(small, 0.95)
    most = most_per_second(seed)
    speed = load.rate(replies)
    good = all(reply.good for reply in replies)
    return g.report.add(
        Row(
            f"{name}: 60 calls, 80/20, pinned, {order_name(seed)}",
            good and p95 <= 0.30 and speed >= 0.98 * most,
            sent=len(replies),
            answered=sum(reply.good for reply in replies),
            lost=sum(reply.response is None for reply in replies),
            p50_s=round(load.median(small), 4),
            p95_s=round(p95, 4),
            value=round(speed, 3),
            unit="calls/s",
            note=f"of at most {most:.3f}; percentiles of the short calls",
        )
    )


def order_name(seed: int | None) -> str:
    """What a trace's order of arrival is called."""
    return "evenly mixed" if seed is None else f"random order {seed}"


def most_per_second(seed: int | None) -> float:
    """Calls per second of a trace if every call were served the moment it arrives."""
    times = {"small": SMALL_S, "large": LARGE_S}
    models = load.order(60, SHARE, seed)
    return len(models) / max(i / 6.0 + times[model] for i, model in enumerate(models))


def overhead(g: Ground, calls: int = 40) -> Row:
    """A lone pinned call: latency without the model's time."""
    load.run(load.lone(g.kernel.url, 3, "small"))
    replies = load.run(load.lone(g.kernel.url, calls, "small"))
    extra = [(reply.seconds - SMALL_S) * 1000 for reply in replies]
    middle = load.median(extra)
    return g.report.calls(
        "lone pinned call, overhead",
        replies,
        all(reply.good for reply in replies) and middle <= 15,
        value=round(middle, 2),
        unit="ms",
        note=f"p95 {load.percentile(extra, 0.95):.1f} ms",
    )


def closed_loop(g: Ground, seconds: float = 10.0) -> Row:
    """32 clients that never pause."""
    replies = load.run(load.closed(g.kernel.url, 32, seconds, "small"))
    speed = load.rate(replies)
    good = all(reply.good for reply in replies)
    return g.report.calls(
        "32 closed-loop clients",
        replies,
        good and speed >= 100,
        value=round(speed, 1),
        unit="calls/s",
    )


def bursts(g: Ground) -> Row:
    """More calls at once than the event loop's stock threads let in."""
    g.change(large=64, small=64)
    g.stubs.reset()
    replies = load.run(load.burst(g.kernel.url, 40, "large"))
    last = max(reply.seconds for reply in replies)
    good = all(reply.good for reply in replies)
    return g.report.calls(
        "burst of 40 x 2 s, concurrency 64",
        replies,
        good and last <= 2.5,
        value=round(last, 3),
        unit="s last",
    )


def limited(g: Ground) -> Row:
    """Limit 4 on the big model, with a refresh in the middle."""
    g.change(large=4, small=32)
    g.stubs.reset()
    answers: list[Any] = []
    refresher = threading.Timer(4.0, lambda: answers.append(g.kernel.post("/core/refresh")))
    refresher.start()
    replies = load.run(load.trace(g.kernel.url, 60, 6.0, SHARE, seed=2))
    refresher.join()
    peak = g.stubs.stats("large")["peak"]
    small = load.percentile(of(replies, "small"), 0.95)
    good = all(reply.good for reply in replies) and bool(answers)
    g.change(large=32)
    return g.report.calls(
        "limit 4 on the big model, across a refresh",
        replies,
        good and peak <= 4 and small <= 0.30,
        overshoot=max(peak - 4, 0),
        value=round(small, 3),
        unit="s p95 short",
        note=f"peak {peak}, refreshed: {bool(answers)} {_errors(replies)}",
    )


def _errors(replies: list[load.Reply]) -> str:
    found = {str((reply.response or {}).get("error"))[:80] for reply in replies if not reply.good}
    return "; ".join(sorted(found))


FAULTS = ("status 429", "status 500", "close", "hang", "empty", "null", "badjson")


def faulty(g: Ground, agents: int = 32, calls: int = 25) -> Row:
    """10 % of the servers' answers fail, in seven ways."""
    settings = g.config["llms"]["router"]["eccos"]
    before = dict(settings)
    settings |= {"call_timeout_s": 12.0, "cooldown_s": 0.2}
    g.change()
    g.stubs.reset()
    for model in g.stubs.models:
        g.stubs.control(model, "/delay", {"seconds": 0.1})
        g.stubs.faults(model, {fault: 0.1 / len(FAULTS) for fault in FAULTS})
    before_run = g.kernel.get("/eccos/kernel")["settled"]
    replies = load.run(load.agents(g.kernel.url, agents, calls, ["small", "large"]))
    settled = _settled(g.kernel, before_run + agents * calls) - before_run
    most, answered_twice = 0, 0
    asked: dict[str, list[str]] = {}
    for model in g.stubs.models:
        for text, kinds in g.stubs.texts(model).items():
            asked.setdefault(text, []).extend(kinds)
    for kinds in asked.values():
        most = max(most, len(kinds))
        answered_twice += kinds.count("good") > 1
    for model in g.stubs.models:
        g.stubs.faults(model, {})
        g.stubs.control(model, "/delay", {"seconds": SMALL_S if model == "small" else LARGE_S})
    settings.clear()
    settings |= before
    g.change()
    bad = sum(not reply.good for reply in replies)
    good = len(asked) == settled == agents * calls and most <= 3 and answered_twice == 0
    return g.report.calls(
        f"{agents} agents x {calls} calls, 10 % faults",
        replies,
        good and all(reply.response is not None for reply in replies),
        doubled=answered_twice,
        value=most,
        unit="requests at most",
        note=f"{settled} settled, {bad} with an error, {sum(map(len, asked.values()))} requests",
    )


def _settled(kernel: Kernel, expected: int) -> int:
    """How many calls the kernel has counted; it counts right after the agent has its answer."""

    def count() -> int:
        return int(kernel.get("/eccos/kernel")["settled"])

    within(2.0, lambda: count() >= expected)
    return count()


def sdk(g: Ground) -> None:
    """Both generations of the SDK, each in a process of its own."""
    found = _script(g, "agents_git.py", g.cerebrum)
    g.report.check("SDK git: chat", found["chat"]["response_message"] == "small: hello")
    g.report.check("SDK git: no model named", bool(found["free"]["response_message"]))
    g.report.check("SDK git: JSON", found["json"]["response_message"] == '{"keywords": []}')
    wanted = [{"name": "demo/add", "parameters": {"a": 2}, "id": "call_1"}]
    g.report.check("SDK git: tool calls", found["tool"]["tool_calls"] == wanted)
    g.report.check("SDK git: call_tool", "No tool was called" in json.dumps(found["call_tool"]))
    g.report.check(
        "SDK git: operate_file",
        isinstance(found["operate_file"], str),
        str(found["operate_file"])[:60],
    )
    ran = json.dumps(found["tool_run"])
    g.report.check("SDK git: call_tool reaches the tool", "demo/add not found" in ran, ran[:80])
    failed = (found["tool_failed"].get("response") or {}) if found["tool_failed"] else {}
    g.report.check(
        "SDK git: a model that fails under call_tool",
        failed.get("status_code") == 400 and "400" in str(failed.get("error")),
        str(failed.get("error"))[:80],
    )
    g.report.check(
        "SDK git: a model that fails under operate_file",
        found["file_failed"] == [502, "LLM error with model 'small': empty answer"],
        str(found["file_failed"]),
    )
    if g.pypi_sdk is None:
        g.report.check("SDK PyPI 0.0.3", False, "pip could not fetch aios-agent-sdk==0.0.3")
        return
    found = _script(g, "agents_pypi.py", g.pypi_sdk)
    g.report.check("SDK PyPI 0.0.3: chat", bool(found["chat"]["response_message"]))
    g.report.check("SDK PyPI 0.0.3: operate_file", isinstance(found["operate_file"], str))


#: What the agents show; those of the older SDK show less.
SHOWN = ("chat", "free", "json", "tool", "call_tool", "operate_file") + (
    "tool_run",
    "tool_failed",
    "file_failed",
)


def _script(g: Ground, name: str, sdk_path: Path) -> dict[str, Any]:
    done = subprocess.run(
        [g.python, str(HERE / name)],
        capture_output=True,
        text=True,
        timeout=180,
        env={
            **os.environ,
            "PYTHONPATH": str(sdk_path),
            "CEREBRUM_KERNEL_URL": g.kernel.url,
            "AIOS_ECCOS": "off",
        },
        check=False,
    )
    if done.returncode:
        g.report.check(name, False, done.stderr[-300:])
    rows = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    empty: dict[str, Any] = {"response_message": None, "tool_calls": None}
    return dict.fromkeys(SHOWN, empty) | {row["name"]: row["value"] for row in rows}


def terminal(g: Ground) -> None:
    """`/eccos status` in the unmodified terminal costs no model request."""
    with Terminal(g.kernel.home, g.cerebrum, g.kernel.url, g.python) as screen:
        for mode in ("auto", "chat", "file"):
            screen.type(f"/{mode}", "Switched to")
            g.stubs.reset()
            shown = screen.type("/eccos status", "no verdicts")
            asked = sum(g.stubs.stats(model)["requests"] for model in g.stubs.models)
            g.report.check(
                f"terminal: /eccos status in {mode} mode",
                asked == 0 and "floor" in shown,
                f"{asked} model requests",
            )
        screen.type("/chat", "Switched to")
        g.stubs.reset()
        screen.type("plain words", ": plain words")
        asked = sum(g.stubs.stats(model)["requests"] for model in g.stubs.models)
        g.report.check("terminal: plain text reaches a model", asked == 1, f"{asked} requests")


def http_side(g: Ground) -> None:
    """What stock does on the event loop, and its small HTTP defects."""
    kernel = g.kernel
    slow = [
        threading.Thread(target=kernel.ask, args=("[[delay 1.5]]",), kwargs={"llms": ["small"]})
        for _ in range(20)
    ]
    for thread in slow:
        thread.start()
    begun = time.monotonic()
    body = {"query_type": "storage", "agent_name": "a", "query_data": _storage()}
    stored = kernel.post("/query", body)
    kernel.get("/status")
    quick = time.monotonic() - begun
    for thread in slow:
        thread.join()
    g.report.check(
        "storage and status beside 20 slow calls", quick < 1.0, f"{quick:.2f} s {str(stored)[:50]}"
    )
    failed = kernel.post(
        "/query",
        {
            "query_type": "memory",
            "agent_name": "a",
            "query_data": {"operation_type": "add_memory", "params": {"content": "x"}},
        },
        60,
    )
    g.report.check(
        "a failing memory manager answers", "error" in json.dumps(failed), str(failed)[:80]
    )
    tool = {"tool_calls": [{"name": "no/such", "parameters": {}}]}
    answer = kernel.post(
        "/query", {"query_type": "tool", "agent_name": "a", "query_data": tool}, 60
    )["response"]["response_message"]
    served = "Tool calling error" in answer and "no/such not found" in answer
    g.report.check("a direct tool query is served", served, str(answer)[:60])
    kernel.post("/user/select/llms", [{"name": "small", "provider": "vllm"}])
    chosen = kernel.ask("selected")["response_message"]
    pinned = kernel.ask("selected", llms=["small"])["response_message"]
    try:
        kernel.ask("selected", llms=["large"])
        refused = False
    except HttpStatus as error:
        refused = error.code == 500
    kernel.post("/user/select/llms", [])
    cleared = kernel.ask("cleared", llms=["large"])["response_message"]
    right = all(str(text).startswith("small") for text in (chosen, pinned))
    g.report.check(
        "global selection: obeyed, and cleared", right and refused and cleared.startswith("large")
    )


def _storage() -> dict[str, Any]:
    return {"operation_type": "sto_create_file", "params": {"file_path": "a.txt"}}


def slow_storage(g: Ground) -> Row:
    """Writes that hang (into pipes that nobody reads) stall no other write and no HTTP answer."""
    folder = g.kernel.home / "pipes"  # AIOS watches its own folder, and would read them
    folder.mkdir()
    pipes = [folder / f"pipe{i}" for i in range(4)]
    for pipe in pipes:
        os.mkfifo(pipe)

    def write(path: Path) -> Any:
        params = {"file_path": str(path), "content": "x"}
        data = {"operation_type": "write", "params": params}
        body = {"query_type": "storage", "agent_name": "a", "query_data": data}
        return g.kernel.post("/query", body)["response"]["response_message"]

    with ThreadPoolExecutor(len(pipes)) as pool:
        hung = [pool.submit(write, pipe) for pipe in pipes]
        within(5.0, lambda: _left(g.kernel).get("eccos-Storage", 0) >= 2 * len(pipes))
        begun = time.monotonic()
        said = write(folder / "beside.txt")
        g.kernel.get("/status")
        quick = time.monotonic() - begun
        early = [call for call in hung if call.done()]
        read = [os.open(pipe, os.O_RDONLY | os.O_NONBLOCK) for pipe in pipes]
        freed = [call.result(20) for call in hung]
        for handle in read:
            os.close(handle)
    ok = quick < 1 and not early and all("has been written" in text for text in [said, *freed])
    return g.report.check("a write beside 4 that hang", ok, f"{quick:.2f} s, {said[:60]}")


def client_gone(g: Ground) -> Row:
    """A waiting call is dropped when its client hangs up."""
    g.change(small=1)
    g.stubs.reset()
    busy = threading.Thread(target=g.kernel.ask, args=("[[delay 3]]",), kwargs={"llms": ["small"]})
    busy.start()
    within(5.0, lambda: g.stubs.stats("small")["in_flight"])
    body = json.dumps(
        {
            "query_type": "llm",
            "agent_name": "gone",
            "query_data": {
                "messages": [{"role": "user", "content": "nobody reads this"}],
                "llms": [{"name": "small"}],
                "action_type": "chat",
            },
        }
    ).encode()
    with socket.create_connection(("localhost", g.kernel.port)) as client:
        head = (
            "POST /query HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        client.sendall(head.encode() + body)
        within(2.0, lambda: _waiting(g.kernel))
    busy.join()
    # Had the call been kept, it would have the slot before this one.
    g.kernel.ask("after it", llms=["small"])
    asked = "nobody reads this" in g.stubs.texts("small")
    g.change(small=32)
    return g.report.check("a waiting call whose client left is dropped", not asked)


def _waiting(kernel: Kernel) -> int:
    return int(kernel.get("/eccos/status")["edge"]["waiting"])


def refused_refresh(g: Ground) -> Row:
    """A configuration that does not validate is named, and the old one stays."""
    settings = g.config["llms"]["router"]["eccos"]
    settings["quality_flor"] = 0.5
    g.kernel.write(g.config)
    try:
        g.kernel.post("/core/refresh")
        answer = "accepted"
    except HttpStatus as error:
        answer = f"{error.code} {error.text}"
    del settings["quality_flor"]
    g.kernel.write(g.config)
    served = g.kernel.ask("still here", llms=["small"])["response_message"]
    named = "quality_flor" in answer and "quality_floor" in answer and "422" in answer
    logged = "not refreshed" in g.kernel.log.read_text(errors="replace")
    return g.report.check(
        "a refresh that does not validate", bool(named and logged and served), answer[:90]
    )


#: Connections to a model's server are kept alive for a while, one for each call at once.
SLACK = {"sockets": 4}


def refreshes(g: Ground, count: int = 10) -> Row:
    """Refreshes leave no thread, socket or process, and lose no call."""
    g.kernel.post("/core/refresh")
    time.sleep(1.5)  # what earlier cases left must not count as having been there
    before = _left(g.kernel)
    stop = threading.Event()
    replies: list[str | None] = []

    def caller() -> None:
        while not stop.is_set():
            replies.append(g.kernel.ask("under way", llms=["small"])["error"])

    callers = [threading.Thread(target=caller) for _ in range(4)]
    for thread in callers:
        thread.start()
    for _ in range(count):
        g.kernel.post("/core/refresh")
    stop.set()
    for thread in callers:
        thread.join()
    errors = [error for error in replies if error]

    def grown() -> dict[str, int]:
        now = _left(g.kernel).items()
        return {key: n for key, n in now if n > before.get(key, 0) + SLACK.get(key, 0)}

    within(7.0, lambda: not grown())
    more = grown()
    return g.report.add(
        Row(
            f"{count} refreshes under load",
            not errors and not more,
            sent=len(replies),
            answered=len(replies) - len(errors),
            note=f"grown: {more or 'nothing'} {errors[:2] or ''}",
        )
    )


def _left(kernel: Kernel) -> dict[str, int]:
    assert kernel.process is not None
    proc = Path(f"/proc/{kernel.process.pid}")
    sockets = 0
    for handle in (proc / "fd").iterdir():
        try:
            sockets += str(handle.readlink()).startswith("socket:")
        except OSError:
            continue
    threads = kernel.get("/eccos/kernel").get("threads", {})
    return {
        "processes": len([c for c in kernel.children() if "defunct" not in c]),
        "sockets": sockets,
        **{name: n for name, n in threads.items() if name != "eccos-http"},
    }


def cleanup(g: Ground) -> Row:
    """After /core/cleanup calls get an error; a refresh starts the kernel again."""
    g.kernel.post("/core/cleanup")
    answer = g.kernel.ask("after cleanup", llms=["small"])
    g.kernel.post("/core/refresh")
    again = g.kernel.ask("after refresh", llms=["small"])
    ok = answer["status_code"] == 503 and again["status_code"] == 200
    return g.report.check("cleanup answers, refresh starts again", ok, str(answer["error"])[:70])


def observe(g: Ground) -> Row:
    """Mode observe on the living kernel: AIOS's choice serves, ours is counted."""
    g.kernel.post("/eccos/mode", {"mode": "observe"})
    served = [g.kernel.ask(f"observed {i}")["response_message"] for i in range(4)]
    within(2.0, lambda: g.kernel.get("/eccos/kernel")["observed"]["calls"] >= 4)
    seen = g.kernel.get("/eccos/kernel")["observed"]
    g.kernel.post("/eccos/mode", {"mode": "route"})
    first = g.config["llms"]["models"][0]["name"]
    ok = all(str(text).startswith(first) for text in served) and seen["calls"] >= 4
    return g.report.check("observe: AIOS's choice serves", ok, json.dumps(seen)[:120])


def guarded(g: Ground) -> Row:
    """A foreign web page reads nothing."""
    import urllib.error
    import urllib.request

    request = urllib.request.Request(
        g.kernel.url + "/eccos/kernel", headers={"Origin": "http://evil.example"}
    )
    try:
        urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=5)
        code = 200
    except urllib.error.HTTPError as error:
        code = error.code
    return g.report.check("a foreign Origin is refused", code == 403, f"HTTP {code}")


def ends(report: Report, kernel: Kernel, stubs: Stubs, number: signal.Signals) -> Row:
    """The process ends, calls in flight are answered, and nothing is left."""
    assert kernel.process is not None
    pid = kernel.process.pid
    got: list[Any] = []

    def hanging() -> None:
        try:
            got.append(kernel.ask("[[hang]]", llms=["small"], timeout_s=30))
        except OSError as error:
            got.append(error)

    thread = threading.Thread(target=hanging)
    thread.start()
    within(5.0, lambda: stubs.stats("small")["in_flight"])
    took = kernel.stop(number)
    thread.join()
    within(0.3, lambda: not session(pid))
    left = session(pid)
    answered = isinstance(got[0], dict) and got[0]["status_code"] == 503
    return report.add(
        Row(
            f"ends on {number.name} with a hanging call",
            took < 15 and not left and answered,
            value=round(took, 2),
            unit="s",
            note=f"left: {left or 'nothing'}; the call got {str(got[0])[-60:]}",
        )
    )


def session(pid: int) -> list[str]:
    """Living processes that the kernel's session or its Redis left."""
    listing = subprocess.run(
        ["ps", "-o", "sid=,args=", "-e"], capture_output=True, text=True, check=True
    ).stdout
    rows = [line.split(None, 1) for line in listing.splitlines()]
    return [
        row[1] for row in rows if len(row) == 2 and row[0] == str(pid) and "defunct" not in row[1]
    ]
