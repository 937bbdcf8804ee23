"""What real models are asked, and how it is graded; agents that ask, and what came of it."""

from __future__ import annotations

import gzip
import json
import os
import re
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aios_eccos.collect.extract import fenced_blocks, final_part
from aios_eccos.collect.grade import grade
from aios_eccos.collect.questions import Question

from .kernel import Kernel, regular, within
from .report import data_folder

DATA, ANSWERS = "math10.jsonl.gz", "math10-answers.json.gz"
#: Tasks of the recorded questions: how many of ten, what is added to a question, and the most
#: tokens of an answer. Small models can do a part of both, in few tokens.
KINDS: dict[str, tuple[int, str, int]] = {
    "gsm": (4, "\n\nReason in one or two short sentences. Then say the answer as a number.", 96),
    "crux": (6, "\n\nReply with the literal only.", 48),
}
#: Calls hang if they take longer, seconds.
HANGS_S = 600.0
#: Decisions in one answer of the kernel, and answers between two looks at them.
SHOWN, KEPT = 500, 100


@dataclass(frozen=True, slots=True)
class Asked:
    """A recorded question as agents ask it.

    Attributes:
        kind: its task. reference: the final answer of a recorded model that was right.
        tokens: the most that an answer may have.
    """

    kind: str
    text: str
    reference: str
    tokens: int

    def right(self, said: str | None) -> bool:
        """Whether an answer is right."""
        if not said:
            return False
        if self.kind == "gsm":
            texts = ("q", "gsm", self.text, self.reference)
            return grade(Question(*texts, grader="numeric"), said)
        return _literal(said) == _compact(self.reference)


def _literal(said: str) -> str:
    """The literal that an answer gives, alone, in a block or behind the assertion."""
    text = final_part(said)
    text = (fenced_blocks(text) or [text])[0]
    return _compact(text.rsplit("==", 1)[-1].replace("[/PYTHON]", ""))


def _compact(text: str) -> str:
    """As the recorded answers were compared: without blanks and quotation marks."""
    return re.sub(r"[\s'\"`]", "", text).casefold()


def questions(count: int) -> list[Asked]:
    """The shortest recorded questions of each kind that have a known answer, the kinds mixed."""
    folder = data_folder()
    with gzip.open(folder / DATA, "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    with gzip.open(folder / ANSWERS, "rt", encoding="utf-8") as file:
        answers = json.load(file)
    found: list[Asked] = []
    for kind, (tenths, more, tokens) in KINDS.items():
        known = [(row["query"], _reference(row, answers)) for row in rows if row["task"] == kind]
        right = sorted({(text, ref) for text, ref in known if ref}, key=lambda each: len(each[0]))
        some = right[: -(-count * tenths // 10)]
        found += [Asked(kind, text + more, ref, tokens) for text, ref in some]
    return sorted(found, key=lambda asked: hash_of(asked.text))[:count]


def hash_of(text: str) -> int:
    """A number that orders texts as if by chance, the same each time."""
    return int.from_bytes(text.encode()[-40:], "big") * 2654435761 % 2**32


def _reference(row: Mapping[str, Any], answers: Mapping[str, Mapping[str, str | None]]) -> str:
    """The answer of the first recorded model that was right; "" where none was."""
    said = answers.get(row["query_id"], {})
    right = (out["model_name"] for out in row["outputs"] if out["correctness"])
    return next((str(said[name]) for name in right if said.get(name) is not None), "")


@dataclass(frozen=True, slots=True)
class Job:
    """One call of an agent: its name, and the fields of Cerebrum's LLMQuery.

    Attributes:
        group: of agents that ask beside those of other groups.
    """

    agent: str
    fields: dict[str, Any]
    group: str = ""


@dataclass(slots=True)
class Reply:
    """What came of a job.

    Attributes:
        response: Cerebrum's, or a text; None: the call was lost. error: as the SDK raised it.
        decision: as the kernel shows it; empty if it shows none.
    """

    job: Job
    response: Any = None
    error: str | None = None
    seconds: float = 0.0
    decision: Mapping[str, Any] = field(default_factory=dict)

    @property
    def lost(self) -> bool:
        """Neither answered nor refused."""
        return self.response is None and self.error is None

    @property
    def good(self) -> bool:
        """Whether it was answered without an error."""
        return isinstance(self.response, Mapping) and not self.response.get("error")

    @property
    def text(self) -> str | None:
        """The answer's text; None of none."""
        return self.response.get("response_message") if self.good else None

    @property
    def model(self) -> str:
        return str(self.decision.get("model") or "")

    @property
    def cost(self) -> float:
        """Dollars, those for requests in vain too."""
        wasted: Mapping[str, float] = self.decision.get("wasted_usd") or {}
        return float(self.decision.get("cost_usd") or 0.0) + sum(wasted.values())


def chat(agent: str, asked: Asked, models: Sequence[str] = (), group: str = "") -> Job:
    """A recorded question as a call; without models the router chooses."""
    fields = {
        "messages": [{"role": "user", "content": asked.text}],
        "llms": [{"name": name, "backend": "vllm"} for name in models] or None,
        "temperature": 0.0,
        "max_new_tokens": asked.tokens,
    }
    return Job(agent, fields, group)


class Agents:
    """Agents written with Cerebrum's SDK, in a process of their own.

    Args:
        python: the interpreter that has what the SDK needs.
    """

    def __init__(self, kernel: Kernel, cerebrum: Path, python: str) -> None:
        self.cerebrum, self.python, self._kernel = regular(cerebrum), python, kernel
        url, path = kernel.url, str(self.cerebrum)
        self._env = {**os.environ, "PYTHONPATH": path, "CEREBRUM_KERNEL_URL": url}
        self._env["AIOS_ECCOS"] = "off"
        self._found: dict[str, Any] = {}

    def ask(
        self, jobs: Sequence[Job], side_by_side: int, each: Callable[[int], None] | None = None
    ) -> list[Reply]:
        """Ask all, in each group so many side by side; a job that is not over in time is lost.

        Args:
            each: is told how many are over.
        """
        replies = [Reply(job) for job in jobs]
        sent = [
            {"number": number, "group": job.group, "agent": job.agent, **job.fields}
            for number, job in enumerate(jobs)
        ]
        script = str(Path(__file__).parent / "agents_real.py")
        process = subprocess.Popen(
            [self.python, script],
            env=self._env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdin is not None and process.stdout is not None
        last = _Watch(process)
        process.stdin.write(json.dumps({"agents": side_by_side, "jobs": sent}))
        process.stdin.close()
        for count, line in enumerate(process.stdout, 1):
            said = json.loads(line)
            reply = replies[said["number"]]
            reply.response, reply.error = said["response"], said["error"]
            reply.seconds = said["seconds"]
            last.seen()
            if count % KEPT == 0:
                self._look()
            if each is not None:
                each(count)
        process.wait()
        self._decided(replies)
        return replies

    def _look(self) -> None:
        """Read the last decisions, by agents' names."""
        rows = self._kernel.get(f"/eccos/decisions?n={SHOWN}")["decisions"]
        self._found.update((row["agent"], row) for row in rows)

    def _decided(self, replies: Sequence[Reply]) -> None:
        """Find the decisions, which are kept in batches after the answers."""
        wanted = {reply.job.agent for reply in replies}

        def kept() -> bool:
            self._look()
            return wanted <= self._found.keys()

        within(10.0, kept)
        for reply in replies:
            reply.decision = self._found.get(reply.job.agent, {})


class _Watch:
    """Ends a process of agents that has said nothing for `HANGS_S`."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process, self._at = process, time.monotonic()
        threading.Thread(target=self._look, daemon=True).start()

    def seen(self) -> None:
        self._at = time.monotonic()

    def _look(self) -> None:
        while self._process.poll() is None:
            if time.monotonic() - self._at > HANGS_S:
                self._process.kill()
            time.sleep(1)


def mean(values: Iterable[float]) -> float:
    """The mean; 0 of none."""
    known = list(values)
    return sum(known) / len(known) if known else 0.0
