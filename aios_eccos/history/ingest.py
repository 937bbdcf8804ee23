"""Records into the history: from files, and from the inbox that other processes put them in."""

from __future__ import annotations

import dataclasses
import itertools
import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from aios_eccos.errors import DataError, EccosError, HistoryError, raised
from aios_eccos.history.dataset import read_records
from aios_eccos.history.embed.embedding import BackgroundEmbedder, Embedder
from aios_eccos.history.history import History
from aios_eccos.history.merge import storable
from aios_eccos.history.rows import Message, decode_message, encode_records
from aios_eccos.history.store import Changes, Embeddings
from aios_eccos.records import Record
from aios_eccos.workload.store import Inbox

log = logging.getLogger("aios_eccos.history")

#: Records embedded and stored together, so that an interrupted run keeps what it has done.
BATCH = 512
#: Records and bytes in one message of the inbox (a longer record has one for itself).
MESSAGE, MESSAGE_BYTES = 64, 1 << 20
Made = TypeVar("Made")
#: Gives what is kept of a final answer.
Key = Callable[[str], str]
#: Stored and removed again, to tell a store that is down from a record that cannot be stored.
TRIAL = Record("aios-eccos/trial", "trial", 0, (), source="live", agent="aios-eccos/trial")


@dataclass(frozen=True, slots=True)
class IngestReport:
    """What became of the rows of some files, see `Changes`.

    `bad` are rows (or whole files) that were left out: file, line and reason of each.
    """

    added: int
    updated: int
    unchanged: int
    bad: tuple[DataError, ...]
    renamed: tuple[tuple[str, str], ...] = ()


def ingest(
    paths: Iterable[Path],
    store: History,
    embedder: Embedder,
    *,
    splits: Collection[str] | None = None,
    progress: Callable[[int], None] = lambda rows: None,
    key: Key | None = None,
) -> IngestReport:
    """Read data sets into the history; a bad row is left out and named, the rest is kept.

    Args:
        splits: only rows of these splits; None takes all.
        progress: called with the number of rows just done.
        key: what is stored of a final answer (see `verdicts.keys`); None stores nothing.

    Raises:
        HistoryError, EmbedderError: nothing more can be stored.
    """

    def embed(records: Sequence[Record]) -> Embeddings:
        return embedder.embed([record.text for record in records])

    return _pass_on(paths, embed, store.add, splits, progress, key)


def hand_over(
    paths: Iterable[Path],
    inbox: Inbox,
    *,
    splits: Collection[str] | None = None,
    progress: Callable[[int], None] = lambda rows: None,
    key: Key | None = None,
) -> IngestReport:
    """Like `ingest`, for a history that another process owns: it finds the records in its inbox.

    All good rows count as added, since only the owner knows which it has.
    """

    def put(records: Sequence[Record], nothing: None) -> Changes:
        push_records(records, inbox)
        return Changes(added=len(records))

    return _pass_on(paths, lambda records: None, put, splits, progress, key)


def push_records(records: Sequence[Record], inbox: Inbox) -> None:
    """Hand records to the process that owns the history; a verdict is a record without text."""
    part: list[Record] = []
    size = 0
    for record in map(storable, records):
        length = len(encode_records([record]))
        if part and (len(part) == MESSAGE or size + length > MESSAGE_BYTES):
            inbox.push_inbox([encode_records(part)])
            part, size = [], 0
        part.append(record)
        size += length
    if part:
        inbox.push_inbox([encode_records(part)])


def _pass_on(
    paths: Iterable[Path],
    prepare: Callable[[Sequence[Record]], Made],
    put: Callable[[Sequence[Record], Made], Changes],
    splits: Collection[str] | None,
    progress: Callable[[int], None],
    key: Key | None,
) -> IngestReport:
    bad: list[DataError] = []
    changes, rows = Changes(), 0

    def good() -> Iterator[Record]:
        for row in itertools.chain.from_iterable(map(_rows, paths)):
            if isinstance(row, DataError):
                bad.append(row)
            elif splits is None or row.split in splits:
                yield _keyed(row, key)
                continue
            progress(1)

    records = good()
    batches = iter(lambda: list(itertools.islice(records, BATCH)), [])
    for batch, prepared in _ahead(batches, prepare):
        changes, rows = changes + put(batch, prepared), rows + len(batch)
        progress(len(batch))
    return IngestReport(
        changes.added, changes.updated, rows - changes.total, tuple(bad), changes.renamed
    )


def _ahead(
    batches: Iterable[Sequence[Record]], prepare: Callable[[Sequence[Record]], Made]
) -> Iterator[tuple[Sequence[Record], Made]]:
    """Each batch, prepared while the one before it is stored."""
    with ThreadPoolExecutor(1, "eccos-ingest") as thread:
        before: tuple[Sequence[Record], Future[Made]] | None = None
        for batch in batches:
            coming = batch, thread.submit(prepare, batch)
            if before is not None:
                yield before[0], before[1].result()
            before = coming
        if before is not None:
            yield before[0], before[1].result()


def _keyed(record: Record, key: Key | None) -> Record:
    """The record with keys in place of its answers."""
    answers = [outcome.answer for outcome in record.outcomes]
    keys = [None if key is None or answer is None else key(answer) for answer in answers]
    outcomes = zip(record.outcomes, keys, strict=True)
    return dataclasses.replace(
        record, outcomes=tuple(dataclasses.replace(o, answer=answer) for o, answer in outcomes)
    )


def _rows(path: Path) -> Iterator[Record | DataError]:
    try:
        yield from read_records(path)
    except DataError as error:
        yield error


def drain_inbox(
    inbox: Inbox,
    store: History,
    embedder: Embedder | BackgroundEmbedder,
    *,
    go_on: Callable[[], bool] = lambda: True,
) -> int:
    """Store what other processes have handed over; returns how many records changed.

    A record without text carries verdicts, which wait in the store where they come before their
    record. A wish to forget an agent is carried out. What alone cannot be carried out is set aside
    and logged, and keeps nothing else out. What was taken is acknowledged once it is stored, so
    that nothing is lost in a crash between the two (storing twice changes nothing).

    Args:
        go_on: asked before each message; False: no further one is taken.

    Raises:
        HistoryError, EmbedderError: nothing can be stored now; the messages stay.
    """
    changed = 0
    while go_on() and (messages := inbox.take_inbox(1)):
        refused: list[tuple[bytes, EccosError]] = []
        for raw in messages:
            changed += _take_in(raw, store, embedder, refused)
        for _, fault in refused:
            log.warning("set aside: %s", fault)
        if refused:
            inbox.set_aside([raw for raw, _ in refused])
        inbox.ack_inbox()
    return changed


def _take_in(
    raw: bytes,
    store: History,
    embedder: Embedder | BackgroundEmbedder,
    refused: list[tuple[bytes, EccosError]],
) -> int:
    """Carry out a message, and add what of it cannot be to `refused`; returns like `_carry_out`."""
    try:
        message = decode_message(raw)
    except DataError as error:
        refused.append((raw, error))
        return 0
    refused += message.refused
    try:
        return _carry_out(message, store, embedder)
    except Exception:  # noqa: BLE001 - a text may bring any fault out of a library
        _try_out(store, embedder)
    changed = 0
    for part in [Message((record,)) for record in message.records] or [message]:
        try:
            changed += _carry_out(part, store, embedder)
        except Exception as error:  # noqa: BLE001 - as above
            _try_out(store, embedder)
            what = f"record {part.records[0].id!r:.80}" if part.records else "a wish to forget"
            reason = error if isinstance(error, EccosError) else raised(error)
            alone = encode_records(part.records) if part.records else raw
            refused.append((alone, HistoryError(f"{what}: {reason}")))
    return changed


def _try_out(store: History, embedder: Embedder | BackgroundEmbedder) -> None:
    """Raise what keeps any record from being stored, if anything does."""
    store.add([TRIAL], embedder.embed([TRIAL.text]))
    store.forget(agent=TRIAL.agent)


def _carry_out(message: Message, store: History, embedder: Embedder | BackgroundEmbedder) -> int:
    """Returns how many records changed."""
    if message.forget is not None:
        return store.forget(agent=message.forget)
    whole = [record for record in message.records if record.text]
    changed = 0
    if whole:
        changed = store.add(whole, embedder.embed([record.text for record in whole])).total
    for record in message.records:
        if not record.text:
            verdicts = [o for o in record.outcomes if o.correctness is not None]
            known = [store.judge(record.id, o.model, o.correctness or 0.0) for o in verdicts]
            changed += any(known)
    return changed
