"""Looks over the files of Chroma's index before Chroma does, which a damaged one would crash.

Chroma reads its HNSW index without checks: a file that was cut off, or links that lead nowhere,
end the process with a segmentation fault, and with it the kernel. The layout is that of hnswlib
with `persist` (github.com/chroma-core/hnswlib, hnswalg.h, persistDirty).
"""

from __future__ import annotations

import contextlib
import math
import os
import pickletools
import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aios_eccos import files

#: The file format that is understood; another one is left to Chroma.
FORMAT = 1
HEADER = "<i6qiI3qdq"
#: Room that Chroma keeps for more elements, and the longest candidate list, at the very most.
SPARE = 1 << 20
#: Which row of an index is which record's, and our copy of it; what a pickle ends with.
IDS, KEPT, STOP = "index_metadata.pickle", "index_metadata.kept", b"."


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


def is_whole(folder: Path) -> bool:
    """Whether an index, which Chroma has written once at least, was written to its end."""
    try:
        return _ends(folder / IDS) and _fits(folder, (folder / "header.bin").read_bytes())
    except FileNotFoundError:
        return False


def vectors_of(folder: Path) -> dict[str, NDArray[np.float32]]:
    """The (d,) vectors by id that an index had when it was last whole, though it is torn now.

    Chroma adds elements at the end. Of those before it writes other links, and vectors that lie in
    its queue as well.

    Raises:
        ValueError: they cannot be read.
    """
    header = (folder / "header.bin").read_bytes()
    if len(header) != struct.calcsize(HEADER):
        raise ValueError("the index's header is cut off")
    _, _, _, _, size, label, vector, *_ = struct.unpack(HEADER, header)
    count = (folder / "data_level0.bin").stat().st_size // size
    data = np.memmap(folder / "data_level0.bin", mode="r", shape=(count, size))
    labels = np.ascontiguousarray(data[:, label : label + 8]).view("<u8").ravel()
    vectors = np.ascontiguousarray(data[:, vector:label]).view("<f4")
    at = {int(name): row for row, name in enumerate(labels)}
    ids = folder / (IDS if _ends(folder / IDS) else KEPT)
    named = _unpickled(ids.read_bytes())["id_to_label"]
    return {name: vectors[at[known]] for name, known in named.items() if known in at}


def keep_ids(folder: Path) -> None:
    """Copy the ids of each index below an embedded Chroma's folder that were written since.

    Chroma writes them in place, too, and what is torn of them cannot be read.
    """
    with contextlib.suppress(OSError):
        for ids in folder.glob(f"*/{IDS}"):
            kept, times = ids.with_name(KEPT), (ids.stat().st_mtime_ns,) * 2
            known = kept.exists() and kept.stat().st_mtime_ns == times[0]
            if not known and _ends(ids):
                files.write(kept, ids.read_bytes())
                os.utime(kept, ns=times)


def _ends(ids: Path) -> bool:
    """Whether a pickle was written to its end."""
    with ids.open("rb") as file:
        file.seek(max(0, ids.stat().st_size - 1))
        return file.read() == STOP


def _unpickled(raw: bytes) -> dict[str, Any]:
    """A pickle of mappings, texts and numbers; read and not loaded, since loading can run code."""
    held: list[Any] = []
    marks: list[int] = []
    for operation, value, _ in pickletools.genops(raw):
        name = operation.name
        if name == "EMPTY_DICT":
            held.append({})
        elif name == "MARK":
            marks.append(len(held))
        elif name == "SETITEMS":
            at = marks.pop()
            held[at - 1].update(zip(held[at::2], held[at + 1 :: 2], strict=True))
            del held[at:]
        elif name in ("NONE", "BINUNICODE", "BININT", "BININT1", "BININT2", "LONG1"):
            held.append(value)
        elif name not in ("PROTO", "STOP"):
            raise ValueError(f"the index's ids hold {name}")
    found: dict[str, Any] = held.pop()
    return found


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
