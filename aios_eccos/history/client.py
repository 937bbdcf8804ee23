"""Chroma's clients: the embedded folder and its lock, the server, and their errors."""

from __future__ import annotations

import base64
import contextlib
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from aios_eccos import files
from aios_eccos.errors import ENCODED, EccosError, HistoryError, HistoryOwned, hide, shown_address
from aios_eccos.history.index import is_sound
from aios_eccos.history.mend import mend

if TYPE_CHECKING:
    import httpx

#: Seconds that a Chroma server may take for one request.
HTTP_TIMEOUT_S = 3.0

#: What Chroma's own errors come mixed with; AttributeError is what a closed client raises.
FOREIGN = (OSError, ValueError, TypeError, KeyError, RuntimeError, AttributeError)
#: What its files begin with.
SQLITE = b"SQLite format 3"
#: What to do about it, by what Chroma says; and where it says none of that.
REBUILD = "if its files are damaged: `aios-eccos ingest --rebuild FILE...`"
REMEDIES = {
    **dict.fromkeys(("disk is full", "no space left"), "make room on its disk"),
    **dict.fromkeys(("readonly", "read-only"), "let it write to its folder"),
    # So Chroma says where it cannot write its index, whatever the reason.
    "failed to apply logs": f"make room on its disk, if that is full; {REBUILD}",
}
#: What libraries in Rust raise; the class cannot be imported.
PANIC = "PanicException"


@contextmanager
def translated(place: str = "") -> Iterator[None]:
    """Turn the errors of Chroma and what lies under it into `HistoryError`."""
    import httpx
    from chromadb.errors import ChromaError

    try:
        yield
    except EccosError:
        raise
    except (httpx.InvalidURL, ImportError) as error:
        if not place:
            raise
        # What such an error says of a proxy may hold its password.
        said = f"{place}a proxy of the environment cannot be used ({type(error).__name__})"
        raise HistoryError(f"{said}; look at HTTP_PROXY, HTTPS_PROXY and ALL_PROXY") from None
    except (httpx.HTTPError, ConnectionError, TimeoutError, socket.gaierror) as error:
        reason = hide(str(error) or type(error).__name__)[:250]
        said = (
            f"{place}the Chroma server does not answer: {reason}; start it, or mend the way there"
        )
        raise HistoryError(said) from error
    except BaseException as error:
        # What panics in Chroma's core, as some damaged files do, comes as no `Exception`.
        if not isinstance(error, (ChromaError, *FOREIGN)) and type(error).__name__ != PANIC:
            raise
        said = hide(str(error))
        raise HistoryError(
            f"the history cannot be read or written ({type(error).__name__}: {said[:200]}); "
            + next((do for sign, do in REMEDIES.items() if sign in said.lower()), REBUILD)
        ) from error


def own(folder: Path) -> Callable[[], None]:
    """Become the only owner of a folder; returns what gives it back.

    Chroma does not notice other processes: a second reader would miss rows and return deleted
    ones, without any error. So the folder is locked for as long as it is open.

    Raises:
        HistoryOwned: another process, or this one, owns it already.
        HistoryError: the folder cannot be written.
    """
    note = folder / "owner.lock"
    try:
        files.private_dir(folder)
        handle = files.lock(note)
        if handle is None:
            owner = note.read_text("ascii", "replace")[:32]
            raise HistoryOwned(
                f"process {owner or '?'} owns the embedded history in {folder}; several processes "
                "need a Chroma server: set `history` to its URL"
            )
        with contextlib.ExitStack() as undo:
            undo.callback(os.close, handle)
            note.write_text(str(os.getpid()))
            return undo.pop_all().close
    except ImportError as error:
        raise HistoryError("no embedded history on Windows: set `history` to a URL") from error
    except OSError as error:
        said = f"{error.filename or folder}: {error.strerror or error}"
        raise HistoryError(f"the history's folder cannot be used: {said}") from error


def watch(folder: Path) -> Callable[[], None]:
    """What raises a `HistoryError` once an open folder's files, if there are any, are others."""
    path = folder / "chroma.sqlite3"
    if not path.exists():
        return lambda: None
    known = path.stat()

    def check() -> None:
        try:
            now = path.stat()
            same = (now.st_dev, now.st_ino) == (known.st_dev, known.st_ino)
            with path.open("rb") as file:
                whole = file.read(len(SQLITE)) == SQLITE
        except OSError:
            same = whole = False
        if not (same and whole):
            what = "damaged" if same else "removed or replaced"
            raise HistoryError(
                f"the history's files in {folder} were {what} under this kernel; what it learns is "
                "lost when it ends: put them back, or `aios-eccos ingest --rebuild`, and restart it"
            )

    return check


def open_folder(folder: Path, *, check: bool = True) -> Any:
    """An embedded client; the folder must be owned.

    Args:
        check: False opens a damaged index too; then only metadata may be read.
    """
    import chromadb
    from chromadb.api.shared_system_client import SharedSystemClient

    with translated():
        if check and not (folder / "chroma.sqlite3").exists() and any(folder.glob("*/*.bin")):
            raise ValueError("chroma.sqlite3 is gone")
        mend(folder)
        if check and not is_sound(folder):
            raise ValueError("the index is damaged")
        files.private_dir(folder)
        try:
            return chromadb.PersistentClient(path=str(folder), settings=_settings())
        except BaseException:
            # Chroma keeps what it could not start, and would give it to the next who asks.
            SharedSystemClient._identifier_to_system.pop(str(folder), None)
            raise


def open_server(url: str) -> Any:
    """A client of a Chroma server; user and password in the URL are sent as basic authentication.

    Raises:
        HistoryError: no such URL, or nothing answers there.
    """
    import chromadb
    import httpx

    place = f"history = {shown_address(url)!r}: "
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        # What was read as a port may be part of the password.
        reason = f"malformed; {ENCODED}" if "@" in url else error
        raise HistoryError(f"{place}{reason}") from None
    secure = parts.scheme == "https"
    beyond = parts.path.strip("/") or parts.query or parts.fragment
    if parts.scheme not in ("http", "https") or not host or beyond:
        allowed = "allowed are `embedded` and http(s)://[user:password@]host:port"
        raise HistoryError(f"{place}{allowed}")
    port = port or (443 if secure else 8000)
    headers = {}
    if parts.username is not None:
        secret = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        headers["Authorization"] = f"Basic {base64.b64encode(secret.encode()).decode()}"
    with translated(place):
        # Chroma's client waits without end, from its first request on.
        socket.create_connection((host, port), HTTP_TIMEOUT_S).close()
        bare = f"{parts.scheme}://{'[' + host + ']' if ':' in host else host}:{port}"
        asked = f"{bare}/api/v2/heartbeat", f"{bare}/api/v2/auth/identity"
        answers = [httpx.get(each, timeout=HTTP_TIMEOUT_S, headers=headers) for each in asked]
        if any(answer.status_code in (401, 403) for answer in answers):
            wanted = "the server wants another user and password: http(s)://user:password@host:port"
            raise HistoryError(f"{place}{wanted}")
        answers[0].raise_for_status()
        client = chromadb.HttpClient(
            host=host, port=port, ssl=secure, headers=headers, settings=_settings()
        )
    for session in _sessions(client):
        session.timeout = httpx.Timeout(HTTP_TIMEOUT_S)
    return client


def close_client(client: Any) -> None:
    """Let go of a client's files and connections."""
    sessions = _sessions(client)
    with contextlib.suppress(HistoryError), translated():
        client.close()
    for session in sessions:
        session.close()


def _sessions(client: Any) -> list[httpx.Client]:
    """A client's connections, which it offers no way to set up or to close."""
    import httpx

    clients = (client, getattr(client, "_admin_client", None))
    servers = [getattr(each, "_server", None) for each in clients]
    sessions = [getattr(server, "_session", None) for server in servers]
    return [session for session in sessions if isinstance(session, httpx.Client)]


def _settings() -> Any:
    from chromadb.config import Settings

    return Settings(anonymized_telemetry=False)
