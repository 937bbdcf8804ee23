"""What is done for the history beside calls: opening, filling, learning from it, fitting the head.

One thread does all of it, every few seconds. What goes wrong is said once and tried again; calls go
on with what is known.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from aios_eccos.errors import ArtifactError, EccosError, raised
from aios_eccos.floor.learn import head_path
from aios_eccos.floor.modes import mode_of
from aios_eccos.forecast.head.refit import Asked
from aios_eccos.forecast.head.upkeep import HeadUpkeep
from aios_eccos.history.client import watch
from aios_eccos.history.embed.embedding import BackgroundEmbedder
from aios_eccos.history.history import History
from aios_eccos.history.ingest import drain_inbox
from aios_eccos.history.open import EMBEDDED, FOLDER, open_embedder, open_history
from aios_eccos.locate import Config
from aios_eccos.values import Model
from aios_eccos.workload.store import WorkloadStore

log = logging.getLogger("aios_eccos.serve.upkeep")

#: Seconds between two looks at the inbox and at the history's growth.
UPKEEP_S = 2.0
#: Seconds for which records are taken in (embedding is slow) before what is there is learned from;
#: longer where learning takes long, so that it takes a fifth of the time.
TAKE_S, TAKE_PER_LEARN = 2.0, 4.0
#: What has changed is learned from at once where so large a share of the records is new ...
GROWN = 0.1
#: ... else when so many times the seconds have passed that learning took, at most this many.
PATIENCE, RELEARN_S = 20.0, 60.0

#: Opens the history and the embedder that a configuration names.
OpenStores = Callable[[Config], tuple[History, BackgroundEmbedder]]


def open_stores(config: Config) -> tuple[History, BackgroundEmbedder]:
    """The configured history, and its embedder, which loads in the background.

    Raises:
        HistoryError: it cannot be opened.
    """
    settings = config.settings
    embedder = open_embedder(settings.embedder)
    history = open_history(
        settings.history,
        config.location.state_dir,
        embedder,
        store_text=settings.store_text or None,
        max_records=settings.max_records,
        max_age_days=settings.max_age_days,
    )
    return history, BackgroundEmbedder(lambda: embedder)


class Upkeep:
    """Keeps the history of an engine.

    Args:
        config: the configuration in force; models: the pool in force.
        learn: learns from the history as it is now.
        share: tells other kernels what this one has learned of models and calls, and learns theirs.
        stores: opens history and embedder.

    Attributes:
        history, embedder: None until they are open.
        learning: whether the history holds what has not been learned from yet.
    """

    def __init__(
        self,
        config: Callable[[], Config],
        models: Callable[[], tuple[Model, ...]],
        workload: WorkloadStore,
        learn: Callable[[], None],
        share: Callable[[], None],
        stores: OpenStores,
    ) -> None:
        self.history: History | None = None
        self.embedder: BackgroundEmbedder | None = None
        self._config, self._models = config, models
        self._workload, self._learn, self._stores = workload, learn, stores
        self._share = share
        self._faults: dict[str, EccosError] = {}
        self._closing = threading.Event()
        self._ready = threading.Event()
        self._stale = threading.Event()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        self._head = HeadUpkeep(head_path(config().location.state_dir))
        self._check: Callable[[], None] = lambda: None
        self._learned: tuple[int, int] | None = None  # version, records
        self._learned_at = self._again_at = time.monotonic()
        self._took_s = 0.0
        self._pause_s = UPKEEP_S

    def start(self) -> None:
        """Begin; the history is opened in the background."""
        self._thread = threading.Thread(target=self._loop, name="eccos-upkeep", daemon=True)
        self._thread.start()

    def renew(self) -> None:
        """Learn anew soon: settings, models or prices have changed."""
        self._stale.set()
        self._wake.set()

    def wait_ready(self, timeout_s: float | None = None) -> bool:
        """Wait until the history has been opened and learned from, or that has failed."""
        return self._ready.wait(timeout_s)

    def close(self) -> None:
        """End the thread, then the history and the loading of its embedder."""
        self._closing.set()
        self._wake.set()
        if self.embedder is not None:
            self.embedder.close()  # first: the thread may be embedding for long
        if self._thread is not None:
            self._thread.join(timeout=30)
        self._head.close()
        if self.history is not None:
            self.history.close()
        if self.embedder is not None:
            self.embedder.close()

    @property
    def error(self) -> EccosError | None:
        """What keeps the history from being opened, filled or learned from, if anything does."""
        faults = [*self._faults.items()]
        return next((fault for part, fault in faults if part != "share"), None)

    @property
    def learning(self) -> bool:
        """Whether the history holds what has not been learned from yet."""
        history = self.history
        if history is None:
            return self.error is None
        return self._learned is None or history.version != self._learned[0]

    def take_inbox(self) -> None:
        """Add what other processes handed over; only the owner of an embedded history may.

        What is not taken in within `TAKE_S` seconds (see there) is at a look that follows at once.
        """
        if self.history is None or self.embedder is None:
            return
        if self._config().settings.history == "embedded":
            for_s = max(TAKE_S, TAKE_PER_LEARN * self._took_s)
            until = time.monotonic() + for_s
            drain_inbox(
                self._workload,
                self.history,
                self.embedder,
                go_on=lambda: time.monotonic() < until and not self._closing.is_set(),
            )
            if self._workload.inbox_sizes()[0]:
                self._wake.set()

    # The upkeep thread.

    def _loop(self) -> None:
        while True:
            self._wake.clear()
            self._tend("share", self._share)
            if self.history is None:
                # Another process may hold it for a moment, or the server comes back.
                self._tend("open", self._open)
            if self.history is not None:
                self._tend("files", self._check)
                self._tend("take in", self.take_inbox)
                self._tend("look", self._learn_if_due)
            self._ready.set()
            if self.history is not None:
                self._tend("fit", self._tend_head)
            self._wake.wait(UPKEEP_S)
            if self._closing.is_set():
                return

    def _open(self) -> None:
        config = self._config()
        self.history, self.embedder = self._stores(config)
        if config.settings.history == EMBEDDED:
            self._check = watch(config.location.state_dir / FOLDER / "chroma")

    def _learn_if_due(self) -> None:
        now, history = time.monotonic(), self.history
        if history is None or now < self._again_at:
            return
        if not (self._stale.is_set() or self._due(history, now)):
            return
        version, count = history.version, history.count()
        self._stale.clear()
        if self._tend("learn", self._learn):
            self._learned, self._learned_at = (version, count), time.monotonic()
            self._took_s, self._pause_s = self._learned_at - now, UPKEEP_S
        else:
            # Learning is dear: what fails is tried again ever later.
            self._learned, self._again_at = None, now + self._pause_s
            self._pause_s = min(2 * self._pause_s, RELEARN_S)

    def _due(self, history: History, now: float) -> bool:
        if self._learned is None:
            return True
        version, count = self._learned
        if history.version == version:
            return False
        grown = history.count() - count > GROWN * max(count, 1)
        return grown or now - self._learned_at > min(PATIENCE * self._took_s, RELEARN_S)

    def _tend_head(self) -> None:
        history, settings = self.history, self._config().settings
        if history is None or settings.history != "embedded" or settings.predictor == "retrieval":
            return
        strengths = {m.name: m.strength for m in self._models() if m.strength is not None}
        asked = Asked(settings.embedder, mode_of(settings).calibrates, strengths)
        try:
            if self._head.tend(history, asked):
                self._learn()
        except ArtifactError as error:
            log.warning("the head is not fitted anew: %s", error)

    def _tend(self, part: str, work: Callable[[], None]) -> bool:
        """Do a piece of upkeep; what goes wrong is said once, and calls go on. Whether it went."""
        if self._closing.is_set():
            return False
        try:
            work()
        except EccosError as error:
            if self._closing.is_set():
                return False
            if str(error) != str(self._faults.get(part)):
                log.warning("calls are routed with what is known: %s", error)
            self._faults[part] = error
        except BaseException as error:  # noqa: BLE001 - the thread must outlive any fault
            log.error("upkeep failed: %s", raised(error))
        else:
            self._faults.pop(part, None)
            return True
        return False
