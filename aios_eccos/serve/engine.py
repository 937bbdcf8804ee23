"""Everything that lives as long as a kernel: stores, embedder, router, dispatcher.

`Engine` opens them in the order of the data path and closes them in reverse. What is slow to open
(Chroma, torch) is opened in the background; until then calls are routed on priors.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Sequence

from aios_eccos import files
from aios_eccos.errors import ArtifactError, EccosError, raised
from aios_eccos.floor.certify import Refusal, write_papers
from aios_eccos.floor.learn import head_path, learn_from
from aios_eccos.floor.learned import Learned
from aios_eccos.floor.worth import certificate_words, certificates, success_worth, unreachable
from aios_eccos.forecast.head.refit import Asked
from aios_eccos.forecast.head.upkeep import HeadUpkeep
from aios_eccos.forecast.pricing import price_table, with_facts
from aios_eccos.history.embed.embedding import BackgroundEmbedder
from aios_eccos.history.ingest import drain_inbox
from aios_eccos.history.open import open_embedder, open_history
from aios_eccos.history.store import HistoryStore
from aios_eccos.locate import Config
from aios_eccos.serve.dispatch import Dispatcher
from aios_eccos.serve.router import Router
from aios_eccos.values import CallResult, Model, Query
from aios_eccos.workload.connect import open_workload

log = logging.getLogger("aios_eccos.serve.engine")

#: Below the state folder: the certificates of the configured floors.
CERTIFICATES = "certificates.json"
#: Seconds between two looks at the inbox and at the history's growth.
UPKEEP_S = 5.0
#: The history is learnt from anew when it has changed and this many seconds have passed.
RELEARN_S = 60.0


class Engine:
    """Opens what the configuration names. Use as a context manager.

    Args:
        config: settings and models.
        models: instead of those of the configuration (demo, tests).
        on_settled: called once per call that is over.

    Raises:
        ConfigError, WorkloadError: the configuration names a store that cannot be used.
    """

    def __init__(
        self,
        config: Config,
        *,
        models: Sequence[Model] | None = None,
        on_settled: Callable[[CallResult], None] | None = None,
    ) -> None:
        settings, state_dir = config.settings, files.private_dir(config.location.state_dir)
        self.config = config
        pool = models if models is not None else configured_models(config)
        self.prices = price_table(pool)
        self.workload = open_workload(
            settings.redis,
            state_dir=state_dir,
            namespace=settings.namespace,
            required=False,
            lease_ttl_s=settings.lease_ttl_s,
            heartbeat_s=settings.lease_ttl_s / 3,
        )
        self.router = Router(pool, settings, self.prices, self.workload)
        self.dispatcher = Dispatcher(
            self.router,
            window_s=settings.window_ms / 1000,
            max_batch=settings.max_batch,
            max_workers=settings.max_workers,
            call_timeout_s=settings.call_timeout_s,
            on_settled=on_settled,
        )
        self.history: HistoryStore | None = None
        self.embedder: BackgroundEmbedder | None = None
        self._faults: dict[str, EccosError] = {}
        self._closing = threading.Event()
        self._ready = threading.Event()
        self._stale = threading.Event()
        self._upkeep: threading.Thread | None = None
        self._warned: set[str] = set()
        self._head = HeadUpkeep(head_path(state_dir))
        #: Where floors are certified, a sentence about each.
        self.certificates: list[str] = []

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
        """Serve calls; open the history in the background."""
        self.dispatcher.start()
        self._upkeep = threading.Thread(target=self._keep_up, name="eccos-upkeep", daemon=True)
        self._upkeep.start()

    def use(self, config: Config, models: Sequence[Model] | None = None) -> None:
        """Swap settings, models, limits and prices; stores, history and calls under way stay."""
        settings = config.settings
        pool = models if models is not None else configured_models(config)
        self.config = config
        self.prices = price_table(pool)
        before = self.router
        self.router = Router(pool, settings, self.prices, self.workload, before.learned)
        self.router.controlled, self.router.alarmed = before.controlled, before.alarmed
        self.router.explores = before.explores
        self.dispatcher.use(
            self.router,
            window_s=settings.window_ms / 1000,
            max_batch=settings.max_batch,
            max_workers=settings.max_workers,
            call_timeout_s=settings.call_timeout_s,
        )
        self._stale.set()

    def wait_ready(self, timeout_s: float | None = None) -> bool:
        """Wait until the history has been opened and learnt from, or that has failed."""
        return self._ready.wait(timeout_s)

    def close(self) -> None:
        """End the threads and stores; calls in flight settle when their answers come."""
        self._closing.set()
        self.dispatcher.stop()
        if self._upkeep is not None:
            self._upkeep.join(timeout=30)
        self._head.close()
        if self.history is not None:
            self.history.close()
        self.workload.close()

    def learn(self) -> None:
        """Learn from the history as it is now.

        Raises:
            HistoryError: it cannot be read.
        """
        if self.history is None:
            return
        settings = self.config.settings
        head = head_path(self.config.location.state_dir)
        models = self.router.models
        learned = learn_from(self.history, self.embedder, settings, self.prices, head, models)
        self._prepare(learned)
        warnings = unreachable(learned.book, settings) if learned.book is not None else []
        warnings += self._certify(learned)
        for warning in sorted(set(warnings) - self._warned):
            log.warning("%s", warning)
        self._warned = set(warnings)

    def _prepare(self, learned: Learned) -> None:
        """Make the prices that calls will ask for, so that none waits for them; then put it in."""
        settings, router = self.config.settings, self.router
        pool = frozenset(model.name for model in router.models)
        served = {("", pool): ""}
        for pattern, policy in settings.agents.items():
            served[pattern, pool & frozenset(policy.models or pool)] = pattern
        before = dict(router.learned.served)
        for (pattern, names), agent in (served | before).items():
            if pattern in {"", *settings.agents} and names <= pool:
                learned.served[pattern, names] = agent
                success_worth(
                    Query("", agent=agent), sorted(names), math.inf, learned.book, settings, {},
                    learned.certifier,
                )  # fmt: skip
        router.learned = learned

    def _certify(self, learned: Learned) -> list[str]:
        """Keep the certificates of the configured floors; returns a sentence for each refused.

        Raises:
            ArtifactError: they cannot be written.
        """
        path = self.config.location.state_dir / CERTIFICATES
        certifier, book = learned.certifier, learned.book
        if certifier is None or book is None:
            self.certificates = []
            path.unlink(missing_ok=True)
            return []
        papers = certificates(certifier, book, self.config.settings)
        self.certificates = [certificate_words(key, paper) for key, paper in papers.items()]
        write_papers(path, papers)
        refused = (isinstance(paper, Refusal) for paper in papers.values())
        return [text for text, no in zip(self.certificates, refused, strict=True) if no]

    def take_inbox(self) -> None:
        """Add what other processes handed over; only the owner of an embedded history may."""
        if self.history is None or self.embedder is None:
            return
        if self.config.settings.history == "embedded":
            drain_inbox(self.workload, self.history, self.embedder)

    @property
    def history_error(self) -> EccosError | None:
        """What keeps the history from being opened, filled or learnt from, if anything does."""
        return next(iter([*self._faults.values()]), None)

    # The upkeep thread.

    def _keep_up(self) -> None:
        learnt, at = None, time.monotonic()
        again, pause = at, UPKEEP_S
        while True:
            if self.history is None:
                # Another process may hold it for a moment, or the server comes back.
                self._tend(self._open_history)
            if self.history is not None:
                self._tend(self.take_inbox)
                version = self.history.version
                grown = version != learnt and time.monotonic() - at > RELEARN_S
                due = learnt is None or grown or self._stale.is_set()
                if due and time.monotonic() >= again:
                    self._stale.clear()
                    at = time.monotonic()
                    learnt = version if self._tend(self.learn) else None
                    # Studying is dear: what fails is tried again ever later.
                    pause = UPKEEP_S if learnt is not None else min(2 * pause, RELEARN_S)
                    again = at + pause if learnt is None else at
            self._ready.set()
            if self.history is not None:
                self._tend(self._tend_head)
            if self._closing.wait(UPKEEP_S):
                return

    def _tend_head(self) -> None:
        history, settings = self.history, self.config.settings
        if history is None or settings.history != "embedded" or settings.predictor == "retrieval":
            return
        strengths = {m.name: m.strength for m in self.router.models if m.strength is not None}
        certified = settings.floor_mode == "certified"
        asked = Asked(settings.embedder, certified, strengths)
        try:
            if self._head.tend(history, asked):
                self.learn()
        except ArtifactError as error:
            log.warning("the head is not fitted anew: %s", error)

    def _tend(self, work: Callable[[], None]) -> bool:
        """Do a piece of upkeep; what goes wrong is said once, and calls go on. Whether it went."""
        part = work.__name__
        try:
            work()
        except EccosError as error:
            if str(error) != str(self._faults.get(part)):
                log.warning("calls are routed with what is known: %s", error)
            self._faults[part] = error
        except Exception as error:  # noqa: BLE001 - the thread must outlive any fault
            log.error("upkeep failed: %s", raised(error))
        else:
            self._faults.pop(part, None)
            return True
        return False

    def _open_history(self) -> None:
        settings, state_dir = self.config.settings, self.config.location.state_dir
        embedder = open_embedder(settings.embedder)
        self.history = open_history(
            settings.history,
            state_dir,
            embedder,
            store_text=settings.store_text or None,
            max_records=settings.max_records,
            max_age_days=settings.max_age_days,
        )
        self.embedder = BackgroundEmbedder(lambda: embedder)


def configured_models(config: Config) -> list[Model]:
    """The configured pool, completed from LiteLLM's packaged table where the config is silent."""
    return [with_facts(entry.model(), entry.backend) for entry in config.entries]
