"""Sandbox: grading in a child process that has little time and memory.

A model's answer may be hostile or just odd. The child imports what grading needs and forks a
worker, which sets an alarm before each answer: that ends it wherever it is, also within C code, and
the child forks the next one. Both end with this process.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import select
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import IO

from aios_eccos.collect.grade import MAX_JSON, grade
from aios_eccos.collect.questions import Question
from aios_eccos.errors import EccosError

log = logging.getLogger("aios_eccos.collect.sandbox")

#: Seconds of computing for one answer. The slowest of the graders' test cases takes about 0.3.
LIMIT_S = 1.0
#: Seconds for the child's start and its import of sympy; only a broken machine needs more.
START_S = 60.0
#: Seconds for its end, and that of its worker.
END_S = 5.0
MEMORY_BYTES = 2 << 30
ROOT = Path(__file__).parents[2]
#: What the child says before the code that a worker ended with.
_ENDED = b"ended "
_RUN = f"import sys; sys.path.insert(0, sys.argv[1]); from {__name__} import serve; serve()"


class Sandbox:
    """Grades answers in a child process, for several threads. Use as a context manager."""

    def __init__(self, *, limit_s: float = LIMIT_S) -> None:
        self.limit_s = limit_s
        self._lock = threading.Lock()
        self._ready = False

    def __enter__(self) -> Sandbox:
        self._start()
        return self

    def __exit__(self, *raised: object) -> None:
        with self._lock:
            if self._ready:
                # Its stdin ends: so does its worker, which would else be nobody's child, and it.
                with suppress(subprocess.TimeoutExpired):
                    self._child.communicate(timeout=END_S)
            self._end()

    def grade(self, question: Question, content: str) -> bool:
        """Whether the answer is right; one that takes too long or breaks its grader is wrong.

        Raises:
            EccosError: the child cannot be started, so nothing can be said.
        """
        # What is longer is wrong for grader json, and the others look at the end.
        job = {"question": dataclasses.asdict(question), "content": content[-MAX_JSON - 1 :]}
        with self._lock:
            reply = self._ask(json.dumps(job).encode() + b"\n")
            if reply in (b"0\n", b"1\n"):
                return reply == b"1\n"
            if reply.startswith(_ENDED):
                code = int(reply.removeprefix(_ENDED))
            else:
                code = self._end()
                self._start()
        why = "took too long" if code == -signal.SIGPROF else f"ended its grader ({code})"
        log.warning("an answer to question %r %s: wrong", question.id, why)
        return False

    def _ask(self, job: bytes) -> bytes:
        child = self._child
        if child.poll() is not None:  # its worker may live on, until its stdin ends
            return b""
        assert child.stdin is not None
        assert child.stdout is not None
        try:
            if not self._ready and _line(child.stdout, START_S) != b"ready\n":
                raise EccosError(
                    f"the grading process does not start ({self._end()}); try "
                    f"{sys.executable} -c 'import aios_eccos.collect.sandbox, math_verify'"
                )
            self._ready = True
            child.stdin.write(job)
            child.stdin.flush()
        except BrokenPipeError:
            return b""
        # The alarm is the worker's own; the time here only guards against one that is stopped.
        return _line(child.stdout, self.limit_s + START_S)

    def _start(self) -> None:
        """Start a child; nobody waits for it until the next answer comes."""
        pipe, nowhere = subprocess.PIPE, subprocess.DEVNULL
        command = [sys.executable, "-c", _RUN, str(ROOT), str(self.limit_s)]
        self._child = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=nowhere)
        self._ready = False

    def _end(self) -> int:
        self._child.poll()
        self._child.kill()
        for pipe in (self._child.stdin, self._child.stdout):
            if pipe is not None:
                with suppress(BrokenPipeError):
                    pipe.close()
        self._child.wait()
        return self._child.returncode


def _line(pipe: IO[bytes], timeout_s: float) -> bytes:
    ready, _, _ = select.select([pipe], [], [], timeout_s)
    return pipe.readline() if ready else b""


def serve() -> None:
    """The child: fork workers until stdin ends, and tell by which signal each ended before."""
    import resource

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's affair
    with suppress(ValueError, OSError):  # macOS has no such limit; the time limit remains
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    with suppress(ImportError):  # what the first answers would import takes most of a second
        grade(Question("", "", "", "x^2-1", "math"), "$\\boxed{(x+1)(x-1)}$")
        grade(Question("", "", "", "", "json", schema={}), "{}")
    _say("ready")
    while True:
        worker = os.fork()
        if not worker:
            _work(float(sys.argv[2]))
            os._exit(0)  # what it has imported takes its time to go
        code = os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1])
        if not code:
            return
        _say(f"{_ENDED.decode()}{code}")


def _work(limit_s: float) -> None:
    """A worker: grade one job after the other until stdin ends."""
    while line := sys.stdin.buffer.readline():
        job = json.loads(line)
        question = Question(**job["question"])
        # The default action of the alarm ends the process.
        signal.setitimer(signal.ITIMER_PROF, limit_s)
        right = grade(question, job["content"])
        signal.setitimer(signal.ITIMER_PROF, 0)
        _say("1" if right else "0")


def _say(word: str) -> None:
    sys.stdout.write(word + "\n")
    sys.stdout.flush()
