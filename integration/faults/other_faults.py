"""Faults of model servers, of a kernel's configuration, and of its clock."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from integration.faults.ground import FAULT_S, Ground
from integration.faults.servers import step_clock
from integration.kernel import HttpStatus, Kernel

#: What every request to the busy model gets, by what that is called.
ENDPOINT: Mapping[str, tuple[str, str]] = {
    "hangs": ("a model server hangs", "hang"),
    "429": ("a model server answers 429", "status 429"),
    "500": ("a model server answers 500", "status 500"),
    "garbage": ("a model server answers garbage", "raw 200 \x00<html>%\ud7ff"),
    "half": ("a model server closes mid-body", "half"),
}
MODEL = "large"
HOUR_S = 3600
#: Texts that are no configuration, by what is wrong with each.
NONSENSE: Mapping[str, Callable[[str], str]] = {
    "no YAML": lambda text: text + "\n]: [",
    "no mapping": lambda text: "- 1\n- 2\n",
    "empty": lambda text: "",
    "an unknown key": lambda text: text.replace("eccos:", "eccos:\n      quality_flor: 1"),
    "a floor of 3": lambda text: text.replace("eccos:", "eccos:\n      quality_floor: 3"),
    "no models": lambda text: text.replace("models:", "modles:"),
}


def model_faults(ground: Ground) -> dict[str, Callable[[], object]]:
    """The busy model's server fails; calls go on with the other."""
    stubs = ground.stubs

    def given(fault: str) -> Callable[[], object]:
        name, directive = ENDPOINT[fault]
        return lambda: ground.fault(
            name,
            lambda: stubs.faults(MODEL, {directive: 1.0}),
            lambda: stubs.faults(MODEL, {}),
        )

    return {
        "refuses": lambda: ground.fault(
            "a model server refuses connections",
            lambda: stubs.control(MODEL, "/refuse", {"seconds": FAULT_S}),
        ),
        **{f"model-{fault}": given(fault) for fault in ENDPOINT},
    }


def config_fault(ground: Ground) -> None:
    """Nonsense in the configuration file, and a refresh of each: all are refused with a reason."""
    before = {kernel: _file(kernel).read_text() for kernel in ground.kernels}
    taken: list[str] = []

    def edit() -> None:
        for kernel, text in before.items():
            for name, nonsense in NONSENSE.items():
                _file(kernel).write_text(nonsense(text))
                said = _refreshed(kernel)
                print(f"     {name}: {said}", file=sys.stderr)
                if said == "taken":
                    taken.append(name)

    def mend() -> None:
        for kernel, text in before.items():
            _file(kernel).write_text(text)
            if _refreshed(kernel) != "taken":
                taken.append("the right one is refused")

    ground.fault("configuration edited to nonsense, and refreshed", edit, mend)
    ground.note(
        f"taken: {', '.join(taken)}" if taken else f"{len(NONSENSE)} kinds of nonsense refused"
    )


def _file(kernel: Kernel) -> Path:
    return kernel.home / "aios/config/config.yaml"


def _refreshed(kernel: Kernel) -> str:
    try:
        kernel.post("/core/refresh")
    except HttpStatus as error:
        return f"{error.code} {error.text[:120]}"
    return "taken"


def clock_faults(ground: Ground, clock: Path) -> dict[str, Callable[[], object]]:
    """The kernel's clock steps, and that of its Redis does not."""
    return {
        "clock": lambda: ground.fault(
            "the kernel's clock stepped an hour ahead, then back",
            lambda: step_clock(clock, HOUR_S),
            lambda: step_clock(clock, 0),
        )
    }
