"""Embedders: where they are found, what they compute, loading and caching them."""

from __future__ import annotations

import json
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from history_world import DIMENSION, ToyEmbedder, record
from waiting import until

from aios_eccos.errors import EmbedderError
from aios_eccos.history.embed import embedding, encoders
from aios_eccos.history.embed.cache import CachedEmbedder, EmbeddingCache
from aios_eccos.history.embed.embedding import BackgroundEmbedder, clean_text, find_embedder
from aios_eccos.history.embed.graph import Graph
from aios_eccos.history.embed.sentence import SentenceEmbedder
from aios_eccos.history.open import open_embedder, open_history
from aios_eccos.history.store import Embeddings

TEXTS = [
    "What is the capital of France?",
    "",
    "Compute 17 * 23.",
    "日本語 🙂 naïve",
    "word " * 600,
    "x" * 100_000,
    "Line one\nline two\ttabbed",
]


@pytest.fixture(scope="module")
def minilm() -> SentenceEmbedder:
    return SentenceEmbedder(find_embedder())


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Any connection but to a unix socket fails, and is noted."""
    tried: list[object] = []

    def refuse(self: socket.socket, address: object) -> None:
        tried.append(address)
        raise OSError("the network is blocked")

    for name in ("connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *a, **k: refuse(None, a))  # type: ignore[arg-type]
    return tried


# Finding.


def copy_of_minilm(folder: Path, *, changed: str = "") -> Path:
    """The model's folder, linked (it is 91 MB) but for the file that the test changes."""

    def place(source: str, target: str) -> None:
        if source.endswith(changed or "\0"):
            shutil.copyfile(source, target)
        else:
            Path(target).symlink_to(source)

    shutil.copytree(find_embedder().path, folder, copy_function=place)
    return folder


def test_the_package_carries_the_default_model() -> None:
    source = find_embedder()
    assert (source.name, source.found_in) == ("all-MiniLM-L6-v2", "package")
    assert find_embedder("sentence-transformers/all-MiniLM-L6-v2") == source


def test_a_configured_folder_comes_first(tmp_path: Path) -> None:
    source = find_embedder(str(copy_of_minilm(tmp_path / "mine")))
    assert (source.name, source.found_in) == ("mine", "configured path")


@pytest.mark.parametrize("setting", ["/no/such/folder", "./nowhere", "~/nowhere-at-all"])
def test_a_configured_folder_that_is_not_there(setting: str) -> None:
    with pytest.raises(EmbedderError, match="no such folder"):
        find_embedder(setting)


def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(embedding, "DEFAULT_PACKAGE", "no_such_package")
    return tmp_path


def put_into_hub(cache: Path, repository: str) -> Path:
    folder = cache / f"models--{repository.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("abc123")
    snapshot = folder / "snapshots" / "abc123"
    snapshot.mkdir(parents=True)
    (snapshot / "modules.json").write_text("[]")
    return snapshot


def test_the_hubs_cache_comes_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_network: list[object]
) -> None:
    cache = hub(tmp_path, monkeypatch)
    snapshot = put_into_hub(cache, "sentence-transformers/all-MiniLM-L6-v2")
    source = find_embedder()
    assert (source.path, source.found_in) == (snapshot, "hub cache")
    assert source.name == "all-MiniLM-L6-v2"
    mine = put_into_hub(cache, "someone/model")
    assert find_embedder("someone/model").path == mine
    assert no_network == []


def test_nothing_is_downloaded_unless_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_network: list[object]
) -> None:
    hub(tmp_path, monkeypatch)
    with pytest.raises(EmbedderError, match="doctor --fix"):
        find_embedder()
    assert no_network == []


def test_a_download_that_fails_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_network: list[object]
) -> None:
    hub(tmp_path, monkeypatch)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    with pytest.raises(EmbedderError, match="all-MiniLM-L6-v2"):
        find_embedder(allow_download=True)


@pytest.mark.parametrize(
    "setting",
    ["a//b", "a" * 5000, "/" + "a" * 5000, "~no-such-user/model", "a\0b", "a/\ud800", "?"],
)
def test_a_name_that_cannot_be_one_is_named(setting: str) -> None:
    with pytest.raises(EmbedderError, match="embedder") as told:
        find_embedder(setting)
    assert len(str(told.value)) < 1000


# Computing.


def test_rows_have_unit_length_whatever_the_text(minilm: SentenceEmbedder) -> None:
    found = minilm.embed([*TEXTS, "a\ud800b\0c"])
    assert (found.shape, found.dtype) == ((8, 384), np.float32)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1.0, atol=1e-5)


def test_the_engine_is_onnxruntime_and_torch_stays_out() -> None:
    """In a process of its own: others of these tests import torch."""
    code = (
        "import sys\n"
        "from aios_eccos.history.open import open_embedder\n"
        "from aios_eccos.history.open import open_history\n"
        "embedder = open_embedder()\n"
        "assert embedder.embed(['a']).shape == (1, 384)\n"
        "assert embedder.load().engine == 'onnxruntime'\n"
        "assert not {'torch', 'transformers', 'sentence_transformers'} & set(sys.modules)\n"
    )
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", code], check=True, cwd=root, timeout=60)


def cosines(ours: Embeddings, theirs: Embeddings) -> Embeddings:
    lengths = np.linalg.norm(ours, axis=1) * np.linalg.norm(theirs, axis=1)
    return np.asarray(np.sum(ours * theirs, axis=1) / lengths)


def in_32_bits(embedder: SentenceEmbedder) -> SentenceEmbedder:
    other = SentenceEmbedder(embedder.source)
    other._encoder = encoders._load_torch(embedder.source.path)
    return other


def test_vectors_are_near_those_of_sentence_transformers(minilm: SentenceEmbedder) -> None:
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(minilm.source.path), device="cpu", local_files_only=True)
    texts = [text for text in TEXTS if len(text) < 1000]
    theirs = model.encode(texts, normalize_embeddings=True, show_progress_bar=False)
    found = cosines(minilm.embed(texts), theirs)
    assert found.min() > 0.98 and found.mean() > 0.99
    np.testing.assert_allclose(in_32_bits(minilm).embed(texts), theirs, atol=1e-5)


def test_layers_of_8_bits_are_near_those_of_32(minilm: SentenceEmbedder) -> None:
    ours, theirs = (each.embed_with_layers(TEXTS)[1] for each in (minilm, in_32_bits(minilm)))
    for start in range(0, 4 * 384, 384):
        part = slice(start, start + 384)
        found = cosines(ours[:, part], theirs[:, part])
        assert found.min() > 0.98 and found.mean() > 0.99


def test_vectors_of_8_and_of_32_bits_find_the_same_neighbors(minilm: SentenceEmbedder) -> None:
    """So that a history whose vectors were made in 32 bits goes on being used."""
    things = ("list", "tree", "queue", "file", "string", "matrix")
    texts = [f"How do I {do} a {one} in Python?" for do in ("sort", "copy") for one in things]
    texts += [f"What is the {fact} of {place}?" for fact in ("capital", "area")
              for place in ("France", "Peru", "Japan", "Chad", "Norway", "Cuba")]  # fmt: skip
    kept = in_32_bits(minilm).embed(texts)
    ours, theirs = minilm.embed(texts) @ kept.T, kept @ kept.T
    assert (ours.argmax(axis=1) == np.arange(len(texts))).all()
    nearest = (np.argsort(-each, axis=1)[:, :5] for each in (ours, theirs))
    same = [len(set(a) & set(b)) for a, b in zip(*nearest, strict=True)]
    assert np.mean(same) > 4


def test_layers_come_with_the_same_embeddings(minilm: SentenceEmbedder) -> None:
    vectors_, layers = minilm.embed_with_layers(TEXTS)
    assert (layers.shape, layers.dtype) == ((7, 4 * 384), np.float32)
    np.testing.assert_array_equal(vectors_, minilm.embed(TEXTS))
    last_mean = layers[:, 2 * 384 : 3 * 384]
    cosine = np.sum(last_mean * vectors_, axis=1) / np.linalg.norm(last_mean, axis=1)
    np.testing.assert_allclose(cosine, 1.0, atol=1e-5)
    assert (layers[:, 3 * 384 :] >= last_mean - 1e-5).all()


def test_a_text_embeds_the_same_alone_and_among_others(minilm: SentenceEmbedder) -> None:
    texts = [f"{'long ' * (n % 90)}question {n}" for n in range(120)]
    together = minilm.embed(texts)
    for at in (0, 59, 119):
        np.testing.assert_array_equal(minilm.embed([texts[at]])[0], together[at])


def test_no_texts(minilm: SentenceEmbedder) -> None:
    assert minilm.embed([]).shape == (0, 384)
    assert minilm.embed_with_layers([])[1].shape == (0, 4 * 384)


def test_near_texts_are_near(minilm: SentenceEmbedder) -> None:
    one, two, far = minilm.embed(
        ["How do I sort a list in Python?", "Sorting a Python list", "Who painted the Mona Lisa?"]
    )
    assert one @ two > 0.6 > 0.3 > one @ far


def test_threads_may_embed_at_once(minilm: SentenceEmbedder) -> None:
    alone = minilm.embed(TEXTS)
    results: list[Embeddings] = []
    threads = [
        threading.Thread(target=lambda: results.append(minilm.embed(TEXTS))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 4
    for result in results:
        np.testing.assert_array_equal(result, alone)


@pytest.mark.parametrize(
    "text", ["word " * 20_000_000, "字" * 100_000, "\n" * 10_000, "? " * 9_000]
)
def test_of_a_very_long_text_no_more_is_read_than_of_a_long_one(text: str) -> None:
    assert len(clean_text(text)) <= 1600


def test_cleaning_mends() -> None:
    assert clean_text("  a\0b\x1b[31m\n\tc\ud800 ") == "a b [31m\n\tc?"


# Models that are not what they should be, or not BERT with a mean.


def edit(path: Path, **changes: object) -> None:
    settings = json.loads(path.read_text())
    path.write_text(json.dumps({**settings, **changes}))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config.json", None),
        ("modules.json", b"{"),
        ("modules.json", b'{"a": 1}'),
        ("modules.json", b'[{"path": "", "type": "model.Evil"}]'),
        ("config.json", b"[]"),
        ("model.safetensors", b"garbage"),
        ("model.safetensors", None),
        ("tokenizer.json", b"{}"),
    ],
    ids=[
        "no config",
        "no json",
        "no list",
        "foreign code",
        "no object",
        "weights",
        "no weights",
        "tokenizer",
    ],
)
def test_a_damaged_model_is_named(tmp_path: Path, name: str, content: bytes | None) -> None:
    folder = copy_of_minilm(tmp_path / "model")
    (folder / name).unlink()
    if content is not None:
        (folder / name).write_bytes(content)
    with pytest.raises(EmbedderError, match="model"):
        open_embedder(str(folder)).embed(["a"])


def test_a_model_stored_in_16_bits_is_the_same_model(
    tmp_path: Path, minilm: SentenceEmbedder
) -> None:
    from safetensors.numpy import load_file, save_file

    folder = copy_of_minilm(tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    halves = {name: array.astype(np.float16) for name, array in weights.items()}
    save_file(halves, folder / "model.safetensors")
    embedder = SentenceEmbedder(find_embedder(str(folder)))
    assert cosines(embedder.embed(TEXTS[:4]), minilm.embed(TEXTS[:4])).min() > 0.98
    assert embedder.load().engine == "onnxruntime"


def test_other_kinds_of_models_run_by_torch(tmp_path: Path, minilm: SentenceEmbedder) -> None:
    folder = copy_of_minilm(tmp_path / "model", changed="1_Pooling/config.json")
    edit(
        folder / "1_Pooling" / "config.json",
        pooling_mode_mean_tokens=False,
        pooling_mode_cls_token=True,
    )
    embedder = SentenceEmbedder(find_embedder(str(folder)))
    found, layers = embedder.embed_with_layers(TEXTS[:3])
    assert embedder.load().engine == "torch"
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1.0, atol=1e-5)
    assert abs(found - minilm.embed(TEXTS[:3])).max() > 0.01
    assert cosines(layers, minilm.embed_with_layers(TEXTS[:3])[1]).min() > 0.98


def test_a_dense_layer_after_the_pooling_changes_the_embeddings_and_not_the_layers(
    tmp_path: Path, minilm: SentenceEmbedder
) -> None:
    from safetensors.numpy import save_file

    folder = copy_of_minilm(tmp_path / "model", changed="modules.json")
    dense = folder / "2_Dense"
    dense.mkdir(exist_ok=True)
    identity = {"in_features": 384, "out_features": 64, "bias": False}
    activation = {"activation_function": "torch.nn.modules.linear.Identity"}
    (dense / "config.json").write_text(json.dumps(identity | activation))
    save_file({"linear.weight": np.eye(64, 384, dtype=np.float32)}, dense / "model.safetensors")
    modules = json.loads((folder / "modules.json").read_text())[:2]
    kind = "sentence_transformers.models.Dense"
    modules.append({"idx": 2, "name": "2", "path": "2_Dense", "type": kind})
    (folder / "modules.json").write_text(json.dumps(modules))
    embedder = SentenceEmbedder(find_embedder(str(folder)))
    found, layers = embedder.embed_with_layers(TEXTS[:3])
    assert (embedder.dimension, found.shape, layers.shape) == (64, (3, 64), (3, 4 * 384))
    assert cosines(layers, minilm.embed_with_layers(TEXTS[:3])[1]).min() > 0.98
    kept = CachedEmbedder(embedder, EmbeddingCache(tmp_path / "e.sqlite"))
    np.testing.assert_array_equal(kept.embed_with_layers(TEXTS[:3])[1], layers)


def test_a_graph_that_onnxruntime_refuses_runs_by_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Graph, "model", lambda *a: b"\x00garbage")
    encoder = encoders.load_encoder(find_embedder().path)
    assert encoder.engine == "torch"
    assert encoder.tokens("hello") == [101, 7592, 102]


# The network.


def test_loading_and_storing_ask_nobody(tmp_path: Path, no_network: list[object]) -> None:
    embedder = SentenceEmbedder(find_embedder())
    vector = embedder.embed(["offline"])
    assert cosines(in_32_bits(embedder).embed(["offline"]), vector).min() > 0.98
    store = open_history("embedded", tmp_path, embedder)

    store.add([record("a")], vector)
    assert store.nearest(vector, ("small",), 1).ids == (("a",),)
    store.close()
    assert no_network == []


def test_embedding_leaves_no_file_anywhere(tmp_path: Path) -> None:
    """ONNX Runtime's telemetry keeps an id of the machine, and what it is about to send."""
    told = {"HOME", "TMPDIR", "XDG_CACHE_HOME", "CI", *encoders.SILENCES}
    bare = {name: value for name, value in os.environ.items() if name not in told}
    code = "from aios_eccos.history.open import open_embedder; open_embedder().embed(['a'])"
    places = {"HOME": str(tmp_path), "TMPDIR": str(tmp_path)}
    root = Path(__file__).parents[2]
    command = [sys.executable, "-B", "-c", code]
    subprocess.run(command, check=True, cwd=root, timeout=60, env=bare | places)
    assert list(tmp_path.rglob("*")) == []


# In the background.


def test_calls_do_not_wait_for_loading() -> None:
    gate = threading.Event()

    def load() -> ToyEmbedder:
        gate.wait(60)
        return ToyEmbedder()

    background = BackgroundEmbedder(load)
    assert background.state == "loading"
    assert background.try_embed(["a"]) is None
    assert background.try_embed_with_layers(["a"]) is None
    with pytest.raises(EmbedderError, match="still loading"):
        background.wait(0.01)
    gate.set()
    assert background.wait(60).name == "toy"
    assert background.ready
    found = background.try_embed(["a"])
    assert found is not None
    assert found.shape == (1, DIMENSION)
    both = background.try_embed_with_layers(["a"])
    assert both is not None
    assert both[1].shape == (1, 4 * DIMENSION)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (EmbedderError("not on this machine"), "not on this machine"),
        (RuntimeError("bad_alloc"), "RuntimeError: bad_alloc"),
        (MemoryError(), "MemoryError"),
        (ImportError("libonnx.so: cannot open"), "ImportError: libonnx.so"),
        (OSError(5, "Input/output error"), "Input/output error"),
        (SystemExit("no licence"), "SystemExit: no licence"),
    ],
)
@pytest.mark.parametrize("at", ["load", "first text"])
def test_a_failed_load_is_told_and_tried_again(
    error: BaseException,
    reason: str,
    at: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(embedding, "RETRY_S", 0.01)
    whole, tries = threading.Event(), []

    class Fails(ToyEmbedder):
        def embed(self, texts: Sequence[str]) -> Embeddings:
            if at == "first text" and not whole.is_set():
                raise error
            return super().embed(texts)

    def load() -> ToyEmbedder:
        tries.append(at)
        if at == "load" and not whole.is_set():
            raise error
        return Fails()

    background = BackgroundEmbedder(load)
    with pytest.raises(EmbedderError, match=reason):
        background.wait(60)
    assert not background.ready
    assert background.state.startswith("failed: ") and reason in background.state
    assert background.try_embed(["a"]) is None
    assert reason in caplog.text
    whole.set()
    until(lambda: background.state == "ready")
    assert background.error is None and background.try_embed(["a"]) is not None
    assert len(tries) > 1
    assert len([r for r in caplog.records if reason in r.message]) == 1, "said once"


def test_what_is_closed_is_not_tried_again() -> None:
    def load() -> ToyEmbedder:
        raise OSError("gone")

    background = BackgroundEmbedder(load)
    with pytest.raises(EmbedderError):
        background.wait(60)
    background.close()
    assert background.state == "failed: the embedder: OSError: gone"


# The cache.


def cached(path: Path, *, weights: str | None = None) -> tuple[CachedEmbedder, ToyEmbedder]:
    toy = ToyEmbedder(weights=weights)
    return CachedEmbedder(toy, EmbeddingCache(path)), toy


def test_a_second_run_computes_nothing(tmp_path: Path) -> None:
    texts = [f"text {n}" for n in range(700)]
    one, toy = cached(tmp_path / "c" / "e.sqlite")
    first = one.embed(texts)
    np.testing.assert_array_equal(first, ToyEmbedder().embed(texts))
    assert sorted(toy.embedded) == sorted(texts)
    two, toy = cached(tmp_path / "c" / "e.sqlite")
    np.testing.assert_array_equal(two.embed(texts), first)
    assert toy.embedded == []
    assert (two.name, two.dimension) == ("toy", DIMENSION)


def test_equal_texts_are_computed_once(tmp_path: Path) -> None:
    one, toy = cached(tmp_path / "e.sqlite")
    found = one.embed(["a", "b", "a", "a\0"])
    assert sorted(toy.embedded) == ["a", "b"]
    np.testing.assert_array_equal(found[0], found[2])
    np.testing.assert_array_equal(found[0], found[3])


def test_layers_are_cached_beside_embeddings(tmp_path: Path) -> None:
    one, toy = cached(tmp_path / "e.sqlite")
    one.embed(["a"])
    vectors_, layers = one.embed_with_layers(["a", "b"])
    assert layers.shape == (2, 4 * DIMENSION)
    assert toy.embedded == ["a", "a", "b"] or toy.embedded == ["a", "b", "a"]
    toy.embedded.clear()
    again = one.embed_with_layers(["b", "a"])
    np.testing.assert_array_equal(again[1], layers[::-1])
    np.testing.assert_array_equal(again[0], vectors_[::-1])
    assert toy.embedded == []


def test_other_weights_have_other_vectors(tmp_path: Path) -> None:
    cached(tmp_path / "e.sqlite", weights="one")[0].embed(["a"])
    other, toy = cached(tmp_path / "e.sqlite", weights="two")
    other.embed(["a"])
    assert toy.embedded == ["a"]
    assert (other.name, other.identity) == ("toy", "two")


def test_no_texts_through_the_cache(tmp_path: Path) -> None:
    one, _ = cached(tmp_path / "e.sqlite")
    assert one.embed([]).shape == (0, DIMENSION)
    assert one.embed_with_layers([])[1].shape == (0, 4 * DIMENSION)


def test_texts_are_not_in_the_cache(tmp_path: Path) -> None:
    one, _ = cached(tmp_path / "e.sqlite")
    one.embed(["a very secret text"])
    for path in tmp_path.iterdir():
        assert b"secret" not in path.read_bytes()


@pytest.mark.parametrize("content", [b"garbage" * 1000, b"SQLite format 3\0" + b"\xff" * 5000])
def test_a_damaged_cache_is_begun_anew(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "e.sqlite"
    path.write_bytes(content)
    cached(path)[0].embed(["a"])
    two, toy = cached(path)
    two.embed(["a"])
    assert toy.embedded == []


def test_a_cache_that_another_process_holds_is_left_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, real = tmp_path / "e.sqlite", sqlite3.connect
    cache = EmbeddingCache(path)
    CachedEmbedder(ToyEmbedder(), cache).embed(["a"])
    cache.close()
    monkeypatch.setattr(sqlite3, "connect", lambda at, **how: real(at, **{**how, "timeout": 0.0}))
    holder = real(path)
    holder.execute("PRAGMA locking_mode = EXCLUSIVE")
    holder.execute("DELETE FROM vectors WHERE key = x'00'")
    one, toy = cached(path)
    assert one.embed(["b"]).shape == (1, DIMENSION)
    assert toy.embedded == ["b"]
    holder.close()
    two, toy = cached(path)
    two.embed(["a"])
    assert toy.embedded == [], "what it held is still there"


def test_without_a_place_everything_is_computed(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    one, toy = cached(tmp_path / "file" / "e.sqlite")
    for _ in range(2):
        assert one.embed(["a"]).shape == (1, DIMENSION)
    assert toy.embedded == ["a", "a"]


def test_a_cache_that_fails_costs_time_only(tmp_path: Path) -> None:
    cache = EmbeddingCache(tmp_path / "e.sqlite")
    one = CachedEmbedder(ToyEmbedder(), cache)
    one.embed(["a"])
    with sqlite3.connect(tmp_path / "e.sqlite") as raw:
        raw.execute("DROP TABLE vectors")
    raw.close()
    assert one.embed(["a", "b"]).shape == (2, DIMENSION)
    cache.close()
    assert one.embed(["a"]).shape == (1, DIMENSION)


WRITER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from history_world import ToyEmbedder
from aios_eccos.history.embed.cache import CachedEmbedder, EmbeddingCache
embedder = CachedEmbedder(ToyEmbedder(), EmbeddingCache(Path(sys.argv[1])))
for n in range(30):
    embedder.embed([f"{n} {m}" for m in range(40)])
"""


@pytest.mark.parametrize(
    "damage",
    ["x'00'", "x'0000000000000000'", "x'0000c07f'", "zeroblob(4)", "'a text'", "7", "NULL", "x''",
     "vector || x'00000000'", "substr(vector, 5)"],
)  # fmt: skip
def test_a_vector_that_is_damaged_is_made_anew(damage: str, tmp_path: Path) -> None:
    """One of several, and what is made anew takes its place."""
    path, texts = tmp_path / "e.sqlite", ["a", "b", "c"]
    first = cached(path)[0].embed_with_layers(texts)
    for which in ("MIN(key)", "MAX(key)"):
        with sqlite3.connect(path) as raw:
            one = f"key = (SELECT {which} FROM vectors)"
            raw.execute(f"UPDATE vectors SET vector = CAST({damage} AS BLOB) WHERE {one}"
                        if "vector" in damage else
                        f"UPDATE vectors SET vector = {damage} WHERE {one}")  # fmt: skip
        raw.close()
        for computed in (True, False):
            embedder, toy = cached(path)
            for found, wanted in zip(embedder.embed_with_layers(texts), first, strict=True):
                np.testing.assert_array_equal(found, wanted)
            assert bool(toy.embedded) == computed


def test_processes_may_share_the_cache(tmp_path: Path) -> None:
    path, root = tmp_path / "e.sqlite", Path(__file__).parents[2]
    command = [sys.executable, "-c", WRITER, str(path), str(Path(__file__).parent)]
    processes = [subprocess.Popen(command, cwd=root) for _ in range(3)]
    assert [process.wait(60) for process in processes] == [0, 0, 0]
    one, toy = cached(path)
    texts = [f"{n} {m}" for n in range(30) for m in range(40)]
    np.testing.assert_array_equal(one.embed(texts), ToyEmbedder().embed(texts))
    assert toy.embedded == []


def test_the_real_embedder_through_the_cache(tmp_path: Path, minilm: SentenceEmbedder) -> None:
    one = open_embedder(None, tmp_path)
    assert isinstance(one, CachedEmbedder)
    np.testing.assert_allclose(one.embed(TEXTS), minilm.embed(TEXTS), atol=1e-6)
    two = open_embedder(None, tmp_path)
    two.embed(TEXTS)
    assert isinstance(two, CachedEmbedder)
    assert isinstance(two._embedder, SentenceEmbedder)
    assert two._embedder._encoder is None  # nothing was computed, so nothing was loaded


def test_identity_follows_the_weights(tmp_path: Path, minilm: SentenceEmbedder) -> None:
    folder = copy_of_minilm(tmp_path / "all-MiniLM-L6-v2", changed="model.safetensors")
    same = SentenceEmbedder(find_embedder(str(folder)))
    assert same.identity == minilm.identity
    with (folder / "model.safetensors").open("r+b") as file:
        file.seek(-4, 2)
        file.write(b"\0\0\0\1")
    assert same.identity != minilm.identity


def test_a_process_that_ends_waits_for_a_model_that_loads_and_tries_no_more() -> None:
    script = """
import threading, time
from aios_eccos.errors import EmbedderError
from aios_eccos.history.embed.embedding import BackgroundEmbedder
begun = threading.Event()
def load():
    begun.set()
    time.sleep(0.3)
    print("through")
    raise EmbedderError("none")
BackgroundEmbedder(load)
begun.wait()
"""
    ended = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60
    )
    assert (ended.returncode, ended.stdout) == (0, "through\n"), ended.stderr
