"""Looks over the files of Chroma's index before Chroma does, which a damaged one would crash.

Chroma reads its HNSW index without checks: a file that was cut off, or links that lead nowhere,
end the process with a segmentation fault, and with it the kernel. The layout is that of hnswlib
with `persist` (github.com/chroma-core/hnswlib, hnswalg.h, persistDirty).
"""

from __future__ import annotations

import contextlib
import math
import shutil
import sqlite3
import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

#: The file format that is understood; another one is left to Chroma.
FORMAT = 1
HEADER = "<i6qiI3qdq"
#: Room that Chroma keeps for more elements, and the longest candidate list, at the very most.
SPARE = 1 << 20
#: Segments of vectors up to whose last record nothing was written.
UNWRITTEN = """SELECT id FROM segments WHERE scope = 'VECTOR'
    AND id NOT IN (SELECT segment_id FROM max_seq_id WHERE seq_id > 0)"""


def remove_unwritten(folder: Path) -> None:
    """Remove each index that Chroma has never written as a whole; its rows are in the database.

    Chroma lays such an index out anew whenever it opens the folder, and first writes it after a
    thousand changes. Who is killed meanwhile leaves files that are cut off, though nothing is lost.
    """
    path = folder / "chroma.sqlite3"
    if not path.exists():
        return
    try:
        with contextlib.closing(sqlite3.connect(path, timeout=10.0)) as database:
            unwritten = {row[0] for row in database.execute(UNWRITTEN)}
    except sqlite3.Error:
        return  # a damaged database, or one that has just been begun: Chroma says so
    for index in folder.iterdir():
        if index.name in unwritten:
            shutil.rmtree(index, ignore_errors=True)


def is_sound(folder: Path) -> bool:
    """Whether every index below an embedded Chroma's folder can be read without a crash."""
    return all(_fits(header.parent, header.read_bytes()) for header in folder.glob("*/header.bin"))


def _fits(folder: Path, header: bytes) -> bool:
    if len(header) != struct.calcsize(HEADER):
        return False
    version, start, most, count, size, label, vector, level, entry, upper, lower, m, mult, ef = (
        struct.unpack(HEADER, header)
    )
    if version != FORMAT:
        return True
    shaped = (
        (start, label, vector) == (0, size - 8, 4 * (lower + 1))
        and (upper, lower) == (m, 2 * m)
        and 0 <= count <= most <= 4 * count + SPARE
        and 2 <= m <= 1024
        and abs(mult * math.log(m) - 1) < 1e-6
        and 0 < ef < SPARE
        and size > label - vector > 0
    )
    try:
        links = (folder / "link_lists.bin").read_bytes()
        sizes = [(folder / name).stat().st_size for name in ("data_level0.bin", "length.bin")]
    except FileNotFoundError:
        return False
    held = sizes[1] // 4  # it is laid out for a hundred elements, though fewer may come
    if not shaped or not count <= held <= most or sizes != [held * size, 4 * held]:
        return False
    if count == 0:
        return True
    data = np.memmap(folder / "data_level0.bin", mode="r", shape=(count, size))
    level0 = np.ascontiguousarray(data[:, :vector]).view("<u4")
    levels = _levels(links, count, 4 * (upper + 1))
    return (
        entry < count
        and levels is not None
        and levels[entry] == level == max(levels)
        and _lead_somewhere(level0, count)
        and _lead_somewhere(_upper_links(links, levels, upper), count)
    )


def _lead_somewhere(links: NDArray[np.uint32], count: int) -> bool:
    """Whether each row, a number of links and the links, names elements that exist."""
    used = links[:, :1] & 0xFFFF
    places = np.arange(links.shape[1] - 1)
    return bool((used <= len(places)).all() and (links[:, 1:][places < used] < count).all())


def _levels(links: bytes, count: int, block: int) -> list[int] | None:
    """Levels above the lowest of each element, which has a length in bytes and that many bytes."""
    at = 0
    levels: list[int] = []
    while len(levels) < count and at + 4 <= len(links):
        (length,) = struct.unpack_from("<I", links, at)
        if length % block:
            return None
        levels.append(length // block)
        at += 4 + length
    return levels if len(levels) == count and at == len(links) else None


def _upper_links(links: bytes, levels: list[int], upper: int) -> NDArray[np.uint32]:
    """The links of all elements on the upper levels, a row for each element and level."""
    ends = 4 * np.cumsum(1 + np.array(levels) * (upper + 1))
    rows = [links[end - 4 * n * (upper + 1) : end] for end, n in zip(ends, levels, strict=True)]
    return np.frombuffer(b"".join(rows), dtype="<u4").reshape(-1, upper + 1)
