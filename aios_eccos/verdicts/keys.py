"""Keys of final answers: equal where the answers are, and no more can be read from them."""

from __future__ import annotations

import hashlib
import logging
import os
import secrets
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from aios_eccos.config import Settings
from aios_eccos.errors import EccosError
from aios_eccos.files import sync_names, write
from aios_eccos.values import Said
from aios_eccos.verdicts.normal import normal_form

log = logging.getLogger("aios_eccos.verdicts.keys")


class AnswerKeys:
    """Gives answers their keys, by a state folder's secret.

    Where the secret is damaged, no answer has a key: calls are served all the same.

    Args:
        said: the text and the tool calls in an answer's value; None: no answer can be read.
        settings: those in force; settled calls' answers have keys where these want any compared.
    """

    def __init__(
        self, state_dir: Path, said: Said | None, settings: Callable[[], Settings]
    ) -> None:
        self._said, self._settings = said, settings
        self._secret: bytes | None = None
        try:
            self._secret = load_secret(state_dir)
        except EccosError as error:
            log.warning("the history keeps no answers' keys: %s", error)

    def of(self, value: object) -> str | None:
        """The key of a settled call's answer; None where it has no normal form."""
        settings = self._settings()
        if self._said is None or not (settings.audit or settings.plans):
            return None
        return self.of_form(normal_form(*self._said(value)))

    def of_form(self, form: str | None) -> str | None:
        """The key of a normal form."""
        return None if form is None or self._secret is None else key_of(form, self._secret)


def key_of(form: str, secret: bytes) -> str:
    """32 hex digits that equal forms share and that, without the secret, do not tell the form."""
    return hashlib.blake2b(form.encode(), key=secret, digest_size=16).hexdigest()


def load_secret(state_dir: Path) -> bytes:
    """The secret of `key_of` in a state folder; made at the first call, by whoever comes first.

    Raises:
        EccosError: the file is damaged.
    """
    path = state_dir / "answers.key"
    if not path.exists():
        made = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
        try:
            write(made, secrets.token_bytes(32), synced=True)
            with suppress(FileExistsError):
                os.link(made, path)
            sync_names(path.parent)
        finally:
            made.unlink(missing_ok=True)
    secret = path.read_bytes()
    if len(secret) != 32:
        raise EccosError(f"{path} holds {len(secret)} bytes, not 32: delete it; a new one is made")
    return secret
