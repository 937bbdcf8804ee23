"""Questions that a judge model grades: verdicts, their cost, and what is missing without one."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from pathlib import Path

import pytest

from aios_eccos.collect.budget import Budget
from aios_eccos.collect.client import Client, Endpoint, Patience
from aios_eccos.collect.collector import Collector
from aios_eccos.collect.journal import Journal
from aios_eccos.collect.prompts import JUDGE, TEMPLATES, judge_prompt, prompt_for, read_verdict
from aios_eccos.collect.questions import GRADERS, Question, parse_question
from aios_eccos.collect.run import _wind_up
from aios_eccos.collect.sandbox import Sandbox
from aios_eccos.errors import ConfigError, DataError, EccosError
from aios_eccos.values import Model

QUESTION = Question(
    id="q", task="t", question="Why is the sky blue?", answer="scattering", grader="judge"
)
USAGE = {"prompt_tokens": 10, "completion_tokens": 1, "total_tokens": 11}


class Says:
    """A provider that says what a function of the prompt gives."""

    def __init__(self, say):
        self.say, self.prompts = say, []

    def complete(self, request, timeout_s):
        self.prompts.append(request["messages"][0]["content"])
        message = {"content": self.say(self.prompts[-1])}
        return {"choices": [{"message": message, "finish_reason": "stop"}], "usage": USAGE}

    def close(self):
        pass


def client(name, say):
    endpoint = Endpoint(Model(name, input_price=0.0, output_price=1.0), "http://x", name)
    return Client(
        endpoint,
        max_tokens=9,
        patience=Patience(attempts=1),
        stop=threading.Event(),
        provider=Says(say),
    )


def collect(journal, asked, judge, kind=Collector, **options):
    clients = {c.endpoint.name: c for c in asked}
    everyone = {**clients, **({judge.endpoint.name: judge} if judge else {})}
    budget = Budget([c.endpoint for c in everyone.values()], None, 9)
    with Sandbox() as sandbox:
        collector = kind(
            [QUESTION],
            clients,
            budget=budget,
            journal=journal,
            sandbox=sandbox,
            stop=threading.Event(),
            concurrency=dict.fromkeys(everyone, 2),
            judge=judge,
            **options,
        )
        collector.resume()
        collector.start()
        assert collector.wait() == "done"
    return collector, budget


def judging(prompt):
    answer = prompt.partition("<answer>")[2]
    return f"I think so: {json.dumps({'correct': 'scattering' in answer})}"


def test_a_judge_gives_verdicts_that_cost(tmp_path):
    good = client("good", lambda p: "By Rayleigh scattering.")
    bad = client("bad", lambda p: "It mirrors the sea.")
    judge = client("judge", judging)
    with Journal(tmp_path / "j") as journal:
        collector, budget = collect(journal, [good, bad], judge)
    assert {name: g.correct for (_, name), g in collector.graded.items()} == {
        "good": True,
        "bad": False,
    }
    assert collector.cost_by_model == {"good": 1.0, "bad": 1.0, "judge": 2.0}
    assert budget.spent == 4.0
    # Held on a resumed run, verdicts as well.
    with Journal(tmp_path / "j") as journal:
        again, budget = collect(journal, [good, bad], judge)
    assert again.graded.keys() == collector.graded.keys()
    assert len(judge._provider.prompts) == 2
    assert budget.spent == 4.0


def test_a_judge_may_be_one_of_the_models(tmp_path):
    both = client("both", lambda p: judging(p) if "<answer>" in p else "scattering")
    with Journal(tmp_path / "j") as journal:
        collector, budget = collect(journal, [both], both)
    assert collector.graded["q", "both"].correct is True
    assert budget.spent == 2.0


def test_no_verdict_is_no_grade(tmp_path):
    silent = client("judge", lambda p: "Hard to say.")
    with Journal(tmp_path / "j") as journal:
        collector, _ = collect(journal, [client("m", lambda p: "scattering")], silent)
    (graded,) = collector.graded.values()
    assert graded.correct is None
    assert graded.reply.status == "ok"


def test_a_missing_verdict_is_asked_for_on_a_resumed_run(tmp_path):
    def broken(prompt):
        raise ValueError("down")

    asked = client("m", lambda p: "scattering")
    with Journal(tmp_path / "j") as journal:
        collector, _ = collect(journal, [asked], client("judge", broken))
    assert collector.graded["q", "m"].correct is None
    with Journal(tmp_path / "j") as journal:
        collector, _ = collect(journal, [asked], client("judge", judging))
    assert collector.graded["q", "m"].correct is True
    assert len(asked._provider.prompts) == 1


def test_without_a_judge_such_questions_are_refused(tmp_path):
    with Journal(tmp_path / "j") as journal, pytest.raises(ConfigError, match="--judge"):
        collect(journal, [client("m", str)], None)


def test_a_lost_journal_ends_the_run_with_its_error(tmp_path):
    judge = client("judge", judging)
    with Journal(tmp_path / "j") as journal:

        def full(answer):
            raise DataError("cannot be written: disk full")

        journal.append = full
        with pytest.raises(DataError, match="disk full"):
            collect(journal, [client("m", str)], judge)


@pytest.mark.parametrize(
    ("reply", "verdict"),
    [
        ('{"correct": true}', True),
        ('```json\n{"correct": false}\n```', False),
        ('First {"correct": true}, no: {"correct": false}', False),
        ('{"correct": "yes"}', None),
        ("{", None),
        ("", None),
        ('{"right": true}', None),
    ],
)
def test_verdicts_are_read_strictly(reply, verdict):
    assert read_verdict(reply) is verdict


def test_an_answer_cannot_break_out_of_its_marks_by_length():
    assert len(judge_prompt(QUESTION, "x" * 10_000_000)) < 25_000


@pytest.mark.parametrize("grader", GRADERS)
def test_every_grader_has_a_prompt_that_holds_the_question(grader):
    extra = {"choices": ["1 {x}", "2"], "answer": "A"} if grader == "choice" else {}
    extra |= {"answer": {"type": "object"}} if grader == "json" else {}
    row = {"id": "q", "task": "t", "question": "Is {this} it?", "answer": "7", "grader": grader}
    prompt = prompt_for(parse_question({**row, **extra}))
    assert prompt.startswith("Is {this} it?")
    assert set(TEMPLATES) == set(GRADERS)


@pytest.mark.parametrize("template", [*TEMPLATES.values(), JUDGE])
def test_the_documentation_holds_every_prompt_word_for_word(template):
    text = (Path(__file__).parents[2] / "docs" / "collect.md").read_text(encoding="utf-8")
    assert f"```text\n{template}\n```" in text
    assert all(f"| `{grader}` |" in text for grader in GRADERS)


class Interrupted:
    """A collector that Ctrl-C reaches again while it winds up."""

    stopped = False

    def stop(self):
        self.stopped = True

    def wait(self):
        raise KeyboardInterrupt


def test_a_second_ctrl_c_leaves_at_once():
    collector = Interrupted()
    assert _wind_up(collector) == "interrupted"
    assert collector.stopped


def test_what_is_on_its_way_at_ctrl_c_is_waited_for(tmp_path):
    asked, answers = threading.Event(), threading.Event()

    def slowly(prompt):
        asked.set()
        answers.wait(60)
        return "By Rayleigh scattering."

    def interrupt():
        asked.wait(60)
        time.sleep(0.1)  # the main thread waits by then
        os.kill(os.getpid(), signal.SIGINT)

    class Winding(Collector):
        def wait(self):
            with pytest.raises(KeyboardInterrupt):
                threading.Thread(target=interrupt).start()
                super().wait()
            threading.Timer(0.3, answers.set).start()
            self.wait = super().wait
            assert _wind_up(self) == "interrupted"
            return "done"

    with Journal(tmp_path / "j") as journal:
        collector, _ = collect(journal, [client("m", slowly)], client("judge", judging), Winding)
    assert [g.correct for g in collector.graded.values()] == [True]


def test_a_broken_worker_is_no_finished_run(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(threading, "excepthook", lambda args: seen.append(args.exc_type))

    def broken(prompt):
        raise ZeroDivisionError

    judge, asked = client("judge", judging), client("m", broken)
    monkeypatch.setattr(asked, "ask", broken)
    with Journal(tmp_path / "j") as journal, pytest.raises(EccosError, match="worker broke"):
        collect(journal, [asked], judge)
    assert seen == [ZeroDivisionError]
