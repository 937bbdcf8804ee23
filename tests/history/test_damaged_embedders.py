"""An embedder's folder that is damaged, or made to harm: refused in our words, or it works."""

from __future__ import annotations

import copy
import json
import os
import shutil
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pytest
from numpy.typing import NDArray

from aios_eccos.errors import EmbedderError
from aios_eccos.history.embed import encoders
from aios_eccos.history.embed.embedding import BackgroundEmbedder
from aios_eccos.history.open import open_embedder

#: Width of a token's vector, width within, layers, tokens that have a position.
WIDTH, INNER, LAYERS, POSITIONS = 8, 16, 1, 24
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "word", "##s", "what", "is", "12", ",", "?"]
TEXTS = ["", "a", "what is a word?", "words " * 90, "\0\ud800", "日本 🙂", "a" * 300 + "!"]

Tensors: TypeAlias = dict[str, NDArray[Any]]
#: What is done to a folder.
Change: TypeAlias = Callable[[Path], None]

CONFIG = {
    "model_type": "bert",
    "hidden_act": "gelu",
    "hidden_size": WIDTH,
    "intermediate_size": INNER,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 2,
    "layer_norm_eps": 1e-12,
    "position_embedding_type": "absolute",
}
KIND = "sentence_transformers.models"
MODULES = [
    {"path": "", "type": f"{KIND}.Transformer"},
    {"path": "1_Pooling", "type": f"{KIND}.Pooling"},
]
POOLING = {"word_embedding_dimension": WIDTH, "pooling_mode_mean_tokens": True}
READING = {"max_seq_length": 16, "do_lower_case": False}
TOKENIZER = {
    "version": "1.0",
    "truncation": None,
    "padding": None,
    "added_tokens": [],
    "normalizer": {
        "type": "BertNormalizer",
        "clean_text": True,
        "handle_chinese_chars": True,
        "strip_accents": None,
        "lowercase": True,
    },
    "pre_tokenizer": {"type": "BertPreTokenizer"},
    "post_processor": {
        "type": "TemplateProcessing",
        "single": [
            {"SpecialToken": {"id": "[CLS]", "type_id": 0}},
            {"Sequence": {"id": "A", "type_id": 0}},
            {"SpecialToken": {"id": "[SEP]", "type_id": 0}},
        ],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {
            "[CLS]": {"id": "[CLS]", "ids": [2], "tokens": ["[CLS]"]},
            "[SEP]": {"id": "[SEP]", "ids": [3], "tokens": ["[SEP]"]},
        },
    },
    "decoder": None,
    "model": {
        "type": "WordPiece",
        "unk_token": "[UNK]",
        "continuing_subword_prefix": "##",
        "max_input_chars_per_word": 100,
        "vocab": {word: at for at, word in enumerate(WORDS)},
    },
}
SETTINGS: dict[str, Any] = {
    "config.json": CONFIG,
    "modules.json": MODULES,
    "sentence_bert_config.json": READING,
    "1_Pooling/config.json": POOLING,
    "tokenizer.json": TOKENIZER,
}
#: What PyTorch has to be told beside it.
NAMED = [{"idx": at, "name": str(at), **part} for at, part in enumerate(MODULES)]
SIZES = {
    "architectures": ["BertModel"],
    "max_position_embeddings": POSITIONS,
    "type_vocab_size": 2,
    "vocab_size": len(WORDS),
}
ODD: list[Any] = [
    None,
    True,
    False,
    "",
    "6",
    "../../etc/passwd",
    [],
    {},
    [[1]],
    0,
    -1,
    3,
    10**9,
    10**400,
    0.5,
    1e308,
    float("nan"),
    float("-inf"),
]


def tensors() -> Tensors:
    rng = np.random.default_rng(0)
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (len(WORDS), WIDTH),
        "embeddings.position_embeddings.weight": (POSITIONS, WIDTH),
        "embeddings.token_type_embeddings.weight": (2, WIDTH),
        "embeddings.LayerNorm.weight": (WIDTH,),
        "embeddings.LayerNorm.bias": (WIDTH,),
    }
    for layer in range(LAYERS):
        at = f"encoder.layer.{layer}"
        inside = {f"attention.self.{part}": (WIDTH, WIDTH) for part in ("query", "key", "value")}
        inside |= {
            "attention.output.dense": (WIDTH, WIDTH),
            "attention.output.LayerNorm": (WIDTH,),
            "intermediate.dense": (INNER, WIDTH),
            "output.dense": (WIDTH, INNER),
            "output.LayerNorm": (WIDTH,),
        }
        for name, shape in inside.items():
            shapes |= {f"{at}.{name}.weight": shape, f"{at}.{name}.bias": shape[:1]}
    return {
        name: (rng.standard_normal(shape) + ("Norm.weight" in name)).astype(np.float32)
        for name, shape in shapes.items()
    }


def put_tensors(folder: Path, held: Tensors) -> None:
    from safetensors.numpy import save_file

    save_file(held, folder / "model.safetensors")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a BERT encoder of a few numbers."""
    folder = tmp_path_factory.mktemp("whole")
    for name, held in SETTINGS.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(json.dumps(held))
    put_tensors(folder, tensors())
    return folder


@pytest.fixture
def onnx_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch, which takes long, is not asked: see `test_what_pytorch_runs`."""

    def refuse(path: Path) -> encoders.Encoder:
        raise EmbedderError("by PyTorch")

    monkeypatch.setattr(encoders, "_load_torch", refuse)


def outcome(folder: Path) -> str:
    """ "refused", once a text has been tried, or "works" with sound vectors for every text."""
    try:
        embedder = open_embedder(str(folder))
        embedder.embed([])
        embedder.embed(["warm up"])
    except EmbedderError as error:
        return f"refused: {error}"
    vectors, layers = embedder.embed_with_layers(TEXTS)
    assert vectors.shape == (len(TEXTS), embedder.dimension) and len(layers) == len(TEXTS)
    assert np.isfinite(layers).all()
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)
    return "works"


def swept(whole: Path, place: Path, changes: Iterator[tuple[str, Change]]) -> dict[str, str]:
    """What became of the folder by each change."""
    found = {}
    for name, change in changes:
        folder = place / "model"
        shutil.copytree(whole, folder)
        change(folder)
        try:
            found[name] = outcome(folder)
        except BaseException as error:
            raise AssertionError(f"{name}: {error!r:.500}") from error
        shutil.rmtree(folder)
    return found


def at_every_place(held: Any, way: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The ways to all values inside of others."""
    keys = held if isinstance(held, dict) else range(len(held)) if isinstance(held, list) else ()
    for key in keys:
        yield (*way, key)
        yield from at_every_place(held[key], (*way, key))


def settings_changed(name: str, odd: list[Any]) -> Iterator[tuple[str, Change]]:
    """Each value of a settings file in turn made odd, or left out."""

    def change(way: tuple[Any, ...], value: Any) -> Change:
        held = copy.deepcopy(SETTINGS[name])
        inner = held
        for key in way[:-1]:
            inner = inner[key]
        if value is ...:
            del inner[way[-1]]
        else:
            inner[way[-1]] = value
        text = json.dumps(held)
        return lambda folder: (folder / name).write_text(text) and None

    for way in at_every_place(SETTINGS[name]):
        for value in [*odd, ...]:
            yield f"{name} {way} = {value!r:.30}", change(way, value)


@pytest.mark.usefixtures("onnx_only")
@pytest.mark.parametrize("name", [name for name in SETTINGS if name != "tokenizer.json"])
def test_whatever_a_setting_is(name: str, whole: Path, tmp_path: Path) -> None:
    found = swept(whole, tmp_path, settings_changed(name, ODD))
    assert "works" in found.values() or name == "modules.json"
    assert name == "1_Pooling/config.json" or any(
        f"{name}: " in each and "set `embedder`" in each for each in found.values()
    )


@pytest.mark.usefixtures("onnx_only")
def test_whatever_a_setting_of_the_tokenizer_is(whole: Path, tmp_path: Path) -> None:
    found = swept(whole, tmp_path, settings_changed("tokenizer.json", [None, 10**6]))
    assert "works" in found.values()
    assert any("tokenizer.json: numbers tokens up to 1000000" in each for each in found.values())


def with_one(array: NDArray[Any], value: float) -> NDArray[Any]:
    changed = array.copy()
    changed.flat[-1] = value
    return changed


#: What a tensor may be instead; None: it is not there.
TENSORS: dict[str, Callable[[NDArray[Any]], NDArray[Any] | None]] = {
    "not there": lambda array: None,
    "of no numbers": lambda array: array[:0],
    "shorter": lambda array: array[:-1],
    "one number": lambda array: array.reshape(-1)[:1].reshape(()),
    "within another axis": lambda array: array[None],
    "of another width": lambda array: np.ascontiguousarray(array[..., :-1]),
    "not a number": lambda array: with_one(array, np.nan),
    "endless": lambda array: with_one(array, -np.inf),
    "too large": lambda array: array * np.float32(1e36),
    "zero": np.zeros_like,
    "whole numbers": lambda array: array.astype(np.int64),
    "truths": lambda array: array > 0,
    "in 16 bits": lambda array: array.astype(np.float16),
    "in 64 bits": lambda array: array.astype(np.float64) * 1e60,
}


@pytest.mark.usefixtures("onnx_only")
@pytest.mark.parametrize("kind", TENSORS)
def test_whatever_a_tensor_is(kind: str, whole: Path, tmp_path: Path) -> None:
    def change(name: str) -> Change:
        held = tensors()
        became = TENSORS[kind](held.pop(name))
        return lambda folder: put_tensors(
            folder, held if became is None else {**held, name: became}
        )

    found = swept(whole, tmp_path, ((name, change(name)) for name in tensors()))
    if kind == "in 16 bits":
        assert set(found.values()) == {"works"}
    elif kind not in ("shorter", "too large", "zero"):
        assert not [name for name, each in found.items() if name not in each]


def instead(name: str, place: Callable[[Path], object]) -> Change:
    """Another thing at the file's place."""

    def change(folder: Path) -> None:
        (folder / name).unlink()
        place(folder / name)

    return change


#: What may be at a file's place.
FILES: dict[str, Callable[[Path], object]] = {
    "nothing": lambda path: None,
    "an empty file": Path.touch,
    "garbage": lambda path: path.write_bytes(bytes(range(256)) * 9),
    "values in values": lambda path: path.write_text('{"a":' * 100_000),
    "lists in lists, whole": lambda path: path.write_text("[" * 900 + "]" * 900),
    "a huge file": lambda path: os.truncate(os.open(path, os.O_CREAT | os.O_WRONLY), 1 << 34),
    "a header without end": lambda path: path.write_bytes(struct.pack("<Q", 1 << 63) + b"{}"),
    "a folder": Path.mkdir,
    "a pipe": os.mkfifo,
    "a device": lambda path: path.symlink_to("/dev/zero"),
    "a link to itself": lambda path: path.symlink_to(path),
}


@pytest.mark.usefixtures("onnx_only")
@pytest.mark.parametrize("kind", FILES)
def test_whatever_a_file_is(kind: str, whole: Path, tmp_path: Path) -> None:
    names = [*SETTINGS, "model.safetensors"]
    changes = ((name, instead(name, FILES[kind])) for name in names)
    found = swept(whole, tmp_path, changes)
    if kind in ("nothing", "a link to itself"):
        assert found.pop("sentence_bert_config.json") == "works"
    assert "works" not in found.values()


@pytest.mark.usefixtures("onnx_only")
@pytest.mark.parametrize("name", [*SETTINGS, "model.safetensors"])
def test_wherever_a_file_ends(name: str, whole: Path, tmp_path: Path) -> None:
    size = (whole / name).stat().st_size
    ends = sorted({size * part // 12 for part in range(12)} | {size - 1})
    changes = ((f"{end}", lambda folder, end=end: os.truncate(folder / name, end)) for end in ends)
    assert "works" not in swept(whole, tmp_path, changes).values()


@pytest.mark.usefixtures("onnx_only")
def test_weights_that_claim_a_disk_are_not_read(whole: Path, tmp_path: Path) -> None:
    """A file of almost nothing can say that it holds 16 GB: its empty parts take no place."""
    shutil.copytree(whole, tmp_path / "model")
    file, rows = tmp_path / "model" / "model.safetensors", 1 << 29
    size = rows * WIDTH * 4
    table = {"dtype": "F32", "shape": [rows, WIDTH], "data_offsets": [0, size]}
    header = json.dumps({"embeddings.word_embeddings.weight": table}).encode()
    file.write_bytes(struct.pack("<Q", len(header)) + header)
    os.truncate(file, 8 + len(header) + size)
    assert "bytes" in outcome(tmp_path / "model")


@pytest.mark.parametrize("name", ["\x1b[31m", "\udcff"])
def test_a_folder_with_an_odd_name_has_one_that_can_be_kept_and_shown(
    name: str, whole: Path, tmp_path: Path
) -> None:
    folder, shown = tmp_path / name, ascii(name)[1:-1]
    try:
        shutil.copytree(whole, folder)
    except OSError:
        pytest.skip("this file system has no such names")
    assert open_embedder(str(folder)).name == shown
    assert outcome(folder).replace(shown, "").isprintable()
    for kept in ("config.json", "none"):
        (folder / kept).unlink(missing_ok=True)
        with pytest.raises(EmbedderError, match="no such f") as told:
            open_embedder(str(folder if kept == "config.json" else folder / kept))
        assert shown in str(told.value) and str(told.value).isprintable()


# Tokenizers that are whole, and cannot serve.


def tokenized(folder: Path, **changes: object) -> None:
    (folder / "tokenizer.json").write_text(json.dumps({**TOKENIZER, **changes}))


def split(pattern: str) -> dict[str, object]:
    at = {"pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    return {"pre_tokenizer": {"type": "Split", **at}}


def puts(content: str, times: int) -> dict[str, object]:
    """A normalizer that puts a text before each character, so many times."""
    one = {"type": "Replace", "pattern": {"Regex": "(?=.)"}, "content": content}
    return {"normalizer": {"type": "Sequence", "normalizers": [one] * times}}


@pytest.mark.parametrize(
    "changes",
    [
        {"model": {**TOKENIZER["model"], "unk_token": "[WHAT]"}},  # type: ignore[dict-item]
        split("(a+)+$"),
        puts("a" * 1_000_000, 1),
        puts("a", 40),
        {"normalizer": {"type": "Precompiled", "precompiled_charsmap": "A" * 600_000}},
    ],
    ids=["a word is not known", "a search without end", "long", "often", "a long table"],
)
def test_a_tokenizer_that_fails_at_some_text_is_refused_at_loading(
    changes: dict[str, object], whole: Path, tmp_path: Path
) -> None:
    shutil.copytree(whole, tmp_path / "model")
    tokenized(tmp_path / "model", **changes)
    with pytest.raises(EmbedderError, match="model"):
        open_embedder(str(tmp_path / "model")).embed(["warm up"])


def test_a_tokenizer_that_marks_no_beginning_makes_a_vector_of_no_text(
    whole: Path, tmp_path: Path
) -> None:
    shutil.copytree(whole, tmp_path / "model")
    tokenized(tmp_path / "model", post_processor=None)
    assert outcome(tmp_path / "model") == "works"


def test_a_text_that_a_loaded_model_refuses_is_forecast_without_it(
    whole: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What a tokenizer raises of it is no `Exception`, and its log must not carry the text."""
    shutil.copytree(whole, tmp_path / "model")
    tokenized(tmp_path / "model", **split("(q+)+$"))
    embedder = BackgroundEmbedder(lambda: open_embedder(str(tmp_path / "model")))
    embedder.wait(60)
    bad = "q" * 400 + "!"
    assert embedder.try_embed([bad]) is None and embedder.try_embed_with_layers([bad]) is None
    assert "PanicException" in caplog.text and "qqq" not in caplog.text
    with pytest.raises(EmbedderError):
        embedder.embed([bad])
    assert embedder.try_embed(["a good text"]) is not None and embedder.state == "ready"


# PyTorch's way: the same promise.


def edit(path: Path, changes: dict[str, object]) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def in_16_bits_with_a_long_exponent(folder: Path) -> None:
    import torch
    from safetensors.torch import save_file

    held = {name: torch.from_numpy(array).bfloat16() for name, array in tensors().items()}
    save_file(held, folder / "model.safetensors", metadata={"format": "pt"})


def without(name: str) -> Change:
    held = {key: array for key, array in tensors().items() if key != name}
    return lambda folder: put_tensors(folder, held)


def config(**changes: object) -> Change:
    return lambda folder: edit(folder / "config.json", changes)


QUERY = "encoder.layer.0.attention.self.query.weight"
BY_TORCH: dict[str, tuple[Change, str]] = {
    "whole": (lambda folder: None, "works"),
    "16 bits, a long exponent": (in_16_bits_with_a_long_exponent, "works"),
    "a tensor is not there": (without(QUERY), QUERY),
    "not a number": (
        lambda folder: put_tensors(folder, tensors() | {QUERY: with_one(tensors()[QUERY], np.nan)}),
        "not finite",
    ),
    "layers without end": (config(num_hidden_layers=10**9), "num_hidden_layers"),
    "labels without end": (config(num_labels=10**9), "num_labels"),
    "no layers": (config(num_hidden_layers=0), "refused"),
    "far larger than its weights": (config(hidden_size=4096), "more than stored"),
    "another width": (config(hidden_size=10), "refused"),
    "a width that is a text": (config(hidden_size="8"), "hidden_size"),
    "a longer reading than there are positions": (
        lambda folder: edit(folder / "sentence_bert_config.json", {"max_seq_length": 10**9}),
        "works",
    ),
    "no reading": (lambda folder: (folder / "sentence_bert_config.json").unlink(), "works"),
    "an unknown part": (
        lambda folder: (
            (folder / "modules.json").write_text(
                json.dumps([*MODULES, {"path": "", "type": "sentence_transformers.util.Router"}])
            )
            and None
        ),
        "Router",
    ),
}


@pytest.mark.parametrize("kind", BY_TORCH)
def test_what_pytorch_runs(kind: str, whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(whole, folder)
    edit(folder / "config.json", SIZES)
    edit(folder / "1_Pooling" / "config.json", {"pooling_mode_mean_tokens": False,
                                                "pooling_mode_cls_token": True})  # fmt: skip
    (folder / "modules.json").write_text(json.dumps(NAMED))
    change, what = BY_TORCH[kind]
    change(folder)
    assert what in outcome(folder)
