"""Files are replaced whole or not at all, locks end with their process, folders are private."""

from __future__ import annotations

import multiprocessing
import os
import stat
import threading
from pathlib import Path

import pytest

from aios_eccos import files


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("synced", [False, True])
def test_a_file_is_replaced_and_nothing_is_left_beside_it(tmp_path: Path, synced: bool) -> None:
    path = tmp_path / "note.json"
    files.write(path, "größe", synced=synced)
    files.write(path, b"second", synced=synced)
    assert path.read_bytes() == b"second"
    assert [*tmp_path.iterdir()] == [path]


def test_a_body_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    files.write(path, "old")

    def fail() -> None:
        with files.replacing(path) as part:
            part.write_text("half")
            raise OSError("no space left")

    with pytest.raises(OSError, match="no space"):
        fail()
    assert path.read_text() == "old"
    assert [*tmp_path.iterdir()] == [path]


def test_permissions_are_private_at_first_and_kept_afterwards(tmp_path: Path) -> None:
    path, open_path = tmp_path / "secret", tmp_path / "open"
    files.write(path, "1")
    files.write(open_path, "1", mode=0o644)
    assert (mode_of(path), mode_of(open_path)) == (0o600, 0o644)
    path.chmod(0o640)
    files.write(path, "2")
    assert mode_of(path) == 0o640


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="root alone can")
def test_what_root_replaces_stays_its_owners(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    files.write(path, "1")
    os.chown(path, 4321, 8765)
    path.chmod(0o640)
    files.write(path, "2")
    assert (path.stat().st_uid, path.stat().st_gid, mode_of(path)) == (4321, 8765, 0o640)


def test_what_a_kill_has_left_keeps_no_later_process_of_the_same_number_from_writing(
    tmp_path: Path,
) -> None:
    path = tmp_path / "note.json"
    with files.replacing(path) as part:
        left = part.name
    (tmp_path / left).touch()
    files.write(path, "new")
    assert path.read_text() == "new"


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    real, link = tmp_path / "real", tmp_path / "link"
    files.write(real, "old")
    link.symlink_to(real)
    files.write(link, "new")
    assert link.is_symlink()
    assert real.read_text() == "new"


def test_threads_that_write_one_file_leave_one_of_their_contents(tmp_path: Path) -> None:
    path = tmp_path / "note"
    texts = [str(n) * 100_000 for n in range(8)]
    threads = [threading.Thread(target=files.write, args=(path, text)) for text in texts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert path.read_text() in texts
    assert [*tmp_path.iterdir()] == [path]


def test_a_file_that_cannot_be_written_raises(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        files.write(tmp_path / "missing" / "note", "1")


def test_all_folders_that_are_made_are_private(tmp_path: Path) -> None:
    inner = files.private_dir(tmp_path / "a" / "b" / "c")
    assert {mode_of(folder) for folder in (inner, inner.parent, inner.parent.parent)} == {0o700}
    assert files.private_dir(inner) == inner


def test_a_lock_is_held_by_one_or_shared_by_many(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    held = files.lock(path)
    assert held is not None
    assert files.lock(path) is None
    assert files.lock(path, shared=True, wait_s=0.02) is None
    assert not files.is_free(path)
    os.close(held)
    assert files.is_free(path)
    readers = [files.lock(path, shared=True) for _ in range(2)]
    assert None not in readers
    assert files.lock(path) is None
    for reader in readers:
        os.close(reader or 0)
    assert files.is_free(path)
    assert mode_of(path) == 0o600


def test_a_lock_is_waited_for_and_given_back_whatever_happens(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    order: list[str] = []
    inside, leave = threading.Event(), threading.Event()

    def first() -> None:
        with files.locked(path):
            inside.set()
            leave.wait(60)
            order.append("first")

    thread = threading.Thread(target=first)
    thread.start()
    assert inside.wait(60)
    with (
        pytest.raises(TimeoutError, match=r"another process holds .*lock"),
        files.locked(path, wait_s=0.02),
    ):
        order.append("never")
    leave.set()
    with files.locked(path, wait_s=60):
        order.append("second")
    thread.join()
    assert order == ["first", "second"]
    with pytest.raises(ValueError, match="x"), files.locked(path):
        raise ValueError("x")
    assert files.is_free(path)


def test_a_lock_ends_with_its_process(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    context = multiprocessing.get_context("spawn")
    child = context.Process(target=files.lock, args=(path,))
    child.start()
    child.join()
    assert path.exists()
    assert files.is_free(path)
