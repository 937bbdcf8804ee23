"""An engine that keeps what it decides: `Engine` with a `Recorder` in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from aios_eccos.engine import Engine
from aios_eccos.locate import Config
from aios_eccos.values import Model

from .recorder import Recorder


class ObservedEngine(Engine):
    """See `Engine`; decisions, sums, events and live records are kept as calls settle."""

    def __init__(self, config: Config, *, models: Sequence[Model] | None = None) -> None:
        self.recorder = Recorder()
        super().__init__(config, models=models, on_settled=self.recorder)

    def start(self) -> None:
        """Serve and record calls; open the history in the background."""
        self.recorder.start(self)
        super().start()

    def close(self) -> None:
        """Keep what is still queued, then end as `Engine` does."""
        self.dispatcher.stop()
        self.recorder.close()
        super().close()

    def set_mode(self, mode: str) -> None:
        """Note the mode that the kernel serves in, until the next `use`."""
        settings = self.config.settings.model_copy(update={"mode": mode})
        self.config = replace(self.config, settings=settings)
