"""The way to a Redis: its client, its key names and our scripts, with its errors made ours."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from importlib import resources
from typing import Any

from redis.exceptions import (
    AuthenticationError,
    NoScriptError,
    RedisClusterException,
    RedisError,
)

from aios_eccos.errors import WorkloadError
from aios_eccos.workload.server import Server


class RedisClient:
    """Runs commands and scripts on one server, within one namespace.

    Args:
        server: which Redis; `close` ends its use.
        namespace: letters, digits, `_`, `-` and `.`.
    """

    def __init__(self, server: Server, namespace: str) -> None:
        self.place = server.place
        self._server = server
        self._prefix = f"eccos:{{{namespace}}}:v1:"
        # redis-py types each answer as "awaitable or value", so the client stays untyped.
        self._client: Any = None
        self._closed = False
        self._lock = threading.Lock()

    def key(self, name: str) -> str:
        """The full name of a key."""
        return self._prefix + name

    def slot_keys(self, slots: Iterable[str], *kinds: str) -> list[str]:
        """For each slot its key of each kind."""
        return [f"{self._prefix}{kind}:{slot}" for slot in slots for kind in kinds]

    def run(self, verb: str, keys: Sequence[str], args: Sequence[object]) -> Any:
        """Run the script `lua/VERB.lua`.

        Raises:
            WorkloadError: the server cannot be reached or refuses.
        """
        text, digest = _script(verb)
        with self.using(verb.replace("_", " ")) as client:
            try:
                return client.evalsha(digest, len(keys), *keys, *args)
            except NoScriptError:
                return client.eval(text, len(keys), *keys, *args)

    @contextmanager
    def using(self, action: str) -> Iterator[Any]:
        """The redis-py client, for an action that the error message names.

        Raises:
            WorkloadError: whatever redis-py raises inside.
        """
        try:
            yield self._open()
        except AuthenticationError as error:
            raise WorkloadError(
                f"Redis at {self.place} refuses the user or password: {error}"
            ) from error
        except (RedisError, RedisClusterException, OSError) as error:
            raise WorkloadError(f"Redis at {self.place} cannot {action}: {error}") from error

    def _open(self) -> Any:
        client = self._client
        if client is None:
            with self._lock:
                if self._closed:
                    raise WorkloadError("the workload store is closed")
                client = self._client = self._client or self._server.client()
        return client

    def revive(self) -> None:
        """Make sure that the server runs, as far as that is ours to do, and find it."""
        if self._server.ensure():
            with self._lock:
                # Threads still in a call have the old client, which ends with the last of them.
                self._client = None

    def close(self) -> None:
        """End the connections and the use of the server."""
        with self._lock:
            self._closed = True
            client, self._client = self._client, None
        if client is not None:
            client.close()
        self._server.end()


@cache
def _script(verb: str) -> tuple[str, str]:
    """A script's text and SHA-1."""
    folder = resources.files(__package__) / "lua"
    text = (folder / "common.lua").read_text() + (folder / f"{verb}.lua").read_text()
    return text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
