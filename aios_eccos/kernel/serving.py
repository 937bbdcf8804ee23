"""Serves LLM calls, whatever a refresh replaces.

A refresh of the kernel makes a new adapter and a new scheduler. `Serving` stays: it exchanges the
router and the adapter while calls wait, so that none is lost and none escapes its limit.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from typing import Any

from aios_eccos.errors import raised
from aios_eccos.forecast.query_text import TemplateFilter
from aios_eccos.kernel.adapter import EccosAdapter
from aios_eccos.kernel.calls import (
    Caller,
    Refused,
    Syscall,
    Ticket,
    fault_of,
    lot_of,
    ollama_names,
    read_query,
    settle,
    summary,
)
from aios_eccos.kernel.engine_setup import of_adapter, refresh, warm_up
from aios_eccos.kernel.observe_mode import Observed, observed
from aios_eccos.kernel.repeats import repeat_of
from aios_eccos.kernel.sessions import Sessions, known_after, session_of
from aios_eccos.locate import Config
from aios_eccos.serve.engine import Engine
from aios_eccos.values import Answer, CallResult, Failure, Query

log = logging.getLogger("aios_eccos.kernel.serving")

#: Seconds that calls in flight get to end when the process is told to.
GRACE_S = 5.0
#: Settled calls that are kept to be shown.
LAST = 20
GONE = Failure("the client has gone", 499, retryable=False)
ENDING = Failure("the kernel is ending", 503, retryable=False)
#: A refresh may put another server under a model's name between a decision and its request.
OUTSIDE = Failure("the call is private, and the model is not local now", 403, False, elsewhere=True)


class Serving:
    """Serves LLM syscalls through an `Engine`, which `open_engine` starts; settles each once.

    Attributes:
        engine: stores, router and dispatcher; None before the first start and after the end.
        adapter, config: those in force; None before the first start.
        mode: as the setting `mode`, or as somebody has switched since.
        ends_at: `time.monotonic()` at which every call is over, once the process is told to end.
        last: what the last calls got, oldest first; no text of theirs.
    """

    def __init__(self, open_engine: Callable[[Config], Engine]) -> None:
        self._open_engine = open_engine
        # Two locks, as opening an engine takes seconds: answers are settled meanwhile.
        self._changing = threading.Lock()
        self._lock = threading.Lock()
        self._ending = threading.Lock()
        self.engine: Engine | None = None
        self.adapter: EccosAdapter | None = None
        self.config: Config | None = None
        self._in_flight: dict[str, Ticket] = {}
        self.mode = "route"
        self.sessions = Sessions()
        self.templates = TemplateFilter()
        self.observed = Observed()
        self.settled = 0
        self.failed = 0
        self.ends_at = math.inf
        self.last: deque[dict[str, Any]] = deque(maxlen=LAST)

    def switch(self, mode: str) -> None:
        """Serve in a mode from now on, until the next refresh; a canary begins anew."""
        self._set_mode(mode)
        if mode == "canary" and self.engine is not None:
            self.engine.canary.begin()

    def _set_mode(self, mode: str) -> None:
        if mode != "route" and self.adapter is not None:
            self.adapter.follow()
        if (before := self.mode) != mode:
            log.warning("mode: %s, before: %s", mode, before)
        self.mode = mode
        if self.engine is not None:
            self.engine.set(mode=mode)

    def set_audit(self, share: float) -> None:
        """Let audits spend such a share of the money, until the next refresh."""
        if (engine := self.engine) is not None:
            log.warning("audit: %g, before: %g", share, engine.config.settings.audit)
            engine.set(audit=share)

    def use(self, adapter: EccosAdapter, config: Config) -> None:
        """Serve with this adapter and configuration from now on; calls under way move over."""
        if config.settings.mode != "route":
            adapter.follow()
        with self._changing:
            before = self.adapter
            self._install(adapter, config)
            self._set_mode(config.settings.mode)
        if before is None:
            threading.Thread(target=warm_up, name="eccos-warm-up", daemon=True).start()
        elif before is not adapter:
            before.retire()

    def _install(self, adapter: EccosAdapter, config: Config) -> None:
        """Open or refresh the engine for the adapter's models (under `_changing`)."""
        config, engine = of_adapter(config, adapter), self.engine
        if engine is None:
            engine = self._open_engine(config)
            self.ends_at = math.inf
        else:
            refresh(engine, config)
        with self._lock:
            self.engine, self.adapter, self.config = engine, adapter, config

    def serve(self, syscall: Syscall) -> None:
        """Take a call from the kernel's queue. It is settled here or later, exactly once."""
        adapter = self.adapter
        if adapter is not None and ollama_names(syscall.query, adapter.available_llm_names):
            # Asking Ollama what it has can take seconds; calls behind this one must not wait.
            threading.Thread(target=self._discover, args=(syscall,), daemon=True).start()
        else:
            self._submit(syscall)

    def _discover(self, syscall: Syscall) -> None:
        """Let AIOS register Ollama models that it does not know yet, then serve the call."""
        try:
            asked = None
            # A refresh in the meantime puts another adapter in force, which knows none of them.
            while (adapter := self.adapter) is not asked and adapter is not None:
                names = ollama_names(syscall.query, adapter.available_llm_names)
                found = [name for name in names if adapter._dynamic_register_ollama_model(name)]
                with self._changing:
                    config, ended = self.config, self.engine is None
                    if found and config is not None and not ended and self.adapter is adapter:
                        self._install(adapter, config)
                asked = adapter
            self._submit(syscall)
        except Exception as error:  # noqa: BLE001 - AIOS's code; the call must end all the same
            log.error("Ollama's models could not be looked up: %s", raised(error))
            self.refuse(syscall, fault_of(error))

    def _submit(self, syscall: Syscall) -> None:
        adapter, engine = self.adapter, self.engine
        if adapter is None or engine is None:
            self.refuse(syscall, ENDING)
            return
        caller: Caller = getattr(syscall, "eccos_caller", None) or Caller()
        try:
            query = read_query(syscall.agent_name, syscall.query, adapter.available_llm_names)
            # What an agent puts around its question says nothing of this one.
            query = self.templates.narrowed(query)
            query = engine.config.settings.tightened(query)
            messages, models = syscall.query.messages, engine.router.models
            session = session_of(query, messages, self.sessions, models, engine.workload)
            query = replace(query, session=session)
        except Refused as refused:
            settle(syscall, adapter.refusal(str(refused), refused.status_code))
            return
        if not caller.waits_for(query.id):
            self.refuse(syscall, GONE)
            return
        asked = query
        if self._observes(query, messages, engine):
            own, canary = partial(adapter.own_choice, syscall.query), self.mode == "canary"
            query = observed(query, own, engine, stays=canary)
        ticket = Ticket(syscall, query, caller, asked)
        with self._lock:
            self._in_flight[query.id] = ticket
        future = engine.dispatcher.submit(
            query,
            lambda model, left: self._run(ticket, model, left),
            lambda: repeat_of(syscall.query, partial(self._ask, query=query)),
        )
        future.add_done_callback(lambda done: self._done(ticket, done))
        if caller.gone:  # since it was asked whether it waits
            engine.dispatcher.drop(query.id)

    def _observes(self, query: Query, messages: Sequence[Any], engine: Engine) -> bool:
        """Whether AIOS's own choice serves the call."""
        if self.mode == "canary":
            return not engine.canary.routes(lot_of(query.agent, messages))
        return self.mode == "observe"

    def leave(self, caller: Caller) -> None:
        """A client has gone: drop its calls that wait; those that run are let run."""
        engine = self.engine
        for query_id in caller.leave():
            if engine is not None:
                engine.dispatcher.drop(query_id)

    def refuse(self, syscall: Syscall, failure: Failure) -> None:
        if self.adapter is not None:
            settle(syscall, self.adapter.error_response(failure))

    def close(self, grace_s: float = GRACE_S) -> None:
        """End: waiting calls get an error at once, calls in flight after `grace_s`; idempotent.

        Whoever comes second waits for the first: the process ends after that, with all its threads.
        """
        with self._ending:
            with self._changing, self._lock:
                engine, self.engine = self.engine, None
            if engine is None:
                return
            self.ends_at = time.monotonic() + grace_s
            engine.dispatcher.stop()
            while self._in_flight and time.monotonic() < self.ends_at:
                time.sleep(0.02)
            with self._lock:
                left = list(self._in_flight.values())
                self._in_flight.clear()
            for ticket in left:
                self.refuse(ticket.syscall, ENDING)
            engine.close()

    def _run(self, ticket: Ticket, model: str, seconds_left: float) -> Answer:
        """One request, through the adapter in force when it starts, not when it was queued."""
        if ticket.syscall.get_start_time() is None:
            ticket.syscall.set_start_time(time.time())
            ticket.syscall.set_status("executing")
        return self._ask(model, ticket.syscall, seconds_left, query=ticket.query)

    def _ask(self, model: str, syscall: Syscall, seconds_left: float, *, query: Query) -> Answer:
        """The one way to a model: for calls, their retries, audits' copies and the judge.

        Whether they are private is asked here again: a refresh may have made their agent so.
        """
        retired = None
        while (adapter := self.adapter) is not retired and adapter is not None:
            private = adapter.eccos_config.settings.tightened(query).private
            if private and not adapter.is_local(model):
                return Answer(failure=OUTSIDE)
            answer = adapter.ask(model, syscall, seconds_left)
            if answer is not None:
                return answer
            retired = adapter
        return Answer(failure=ENDING)

    def _done(self, ticket: Ticket, future: Future[CallResult]) -> None:
        """Settle the kernel's call, so that the agent has its answer; then tell all others."""
        with self._lock:
            mine = self._in_flight.pop(ticket.query.id, None) is not None
        settled = None if future.cancelled() else future.result()
        if settled is not None:
            self._remember(ticket, settled)
        adapter = self.adapter
        if mine and adapter is not None:
            settle(ticket.syscall, _response(adapter, settled))
        ticket.caller.waiting.discard(ticket.query.id)
        if settled is not None:
            self._record(ticket, settled)

    def _remember(self, ticket: Ticket, settled: CallResult) -> None:
        """Note how the conversation stands, for other kernels too.

        First: its next turn may come, to any kernel, as soon as this one is answered.
        """
        try:
            known, engine = known_after(settled), self.engine
            if known is not None and engine is not None:
                self.sessions.remember(ticket.turn, known)
                self.sessions.share(ticket.turn, known, engine.workload)
        except Exception as error:  # noqa: BLE001 - the agent must have its answer
            log.error("a conversation could not be noted: %s", raised(error))

    def _record(self, ticket: Ticket, settled: CallResult) -> None:
        with self._lock:
            self.settled += 1
            self.failed += settled.answer.failure is not None
        self.last.append(summary(settled))
        engine = self.engine
        try:
            if ticket.query.observed and engine is not None:
                self.observed.compare(engine.router, ticket, settled)
        except Exception as error:  # noqa: BLE001 - the agent has its answer
            log.error("a settled call could not be recorded: %s", raised(error))


def _response(adapter: EccosAdapter, settled: CallResult | None) -> Any:
    answer = settled.answer if settled is not None else Answer(failure=GONE)
    if answer.value is not None:
        return answer.value
    failure = answer.failure or Failure("no answer", 500)
    return adapter.error_response(failure, settled.model if settled is not None else None)
