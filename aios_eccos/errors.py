"""Every error that aios-eccos raises on purpose. Catch `EccosError` to catch them all.

Messages say which key or file, which value, and what to do next. Errors of libraries are
translated into these at the edge, with `raise ... from error`.
"""

from __future__ import annotations

import logging
import re
import traceback
from contextlib import suppress
from typing import Any


class EccosError(Exception):
    """Base of every error that aios-eccos raises on purpose."""


class ConfigError(EccosError):
    """A setting is unknown, malformed or out of range."""


class DataError(EccosError):
    """A data set's file or row is malformed.

    Args:
        reason: what is wrong, without the place.
        source: the file's name, if known.
        line: 1-based line (or row) in the file, if known.
    """

    def __init__(self, reason: str, *, source: str | None = None, line: int | None = None) -> None:
        place = ":".join(str(part) for part in (source, line) if part is not None)
        super().__init__(f"{place}: {reason}" if place else reason)
        self.reason = reason
        self.source = source
        self.line = line


class HistoryError(EccosError):
    """The history cannot be read or written."""


class HistoryOwned(HistoryError):
    """Another process owns the embedded history (Chroma is unsafe between processes)."""


class EmbedderError(EccosError):
    """No embedder can be loaded, or it is not the one that made the history."""


class ArtifactError(EccosError):
    """A trained artefact is missing, damaged, or does not match what it is used with."""


class WorkloadError(EccosError):
    """The workload store cannot be used (Redis unreachable, out of memory, wrong answer)."""


class KernelError(EccosError):
    """AIOS is not what the plugin's contract expects."""


def other_format(place: str, found: object, known: object, otherwise: str) -> str:
    """What is said of state of another version; `otherwise` is what else can be done."""
    says = "no format" if found is None else f"format {found!r}"
    remedy = otherwise if found is None else f"upgrade aios-eccos, or {otherwise}"
    return f"{place} has {says}, this version of aios-eccos reads {known!r}: {remedy}"


def raised(error: BaseException) -> str:
    """What was raised and where, for the log; not its message: that may carry a prompt or a key."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" at {frames[-1].name}:{frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}{place}"


def plain(text: str) -> str:
    """A text in one line, with control and other invisible characters escaped."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def escape_logs() -> None:
    """Let no log line of ours carry what a terminal would obey: names come from agents."""
    made_before = logging.getLogRecordFactory()
    if getattr(made_before, "escapes", False):
        return

    def made(*args: Any, **kwargs: Any) -> logging.LogRecord:
        record = made_before(*args, **kwargs)
        if record.name.startswith("aios_eccos"):
            with suppress(Exception):  # what cannot be written must not stop who logs it
                record.msg, record.args = plain(record.getMessage()), ()
        return record

    made.escapes = True  # type: ignore[attr-defined]
    logging.setLogRecordFactory(made)


def hide(text: str) -> str:
    """A text of somebody else's without the user, password and keys of the URLs in it."""
    if "://" in text:
        text = "".join(map(_without_user, _WORDS.split(text)))
    for pattern in _SECRETS:
        text = pattern.sub(r"\g<1>(hidden)", text)
    return text


def netloc_of(url: str) -> str:
    """What stands before a URL's path; where that is several hosts, `urlsplit` may refuse them."""
    return re.split("[/?#]", url.partition("//")[2], maxsplit=1)[0]


def misread(url: str) -> bool:
    """Whether an `@` stands behind the host: what was read as host may be part of a password.

    The path of a Unix socket may hold one.
    """
    host = netloc_of(url)
    socket = url.startswith("unix:") and (not host or "@" in host)
    return "@" in url.partition("//")[2][len(host) :] and not socket


def _without_user(word: str) -> str:
    # A password may hold any sign, if it was not written as it should be.
    head, mark, rest = word.partition("://")
    _, at, host = rest.rpartition("@")
    return f"{head}{mark}(hidden)@{host}" if at else word


def shown_address(url: str) -> str:
    """An address that stands alone without user, password and keys, whatever signs they hold."""
    user, at, host = url.rpartition("@")
    scheme = re.match(r"(?:[A-Za-z][A-Za-z0-9+.-]*:)?//|", user)
    return hide(f"{scheme[0] if scheme else ''}(hidden)@{host}" if at else url)


#: What is said of an address that cannot be read, as a password may be the cause.
ENCODED = "in a password / # ? [ ] @ are written as %2F %23 %3F %5B %5D %40"
#: What stands between words, which hold no blanks and no quotes.
_WORDS = re.compile(r"([\s'\"]+)")
#: Group 1 stays, what follows it is hidden.
_SECRETS = (
    re.compile(r"(?i)([?&](?:[\w-]*key|[\w-]*token|password|sig|signature)=)[^&\s'\"]+"),
    re.compile(r"(?i)((?:bearer|basic)\s+)[\w.~+/=-]{8,}"),
)
