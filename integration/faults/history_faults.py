"""Faults of the disk below: of a Chroma server, or of one kernel's state folder."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from integration.faults.ground import Ground
from integration.faults.servers import Child, chroma, cluster_port, running

#: A disk of our own, megabytes.
DISK_MB = 192
AWAY_S = 8.0
GARBAGE = os.urandom(4096)


@contextmanager
def disk(folder: Path) -> Iterator[Path]:
    """A small file system of our own; wants root."""
    folder.mkdir(parents=True)
    _mount("-t", "tmpfs", "-o", f"size={DISK_MB}m", "tmpfs", str(folder))
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=False)


def remount(folder: Path, way: str) -> None:
    """Make a disk of our own read-only (`ro`) or writable (`rw`); nobody may be writing to it."""
    _mount("-o", f"remount,{way}", str(folder))


def _mount(*words: str) -> None:
    done = subprocess.run(["mount", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"a disk of our own wants root: {done.stderr.strip()}")


def fill_up(folder: Path) -> None:
    """Leave no byte on the disk."""
    with (folder / "filling").open("wb", buffering=0) as file:
        for size in (1 << 20, 1 << 12, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                continue


def corrupt(folder: Path) -> None:
    """Write garbage over the beginning, the middle and the end of each file of an index."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.suffix in (".sqlite3", ".bin", ".pickle"):
            size = path.stat().st_size
            with path.open("r+b") as file:
                for at in (0, size // 2, max(size - len(GARBAGE), 0)):
                    file.seek(at)
                    file.write(GARBAGE)


@contextmanager
def shared_history(folder: Path) -> Iterator[Child]:
    """A Chroma server on a disk of its own."""
    with disk(folder / "disk") as own:
        server = chroma(own, cluster_port())
        with running(server):
            yield server


def server_faults(ground: Ground, server: Child) -> dict[str, Callable[[], object]]:
    """What can befall a Chroma server; each leaves it as it was."""
    folder, data = server.folder, server.folder / "data"
    kept = folder.parent / "kept"

    def broken() -> None:
        server.kill()
        shutil.copytree(data, kept)
        corrupt(data)
        server.begin()

    def mended() -> None:
        server.kill()
        shutil.rmtree(data)
        shutil.copytree(kept, data)
        shutil.rmtree(kept)
        server.start()

    def read_only() -> None:
        # A disk that is being written to cannot be made read-only.
        server.kill()
        remount(folder, "ro")
        server.begin()

    def writable() -> None:
        server.kill()
        remount(folder, "rw")
        server.start()

    return {
        "chroma-killed": lambda: ground.fault(
            "Chroma server killed, back after 8 s", server.kill, server.start, lasts_s=AWAY_S
        ),
        "chroma-corrupt": lambda: ground.fault("Chroma server's files overwritten", broken, mended),
        "chroma-read-only": lambda: ground.fault(
            "Chroma server restarted on a read-only disk", read_only, writable
        ),
        "chroma-full": lambda: ground.fault(
            "Chroma server's disk full", lambda: fill_up(folder), (folder / "filling").unlink
        ),
    }


def folder_faults(ground: Ground, folder: Path, history: Path) -> dict[str, Callable[[], object]]:
    """What can befall the folder of a kernel's own history and Redis, on a disk of its own."""
    kept = folder.parent / "kept"

    def broken() -> None:
        shutil.copytree(history, kept)
        corrupt(history)

    def mended() -> None:
        for path in kept.rglob("*"):
            if path.is_file():
                shutil.copyfile(path, history / path.relative_to(kept))
        shutil.rmtree(kept)

    return {
        "state-corrupt": lambda: ground.fault("own history's files overwritten", broken, mended),
        "state-full": lambda: ground.fault(
            "state folder's disk full", lambda: fill_up(folder), (folder / "filling").unlink
        ),
    }
