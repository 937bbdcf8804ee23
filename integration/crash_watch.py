"""Counts changes to files below a folder as they happen (inotify), whoever makes them."""

from __future__ import annotations

import ctypes
import os
import select
import struct
from pathlib import Path

#: Kinds of events: a file's content, its coming under a name, its going.
MODIFY, MOVED_TO, CREATE, DELETE = 0x002, 0x080, 0x100, 0x200
#: What describes an event: watch, kind, a number of its own, and the length of the name after it.
EVENT = "iIII"


class Watch:
    """Changes below a folder but for files of these names in it; a context manager."""

    def __init__(self, folder: Path, without: tuple[str, ...]) -> None:
        self._without, self._folders = without, dict[int, Path]()
        self._system = ctypes.CDLL(None, use_errno=True)
        self._handle = self._system.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._handle < 0:
            raise OSError(ctypes.get_errno(), "inotify")
        self._top = folder
        self._add(folder)

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *raised: object) -> None:
        os.close(self._handle)

    def seen(self, wait_s: float) -> int:
        """How many changes came within these seconds; returns as soon as one does."""
        if not select.select([self._handle], [], [], wait_s)[0]:
            return 0
        raw, at, count = os.read(self._handle, 1 << 16), 0, 0
        while at < len(raw):
            watch, kind, _, length = struct.unpack_from(EVENT, raw, at)
            at += struct.calcsize(EVENT) + length
            name = raw[at - length : at].rstrip(b"\0").decode()
            folder = self._folders.get(watch, self._top)
            if kind & CREATE and (folder / name).is_dir():
                self._add(folder / name)
            count += folder != self._top or name not in self._without
        return count

    def _add(self, folder: Path) -> None:
        """Watch a folder and those in it."""
        for each, _, _ in os.walk(folder):
            kinds = MODIFY | MOVED_TO | CREATE | DELETE
            watch = self._system.inotify_add_watch(self._handle, os.fsencode(each), kinds)
            self._folders[watch] = Path(each)
