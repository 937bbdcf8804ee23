"""A program that uses the public names; mypy checks it against the installed wheel."""

from aios_eccos import Answer, Dispatcher, Engine, Model, Query, Settings


def served(engine: Engine, text: str) -> str | None:
    """Ask for an answer as a library's user would, and return the model that gave it."""
    future = engine.dispatcher.submit(Query(text), lambda model, seconds: Answer(f"{model}: 42"))
    decision = future.result(timeout=60).decision
    return None if decision is None else decision.model


POOL = (Model("small", input_price=1e-7, output_price=1e-7), Model("large"))
STRICT: Settings = Settings(quality_floor=0.9)  # type: ignore[arg-type]
DISPATCHER: type[Dispatcher] = Dispatcher
