"""One process owns the embedded history; the others hand their records to it."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from history_world import ToyEmbedder, record, some_records, vectors

from aios_eccos.errors import EmbedderError, HistoryError, HistoryOwned
from aios_eccos.history.ingest import drain_inbox, push_records
from aios_eccos.history.memory import MemoryHistory
from aios_eccos.history.open import open_history
from aios_eccos.history.rows import encode_forget, encode_records
from aios_eccos.history.store import Changes, Embeddings
from aios_eccos.records import Outcome, Record, Signals

OWNER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from history_world import ToyEmbedder, some_records, vectors
from aios_eccos.history.open import open_history
store = open_history("embedded", Path(sys.argv[1]), ToyEmbedder())
store.add(some_records(5), vectors(5))
print("open", flush=True)
sys.stdin.readline()
store.close()
print("closed", flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def owner(tmp_path: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(tmp_path), str(Path(__file__).parent)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "open\n"
    return process


def end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


def test_a_second_process_is_told_who_owns_it(owner: subprocess.Popen[str], tmp_path: Path) -> None:
    try:
        with pytest.raises(HistoryOwned, match=f"process {owner.pid} owns"):
            open_history("embedded", tmp_path, ToyEmbedder())
        assert owner.stdin is not None
        assert owner.stdout is not None
        owner.stdin.write("\n")
        owner.stdin.flush()
        assert owner.stdout.readline() == "closed\n"
        store = open_history("embedded", tmp_path, ToyEmbedder())
        assert store.count() == 5
        store.close()
    finally:
        end(owner)


def test_a_killed_owner_leaves_the_history_free_and_whole(
    owner: subprocess.Popen[str], tmp_path: Path
) -> None:
    end(owner)
    store = open_history("embedded", tmp_path, ToyEmbedder())
    assert store.count() == 5
    assert store.add(some_records(5), vectors(5)).total == 0
    store.close()


def test_the_same_process_cannot_open_it_twice(tmp_path: Path) -> None:
    store = open_history("embedded", tmp_path, ToyEmbedder())
    with pytest.raises(HistoryOwned):
        open_history("embedded", tmp_path, ToyEmbedder())
    store.close()
    open_history("embedded", tmp_path, ToyEmbedder()).close()


def test_a_disk_that_was_full_leaves_no_owner(tmp_path: Path) -> None:
    def full(*text: object) -> int:
        raise OSError(errno.ENOSPC, "no space left")

    with pytest.MonkeyPatch.context() as patch, pytest.raises(HistoryError, match="no space left"):
        patch.setattr(Path, "write_text", full)
        open_history("embedded", tmp_path, ToyEmbedder())
    open_history("embedded", tmp_path, ToyEmbedder()).close()


class ListInbox:
    """An inbox that keeps what was taken until it is acknowledged."""

    def __init__(self) -> None:
        self.messages: list[bytes] = []
        self.taken = 0
        self.aside: list[bytes] = []

    def push_inbox(self, payloads: list[bytes]) -> None:
        self.messages += payloads

    def take_inbox(self, most: int) -> list[bytes]:
        self.taken = min(most, len(self.messages))
        return self.messages[:most]

    def ack_inbox(self) -> None:
        del self.messages[: self.taken]

    def set_aside(self, payloads: list[bytes]) -> None:
        self.aside += payloads


def full_record() -> Record:
    outcome = Outcome("small", 0.5, 7, 1.25, None, "an 'answer' ☃")
    third = Outcome("third", None, 9, signals=Signals(valid_json=False, empty=False))
    return record("ключ", outcome, Outcome("large", None, None, None, "429"), third, agent="ann")


def test_records_come_through_the_inbox_whole() -> None:
    inbox, store, embedder = ListInbox(), MemoryHistory(), ToyEmbedder()
    sent = [full_record(), *some_records(200)]
    push_records(sent, inbox)
    assert len(inbox.messages) > 2
    assert drain_inbox(inbox, store, embedder) == 201
    assert inbox.messages == []
    table = store.table()
    assert table.correctness[table.ids.index("ключ")].tolist()[1] == 0.5
    direct = MemoryHistory()
    direct.add(sent, embedder.embed([r.text for r in sent]))
    assert direct.table().texts == table.texts
    assert drain_inbox(inbox, store, embedder) == 0


def test_what_was_not_acknowledged_comes_again() -> None:
    inbox, store = ListInbox(), MemoryHistory()
    push_records([full_record()], inbox)
    inbox.take_inbox(8)
    assert drain_inbox(inbox, store, ToyEmbedder()) == 1
    push_records([full_record()], inbox)
    assert drain_inbox(inbox, store, ToyEmbedder()) == 0


def test_a_verdict_comes_through_the_inbox() -> None:
    inbox, store, embedder = ListInbox(), MemoryHistory(), ToyEmbedder()
    store.add([record("a", Outcome("small", None, 9))], vectors(1))
    said = [Record(name, "", 0, (Outcome("small", 0.75),)) for name in ("a", "unknown")]
    push_records(said, inbox)
    assert drain_inbox(inbox, store, embedder) == 1
    assert store.count() == 1
    assert store.table().correctness[0, 0] == 0.75
    assert embedder.embedded == []


def test_a_verdict_that_overtakes_its_record_is_kept_for_it() -> None:
    inbox, store, embedder = ListInbox(), MemoryHistory(), ToyEmbedder()
    push_records([Record("call", "", 0, (Outcome("small", 0.75),), source="live")], inbox)
    assert drain_inbox(inbox, store, embedder) == 0
    store.add([record("call", Outcome("small", None, 9), source="live")], vectors(1))
    assert store.table().correctness.tolist() == [[0.75]]
    push_records([record("q", text="q"), Record("p", "", 0, (Outcome("small", 1.0),))], inbox)
    push_records([record("p", Outcome("small", None, 9), text="p")], inbox)
    drain_inbox(inbox, store, embedder)
    table = store.table()
    assert table.correctness[table.ids.index("p")].tolist() == [1.0]


def test_a_wish_to_forget_comes_through_the_inbox() -> None:
    inbox, store = ListInbox(), MemoryHistory()
    push_records([full_record(), record("other", agent="bob")], inbox)
    inbox.push_inbox([encode_forget("ann")])
    drain_inbox(inbox, store, ToyEmbedder())
    assert store.table().ids == ("other",)


def handed(**changes: object) -> bytes:
    """A record as another program might write it into the inbox."""
    (row,) = json.loads(encode_records([record("bad", text="a question")]))
    return json.dumps([{**row, **changes}]).encode()


POISON = {
    "nothing": b"",
    "no UTF-8": b"\xff\xfe",
    "neither records nor a wish": b"{}",
    "a number": b"17",
    "a text": b'"text"',
    "deep": b"[" * 100_000,
    "digits without end": b"9" * 10_000,
    "a list of numbers": b"[1]",
    "no text": b'[{"id": 1}]',
    "a wish that is no name": b'{"forget": {"$ne": 1}}',
    "a wish that no agent's name fits": encode_forget("\udcff"),
    "an empty record": b"[{}]",
    "half a character in the text": handed(text="cut \ud83d"),
    "half a character in the agent": handed(agent="\udcff"),
    "half a character in the id": handed(id="\udcff"),
    "no id": handed(id=""),
    "text that is none": handed(text=None),
    "text that is a list": handed(text=["a"]),
    "tokens beyond measure": handed(input_tokens=10**23),
    "tokens without end": handed(input_tokens=float("inf")),
    "tokens below zero": handed(input_tokens=-1),
    "a time that is none": handed(created="now"),
    "outcomes cut off": handed(outcomes="["),
    "outcomes of another shape": handed(outcomes='[["m",1,2,3,4,5,6,7,8,9,10,11]]'),
    "a grade out of range": handed(outcomes='[["m",1.5]]'),
    "a grade that is a word": handed(outcomes='[["m","good"]]'),
    "a model that is a number": handed(outcomes="[[3,1.0]]"),
    "a verdict out of range": handed(text="", outcomes='[["m",1.5]]'),
}


@pytest.mark.parametrize("poison", POISON)
def test_one_bad_message_keeps_nothing_else_out(
    poison: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    inbox, store = ListInbox(), open_history("embedded", tmp_path, ToyEmbedder())
    inbox.push_inbox([POISON[poison]])
    push_records([full_record()], inbox)
    assert drain_inbox(inbox, store, ToyEmbedder()) == 1
    assert inbox.messages == []
    assert store.table().ids == ("ключ",)
    assert "set aside" in caplog.text or "dropped" in caplog.text or "wish that no" in poison
    assert "a question" not in caplog.text, "no log shows a prompt"
    store.close()


def test_one_bad_record_keeps_none_of_its_message_out() -> None:
    inbox, store = ListInbox(), MemoryHistory()
    good = json.loads(encode_records(some_records(3)))
    (bad,) = json.loads(handed(input_tokens=-1))
    inbox.push_inbox([json.dumps([*good[:2], bad, good[2]]).encode()])
    assert drain_inbox(inbox, store, ToyEmbedder()) == 3
    assert [json.loads(message) for message in inbox.aside] == [[bad]]


class Failing(ToyEmbedder):
    """Out of order as long as it is told so."""

    broken = True

    def embed(self, texts: Sequence[str]) -> Embeddings:
        if self.broken:
            raise EmbedderError("out of order")
        return super().embed(texts)


def test_what_cannot_be_stored_now_stays() -> None:
    inbox, store, embedder = ListInbox(), MemoryHistory(), Failing()
    push_records([full_record()], inbox)
    for _ in range(2):
        with pytest.raises(EmbedderError):
            drain_inbox(inbox, store, embedder)
    embedder.broken = False
    assert drain_inbox(inbox, store, embedder) == 1


class Faulty(MemoryHistory):
    """A store that is down for what it is told, and says what it holds."""

    def __init__(self, bad: str = "", down: bool = False) -> None:
        super().__init__()
        self.bad, self.down = bad, down

    def add(self, records: Sequence[Record], embeddings: Embeddings | None = None) -> Changes:
        if self.down or any(r.id == self.bad for r in records):
            raise HistoryError("cannot be written")
        return super().add(records, embeddings)

    def judge(self, record_id: str, model: str, correctness: float) -> bool:
        if self.down or record_id == self.bad:
            raise HistoryError("cannot be written")
        return super().judge(record_id, model, correctness)

    def forget(self, *, agent: str) -> int:
        if self.down or agent == self.bad:
            raise HistoryError("cannot be removed")
        return super().forget(agent=agent)


class Choosy(ToyEmbedder):
    """Fails on one text."""

    def __init__(self, fault: Exception) -> None:
        super().__init__()
        self.fault = fault

    def embed(self, texts: Sequence[str]) -> Embeddings:
        if "text of bad" in texts:
            raise self.fault
        return super().embed(texts)


BAD_VERDICT = Record("bad", "", 0, (Outcome("small", 1.0),))
ALONE = {
    "a record that the store refuses": ([record("bad")], {}),
    "a verdict that the store refuses": ([BAD_VERDICT], {}),
    "an agent that the store cannot forget": (encode_forget("bad"), {}),
    "a text that the embedder refuses": ([record("bad")], {"fault": EmbedderError("no")}),
    "a text that breaks a library": ([record("bad")], {"fault": RuntimeError("text of bad")}),
    "one of a full message": ([*some_records(40), record("bad")], {"fault": IndexError()}),
}


@pytest.mark.parametrize("kind", ALONE)
def test_what_alone_cannot_be_stored_is_set_aside_alone(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    sent, fault = ALONE[kind]
    store, embedder = Faulty("" if fault else "bad"), Choosy(**fault) if fault else ToyEmbedder()
    inbox = ListInbox()
    if isinstance(sent, bytes):
        inbox.push_inbox([sent])
    else:
        push_records(sent, inbox)
    bad = sent if isinstance(sent, bytes) else encode_records(sent[-1:])
    drain_inbox(inbox, store, embedder)
    assert (inbox.messages, inbox.aside) == ([], [bad]), "it blocks no message that comes later"
    assert "set aside: record 'bad'" in caplog.text or "set aside: a wish" in caplog.text
    assert "text of bad" not in caplog.text, "no log shows a prompt"
    assert store.count() == (40 if len(sent) == 41 else 0), "and no trace of the trial is left"
    push_records([full_record()], inbox)
    assert drain_inbox(inbox, store, embedder) == 1


@pytest.mark.parametrize("after", [0, 1, 3])
def test_a_store_that_goes_down_throws_nothing_away(after: int) -> None:
    inbox, store = ListInbox(), Faulty()
    for each in some_records(5):
        push_records([each], inbox)
    inbox.push_inbox([encode_forget("bob")])

    class Breaking(ToyEmbedder):
        def embed(self, texts: Sequence[str]) -> Embeddings:
            store.down = store.down or len(self.embedded) >= after
            return super().embed(texts)

    for _ in range(3):
        with pytest.raises(HistoryError):
            drain_inbox(inbox, store, Breaking())
        store.down = True
    store.down = False
    drain_inbox(inbox, store, ToyEmbedder())
    assert (store.count(), inbox.messages, inbox.aside) == (5, [], [])


def test_messages_are_bounded_in_bytes() -> None:
    inbox, store = ListInbox(), MemoryHistory()
    push_records([record(f"r{i}", text=f"{i} " + "x" * 300_000) for i in range(20)], inbox)
    assert len(inbox.messages) > 5
    assert max(map(len, inbox.messages)) < 1_100_000
    assert drain_inbox(inbox, store, ToyEmbedder()) == 20
