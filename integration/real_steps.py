"""A day with real models, its first half: enable, first calls, `collect`, `train`, routed calls."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from .models_real import LARGE, MIDDLE, SMALL
from .real_calls import Asked, Reply, chat, mean, questions
from .real_day import Day, asked, ready, row
from .typed import changed, listing

#: Share of the strongest's success that is asked for, as by default.
FLOOR = 0.95


def enable(day: Day) -> None:
    """Type `enable`; AIOS starts while the models load."""
    day.say(
        "prices are declared in proportion to size: $0.10 and $0.40 per million tokens and billion"
    )
    day.shell.type("aios-eccos", "enable", *day.at)
    only = changed(day.before, listing(day.kernel.home))
    day.report.check("enable writes one file", only == ["aios/config/config.yaml"], str(only))
    for name, server in day.servers.items():
        day.say(f"{name}: loaded after {server.wait():.1f} s more")
    day.say("what init would propose; nobody says yes:")
    day.shell.type("aios-eccos", "init", "--reach", *day.at, may_fail=True)


def first_calls(day: Day) -> None:
    """Without history the strongest serves."""
    example = Path(__file__).parents[1] / "examples/agent.py"
    ask = ("python", str(example), "What is 17 x 23? Reply with the number only.")
    day.shell.type(*ask, CEREBRUM_KERNEL_URL=day.kernel.url)
    day.shell.type("aios-eccos", "doctor", "--reach", *day.at, may_fail=True)
    jobs = [chat(f"first/{n}", each) for n, each in enumerate(questions(day.size.first))]
    replies = asked(day, "first calls", jobs)
    day.say(f"served by {dict(Counter(reply.model for reply in replies))}")


def collect(day: Day) -> None:
    """Give the history answers to the shipped questions, and fit the head on them."""
    out, found = day.folder / "collected.jsonl", day.folder / "collected.json"
    words = ["--limit", str(day.size.collected), "--max-tokens", str(day.size.collected_tokens)]
    words += ["--out", str(out), "--json", str(found), "--ingest", *day.at]
    day.shell.type("aios-eccos", "collect", *words, limit_s=1800)
    day.tables["collect"] = json.loads(found.read_text())["models"]
    # Beside a living kernel, which owns the history, from the file; too few records say so.
    day.shell.type("aios-eccos", "train", "--data", str(out), *day.at, may_fail=True)
    ready(day)


def routed(day: Day) -> None:
    """Other questions by our choice, and, beside them, by each small model alone."""
    texts = questions(day.size.routed)
    groups = {"ours": (), SMALL: (SMALL,), MIDDLE: (MIDDLE,)}
    jobs = [
        chat(f"{group}/{n}", each, models, group)
        for n, each in enumerate(texts)
        for group, models in groups.items()
    ]
    replies = asked(day, "routed", jobs)
    of = {group: [r for r in replies if r.job.group == group] for group in groups}
    of[LARGE] = _largest(day, texts, of["ours"])
    rows = {group: row(texts, found) for group, found in of.items()}
    for name, each in rows.items():
        day.say(f"{name:16} " + "  ".join(f"{key} {value}" for key, value in each.items()))
    strongest = max(day.servers, key=lambda name: rows[name]["success"])
    promised = mean(reply.decision.get("promised") or 0.0 for reply in of["ours"])
    floor = mean(reply.decision.get("floor") or 0.0 for reply in of["ours"])
    day.say(
        f"asked: {FLOOR:.0%} of the strongest, {floor:.3f} by history; promised {promised:.3f}; "
        f"realised {rows['ours']['success']}; the strongest here is {strongest}, of which "
        f"{FLOOR:.0%} are {FLOOR * rows[strongest]['success']:.3f}"
    )
    day.tables["routed"] = rows
    day.answers = {group: [reply.text for reply in found] for group, found in of.items()}


def _largest(day: Day, texts: Sequence[Asked], ours: Sequence[Reply]) -> list[Reply]:
    """The largest model's answers: where it served, that one, as the temperature is 0."""
    other = [n for n, reply in enumerate(ours) if reply.model != LARGE or reply.text is None]
    jobs = [chat(f"{LARGE}/{n}", texts[n], (LARGE,)) for n in other]
    asked_now = dict(zip(other, asked(day, f"{LARGE} alone", jobs), strict=True))
    return [asked_now.get(n, reply) for n, reply in enumerate(ours)]
