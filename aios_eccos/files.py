"""Files that are replaced as a whole, locks that end with their process, and private folders.

Locks are flocks, which Windows does not have: there they raise `ImportError`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from io import RawIOBase
from pathlib import Path

#: How often a lock that another process holds is tried again, seconds.
LOOK_S = 0.005


@contextmanager
def replacing(path: Path, *, mode: int = 0o600, synced: bool = False) -> Iterator[Path]:
    """Yield an empty file beside `path` to write to, which then takes its place.

    Readers find the old file or the new one, each whole. If the body raises, the old one stays; an
    `OSError` names the file.

    Args:
        path: the file, or a link to it; its folder must exist. It keeps its owner and
            permissions.
        mode: permissions of a new file, once it is whole.
        synced: wait until the disk has it, so that it outlives a loss of power.
    """
    path = path.resolve()
    # Process ids come again, in a container with every start, and a kill leaves the file there.
    part = path.with_name(f".{path.name}.{os.urandom(8).hex()}.part")
    try:
        # Private at first, whatever the umask.
        os.close(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        yield part
        before = path.stat() if path.exists() else None
        if before is not None and os.name == "posix":
            with suppress(PermissionError):  # root alone may give a file to somebody else
                os.chown(part, before.st_uid, before.st_gid)
        part.chmod(mode if before is None else before.st_mode & 0o777)
        if synced:
            _sync(part)
        part.replace(path)
        if synced:
            sync_names(path.parent)
    except OSError as error:
        # A disk that is full names no file.
        if error.errno is None or str(error.filename) not in ("None", str(part)):
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        part.unlink(missing_ok=True)


def write(path: Path, content: str | bytes, *, mode: int = 0o600, synced: bool = False) -> None:
    """Replace a file by this content, see `replacing`."""
    with replacing(path, mode=mode, synced=synced) as part:
        part.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)


def append(file: RawIOBase, content: bytes) -> None:
    """Add to the end of a file that is open to read and append, wholly or not at all."""
    end = file.seek(0, os.SEEK_END)
    try:
        left = memoryview(content)
        while left:
            left = left[file.write(left) or 0 :]
    except OSError:
        file.truncate(end)
        raise


def sync_names(folder: Path) -> None:
    """Wait until the disk has which files a folder holds."""
    if os.name == "posix":
        _sync(folder)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def private_dir(path: Path) -> Path:
    """Make a folder, and its missing parents, with mode 0700 (`mkdir` opens parents to all)."""
    for each in reversed((path, *path.parents)):
        if not each.exists():
            each.mkdir(mode=0o700, exist_ok=True)
            sync_names(each.parent)
    return path


def lock(path: Path, *, shared: bool = False, wait_s: float = 0.0) -> int | None:
    """Lock a file, made if it is missing, until its handle is closed; None if another holds it.

    A child process that inherits the handle holds the lock too.

    Args:
        shared: together with other holders that share it.
        wait_s: how long to wait for another holder, seconds.
    """
    until = time.monotonic() + wait_s
    with ExitStack() as undo:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        undo.callback(os.close, handle)
        while not lock_handle(handle, shared=shared):
            if time.monotonic() >= until:
                return None
            time.sleep(LOOK_S)
        undo.pop_all()
    return handle


@contextmanager
def locked(path: Path, *, wait_s: float = 60.0) -> Iterator[int]:
    """Hold a lock file while the body runs; yields its handle.

    Raises:
        TimeoutError: another process holds it all the time.
    """
    handle = lock(path, wait_s=wait_s)
    if handle is None:
        raise TimeoutError(f"another process holds {path}")
    try:
        yield handle
    finally:
        os.close(handle)


def lock_handle(handle: int, *, shared: bool = False) -> bool:
    """Lock an open file, unless another holds it."""
    import fcntl

    try:
        fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def is_free(path: Path) -> bool:
    """Whether nobody holds a lock file."""
    handle = lock(path)
    if handle is not None:
        os.close(handle)
    return handle is not None
