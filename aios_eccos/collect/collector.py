"""Asks every model every question, journals and grades the answers, and makes the records.

Each model has its own queue and threads, so that a slow one holds up no other. One lock guards what
they share; nobody holds it while a model answers or an answer is graded.
"""

from __future__ import annotations

import dataclasses
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, Literal

from aios_eccos.collect.budget import Budget
from aios_eccos.collect.client import Client
from aios_eccos.collect.journal import Answer, Journal, prompt_hash
from aios_eccos.collect.prompts import judge_prompt, prompt_for, read_verdict
from aios_eccos.collect.questions import Question
from aios_eccos.collect.reply import GradedReply, Reply, row_of
from aios_eccos.collect.sandbox import Sandbox
from aios_eccos.errors import ConfigError, EccosError

#: Failed questions in a row, each after all its attempts, that a model is given up after.
GIVE_UP = 5

Ending = Literal["done", "max_cost", "interrupted"]


@dataclass(frozen=True, slots=True)
class Job:
    """One question to one model; `reply` is there already where only a verdict is missing."""

    question: Question
    prompt: str
    most_usd: float
    reply: Reply | None = None


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is: answers held and wanted, and dollars spent on all of them."""

    done: int
    total: int
    spent_usd: float


class Collector:
    """One run over some questions. A ConfigError says that a question needs a judge.

    Args:
        judge: gives verdicts on questions with grader judge; may be one of the `clients`.
        concurrency: most requests at once, by model.
        on_row: called with each record as soon as all models have answered its question.
        on_progress: called after each answer. Both are called by one thread at a time.
    """

    def __init__(
        self,
        questions: Sequence[Question],
        clients: Mapping[str, Client],
        *,
        budget: Budget,
        journal: Journal,
        sandbox: Sandbox,
        stop: threading.Event,
        concurrency: Mapping[str, int],
        judge: Client | None = None,
        on_row: Callable[[dict[str, Any]], None] = lambda row: None,
        on_progress: Callable[[Progress], None] = lambda progress: None,
    ) -> None:
        self.questions = questions
        self.models = tuple(clients)
        self.graded: dict[tuple[str, str], GradedReply] = {}
        self.given_up: dict[str, str] = {}
        self.cost_by_model: dict[str, float] = defaultdict(float)
        self._clients, self._judge = clients, judge
        self._budget, self._journal, self._sandbox = budget, journal, sandbox
        self._stop, self._concurrency = stop, concurrency
        self._on_row, self._on_progress = on_row, on_progress
        self._judging = threading.Semaphore(concurrency[judge.endpoint.name] if judge else 1)
        self._changed = threading.Condition()
        self._queues: dict[str, deque[Job]] = {name: deque() for name in clients}
        self._failures = dict.fromkeys(clients, 0)
        self._threads: list[threading.Thread] = []
        self._error: EccosError | None = None
        self._verdicts: dict[tuple[str, str], Answer] = {}
        judged = [q.id for q in questions if q.grader == "judge"]
        if judged and judge is None:
            raise ConfigError(f"question {judged[0]!r} wants a judge: name a model with --judge")

    @property
    def progress(self) -> Progress:
        total = len(self.questions) * len(self.models)
        return Progress(len(self.graded), total, self._budget.spent)

    def resume(self) -> int:
        """Take over the journal's answers and queue the rest; returns how many there were."""
        held: dict[tuple[str, str], Answer] = {}
        for answer in self._journal.answers:
            self._budget.spent += answer.cost_usd or 0.0
            self.cost_by_model[answer.model] += answer.cost_usd or 0.0
            if answer.judged:
                self._verdicts[answer.question, answer.judged] = answer
            elif answer.reply.status != "error":
                held[answer.question, answer.model] = answer
        for question in self.questions:
            for name in self.models:
                job, earlier = self._job(question, name), held.get((question.id, name))
                if earlier and earlier.prompt == self._hash(job.prompt):
                    job = dataclasses.replace(job, reply=earlier.reply)
                if job.reply is None or self._lacks_verdict(job, name, job.reply):
                    self._queues[name].append(job)
                else:
                    self.graded[question.id, name], _ = self._grade(job, name, job.reply)
            self._report(question)
        return len(self.graded)

    def start(self) -> None:
        workers = [name for name in self.models for _ in range(self._concurrency[name])]
        for name in workers:
            self._threads.append(threading.Thread(target=self._work, args=(name,), daemon=True))
            self._threads[-1].start()

    def wait(self) -> Ending:
        """Wait until every thread has ended; EccosError if what they write cannot be written."""
        # A thread whose `join` Ctrl-C interrupts counts as ended from then on (bpo-45274).
        while any(thread.is_alive() for thread in self._threads):
            time.sleep(0.05)
        if self._error is not None:
            raise self._error
        if self._stop.is_set():
            return "interrupted"
        if any(self._queues.values()):
            return "max_cost"
        if self.progress.done < self.progress.total:
            raise EccosError("a worker broke; its error is above, the journal has what came before")
        return "done"

    def stop(self) -> None:
        """Ask nothing more; answers that are on their way are still taken."""
        self._stop.set()
        with self._changed:
            self._changed.notify_all()

    def rows(self) -> list[dict[str, Any]]:
        """The records of all questions with an answer, in order, also those that lack models."""
        with self._changed:
            found = [(question, self._replies(question)) for question in self.questions]
        return [row_of(question, replies) for question, replies in found if replies]

    def _work(self, name: str) -> None:
        try:
            while (job := self._next(name)) is not None:
                self._serve(name, job)
        except EccosError as error:
            self._error = error
            self.stop()

    def _next(self, name: str) -> Job | None:
        """The next job, as soon as the budget allows it; None when there is nothing more to do."""
        queue = self._queues[name]
        with self._changed:
            while queue and not self._stop.is_set() and not self._budget.reached:
                if self._budget.start(name, queue[0].most_usd):
                    return queue.popleft()
                self._changed.wait()
        return None

    def _serve(self, name: str, job: Job) -> None:
        graded, cost = None, 0.0
        try:
            reply = job.reply or self._clients[name].ask(job.prompt)
            if reply is None:
                return
            if job.reply is None:
                cost += self._note(job, name, job.prompt, reply)
            graded, extra = self._grade(job, name, reply)
            cost += extra
        finally:
            with self._changed:
                self._budget.finish(name, job.most_usd, cost)
                if graded is not None:
                    self._settle(name, job, graded)
                self._changed.notify_all()

    def _settle(self, name: str, job: Job, graded: GradedReply) -> None:
        self.graded[job.question.id, name] = graded
        failed = graded.reply.status == "error"
        self._failures[name] = self._failures[name] + 1 if failed else 0
        self._report(job.question)
        if self._failures[name] >= GIVE_UP and name not in self.given_up:
            self.given_up[name] = graded.reply.error
            lost = GradedReply(Reply("error", error=f"given up: {graded.reply.error}", attempts=0))
            queue = self._queues[name]
            while queue:
                question = queue.popleft().question
                self.graded[question.id, name] = lost
                self._report(question)
        self._on_progress(self.progress)

    def _grade(self, job: Job, name: str, reply: Reply) -> tuple[GradedReply, float]:
        """The reply with its grade, and what a judge cost."""
        if reply.status != "ok":
            return GradedReply(reply), 0.0
        if job.question.grader != "judge":
            return GradedReply(reply, self._sandbox.grade(job.question, reply.content)), 0.0
        if not self._lacks_verdict(job, name, reply):
            verdict = self._verdicts[job.question.id, name].reply
            return GradedReply(reply, read_verdict(verdict.content)), 0.0
        assert self._judge is not None
        prompt = judge_prompt(job.question, reply.content)
        with self._judging:
            given = self._judge.ask(prompt)
        if given is None or given.status != "ok":
            return GradedReply(reply), 0.0
        cost = self._note(job, self._judge.endpoint.name, prompt, given, judged=name)
        return GradedReply(reply, read_verdict(given.content)), cost

    def _lacks_verdict(self, job: Job, name: str, reply: Reply) -> bool:
        """Whether a judge has yet to be asked about this very answer."""
        if job.question.grader != "judge" or reply.status != "ok":
            return False
        held = self._verdicts.get((job.question.id, name))
        prompt = judge_prompt(job.question, reply.content)
        return held is None or held.prompt != self._hash(prompt)

    def _note(self, job: Job, model: str, prompt: str, reply: Reply, judged: str = "") -> float:
        cost = self._budget.cost(model, reply)
        now = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
        question, digest = job.question.id, self._hash(prompt)
        self._journal.append(Answer(question, model, digest, reply, judged, cost, now))
        with self._changed:
            self.cost_by_model[model] += cost or 0.0
        return cost or 0.0

    def _job(self, question: Question, name: str) -> Job:
        prompt = prompt_for(question)
        most = self._budget.most(name, prompt)
        if question.grader == "judge" and self._judge is not None:
            longest = "x" * self._budget.max_tokens
            most += self._budget.most(self._judge.endpoint.name, judge_prompt(question, longest))
        return Job(question, prompt, most)

    def _hash(self, prompt: str) -> str:
        return prompt_hash(prompt, self._budget.max_tokens)

    def _replies(self, question: Question) -> dict[str, GradedReply]:
        asked = [name for name in self.models if (question.id, name) in self.graded]
        return {name: self.graded[question.id, name] for name in asked}

    def _report(self, question: Question) -> None:
        replies = self._replies(question)
        if len(replies) == len(self.models):
            self._on_row(row_of(question, replies))
