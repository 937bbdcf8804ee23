"""Makes an index of Chroma anew that a kill has torn. Only while nobody has the folder open.

Chroma keeps what it was given in a queue, which lies in its database. After every thousand changes
it writes its index, in place and thus not at once; then it notes the last change that is in there,
and clears the queue up to it. So nothing is lost when it is killed meanwhile: vectors of before lie
in the torn files, those of since in the queue. The former are put back into the queue, and Chroma,
which finds no index then, makes one of all.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
import sqlite3
from pathlib import Path

from aios_eccos.history.index import is_whole, vectors_of

log = logging.getLogger("aios_eccos.history")

#: Indexes and collections; the last change that each index holds, and that all of its rows show.
SEGMENTS = """
    SELECT v.id, v.collection, coalesce(i.seq_id, 0), coalesce(r.seq_id, 0), m.id
    FROM segments v JOIN segments m ON m.collection = v.collection AND m.scope = 'METADATA'
    LEFT JOIN max_seq_id i ON i.segment_id = v.id LEFT JOIN max_seq_id r ON r.segment_id = m.id
    WHERE v.scope = 'VECTOR'"""
QUEUED = "SELECT DISTINCT topic FROM embeddings_queue WHERE topic LIKE ? AND seq_id > ?"
NAMED = "SELECT embedding_id FROM embeddings WHERE segment_id = ?"
#: Ids whose vectors lie in the queue.
GIVEN = "SELECT id FROM embeddings_queue WHERE topic = ? AND seq_id > ? AND vector IS NOT NULL"
CLEAR = "DELETE FROM embeddings_queue WHERE topic = ? AND seq_id <= ?"
#: Puts a vector; 2 is Chroma's number of an upsert.
PUT = """INSERT INTO embeddings_queue (seq_id, operation, topic, id, vector, encoding)
    VALUES (?, 2, ?, ?, ?, 'FLOAT32')"""


def mend(folder: Path) -> None:
    """Let Chroma make each index anew that was never written as a whole, or is torn.

    It lays the former out anew whenever it opens the folder, and may be killed at that, too. What
    is damaged otherwise, so that rows would be lost, is left as it is.
    """
    path = folder / "chroma.sqlite3"
    if not path.exists():
        return
    try:
        with contextlib.closing(sqlite3.connect(path, timeout=10.0)) as database:
            for name, collection, written, shown, rows in database.execute(SEGMENTS).fetchall():
                index = next((each for each in folder.iterdir() if each.name == name), None)
                if index is None or (written and is_whole(index)):
                    continue
                if not written or _requeue(database, index, collection, written, shown, rows):
                    shutil.rmtree(index, ignore_errors=True)
    except (sqlite3.Error, OSError, ValueError) as error:
        # A damaged database, or one that has just been begun: Chroma says so.
        log.debug("no index is made anew: %s", error)


def _requeue(
    database: sqlite3.Connection, index: Path, collection: str, written: int, shown: int, rows: str
) -> bool:
    """Put an index's vectors into the queue, before what is there; False where some are missing."""
    topics = database.execute(QUEUED, (f"%/{collection}", written)).fetchall()
    if len(topics) != 1 or shown < written:
        return False
    ((topic,),) = topics
    vectors = vectors_of(index)
    named = {str(row[0]) for row in database.execute(NAMED, (rows,))}
    given = {str(row[0]) for row in database.execute(GIVEN, (topic, written))}
    if not named <= vectors.keys() | given:
        return False
    log.warning("the index in %s was torn by a kill; it is made anew", index)
    with database:
        database.execute(CLEAR, (topic, written))
        taken = {row[0] for row in database.execute("SELECT seq_id FROM embeddings_queue")}
        free = (number for number in range(1, written + 1) if number not in taken)
        put = (
            (next(free), topic, each, vectors[each].tobytes()) for each in vectors if each in named
        )
        database.executemany(PUT, put)
        database.execute("DELETE FROM max_seq_id WHERE segment_id = ?", (index.name,))
    return True
