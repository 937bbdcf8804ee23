"""Keys of final answers: equal where the answers are, and no more can be read from them."""

from __future__ import annotations

import hashlib
import os
import secrets
from contextlib import suppress
from pathlib import Path

from aios_eccos.errors import EccosError
from aios_eccos.files import write


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
        write(made, secrets.token_bytes(32))
        with suppress(FileExistsError):
            os.link(made, path)
        made.unlink()
    secret = path.read_bytes()
    if len(secret) != 32:
        raise EccosError(f"{path} holds {len(secret)} bytes, not 32: delete it; a new one is made")
    return secret
