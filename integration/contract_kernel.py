"""`python -m integration.contract_kernel`: the contract of limits on real kernels, item by item.

Two kernels on one Redis, before stub model servers whose counters are the witness: rates, money,
cached prompts, tool loops, private agents, a canary, shared servers, spans, fairness. Wants
`AIOS_HOME` and `CEREBRUM_HOME`; three minutes.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import count, cycle
from typing import Any

from . import sessions
from .kernel import Kernel, within
from .report import Report, options
from .sessions import Pair
from .stubs import Stubs

#: Tokens of each answer of a stub, with its prompt, and a prompt and answer that hold as many.
TOKENS, PROMPT, ANSWER = 30, "what do you say to this, and to that, and to all of it? ", 20
#: Dollars per token of the model `paid`.
PRICE = 1e-5
RPM, TPM, CAP, THRIFT = 3, 160, 0.003, 0.0008
SLOTS, SLOW_S = 2, 0.2
MODELS = ["rpm", "tpm", "busy", "paid", "slot", "llama", "olla-a", "olla-b"]
AGENTS = {
    "spill/*": {"models": ["rpm", "cloud"]},
    "paid/*": {"models": ["paid"], "max_cost": {"day": CAP}},
    "thrift/*": {"models": ["dear", "here"], "max_cost": {"day": THRIFT}, "at_cap": "cheapest"},
    "secret/full": {"models": ["slot", "cloud"], "private": True},
    "secret/*": {"models": ["here", "cloud", "dear"], "private": True},
    "llama/*": {"models": ["llama", "cloud"]},
    "olla/*": {"models": ["olla-a", "olla-b"]},
}


def entries(stubs: Stubs) -> list[dict[str, Any]]:
    """The models that limits bind."""
    own: dict[str, dict[str, Any]] = {
        "rpm": {"rpm": RPM, "strength": 0.95},
        "tpm": {"tpm": TPM},
        "busy": {},
        "paid": {"input_cost_per_token": PRICE, "output_cost_per_token": PRICE},
        "slot": {"concurrency": SLOTS, "local": True},
        "llama": {"shared_server": True, "strength": 0.95},
        "olla-a": {},
        "olla-b": {"output_cost_per_token": 1.2e-7},
    }
    common = {"backend": "vllm", "strength": 0.4, "local": False}
    free = {"input_cost_per_token": 1e-7, "output_cost_per_token": 1e-7}
    for name in ("olla-a", "olla-b"):
        host = stubs.url(name).removesuffix("/v1")
        own[name] |= {"backend": "ollama", "hostname": host}
    return [
        {"name": name, "hostname": stubs.url(name), **common, **free, **own[name]}
        for name in MODELS
    ]


def pinned(model: str, **hints: Any) -> dict[str, Any]:
    """A call of one model, with hints."""
    return {"llms": [{"name": model, "eccos": hints}], "max_new_tokens": ANSWER}


def many(pair: Pair, number: int, **fields: Any) -> list[dict[str, Any]]:
    """So many calls at once, on both kernels in turns."""
    with ThreadPoolExecutor(number) as pool:
        asked = [pool.submit(pair.ask, f"{PROMPT}{n}", **fields) for n in range(number)]
        return [each.result() for each in asked]


def refusals(responses: Sequence[dict[str, Any]]) -> set[tuple[int, str]]:
    """Status and text of those that were not answered, without figures."""
    return {(r["status_code"], str(r["error"])) for r in responses if r["error"]}


def rates(pair: Pair) -> None:
    """Items 1: requests and tokens of a minute, and servers that ask to be left alone."""
    pair.asked()
    found = many(pair, 8, **pinned("rpm", deadline_s=3))
    told, reached = refusals(found), pair.asked().get("rpm", 0)
    right = {status for status, _ in told} == {429} and all("(rpm)" in text for _, text in told)
    note = f"{reached} of {len(found)} reached it; {told}"
    pair.report.check(f"1 rpm {RPM}: it gets no more", reached == RPM and right, note)
    pair.check("1 calls that may go elsewhere do", pair.served("hi", agent="spill/a")[0], "cloud")
    pair.asked()
    found = many(pair, 8, **pinned("tpm", deadline_s=3))
    told, reached = refusals(found), pair.asked().get("tpm", 0)
    right = {status for status, _ in told} == {429} and all("(tpm)" in text for _, text in told)
    fits = reached >= 2 and reached * TOKENS <= TPM
    note = f"{reached * TOKENS} tokens in {reached} of {len(found)} calls; {told}"
    pair.report.check(f"1 tpm {TPM}: it gets no more", fits and right, note)
    retry_after(pair)


def retry_after(pair: Pair) -> None:
    """One kernel is told to wait; the other leaves the server alone, too."""
    one, other = pair.kernels
    begun = time.monotonic()
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(one.ask, "[[first status 429 4]]", **pinned("busy"))
        within(10.0, lambda: pair.stubs.stats("busy")["requests"] == 1)
        time.sleep(0.5)
        second = other.ask("hello", **pinned("busy", deadline_s=1))
        between = pair.stubs.stats("busy")["requests"]
        answered = first.result()
    told = second["status_code"], "Retry-After" in str(second["error"])
    waited = time.monotonic() - begun
    fine = told == (429, True) and between == 1 and answered["error"] is None and waited >= 4
    note = f"{told}, {between} request in the meantime, the first was answered after {waited:.1f} s"
    pair.report.check("1 Retry-After holds for every kernel", fine, note)


def money(pair: Pair) -> None:
    """Item 2: a cap on both kernels together, and what happens at it."""
    pair.asked()
    found = many(pair, 24, agent="paid/a", max_new_tokens=ANSWER)
    told, reached = refusals(found), pair.asked().get("paid", 0)
    usd = reached * TOKENS * PRICE
    text = next((text for _, text in told), "")
    named = "max_cost of paid/* a day" in text and "left until" in text and "UTC" in text
    right = {status for status, _ in told} == {402} and named
    note = f"${usd:.4f} in {reached} of {len(found)} calls; 402: {text}"
    pair.report.check(f"2 a cap of ${CAP}: no more is spent", 0 < usd <= CAP and right, note)
    caps = {c["name"]: c for c in pair.kernels[0].get("/eccos/status")["caps"]}
    shown = caps["paid/* a day"]
    note = ", ".join(f"{key} {shown[key]}" for key in ("spent_usd", "held_usd", "kept", "worth"))
    fine = abs(shown["spent_usd"] - usd) < 1e-9 and shown["held_usd"] == 0
    pair.report.check("2 status says what the servers counted", fine, note)
    models = []
    for _ in range(3):
        model, _ = pair.served(PROMPT, agent="thrift/a", max_new_tokens=60)
        models.append(model)
    pair.check("2 at_cap: cheapest", models, ["dear", "here", "here"])
    model, response = pair.served("hello", **pinned("dear", max_cost=1e-6))
    pair.check("2 a call's own cap", (model, response["status_code"]), ("", 402))


def private_when_full(pair: Pair) -> None:
    """Item 5: where the local model is full, or AIOS itself would choose another."""
    pair.stubs.control("slot", "/delay", {"seconds": SLOW_S})
    pair.asked()
    found = many(pair, 8, agent="secret/full")
    pair.check(
        "5 calls wait for a full local model", (pair.asked(), refusals(found)), ({"slot": 8}, set())
    )
    for kernel in pair.kernels:
        kernel.post("/eccos/mode", {"mode": "observe"})
    listed = ["cloud", "here"]
    model, _ = pair.served("hello", agent="open/a", llms=listed)
    kept, _ = pair.served("hello", agent="secret/a", llms=listed)
    pair.check("5 nor do they go out by AIOS's own choice", (model, kept), ("cloud", "here"))
    for kernel in pair.kernels:
        kernel.post("/eccos/mode", {"mode": "route"})


def promoted(pair: Pair) -> None:
    """Item 6: a canary without failures ends by itself."""
    for kernel in pair.kernels:
        kernel.post("/eccos/mode", {"mode": "canary"})
    number, status = count(), dict[str, Any]()

    def done() -> bool:
        with ThreadPoolExecutor(8) as pool:
            [*pool.map(lambda n: pair.ask(f"promote {n}"), [next(number) for _ in range(80)])]
        status.update(pair.kernels[0].get("/eccos/status")["edge"]["canary"])
        return bool(status["stands"] != "trial")

    within(60.0, done)
    pair.report.check("6 a canary is promoted", status["stands"] == "promoted", status["why"])
    within(30.0, lambda: pair.served(f"then {next(number)}")[0] == "dear" and both(pair, "dear"))
    pair.asked()
    for n in range(12):
        pair.ask(f"after {n}")
    pair.check("6 then both kernels route every call", [*pair.asked()], ["dear"])


def both(pair: Pair, model: str) -> bool:
    return {pair.served(f"both {n}?")[0] for n in range(6)} == {model}


def llama_cpp(pair: Pair) -> None:
    """Item 7: a server whose metrics are llama.cpp's."""
    gauge = "llamacpp:requests_processing"
    served = "llama", "cloud", "llama"
    found = []
    for others, wanted in zip((0, 32, 0), served, strict=True):
        pair.stubs.control("llama", "/others", {"requests": others, "gauge": gauge})

        def goes(wanted: str = wanted) -> bool:
            return {pair.served("free?", agent="llama/a")[0] for _ in range(4)} == {wanted}

        found.append(wanted if within(20.0, goes) else "another")
    pair.check("7 requests of others on llama.cpp take slots", tuple(found), served)


def ollama(pair: Pair) -> None:
    """Item 7: two of Ollama's models, of which the cheaper is unloaded."""
    agent = "olla/a"

    def goes(model: str) -> bool:
        return within(20.0, lambda: {pair.served("?", agent=agent)[0] for _ in range(4)} == {model})

    def unload() -> None:
        pair.stubs.control("olla-a", "/loading", {"seconds": 1.0})
        time.sleep(2.5)  # both kernels look each second

    cheaper = goes("olla-a")
    for kernel in pair.kernels:  # each measures for itself what loading takes
        unload()
        kernel.ask("load", agent=agent, llms=["olla-a"])
    unload()
    other = goes("olla-b")
    pair.ask("load", llms=["olla-a"])
    back = goes("olla-a")
    note = f"loaded: the cheaper one {cheaper}, unloaded: the other {other}, loaded: back {back}"
    pair.report.check(
        "7 an unloaded model of Ollama costs its load", cheaper and other and back, note
    )


def fairness(pair: Pair) -> None:
    """Item 9: two agents at one model that is full, one with twice as many calls.

    A client stays with its kernel, as agents do: each kernel shares out what it gets.
    """
    pair.stubs.control("slot", "/delay", {"seconds": SLOW_S})
    ends, served = time.monotonic() + 8.0, {"loud": 0, "still": 0}

    def ask(agent: str, kernel: Kernel) -> None:
        while time.monotonic() < ends:
            kernel.ask("hello", agent=agent, llms=["slot"])
            served[agent] += time.monotonic() < ends

    with ThreadPoolExecutor(24) as pool:
        [*pool.map(ask, ["loud", "loud", "still"] * 8, cycle(pair.kernels))]
    total, squares = sum(served.values()), sum(n * n for n in served.values())
    jain = total**2 / (2 * squares) if squares else 0.0
    shown = pair.kernels[0].get("/eccos/status")["edge"]["fairness"]
    fine = jain >= 0.95 and shown is not None
    note = f"{served}, Jain's index {jain:.4f}, status of the last minutes says {shown}"
    pair.report.check("9 equal agents are served equally", fine, note)


def main() -> int:
    """Run; 1 if a check failed."""
    parser = options("contract_kernel", __doc__, "without the canary that is promoted")
    given = parser.parse_args()
    report = Report("contract-kernel")
    theirs: dict[str, Any] = sessions.SETTINGS["agents"]  # type: ignore[assignment]
    others = {pattern: rules for pattern, rules in theirs.items() if pattern not in AGENTS}
    settings = {"agents": {**AGENTS, **others}}
    parts = [rates, money, sessions.cached_prompts, sessions.tool_loops, sessions.private_agents]
    parts += [private_when_full, sessions.shared_servers, llama_cpp, ollama, fairness]
    parts += [sessions.canary] if given.quick else [promoted, sessions.canary]
    with sessions.running(
        given.python, given.keep, report, MODELS, entries=entries, settings=settings
    ) as (pair, collector):
        for part in parts:
            part(pair)
        if collector is None:
            report.check("8 spans", False, "install the extra otel")
        else:
            sessions.spans(pair, collector)
    return report.finish(given.json)


if __name__ == "__main__":
    sys.exit(main())
