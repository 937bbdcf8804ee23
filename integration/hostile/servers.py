"""Model servers that mean harm: what they send, byte by byte, and what a request then comes to."""

from __future__ import annotations

import contextlib
import gzip
import json
import resource
import socket
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from aios_eccos.errors import ConfigError
from aios_eccos.providers.completion import read
from aios_eccos.providers.failures import failure_of
from aios_eccos.providers.transport import HttpProvider

#: What a request may take, seconds, and what it may take beyond that on a busy machine.
TIME_S, GRACE_S = 2.0, 8.0
#: Most memory that any answer may cost, bytes: bodies end at 64 MB, unpacked and as text.
MEMORY = 600_000_000

Send = Callable[[bytes], None]
Says = Callable[[Send], None]
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


def body(raw: bytes, more: bytes = b"") -> Says:
    """A whole answer."""

    def says(send: Send) -> None:
        send(HEAD + more + b"Content-Length: %d\r\n\r\n" % len(raw))
        send(raw)

    return says


def choices(message: object, **more: object) -> Says:
    return body(json.dumps({"choices": [{"message": message}], **more}).encode())


def for_ever(first: bytes, again: bytes, pause_s: float = 0.0) -> Says:
    """One thing after the other, without an end."""

    def says(send: Send) -> None:
        send(first)
        while True:
            send(again)
            time.sleep(pause_s)

    return says


def packed(size: int, *, end: bool) -> Says:
    """So many bytes of blanks that were packed to a thousandth of that."""

    def says(send: Send) -> None:
        packer = zlib.compressobj(9, zlib.DEFLATED, 31)
        send(HEAD + b"Content-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(size // 10_000_000):
            part = packer.compress(b" " * 10_000_000)
            send(b"%x\r\n%b\r\n" % (len(part), part) if part else b"")
        part = packer.flush()
        send(b"%x\r\n%b\r\n" % (len(part), part))
        send(b"0\r\n\r\n" if end else b"")

    return says


SERVERS: dict[str, Says] = {
    "says nothing": lambda send: time.sleep(2 * TIME_S),
    "closes at once": lambda send: None,
    "closes within the body": lambda send: send(HEAD + b"Content-Length: 100\r\n\r\n{"),
    "speaks no HTTP": lambda send: send(b"\x00\xff SSH-2.0\r\n\r\n"),
    "sends headers for ever": for_ever(HEAD, b"X-A: 1\r\n", 0.05),
    "sends one header for ever": for_ever(HEAD + b"X-A: ", b"a" * 1000),
    "drips a header": for_ever(HEAD + b"X-A: ", b"a", 0.2),
    "says that it goes on, for ever": for_ever(b"", b"HTTP/1.1 100 Continue\r\n\r\n", 0.05),
    "sends chunks for ever": for_ever(
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1000\r\n" + b" " * 4096 + b"\r\n"
    ),
    "drips chunks": for_ever(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n", 0.2),
    "sends 50 MB": body(b'{"choices": "' + b"a" * 50_000_000 + b'"}'),
    "sends 200 MB": body(b" " * 200_000_000),
    "packs 2 GB": packed(2_000_000_000, end=False),
    "packs 50 MB": packed(50_000_000, end=True),
    "packs twice": body(
        gzip.compress(zlib.compress(b" " * 200_000_000)), b"Content-Encoding: deflate, gzip\r\n"
    ),
    "redirects with a body for ever": for_ever(
        b"HTTP/1.1 307 X\r\nLocation: /v1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"100000\r\n" + b" " * 2**20 + b"\r\n",
    ),
    "has 20 million values": body(b"[" + b"[]," * 20_000_000 + b"0]"),
    "says that it packs and does not": body(b"{}", b"Content-Encoding: gzip\r\n"),
    "packs as nobody does": body(b"{}", b"Content-Encoding: zstd, br, gzip\r\n"),
    "has two lengths": body(b"{}", b"Content-Length: 5\r\n"),
    "has a negative length": lambda send: send(HEAD + b"Content-Length: -5\r\n\r\n{}"),
    "sends another elsewhere": lambda send: send(
        b"HTTP/1.1 307 X\r\nLocation: http://169.254.169.254/latest\r\nContent-Length: 0\r\n\r\n"
    ),
    "sends another to itself": lambda send: send(
        b"HTTP/1.1 307 X\r\nLocation: /v1/chat/completions\r\nContent-Length: 0\r\n\r\n"
    ),
    "sends 999": lambda send: send(b"HTTP/1.1 999 \x1b[2J\r\nContent-Length: 0\r\n\r\n"),
    "nests": body(b"[" * 1_000_000),
    "nests a choice": body(b'{"choices":' + b"[" * 900 + b"]" * 900 + b"}"),
    "nests a message": body(
        b'{"choices":[{"message":{"content":' + b"[" * 900 + b"]" * 900 + b"}}]}"
    ),
    "has numbers without an end": body(b'{"choices": [' + b"9" * 1_000_000 + b"]}"),
    "counts what is no number": choices(
        {"content": "a"}, usage={"prompt_tokens": float("nan"), "completion_tokens": float("inf")}
    ),
    "counts backwards": choices({"content": "a"}, usage={"prompt_tokens": -1, "total_tokens": -9}),
    "counts 10^18": choices(
        {"content": "a"}, usage={"prompt_tokens": 10**18, "completion_tokens": 10**18}
    ),
    "has choices of other types": body(b'{"choices": {"0": [null, 1, "a"]}, "usage": [[]]}'),
    "has half characters": body(b'{"choices": [{"message": {"content": "\\ud800\\u001b[2J"}}]}'),
    "is no UTF-8": body(b'{"choices": [{"message": {"content": "\xff\xfe"}}]}'),
}


@contextmanager
def server(says: Says) -> Iterator[str]:
    """A server that says that to every request; its base URL."""
    listening = socket.create_server(("127.0.0.1", 0))
    ended = threading.Event()

    def one(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            connection.settimeout(30)
            with connection.makefile("rb") as asked:
                lines = [*iter(asked.readline, b"\r\n")]
                sizes = [
                    int(line[15:]) for line in lines if line.lower().startswith(b"content-length")
                ]
                asked.read(sum(sizes))

            def send(raw: bytes) -> None:
                if ended.is_set():
                    raise OSError("the end")
                connection.sendall(raw)

            says(send)

    def accept() -> None:
        while not ended.is_set():
            with contextlib.suppress(OSError):
                threading.Thread(target=one, args=(listening.accept()[0],), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/v1"
    finally:
        ended.set()
        listening.close()


def asked(says: Says, time_s: float = TIME_S, grace_s: float = GRACE_S) -> list[str]:
    """What is wrong with how a request to such a server ends."""
    faults, before = [], _most()
    with server(says) as url:
        provider = HttpProvider(url)
        begun = time.monotonic()
        try:
            found = read(provider.complete({"messages": []}, time_s)).counted("a prompt")
            (found.text or "").encode()
        except ConfigError as error:
            faults.append(f"a ConfigError: {error}")
        except Exception as error:  # noqa: BLE001 - whatever it is, it must be known
            failure = failure_of(error)
            if not failure.reason.isprintable():
                faults.append(f"shows {failure.reason!r:.100}")
        took = time.monotonic() - begun
        provider.close()
    if took > time_s + grace_s:
        faults.append(f"took {took:.1f} s of {time_s:g}")
    if _most() > MEMORY + before:
        faults.append(f"{_most() / 1e6:.0f} MB in use, {before / 1e6:.0f} MB before")
    return faults


def _most() -> int:
    """Bytes of memory that this process has had at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
