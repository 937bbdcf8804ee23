"""Where look-ups get their answers: a living kernel's HTTP side, else Redis directly."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from pydantic import BaseModel, ValidationError

from aios_eccos.errors import KernelError, WorkloadError
from aios_eccos.kernel import client
from aios_eccos.locate import Config
from aios_eccos.observe.opened import located, workload_of

if TYPE_CHECKING:
    from aios_eccos.observe.reader import Reader
    from aios_eccos.values import Model

View = TypeVar("View", bound=BaseModel)


class Asker(contextlib.ExitStack):
    """Looks things up for one command, given its options; closes what it opened."""

    def __init__(self, config: Path | None, aios_home: Path | None) -> None:
        super().__init__()
        self.config: Config = located(config, aios_home)
        self._reader: Reader | None = None
        self._told = False

    def get(self, path: str, view: type[View], direct: Callable[[Reader], View]) -> View:
        """The kernel's answer to GET `path`; where none answers, what Redis says, or an error."""
        found = self.kernel(path, view)
        return direct(self.reader()) if found is None else found

    def kernel(self, path: str, view: type[View], body: object = None) -> View | None:
        """The kernel's answer; None where no kernel with the plugin answers, or it refuses."""
        try:
            raw = client.ask(self.config, path, body)
            return None if raw is None else view.model_validate(raw)
        except KernelError as error:
            reason = str(error)
        except ValidationError:
            url = client.url_of(self.config)
            reason = f"what answers at {url} is no kernel of this version: look at server.port"
        if not self._told:
            self._told = True
            sys.stderr.write(f"aios-eccos: {reason}; answering without it\n")
        return None

    def reader(self) -> Reader:
        """Reads Redis past the kernel; `WorkloadError` where it cannot."""
        from aios_eccos.observe.reader import Reader
        from aios_eccos.observe.summary import Scope

        if self.config.settings.redis == "memory":
            raise WorkloadError(
                "no kernel answers, and with `redis: memory` only the kernel itself could tell"
            )
        if self._reader is None:
            workload = self.enter_context(workload_of(self.config))
            scope = Scope(self.config.settings, tuple(_models(self.config)))
            self._reader = Reader(workload, lambda: scope, prices=workload)
        return self._reader


def _models(config: Config) -> Iterator[Model]:
    """The configured pool; LiteLLM's table is read only where a price is missing."""
    models = [(entry.model(), entry.backend) for entry in config.entries]
    if all(model.price_state != "unknown" for model, _ in models):
        return (model for model, _ in models)
    from aios_eccos.forecast.pricing import with_facts

    return (with_facts(model, backend) for model, backend in models)


def show(view: View, as_json: bool, render: Callable[[View], str]) -> None:
    """Print the view, as JSON or as text."""
    text = view.model_dump_json(by_alias=True, indent=2) if as_json else render(view)
    sys.stdout.write(text + "\n")
