"""The way to a Redis: its client, its key names and our scripts, with its errors made ours.

All keys of a namespace carry one hash tag, so that a script may touch any of them in a Cluster:

    eccos:{namespace}:v1:slots:SLOT     sorted set  call id -> expiry in ms, and a sentinel
    eccos:{namespace}:v1:limits:SLOT    sorted set  kernel  -> limit it declares
    eccos:{namespace}:v1:rpm:SLOT, tpm:SLOT   the same of requests and tokens per minute
    eccos:{namespace}:v1:recent:SLOT    hash        requests and tokens of the last minute
    eccos:{namespace}:v1:cooling:SLOT   string that expires when the slot has rested
    eccos:{namespace}:v1:closed:SLOT    the same where its server has asked for that
    eccos:{namespace}:v1:spent:CAP      hash        billionths of a dollar, as common.lua says
    eccos:{namespace}:v1:charged, settled   sorted sets: needs -> expiry in ms
    eccos:{namespace}:v1:kernels        sorted set  kernel  -> expiry in ms; negative: the time at
                                        which Redis was found to have lost what it had told
    eccos:{namespace}:v1:prices         hash        name    -> price
    eccos:{namespace}:v1:inbox, taken, aside   lists of messages for the owner of the history
    eccos:{namespace}:v1:batch          number of the batch that is taken from the inbox next
    eccos:{namespace}:v1:decisions, events   streams, capped
    eccos:{namespace}:v1:tally:PERIOD   hash        name    -> sum
    eccos:{namespace}:v1:note:NAME      string
    eccos:{namespace}:v1:once:NAME      answer to the write of that name; expires
    eccos:{namespace}:format            string      number of the layout: 1
    eccos:{namespace}:v1:releases       pub/sub channel, see `channel.py`, or `rest`
"""

from __future__ import annotations

import hashlib
import itertools
import logging
import re
import threading
import traceback
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from importlib import resources
from typing import Any

from redis.exceptions import (
    AuthenticationError,
    NoScriptError,
    RedisClusterException,
    RedisError,
)

from aios_eccos.errors import WorkloadError, other_format
from aios_eccos.workload.server import Server
from aios_eccos.workload.store import REMEMBERED_S

log = logging.getLogger(__name__)

#: What Redis says of a write that it will never do, whatever its own state.
REFUSALS = ("WRONGTYPE", "is not a valid float", "is not a float", "is not an integer")
#: What redis-py raises while its client is open.
FOREIGN = (RedisError, RedisClusterException, OSError)
#: The types of our keys, by the first part of their names, and names that are one key.
KINDS = {
    **dict.fromkeys(["slots", "limits", "rpm", "tpm", "charged", "settled", "kernels"], "zset"),
    **dict.fromkeys(["recent", "spent", "prices", "tally"], "hash"),
    **dict.fromkeys(["cooling", "closed", "batch", "note", "once"], "string"),
    **dict.fromkeys(["inbox", "taken", "aside"], "list"),
    **dict.fromkeys(["decisions", "events"], "stream"),
}
FIXED = (
    *("kernels", "charged", "settled", "prices"),
    *("inbox", "taken", "aside", "batch", "decisions", "events"),
)
#: Layout of what lies in a namespace. One that this version would misread, as a key is of another
#: type or means something else, gets a higher number: then this version refuses it.
FORMAT = 1
#: What a user of a Redis with users may do at least.
ACL = "~eccos:* &eccos:* +@all -@admin -@dangerous +info"
#: What to do about it, by what Redis or the way there says.
REMEDIES = (
    (
        ("Connection refused", "Connection closed", "reset by peer", "No such file"),
        "start it, or set `redis` to where it runs",
    ),
    (("Timeout", "timed out"), "it took too long: look at its load, and at the way to it"),
    (("OOM", "maxmemory"), "raise its maxmemory"),
    (("No space left", "MISCONF"), "make room on its disk"),
    (
        ("CERTIFICATE", "certificate"),
        "name its CA's file in the URL of the setting `redis`, ?ssl_ca_certs=FILE, and the host as "
        "the certificate does",
    ),
    (
        ("no permissions", "can't run this", "can't access", "can't publish"),
        f"that user needs {ACL}",
    ),
    (
        ("password", "Authentication required"),
        "the setting `redis` names them: redis://USER:PASSWORD@HOST",
    ),
)


#: What Redis puts before an error in a script.
IN_A_SCRIPT = re.compile(r"Error running script \(call to \w+\): (@user_script: ?\d+: ?)*-?")


class RefusedPassword(WorkloadError):
    """Raised when the server takes neither user nor password."""


class OtherFormat(WorkloadError):
    """Raised when a later version keeps its state in this namespace."""


class RefusedWrite(WorkloadError):
    """Raised when a write does not fit what lies in Redis, so that repeating it is useless."""


class Forgotten(WorkloadError):
    """Raised when the Redis at a place no longer knows a kernel: it has lost what it was told."""

    def __init__(self, place: str) -> None:
        super().__init__(f"Redis at {place} has lost what this kernel had told it")


class RedisClient:
    """Runs commands and scripts on one server, within one namespace; `close` ends its use."""

    def __init__(self, server: Server, namespace: str) -> None:
        self._server = server
        self._namespace = namespace
        self._prefix = f"eccos:{{{namespace}}}:v1:"
        # Whatever the layout of the others is, this one stays.
        self._format_key = f"eccos:{{{namespace}}}:format"
        # redis-py types each answer as "awaitable or value", so the client stays untyped.
        self._client: Any = None
        self._closed = False
        self._lock = threading.Lock()

    def key(self, name: str) -> str:
        """The full name of a key."""
        return self._prefix + name

    def run(
        self, verb: str, names: Sequence[str], args: Sequence[object], once: str | None = None
    ) -> Any:
        """Run the script `lua/VERB.lua` on the keys of these names.

        Not if it was run under the name `once` lately ("": a name of its own). Without one the
        script may be run twice, as it changes nothing then.
        """
        if once is not None:
            names = [f"once:{once or uuid.uuid4().hex}", *names]
            args = [REMEMBERED_S, *args]
        keys = [self.key(name) for name in names]
        text, digest = _script(verb, once is not None)
        with self.using(f"run {verb}", names) as client:
            try:
                return client.evalsha(digest, len(keys), *keys, *args)
            except NoScriptError:
                return client.eval(text, len(keys), *keys, *args)

    @contextmanager
    def using(self, action: str, names: Sequence[str] = ()) -> Iterator[Any]:
        """The redis-py client; what it raises becomes an error that names the action.

        Values of a foreign type under keys of these names are dropped: nothing would work with
        them, for any kernel and for ever.
        """
        try:
            yield self._open()
        except WorkloadError:
            raise
        except Exception as error:
            # A client that another thread has closed raises whatever its state brings about.
            if not (self._closed or isinstance(error, FOREIGN)):
                raise
            said = self._server.hide(IN_A_SCRIPT.sub("", str(error)))
            if "WRONGTYPE" in said:
                self._drop_foreign([*names, *FIXED])
            if "read only replica" in said:
                # The server became a replica: a new connection asks anew which is the master.
                self._renew_client()
            kind, does = WorkloadError, f"cannot {action}"
            if isinstance(error, AuthenticationError):
                kind, does = RefusedPassword, "refuses the user or password"
            elif any(each in said for each in REFUSALS):
                kind = RefusedWrite
            failed = kind(f"Redis at {self._server.place} {does}: {said}{_remedy(said)}")
            chain = "".join(traceback.format_exception(error))
            raise failed from (error if self._server.hide(chain) == chain else None)

    def _drop_foreign(self, names: Sequence[str]) -> None:
        """Drop what lies under keys of ours and is of another type."""
        with suppress(RedisError, RedisClusterException, OSError):
            for name in dict.fromkeys(names):
                found = self._open().type(self.key(name)).decode()
                if found not in ("none", KINDS.get(name.partition(":")[0], found)):
                    self._open().delete(self.key(name))
                    log.warning("dropped a foreign %s from Redis, under %s", found, self.key(name))

    def info(self) -> dict[str, Any]:
        """What the server says of itself; of a Cluster, one node."""
        with self.using("look at the server") as client:
            found: dict[str, Any] = client.info()
            return found

    def _open(self) -> Any:
        client = self._client
        if client is None:
            with self._lock:
                if self._closed:
                    raise WorkloadError("the workload store is closed")
                client = self._client = self._client or self._server.client()
        return client

    def _renew_client(self) -> None:
        with self._lock:
            # Threads still in a call have the old client, which ends with the last of them.
            self._client = None

    def revive(self) -> None:
        """Make sure that the server runs, as far as that is ours to do, and find it."""
        if self._server.ensure():
            self._renew_client()

    def check_format(self) -> None:
        """Refuse what a later version keeps here: limits would not be shared with its kernels.

        Raises:
            OtherFormat: a later version has marked the namespace.
        """
        with self.using("read its format") as client:
            found = client.get(self._format_key)
        if found is not None and found.isdigit() and int(found[:9]) > FORMAT:
            place = f"Redis at {self._server.place}, namespace {self._namespace!r},"
            raise OtherFormat(
                other_format(place, int(found[:9]), FORMAT, "set another `namespace`")
            )

    def mark_format(self) -> None:
        """Say whose state this is, unless that is said already."""
        with self.using("note its format") as client:
            client.set(self._format_key, FORMAT, nx=True)

    def close(self) -> None:
        """End the connections and the use of the server."""
        with self._lock:
            self._closed = True
            client, self._client = self._client, None
        if client is not None:
            client.close()
        self._server.end()


def _remedy(said: str) -> str:
    """What to do about an error, to be put behind it; "" where nothing is known."""
    found = (what for signs, what in REMEDIES if any(sign in said for sign in signs))
    return "".join(f"; {what}" for what in itertools.islice(found, 1))


@cache
def _script(verb: str, once: bool) -> tuple[str, str]:
    """A script's text and SHA-1."""
    folder = resources.files(__package__) / "lua"
    common, body = ((folder / f"{name}.lua").read_text() for name in ("common", verb))
    if once:
        body = f"local function verb(KEYS, ARGV)\n{body}end\n{(folder / 'once.lua').read_text()}"
    text = common + body
    return text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
