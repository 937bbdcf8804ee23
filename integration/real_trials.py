"""A day with real models, its second half: forms, a plan, audits, a server that dies."""

from __future__ import annotations

import contextlib
import json
import time
from collections import Counter
from collections.abc import Mapping
from typing import Any

from aios_eccos.verdicts.judge import comparison

from .kernel import HttpStatus, within
from .models_real import LARGE, MIDDLE, SMALL
from .real_calls import Job, Reply, chat, mean, questions
from .real_day import Day, asked, ready, row
from .terminal import Terminal

PLAN = f"{MIDDLE} + {SMALL}, else {LARGE}"
#: Audits at these prices, at which a call costs a hundredth of a cent.
AUDITS = {"audit": "20 %", "audit_first_usd": "0.0008", "judge": LARGE}
#: What is said of audits.
SAID: tuple[str, ...] = (
    "copies",
    "failed",
    "agreed",
    "judged",
    "ungraded",
    "unjudged",
    "missed",
    "dropped",
)
SAID += ("judge_repeats", "judge_consistency")
WEATHER = {
    "name": "demo/weather",
    "description": "The weather of a city now.",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}, "unit": {"type": "string", "enum": ["C", "F"]}},
        "required": ["city"],
    },
}
PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "born": {"type": "integer"}},
    "required": ["name", "born"],
}
SCHEMA = {"type": "json_schema", "json_schema": {"name": "person", "schema": PERSON}}


def forms(day: Day) -> None:
    """What these models make of tools and of JSON."""
    tool = {"type": "function", "function": WEATHER}
    cities = ("Paris in C", "Oslo", "Lima in F")
    table: dict[str, dict[str, int]] = {}
    jobs = []
    for name in day.servers:
        pinned = {"llms": [{"name": name, "backend": "vllm"}], "temperature": 0.0}
        for city in cities:
            fields = {"messages": _user(f"What is the weather in {city}?"), "tools": [tool]}
            fields |= {"action_type": "chat_with_tool_call_output", "max_new_tokens": 80}
            jobs.append(Job(f"tools/{name}/{city}", pinned | fields))
        for person in ("Alan Turing", "Marie Curie"):
            fields = {"messages": _user(f"Who was {person}?"), "response_format": SCHEMA}
            fields |= {"action_type": "chat_with_json_output", "message_return_type": "json"}
            jobs.append(Job(f"json/{name}/{person}", pinned | fields | {"max_new_tokens": 80}))
    for reply in asked(day, "tools and JSON", jobs):
        kind, name, _ = reply.job.agent.split("/")
        form = _tool_form(reply) if kind == "tools" else _json_form(reply)
        counts = table.setdefault(f"{kind}, {name}", {})
        counts[form] = counts.get(form, 0) + 1
    for case, found in table.items():
        day.say(f"{case:24} {found}")
    day.tables["forms"] = table


def _user(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def _tool_form(reply: Reply) -> str:
    response = reply.response if isinstance(reply.response, Mapping) else {}
    calls = response.get("tool_calls")
    if calls:
        right = calls[0].get("name") == WEATHER["name"] and "city" in calls[0]["parameters"]
        return "called" if right else "called wrongly"
    return "text" if reply.good else "error"


def _json_form(reply: Reply) -> str:
    try:
        said = json.loads(reply.text or "")
    except ValueError:
        return "error" if reply.text is None else "no JSON"
    fits = isinstance(said, dict) and isinstance(said.get("born"), int) and "name" in said
    return "fits the schema" if fits else "other JSON"


def terminal(day: Day) -> None:
    """AIOS's own terminal: the plugin's command, and a plain line for a model."""
    home, url = day.kernel.home, day.kernel.url
    with Terminal(home, day.agents.cerebrum, url, day.agents.python) as screen:
        screen.type("/chat", "Switched to")
        shown = screen.type("/eccos status", "calls")
        day.report.check("terminal: /eccos status", "floor" in shown)
        with contextlib.suppress(TimeoutError):  # a small model may say another number
            screen.type("What is 12 + 30? Reply with the number only.", "42", 60)
    mine: list[Any] = []

    def answered() -> bool:
        last = day.kernel.get("/eccos/decisions?n=10")["decisions"]
        mine[:] = [each for each in last if each["agent"] == "terminal"]
        return bool(mine)

    within(120.0, answered)
    day.report.check(
        "terminal: a plain line reaches a model",
        bool(mine) and mine[0]["failure"] is None,
        f"{mine[0]['model']} in {mine[0]['served_s']:.1f} s" if mine else "",
    )


def planned(day: Day) -> None:
    """Calls where two small models may answer for the largest."""
    day.set(plans=f'["{PLAN}"]')
    ready(day)
    texts = questions(day.size.planned)
    jobs = [chat(f"planned/{n}", each) for n, each in enumerate(texts)]
    replies = asked(day, "with a plan", jobs)
    votes = [reply.decision["vote"] for reply in replies if reply.decision.get("vote")]
    outcomes = Counter(vote["outcome"] for vote in votes)
    day.say(f"the plan served {len(votes)} of {len(jobs)} calls: {dict(outcomes)}")
    options = [each for reply in replies for each in reply.decision.get("options", ())]
    for column in (PLAN, LARGE):
        known = [each for each in options if each["model"] == column]
        if known:
            success = mean(each["success"] for each in known)
            usd = 1000 * mean(each["cost_usd"] for each in known)
            day.say(f"{column}: forecast success {success:.3f} at ${usd:.5f} a thousand")
    day.tables["plan"] = {"calls": len(votes), "of": len(jobs), **outcomes, **row(texts, replies)}
    day.shell.type("aios-eccos", "status", *day.at)


def forget(day: Day) -> None:
    """Let the next start know nothing, and audit."""
    day.set(plans="none", **AUDITS)
    day.kernel.use_state(day.folder / "state-audited")


def audited(day: Day) -> None:
    """The same questions without any history or verdict; audits and a judge."""
    texts = questions(day.size.audited)
    jobs = [chat(f"audited/{n}", each) for n, each in enumerate(texts)]
    replies = asked(day, "audited", jobs)
    audits = _settled_audits(day)
    found, alone = row(texts, replies), day.tables["routed"][LARGE]["usd_per_1000"]
    spent = 1000 * (audits["audit_usd"] + audits["judge_usd"]) / len(texts)
    day.say("  ".join(f"{key} {value}" for key, value in found.items()))
    day.say(
        f"with audits and judge ${found['usd_per_1000'] + spent:.5f} a thousand, {LARGE} alone "
        f"${alone:.5f}"
    )
    day.say("audits: " + ", ".join(f"{key} {audits[key]}" for key in SAID))
    for policy in audits["policies"]:
        day.say("policy: " + ", ".join(f"{key} {value}" for key, value in policy.items()))
    day.tables["audited"] = {"calls": found, "audits": audits}


def _settled_audits(day: Day) -> Any:
    """What `status` says of audits once no model has been asked for a while."""
    seen: list[tuple[Any, int]] = []

    def idle() -> bool:
        status = day.kernel.get("/eccos/status")
        seen.append((status["audits"], sum(model["in_use"] for model in status["models"])))
        if [busy for _, busy in seen[-3:]] == [0, 0, 0] and seen[-1] == seen[-2]:
            return True
        time.sleep(3)
        return False

    within(300.0, idle)
    return seen[-1][0]


def judging(day: Day) -> None:
    """The judge alone: pairs of which one answer is right, each asked in both orders."""
    triples = zip(questions(day.size.routed), day.answers[MIDDLE], day.answers[LARGE], strict=True)
    pairs = [
        (each, small or "", large or "")
        for each, small, large in triples
        if each.right(small) is not each.right(large)
    ][: day.size.pairs]
    comparisons = [
        comparison(f"pair{n}", each.text, small, large, swapped=swapped)
        for n, (each, small, large) in enumerate(pairs)
        for swapped in (False, True)
    ]
    pinned = {"llms": [{"name": LARGE, "backend": "vllm"}], "temperature": 0.0}
    jobs = [
        Job(f"judge/{n}", pinned | {"messages": [*each.messages], "max_new_tokens": 16})
        for n, each in enumerate(comparisons)
    ]
    replies = asked(day, "the judge, in both orders", jobs)
    said = [c.verdict(reply.text or "") for c, reply in zip(comparisons, replies, strict=True)]
    wanted = [1 if each.right(small) else -1 for each, small, _ in pairs for _ in (0, 1)]
    same = sum(said[n] is not None and said[n] == said[n + 1] for n in range(0, len(said), 2))
    right = sum(one == other for one, other in zip(said, wanted, strict=True))
    letters = Counter((reply.text or "").strip()[:12] for reply in replies)
    day.say(f"{len(pairs)} pairs: the same in both orders {same}; right {right} of {len(said)}")
    day.say(f"its words: {dict(letters)}")
    day.tables["judge"] = {"pairs": len(pairs), "same": same, "right": right, "words": letters}


def killed(day: Day) -> None:
    """The strongest model's server dies while it serves, and comes back."""
    server, words = day.servers[LARGE], set[str]()
    texts = questions(day.size.killed)
    jobs = [
        chat(f"killed/{n}", each, [LARGE] if n % 3 == 0 else ()) for n, each in enumerate(texts)
    ]

    def each(count: int) -> None:
        if count == 2:
            day.say(f"{LARGE}: killed")
            server.kill()
        elif count == 4:
            status = day.kernel.get("/eccos/status")
            words.update(f"{m['model']} rests" for m in status["models"] if m["cooling_s"] > 0)
            server.start()
            day.say(f"{LARGE}: started; status said {sorted(words) or 'nothing'}")

    replies = asked(day, "killed", jobs, 6, each)
    failed = Counter(_error(reply) for reply in replies if not reply.good)
    day.say(f"errors to agents: {dict(failed) or 'none'}")
    served = Counter(reply.model for reply in replies if reply.good)
    day.say(
        f"served by {dict(served)}; tried {sum(r.decision.get('attempts', 0) for r in replies)}"
    )
    free = [reply for reply in replies if not reply.job.fields["llms"]]
    good = sum(reply.good for reply in free)
    day.report.check("calls that may go elsewhere do", good == len(free), f"{good} of {len(free)}")
    loaded = server.wait()
    last = asked(day, "after its return", [chat("back/0", texts[0], [LARGE])])
    day.report.check("the model serves again", last[0].good, f"loaded {loaded:.1f} s later")


def _error(reply: Reply) -> str:
    response = reply.response if isinstance(reply.response, Mapping) else {}
    return str(response.get("error") or reply.error or "no response")[:100]


def disable(day: Day) -> None:
    """Type `disable`; the hook is gone, and the kernel of before starts."""
    day.unset()
    day.shell.type("aios-eccos", "disable", *day.at)
    hooks = [each.name for each in day.shell.site.glob("aios_eccos*.pth")]
    day.report.check("disable leaves no hook", not hooks, str(hooks or ""))
    with day.kernel:
        try:
            day.kernel.get("/eccos/status")
            gone = False
        except HttpStatus as error:
            gone = error.code == 404
        said = day.kernel.ask("Say hello in one word.", llms=[SMALL], timeout_s=300)
    day.report.check("AIOS serves as before", gone and not said.get("error"), str(said)[:120])
