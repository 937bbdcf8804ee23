"""One command at a time switches a checkout on or off."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from aios_eccos import files
from aios_eccos.errors import KernelError
from aios_eccos.locate import state_dir_of

#: In the state folder; held by who switches.
LOCK = "switch.lock"


@contextmanager
def switching(home: Path) -> Iterator[Path]:
    """The checkout's state folder, while no other command switches it: else one could take the hook
    away, which the other relies on."""
    state = files.private_dir(state_dir_of(home))
    with ExitStack() as held:
        try:
            if sys.platform != "win32":
                held.enter_context(files.locked(state / LOCK))
        except TimeoutError as error:
            raise KernelError(f"{error}: it switches {home} on or off; try again") from error
        yield state
