"""Recorded answers served over real HTTP: one OpenAI-compatible server per model.

    with ReplayServers(records, ["small", "large"], seconds_per_token=0.001) as servers:
        httpx.post(servers.url("small") + "/chat/completions", json={...})

One child process (`replay_child`) has them all, each on its own loopback port; it ends when this
one does, however it dies. An answer is looked up by the last user message's text: the outcome's
own `prediction`, else JSON with the recorded grade, which `graded` reads back. It takes its
tokens x `seconds_per_token`; `finish_reason` is "length" where the error is "truncated". A text
without a record gets `UNKNOWN_OUTPUT_TOKENS` tokens and null grades, and is counted.
"""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aios_eccos.errors import EccosError
from aios_eccos.records import Outcome, Record

#: What can be injected. 429, 500, 503 and close come at once, the last three after the answer's
#: time; hang never answers.
FAULTS = ("429", "500", "503", "close", "hang", "empty_choices", "null_content", "invalid_json")
UNKNOWN_OUTPUT_TOKENS = 32
CHILD = Path(__file__).with_name("replay_child.py")
#: An answer of the child to a control request that takes longer is a failure.
CONTROL_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class ServerStats:
    """What one server counted since its start or the last `reset`.

    `unknown` texts have no record, `repeated` ones had been asked before; clients of `abandoned`
    ones hung up before the answer; `answered` are whole answers, without a fault.
    """

    requests: int
    answered: int
    unknown: int
    repeated: int
    abandoned: int
    in_flight: int
    peak_in_flight: int
    faults: dict[str, int]


def seconds_per_token(records: Iterable[Record], models: Sequence[str], mean_s: float) -> float:
    """The pace at which the mean recorded answer of `models` takes `mean_s` seconds."""
    lengths = [
        outcome.output_tokens
        for record in records
        for outcome in record.outcomes
        if outcome.model in models and outcome.output_tokens is not None
    ]
    if not sum(lengths):
        raise EccosError("no recorded answer lengths to derive a pace from")
    return mean_s * len(lengths) / sum(lengths)


def graded(content: str) -> float | None:
    """The recorded correctness (0..1) that an answer carries; None where nobody judged it."""
    body = json.loads(content)
    if not isinstance(body, dict) or "correctness" not in body:
        raise ValueError("the content carries no recorded correctness")
    value = body["correctness"]
    return None if value is None else float(value)


class ReplayServers:
    """The servers of some models, as a context manager.

    Args:
        records: of equal texts the last record that has the model counts.
        faults: share (0..1) of requests that get each kind of `FAULTS`, drawn with `seed`.
        retry_after_s: the Retry-After header of an injected 429; None sends none.

    Raises:
        EccosError: a fault is unknown or its share is out of range, or the child does not start.
    """

    def __init__(
        self,
        records: Iterable[Record],
        models: Sequence[str],
        seconds_per_token: float,
        *,
        faults: Mapping[str, float] | None = None,
        seed: int = 0,
        retry_after_s: float | None = None,
    ) -> None:
        self.models = tuple(models)
        self._ports: dict[str, int] = {}
        self._process: subprocess.Popen[bytes] | None = None
        self._job = {
            "models": self.models,
            "answers": answers_of(records, models),
            "default": _answer(Outcome("", output_tokens=UNKNOWN_OUTPUT_TOKENS), 0),
            "seconds_per_token": seconds_per_token,
            "faults": _checked(faults or {}),
            "seed": seed,
            "retry_after_s": retry_after_s,
        }

    def __enter__(self) -> ReplayServers:
        # Run by path and isolated: no package import, no site packages, ready at once.
        command = [sys.executable, "-I", str(CHILD)]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(self._job).encode() + b"\n")
            self._process.stdin.flush()
            self._ports = json.loads(self._process.stdout.readline())["ports"]
        except (OSError, ValueError) as error:
            self.close()
            raise EccosError("the replay servers did not start; their error is above") from error
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def close(self) -> None:
        """End the servers; a second call does nothing."""
        process, self._process = self._process, None
        if process is None:
            return
        self._ports = {}
        try:
            process.communicate(timeout=CONTROL_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()

    def url(self, model: str) -> str:
        if model not in self._ports:
            raise EccosError(f"no replay server for model {model!r} is running")
        return f"http://127.0.0.1:{self._ports[model]}/v1"

    def stats(self) -> dict[str, ServerStats]:
        body = self._control(self.models[0], "/stats")
        return {name: ServerStats(**counts) for name, counts in body["models"].items()}

    def reset(self) -> None:
        """Set every counter to zero (peaks to the calls in flight)."""
        self._control(self.models[0], "/reset", {})

    def inject(self, model: str, faults: Mapping[str, float]) -> None:
        """From now on give this share of `model`'s requests each kind of fault; {} ends them."""
        self._control(model, "/faults", _checked(faults))

    def replace(self, model: str, records: Iterable[Record]) -> None:
        """From now on answer as `model` by these records."""
        self._control(model, "/answers", answers_of(records, [model])[model])

    def call_tools(self, model: str, tools: Mapping[str, str]) -> None:
        """From now on answer these texts alone as `model`, each by a call of the tool named."""
        said = _answer(Outcome("", output_tokens=1), 1) | {"content": None}
        answers = {}
        for text, name in tools.items():
            function = {"name": name, "arguments": "{}"}
            call = {"id": "call_1", "type": "function", "function": function}
            answers[text] = said | {"tool_calls": [call]}
        self._control(model, "/answers", answers)

    def _control(self, model: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        data = None if body is None else json.dumps(body).encode()
        # A proxy from the environment must not come between us and loopback.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(
                self.url(model).removesuffix("/v1") + path, data, CONTROL_TIMEOUT_S
            ) as response:
                answer: dict[str, Any] = json.load(response)
        except OSError as error:
            raise EccosError(f"the replay servers do not answer: {error}") from error
        return answer


def answers_of(records: Iterable[Record], models: Sequence[str]) -> dict[str, dict[str, Any]]:
    """By model and text what its server answers, as `replay_child` keeps it."""
    answers: dict[str, dict[str, Any]] = {name: {} for name in models}
    for record in records:
        for outcome in record.outcomes:
            if outcome.model in answers:
                answers[outcome.model][record.text] = _answer(outcome, record.input_tokens)
    return answers


def _answer(outcome: Outcome, input_tokens: int) -> dict[str, Any]:
    grade = outcome.correctness
    correct = None if grade is None else grade >= 0.5
    made_up = {"answer": "replayed", "correct": correct, "correctness": grade}
    tokens = outcome.output_tokens
    return {
        "content": json.dumps(made_up) if outcome.prediction is None else outcome.prediction,
        "output_tokens": UNKNOWN_OUTPUT_TOKENS if tokens is None else tokens,
        "input_tokens": input_tokens,
        "truncated": outcome.error == "truncated",
    }


def _checked(faults: Mapping[str, float]) -> dict[str, float]:
    for kind, share in faults.items():
        if kind not in FAULTS:
            raise EccosError(f"unknown fault {kind!r}; known: {', '.join(FAULTS)}")
        if not 0 <= share <= 1:
            raise EccosError(f"fault {kind}: {share} is not a share between 0 and 1")
    if sum(faults.values()) > 1 + 1e-9:
        raise EccosError(f"the faults' shares add up to {sum(faults.values()):g}, more than 1")
    return dict(faults)
