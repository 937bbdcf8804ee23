"""Locks on files that end with the process that holds them, however it ends."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from aios_eccos.errors import WorkloadError


def open_lock(path: Path) -> int:
    """Open (and create) a lock file, without locking it; closing it ends what was locked by it."""
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def try_lock(lock: int, kind: int) -> bool:
    """Lock an open file, `LOCK_SH` or `LOCK_EX`, unless that would have to wait."""
    try:
        fcntl.flock(lock, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def hold(path: Path, kind: int) -> int:
    """Open and lock a file.

    Raises:
        WorkloadError: another process holds it.
    """
    lock = open_lock(path)
    if not try_lock(lock, kind):
        os.close(lock)
        raise WorkloadError(f"another process holds {path}")
    return lock


def is_free(path: Path) -> bool:
    """Whether nobody holds a lock file."""
    lock = open_lock(path)
    try:
        return try_lock(lock, fcntl.LOCK_EX)
    finally:
        os.close(lock)
