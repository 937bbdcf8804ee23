"""An engine that keeps what it decides: `Engine` with a `Recorder` in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from aios_eccos.floor.steer import steer_judged
from aios_eccos.locate import Config
from aios_eccos.observe.observer_store import ObserverStore
from aios_eccos.observe.trace import Trace
from aios_eccos.serve.engine import Engine
from aios_eccos.serve.recorder import Recorder
from aios_eccos.values import Model
from aios_eccos.workload.connect import open_workload


class ObservedEngine(Engine):
    """See `Engine`; decisions, sums, events and live records are kept as calls settle."""

    def __init__(self, config: Config, *, models: Sequence[Model] | None = None) -> None:
        self.recorder = Recorder()
        super().__init__(config, models=models, on_settled=self.recorder)
        settings, state_dir = config.settings, config.location.state_dir
        #: Sums, decisions and events: what observers read and write.
        self.ledger = ObserverStore(
            self.workload,
            None
            if settings.redis == "memory"
            else lambda: open_workload(
                settings.redis, state_dir=state_dir, namespace=settings.namespace, member=False
            ),
        )

    def start(self) -> None:
        """Serve and record calls; open the history in the background."""
        self.recorder.start(self)
        super().start()

    def close(self) -> None:
        """Keep what is still queued, then end as `Engine` does."""
        self.dispatcher.stop()
        self.recorder.close()
        self.ledger.close()
        super().close()

    def on_verdict(self, trace: Trace, correctness: float) -> None:
        """Take a call's first verdict (0..1) into account for the floor's price."""
        steer_judged(trace, correctness, self.router, self.workload)

    def set_mode(self, mode: str) -> None:
        """Note the mode that the kernel serves in, until the next `use`."""
        settings = self.config.settings.model_copy(update={"mode": mode})
        self.config = replace(self.config, settings=settings)
