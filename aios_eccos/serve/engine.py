"""Everything that lives as long as a kernel: stores, floors, router, dispatcher, recorder.

What is slow to open (Chroma, torch) is opened in the background; until then priors route.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace

from aios_eccos.config import Settings
from aios_eccos.floor.certify import Refusal, write_papers
from aios_eccos.floor.configured import certificate_words, certificates, keepable, unreachable
from aios_eccos.floor.course import Turn
from aios_eccos.floor.earn import Earning
from aios_eccos.floor.floors import Floors
from aios_eccos.floor.learn import AuditFacts, head_path, learn_from
from aios_eccos.floor.learned import Learned
from aios_eccos.forecast.pricing import configured_models
from aios_eccos.history.embed.embedding import BackgroundEmbedder
from aios_eccos.history.history import History
from aios_eccos.locate import Config
from aios_eccos.observe.trace import Trace
from aios_eccos.serve.auditor import Auditor
from aios_eccos.serve.canary import Canary
from aios_eccos.serve.comparing import judge_error
from aios_eccos.serve.dispatch import Dispatcher
from aios_eccos.serve.events import NotesEvents, note_alarms, note_turns
from aios_eccos.serve.observers import KeepsDecisions, KeepsSums, TeachesHistory
from aios_eccos.serve.recorder import Recorder
from aios_eccos.serve.router import Router
from aios_eccos.serve.shared_servers import SharedServers
from aios_eccos.serve.spans import spans
from aios_eccos.serve.spare import SpareRequests
from aios_eccos.serve.stores import open_stores_of
from aios_eccos.serve.tracing import trace_of
from aios_eccos.serve.upkeep import OpenStores, Upkeep, open_stores
from aios_eccos.values import CallResult, Model, Said, dollars_known
from aios_eccos.verdicts.keys import AnswerKeys
from aios_eccos.verdicts.people import checked, keep_checked
from aios_eccos.verdicts.taken import hand_over, take_verdict

log = logging.getLogger("aios_eccos.serve.engine")

#: Below the state folder: the certificates of the configured floors.
CERTIFICATES = "certificates.json"
#: Longest wait for the record of a call that has just been served, seconds.
FLUSH_S = 3.0


class Engine:
    """Opens what the configuration names. Use as a context manager.

    Args:
        config: settings and models.
        models: instead of those of the configuration (demo, tests).
        stores: opens history and embedder, instead of those of the configuration.
        said: the text and the tool calls in an answer's value; None: answers have no keys.

    Attributes:
        workload: leases, prices, inbox; ledger: decisions, sums, events, for observers.
        floors: what a success is worth; earning: how far policies may be routed by that.
        upkeep: what is done for the history.
        teaches: puts calls into the history, and counts those that did not reach it.
        canary: which conversations are routed in mode `canary`.
        shared: servers that others use, too, and Ollama's models.
        auditor: asks other models what settled calls asked, where the settings want that.
        certificates: where floors are certified, a sentence about each.
        lacks: what it has to do without since its start, for the operator.

    Raises:
        ConfigError, WorkloadError: the configuration names a store that cannot be used.
    """

    def __init__(
        self,
        config: Config,
        *,
        models: Sequence[Model] | None = None,
        stores: OpenStores = open_stores,
        said: Said | None = None,
    ) -> None:
        pool = models if models is not None else configured_models(config)
        settings = keepable(config.settings, pool)
        self.config = config
        self.workload, self.ledger = open_stores_of(config.location.state_dir, settings)
        # Calls read it: they wait for Redis no longer than the kernel's own store does.
        self.earning = Earning(self.workload)
        self.floors = Floors(settings, self.workload, self.ledger)
        self.shared = SharedServers(self.workload, lambda: self.router.models)
        self.router = self._router(pool, settings, None)
        self._earn(settings)
        keys = AnswerKeys(config.location.state_dir, said, lambda: self.router.settings)
        self.teaches = TeachesHistory(lambda: (self.history, self.embedder), keys.of)
        events = NotesEvents(self.ledger, self.floors.look, lambda: self.router)
        self.canary = Canary(self.ledger, self.floors.look, lambda: self.config.settings)
        self.auditor = self._auditor(keys)
        decisions, sums = KeepsDecisions(self.ledger), KeepsSums(self.ledger)
        self._spans = spans(settings.otel, lambda: {e.name: e.backend for e in self.config.entries})
        observers = (
            *(decisions.take, sums.take, self.teaches.take),
            *(events.take, self.auditor.settled, self.canary.take),
            *([self._spans.take] if self._spans is not None else []),
        )
        looks = (events.look, self.canary.look)
        later = sums, self.teaches
        self.recorder = Recorder(self._trace, self.floors.settled, observers, later, looks)
        self.dispatcher = Dispatcher(self.router, settings, on_settled=self._settled)
        self.dispatcher.attempts.refusals.use(pool)
        self.upkeep = Upkeep(
            lambda: self.config,
            lambda: self.router.models,
            self.workload,
            self.learn,
            lambda: self.dispatcher.share(self.ledger),
            stores,
        )
        self._warned: set[str] = set()
        self.certificates: list[str] = []
        self.lacks: list[str] = []

    def _router(self, pool: Sequence[Model], settings: Settings, before: Router | None) -> Router:
        learned, lengths = (before.learned, before.limits.lengths) if before else (None, None)
        options = learned, self.floors, lengths, self.shared.others, self.shared.loading.tokens
        return Router(pool, settings, self.workload, *options)

    def _auditor(self, keys: AnswerKeys) -> Auditor:
        requests = SpareRequests(
            self.workload, lambda: self.router, lambda: self.dispatcher.held_up()
        )
        return Auditor(
            requests,
            self.ledger,
            self.earning,
            lambda: self.dispatcher.attempts.refusals,
            self.teaches.put,
            self._turned,
            keys.of_form,
        )

    def __enter__(self) -> Engine:
        try:
            self.start()
        except BaseException:  # a signal, perhaps: what has been started must end all the same
            self.close()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def start(self) -> None:
        """Serve and record calls; open the history in the background."""
        self.canary.look()
        self.shared.use(self.config.entries)
        self.recorder.start()
        self.dispatcher.start()
        self.upkeep.start()

    def use(self, config: Config, models: Sequence[Model] | None = None) -> None:
        """Swap settings, models, limits and prices; stores, history and calls under way stay."""
        pool = models if models is not None else configured_models(config)
        settings = keepable(config.settings, pool)
        self.config = config
        self.floors.use(settings)
        self.router = self._router(pool, settings, self.router)
        self.shared.use(config.entries)
        self._earn(settings)
        self.dispatcher.attempts.refusals.use(pool)
        self.workload.acquire([], {m.slot: m.limit for m in pool}, self.router.limits.rates)
        self.dispatcher.use(self.router, settings)
        self.upkeep.renew()
        self.canary.look()

    def set(self, **settings: object) -> None:
        """Go by other settings of a kind that nothing is opened for, until the next `use`."""
        self.router.settings = self.router.settings.model_copy(update=settings)
        changed = self.config.settings.model_copy(update=settings)
        self.config = replace(self.config, settings=changed)
        self.floors.use(self.router.settings)
        self._earn(self.router.settings)

    def _earn(self, settings: Settings) -> None:
        """Let policies earn that they are routed, where audits can show it."""
        can = settings.audit and settings.earn and dollars_known(self.router.models)
        self.floors.earning = self.earning if can else None

    def wait_ready(self, timeout_s: float | None = None) -> bool:
        """Wait until the history has been opened and learned from, or that has failed."""
        return self.upkeep.wait_ready(timeout_s)

    def close(self) -> None:
        """Keep what is still queued, end the threads and stores; calls in flight settle later."""
        self.auditor.close()
        self.shared.close()
        self.dispatcher.stop()
        self.recorder.close()
        if self._spans is not None:
            self._spans.close()
        self.upkeep.close()
        self.ledger.close()
        self.workload.close()

    @property
    def history(self) -> History | None:
        """None until it is open."""
        return self.upkeep.history

    @property
    def embedder(self) -> BackgroundEmbedder | None:
        """None until the history is open."""
        return self.upkeep.embedder

    def learn(self) -> None:
        """Learn from the history as it is now.

        Raises:
            HistoryError: it cannot be read.
        """
        if self.history is None:
            return
        settings, models = self.router.settings, self.router.models
        head = head_path(self.config.location.state_dir)
        audits = self._audits(settings)
        learned = learn_from(self.history, self.embedder, settings, models, head, audits)
        self.floors.prepare(learned, [model.name for model in models])
        self.router.learned = learned
        if audits is not None:
            keep_checked(self.ledger, checked(self.history.audited()))
        warnings = unreachable(learned.book, settings) if learned.book is not None else []
        warnings += self._certify(learned)
        for warning in sorted(set(warnings) - self._warned):
            log.warning("%s", warning)
        self._warned = set(warnings)

    def _audits(self, settings: Settings) -> AuditFacts | None:
        """What is known of audits beside their records; None where nothing is earned by them."""
        if self.floors.earning is None:
            return None
        error = judge_error(self.ledger) if settings.judge is not None else 0.0
        return AuditFacts(self.earning.forgotten(["", *settings.agents]), error)

    def _certify(self, learned: Learned) -> list[str]:
        """Keep the certificates of the configured floors; returns a sentence for each refused."""
        path = self.config.location.state_dir / CERTIFICATES
        certifier, book = learned.certifier, learned.book
        if certifier is None or book is None:
            self.certificates = []
            path.unlink(missing_ok=True)
            return []
        papers = certificates(certifier, book, self.router.settings)
        self.certificates = [certificate_words(key, paper) for key, paper in papers.items()]
        write_papers(path, papers)
        refused = (isinstance(paper, Refusal) for paper in papers.values())
        return [text for text, no in zip(self.certificates, refused, strict=True) if no]

    # Verdicts, and what is kept.

    def judge(self, trace: Trace, correctness: float) -> tuple[float | None, bool]:
        """Take a verdict (0..1) on a kept decision's answer.

        Returns:
            The verdict that it replaces, and whether the history has learned it already.

        Raises:
            HistoryError, WorkloadError: it cannot be stored.
        """
        before, alarms = take_verdict(self.ledger, self.floors, trace, correctness)
        note_alarms(self.ledger, alarms)
        learnt = [self._teach(trace.call, model, correctness) for model in trace.answered_by]
        return before, all(learnt)

    def _teach(self, call: str, model: str, correctness: float) -> bool:
        """Store a verdict in the history; False: it was handed over, or its call is unknown."""
        history, embedded = self.history, self.config.settings.history == "embedded"
        if history is not None and history.judge(call, model, correctness):
            return True
        if not embedded and history is not None and self.recorder.flush(FLUSH_S):
            # Nobody empties the inbox of a history that is a server: its record was on its way.
            return history.judge(call, model, correctness)
        if embedded:
            hand_over(self.workload, call, model, correctness)
        return False

    def _settled(self, result: CallResult) -> None:
        """Let a settled call be recorded and audited; its messages are for the audit alone."""
        self.recorder(result if result.repeat is None else replace(result, repeat=None))
        self.shared.loading.note(result)
        self.auditor.offer(result)  # last, as it asks the caller for the messages

    def _turned(self, policy: str, turns: Sequence[Turn]) -> None:
        """A policy stands elsewhere now: keep that as an event, and learn anew what it goes by."""
        note_turns(self.ledger, policy, turns)
        self.upkeep.renew()

    def _trace(self, result: CallResult) -> Callable[[], Trace]:
        """What is kept of a call that settles now; made later, under what is in force now."""
        prices, settings, models = self.router.prices, self.config.settings, self.router.models
        return lambda: trace_of(result, prices, settings, models)
