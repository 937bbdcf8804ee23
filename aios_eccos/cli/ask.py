"""Where look-ups get their answers: a living kernel's HTTP side, else Redis directly."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from pydantic import BaseModel, ValidationError

from aios_eccos.errors import EccosError, KernelError, WorkloadError
from aios_eccos.kernel import client
from aios_eccos.locate import Config, load_config, locate

if TYPE_CHECKING:
    from aios_eccos.observe.reader import Reader
    from aios_eccos.values import Model
    from aios_eccos.workload.store import WorkloadStore

View = TypeVar("View", bound=BaseModel)


class Asker:
    """Looks things up for one command. A context manager: it closes what it opened.

    Args:
        config, aios_home: as given on the command line.
    """

    def __init__(self, config: Path | None, aios_home: Path | None) -> None:
        self.config: Config = load_config(locate(config, aios_home))
        self._workload: WorkloadStore | None = None
        self._reader: Reader | None = None
        self._told = False

    def __enter__(self) -> Asker:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._workload is not None:
            self._workload.close()

    def get(self, path: str, view: type[View], direct: Callable[[Reader], View]) -> View:
        """The kernel's answer to GET `path`; where none answers, what Redis says.

        Raises:
            EccosError: neither can tell.
        """
        found = self.kernel(path, view)
        return direct(self.reader()) if found is None else found

    def kernel(self, path: str, view: type[View], body: object = None) -> View | None:
        """The kernel's answer; None where no kernel with the plugin answers, or it refuses."""
        try:
            if body is None:
                raw = client.get(self.config, path)
            else:
                raw = client.post(self.config, path, body)
            return None if raw is None else view.model_validate(raw)
        except (KernelError, ValidationError) as error:
            if not self._told:
                self._told = True
                reason = str(error).splitlines()[0]
                sys.stderr.write(f"aios-eccos: {reason}; reading Redis instead\n")
            return None

    def reader(self) -> Reader:
        """Reads Redis past the kernel.

        Raises:
            WorkloadError: it cannot be read.
        """
        from aios_eccos.observe.reader import Reader
        from aios_eccos.observe.summary import Scope
        from aios_eccos.workload.connect import open_workload

        settings = self.config.settings
        if settings.redis == "memory":
            raise WorkloadError(
                "no kernel answers, and with `redis: memory` only the kernel itself could tell"
            )
        if self._reader is None:
            self._workload = open_workload(
                settings.redis,
                state_dir=self.config.location.state_dir,
                namespace=settings.namespace,
                member=False,
            )
            scope = Scope(settings, tuple(_models(self.config)))
            self._reader = Reader(self._workload, lambda: scope)
        return self._reader


def _models(config: Config) -> list[Model]:
    """The configured pool; LiteLLM's table is read only for models without a price."""
    models = [entry.model() for entry in config.entries]
    if all(model.price_state != "unknown" for model in models):
        return models
    from aios_eccos.forecast.pricing import with_facts

    backends = [entry.backend for entry in config.entries]
    return [with_facts(model, backend) for model, backend in zip(models, backends, strict=True)]


def show(view: BaseModel, as_json: bool, render: Callable[[], str]) -> None:
    """Print the view, as JSON or as text."""
    text = view.model_dump_json(by_alias=True, indent=2) if as_json else render()
    sys.stdout.write(text + "\n")


def quiet(work: Callable[[], View]) -> View | None:
    """What `work` gives, or None where it cannot."""
    try:
        return work()
    except EccosError:
        return None
