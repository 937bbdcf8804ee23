"""Opening the history, and beginning it anew after damage or with another embedder.

It lies in an embedded folder, which has one owner at a time, or on a Chroma server.
"""

from __future__ import annotations

import contextlib
import logging
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from aios_eccos.errors import HistoryError, shown_address
from aios_eccos.history.chroma import NAME, UNJUDGED, ChromaRows
from aios_eccos.history.client import close_client, open_folder, open_server, own, translated
from aios_eccos.history.embed.cache import CachedEmbedder, EmbeddingCache
from aios_eccos.history.embed.embedding import Embedder, find_embedder
from aios_eccos.history.embed.gist import LONG
from aios_eccos.history.embed.sentence import SentenceEmbedder
from aios_eccos.history.history import History
from aios_eccos.history.index import is_sound, keep_ids
from aios_eccos.history.rows import read_row
from aios_eccos.history.store import PAGE, Embeddings, Given

log = logging.getLogger("aios_eccos.history")

EMBEDDED = "embedded"
#: Below the state folder; Chroma's own files lie in `chroma` there.
FOLDER = "history"


def open_history(
    setting: str,
    state_dir: Path,
    embedder: Embedder,
    *,
    store_text: bool | None = None,
    max_records: int = 100_000,
    max_age_days: float = 90.0,
) -> History:
    """Open the history that the setting names.

    Args:
        setting: "embedded", or the URL of a Chroma server.
        state_dir: the plugin's state folder; the embedded history lies in `history` there.
        embedder: whose vectors the history holds; only its name and dimension are used.
        store_text, max_records, max_age_days: see `History`.

    Raises:
        HistoryOwned: another process has the embedded history open.
        EmbedderError: the history holds another embedder's vectors.
        HistoryError: it cannot be reached, is damaged, or another version made it.
    """
    shared, folder = setting != EMBEDDED, state_dir / FOLDER
    place = f"the history in {shown_address(setting) if shared else folder}"
    keep = (lambda: None) if shared else partial(keep_ids, folder / "chroma")
    with contextlib.ExitStack() as closing:
        if shared:
            client = open_server(setting)
        else:
            closing.callback(own(folder))
            client = open_folder(folder / "chroma")
        closing.callback(close_client, client)
        return History(
            ChromaRows(client, embedder, shared=shared, place=place, keep=keep),
            dimension=embedder.dimension,
            store_text=store_text,
            max_records=max_records,
            max_age_days=max_age_days,
            closing=closing,
        )


def open_embedder(
    setting: str | None = None, cache_dir: Path | None = None, *, allow_download: bool = False
) -> CachedEmbedder | SentenceEmbedder:
    """`find_embedder`'s; with a cache folder, one that keeps the vectors of data sets there."""
    embedder = SentenceEmbedder(find_embedder(setting, allow_download=allow_download))
    if cache_dir is None:
        return embedder
    return CachedEmbedder(embedder, EmbeddingCache(cache_dir / "embeddings.sqlite"))


@dataclass(frozen=True, slots=True)
class RebuildReport:
    """What became of the old rows.

    Attributes:
        carried: rows taken over.
        lost: rows that could be read but not embedded again, since their text was not stored.
        aside: where the old history lies now, if it could not be read; else it is gone.
    """

    carried: int
    lost: int
    aside: str | None


def rebuild(
    setting: str,
    state_dir: Path,
    embedder: Embedder,
    *,
    progress: Callable[[int], None] = lambda rows: None,
) -> RebuildReport:
    """Replace the history by a new one that holds every old row which can be read and embedded.

    Rows keep their vectors where these can be read and are of the same embedder; others, and those
    of a long text, are embedded again from their text. Nothing is changed before that is done.

    Args:
        setting, state_dir: see `open_history`; embedder: of the new history.
        progress: called with the number of rows just embedded.

    Raises:
        HistoryOwned: another process has the history open.
        HistoryError, EmbedderError: it cannot be replaced; what was set aside is named.
    """
    place = _Place(setting, state_dir / FOLDER / "chroma")
    with contextlib.ExitStack() as undo:
        if setting == EMBEDDED:
            undo.callback(own(state_dir / FOLDER))
        rows = _salvage(place, embedder)
        kept = [row for row in rows or () if row[1] is not None or row[0].text]
        vectors = _embed(kept, embedder, progress)
        place.set_aside()
        try:
            with place.opened() as client:
                rows_anew = ChromaRows(client, embedder, shared=setting != EMBEDDED)
                history = History(rows_anew, dimension=embedder.dimension, store_text=True)
                history.add([record for record, _ in kept], vectors)
        except HistoryError as error:
            raise HistoryError(f"{error}; the old history lies in {place.aside}") from error
        if rows is None:
            return RebuildReport(0, 0, place.aside)
        place.discard()
        return RebuildReport(len(kept), len(rows) - len(kept), None)


class _Place:
    """Where a history lies, is set aside under another name, and is removed there."""

    def __init__(self, setting: str, folder: Path) -> None:
        self._url, self._folder = None if setting == EMBEDDED else setting, folder
        stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
        self._name = f"old-{stamp}-{secrets.token_hex(2)}"
        #: Where the old history lies once it is set aside.
        self.aside = f"{NAME}-{self._name}" if self._url else str(folder.with_name(self._name))

    def is_sound(self) -> bool:
        """Whether vectors can be read without a crash."""
        return self._url is not None or is_sound(self._folder)

    @contextlib.contextmanager
    def opened(self) -> Iterator[Any]:
        client = open_server(self._url) if self._url else open_folder(self._folder, check=False)
        try:
            yield client
        finally:
            close_client(client)

    def set_aside(self) -> None:
        if self._url:
            with self.opened() as client, translated():
                for name in _names(client):
                    old = client.get_collection(name, embedding_function=None)
                    old.modify(name=f"{name}-{self._name}")
        elif self._folder.exists():
            with translated():
                self._folder.rename(self.aside)

    def discard(self) -> None:
        if self._url:
            with self.opened() as client, translated():
                for name in _names(client, f"-{self._name}"):
                    client.delete_collection(name)
        else:
            shutil.rmtree(self.aside, ignore_errors=True)


def _names(client: Any, suffix: str = "") -> list[str]:
    """The history's collections that there are; of a row in both, that in the last one counts."""
    there = {str(getattr(each, "name", each)) for each in client.list_collections()}
    return [name for name in (UNJUDGED + suffix, NAME + suffix) if name in there]


def _salvage(place: _Place, embedder: Embedder) -> list[Given] | None:
    """The old rows with their vectors, as far as they can be used; None if nothing can be read."""
    try:
        with place.opened() as client, translated():
            mine = {"embedder": embedder.name, "dimension": embedder.dimension}
            sound = place.is_sound()
            rows: dict[str, Given] = {}
            for name in _names(client):
                old = client.get_collection(name, embedding_function=None)
                same = sound and mine.items() <= (old.metadata or {}).items()
                ids = list(old.get(include=[])["ids"])
                for start in range(0, len(ids), PAGE):
                    got = old.get(ids=ids[start : start + PAGE], include=["metadatas"])
                    vectors = _vectors(old, got["ids"]) if same else {}
                    for at, metadata in zip(got["ids"], got["metadatas"], strict=True):
                        if (record := read_row(at, metadata)) is None:
                            continue
                        # What is read of a long text changes with versions.
                        vector = None if len(record.text) > LONG else vectors.get(at)
                        rows[record.id] = record, vector
            return list(rows.values())
    except HistoryError as error:
        log.warning("the old history cannot be read: %s", error)
        return None


def _vectors(rows: Any, ids: list[str]) -> dict[str, Embeddings]:
    """Vectors by id; none where the index is damaged, while the rows themselves may be whole."""
    try:
        with translated():
            got = rows.get(ids=ids, include=["embeddings"])
            return dict(zip(got["ids"], np.asarray(got["embeddings"], np.float32), strict=True))
    except HistoryError:
        return {}


def _embed(
    rows: list[Given],
    embedder: Embedder,
    progress: Callable[[int], None],
) -> Embeddings:
    """(n, d): the vectors at hand, the others made from their texts."""
    vectors = [vector for _, vector in rows]
    bare = [at for at, vector in enumerate(vectors) if vector is None]
    for start in range(0, len(bare), PAGE):
        part = bare[start : start + PAGE]
        made = embedder.embed([rows[at][0].text for at in part])
        for at, vector in zip(part, made, strict=True):
            vectors[at] = vector
        progress(len(part))
    return np.array(vectors, dtype=np.float32).reshape(len(rows), embedder.dimension)
