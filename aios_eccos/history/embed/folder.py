"""A model's folder, read: whatever is wrong with it is an `EmbedderError` that names the file.

A folder may be damaged, or made to harm. What a file says is therefore checked before anything is
made of it, and what a library raises in spite of that is translated in one place, `refusing`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Annotated, Any, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from aios_eccos.errors import EmbedderError, plain, raised

REMEDY = "get the model anew, or set `embedder` to another folder"

#: The largest files that are read, bytes: of settings, of a vocabulary (the largest in use have 40
#: MB), and of a BERT's weights (1.3 GB).
SETTINGS_MOST, TOKENIZER_MOST, WEIGHTS_MOST = 4_000_000, 200_000_000, 8_000_000_000
#: What may follow the encoder: parts that need the tokens' vectors and nothing else.
HEADS = frozenset(("Pooling", "Normalize", "Dense", "LayerNorm", "Dropout", "CNN", "LSTM"))
#: Parts of tokenizer.json that put a character in the place of others, at most; and the longest
#: table of what stands for which character (SentencePiece's has 240 kB, and base64 adds a third).
REPLACES_MOST, CHARSMAP_MOST = 8, 500_000
#: Numbers of `KINDS` can be read here; those of 16 bits with a long exponent only PyTorch reads.
KINDS, LONG_EXPONENT = frozenset(("F32", "F16", "F64")), "BF16"

#: Settings that count parts of a model: layers, labels, experts; and how many there may be.
COUNTED, COUNTED_MOST = re.compile(r"^num_|_num_|layer|block|depth|stage|expert"), 20_000

Floats: TypeAlias = NDArray[np.float32]
#: Name and shape of a tensor; of a size that is None, anything from 1.
Shape: TypeAlias = tuple[str, tuple[int | None, ...]]
Tokens: TypeAlias = Callable[[str], list[int]]

Width: TypeAlias = Annotated[int, Field(ge=1, le=65_536)]


class Unread(Exception):
    """The weights are whole, but only PyTorch can read them."""


class _Checked(BaseModel):
    """Values of the types that they are declared to have: no "6" for 6, and no true for 1."""

    model_config = ConfigDict(strict=True, frozen=True)


class Module(_Checked):
    """A part of a sentence-transformers model, in `modules.json`."""

    type: str = Field(pattern=r"^sentence_transformers(\.\w+)+$")
    path: str = Field(pattern=r"^[\w-]*$")

    @property
    def kind(self) -> str:
        return self.type.rsplit(".", 1)[-1]


class Sized(_Checked):
    """Of any encoder's `config.json`: numbers in a token's vector."""

    hidden_size: Width


class Dense(_Checked):
    """A dense layer behind the pooling."""

    out_features: Width


class Reading(_Checked):
    """`sentence_bert_config.json`: how much is read of a text."""

    max_seq_length: int | None = Field(default=None, ge=1)
    do_lower_case: bool | None = None


class Bert(Sized):
    """`config.json` of a BERT encoder; where it lacks a number, it means BERT's own."""

    num_hidden_layers: int = Field(default=12, ge=1, le=1000)
    num_attention_heads: int = Field(default=12, ge=1, le=128)
    intermediate_size: int = Field(default=3072, ge=1, le=1_048_576)
    layer_norm_eps: float = Field(default=1e-12, gt=0, lt=1)

    @model_validator(mode="after")
    def _heads_share_evenly(self) -> Bert:
        if self.hidden_size % self.num_attention_heads:
            raise ValueError("hidden_size must be a multiple of num_attention_heads")
        return self


Settings = TypeVar("Settings", bound=_Checked)


def wrong(path: Path | str, reason: str) -> EmbedderError:
    """What is said of a file, of the folder, or of the setting that names it."""
    return EmbedderError(f"embedder: {plain(str(path))[:300]}: {plain(reason)[:300]}: {REMEDY}")


@contextmanager
def refusing(path: Path | str, *, says: Callable[[BaseException], str] = repr) -> Iterator[None]:
    """Translate whatever the body raises into an `EmbedderError` that names the folder.

    Libraries raise what they like of a file that they do not expect; a panic of code in Rust, as
    the tokenizers are, is not even an `Exception`.
    """
    try:
        yield
    except (EmbedderError, KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as error:
        raise wrong(path, says(error)) from error


def refusing_texts(path: Path) -> AbstractContextManager[None]:
    """`refusing`, where the message of an error could hold somebody's text."""
    return refusing(path, says=raised)


def read(path: Path, kind: type[Settings]) -> Settings:
    """One of the settings files, as what it must be."""
    return checked(path, kind, read_json(path))


def checked(path: Path, kind: type[Settings], raw: object) -> Settings:
    """What has been read of a file, as what it must be."""
    try:
        return kind.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "the file"
        raise wrong(path, f"{key} = {first['input']!r:.80}: {first['msg']}") from error


def read_json(path: Path) -> dict[str, Any]:
    """One of a model's settings files, whatever it holds."""
    raw = _json(path, SETTINGS_MOST)
    if not isinstance(raw, dict):
        raise wrong(path, "wanted an object")
    return raw


def check_counts(path: Path) -> None:
    """`EmbedderError` where settings of any model count parts that would take for ever to make."""
    todo: list[tuple[str, object]] = [("", read_json(path))]
    while todo:
        key, value = todo.pop()
        if isinstance(value, dict):
            todo += value.items()
        elif isinstance(value, list):
            todo += ((key, each) for each in value)
        elif isinstance(value, int) and value > COUNTED_MOST and COUNTED.search(key):
            raise wrong(path, f"{key} = {value}: {COUNTED_MOST} at most")


def read_modules(path: Path) -> list[Module]:
    """The parts of a sentence-transformers model in a folder, in order: an encoder, and heads."""
    file = path / "modules.json"
    raw = _json(file, SETTINGS_MOST)
    if not isinstance(raw, list) or not raw:
        raise wrong(file, "wanted a list of parts")
    # Of a folder, sentence-transformers would run the code that it holds itself.
    modules = [checked(file, Module, part) for part in raw]
    unknown = [part.type for part in modules[1:] if part.kind not in HEADS]
    if modules[0].kind != "Transformer" or unknown:
        kinds = ", ".join(sorted(HEADS))
        raise wrong(file, f"{[*unknown, modules[0].type][0]}: read are a Transformer, then {kinds}")
    return modules


def read_weights(path: Path, shapes: Iterable[Shape]) -> dict[str, Floats]:
    """The named tensors of a safetensors file, in 32 bits, each finite and of its shape.

    Raises:
        Unread: they are in a format that numpy lacks.
    """
    from safetensors import safe_open

    _file(path, WEIGHTS_MOST)
    weights = {}
    with safe_open(path, framework="numpy") as tensors:
        stored = {name.removeprefix("bert."): name for name in tensors.keys()}  # noqa: SIM118
        for name, shape in shapes:
            if name not in stored:
                raise wrong(path, f"lacks {name}")
            there = tensors.get_slice(stored[name])
            sizes, kind = there.get_shape(), there.get_dtype()
            if len(sizes) != len(shape) or any(
                size != wanted if wanted else size < 1
                for size, wanted in zip(sizes, shape, strict=True)
            ):
                raise wrong(path, f"{name} has the shape {sizes}, not {list(shape)}")
            if kind == LONG_EXPONENT:
                raise Unread(f"{name} is stored as {kind}")
            if kind not in KINDS:
                raise wrong(path, f"{name} is stored as {kind}, not as {sorted(KINDS)}")
            with np.errstate(over="ignore"):
                array = tensors.get_tensor(stored[name]).astype(np.float32, copy=False)
            if not np.isfinite([array.min(), array.max()]).all():
                raise wrong(path, f"{name} holds numbers that are not finite")
            weights[name] = array
    return weights


def open_tokenizer(path: Path) -> Any:
    """The tokenizer in a folder, which neither pads nor cuts.

    It may raise anything of an odd text, if it was made to: see `refusing_texts`.
    """
    from tokenizers import Tokenizer

    file = path / "tokenizer.json"
    _file(file, TOKENIZER_MOST)
    with refusing(file):
        tokenizer = Tokenizer.from_file(str(file))
        tokenizer.no_padding()
        tokenizer.no_truncation()
        if tokenizer.normalizer is not None:
            _bounded(file, json.loads(tokenizer.normalizer.__getstate__()))
        return tokenizer


def read_tokenizer(path: Path, rows: int) -> Tokens:
    """The token ids of a text by the tokenizer in a folder: at least one, each below `rows`."""
    file, tokenizer = path / "tokenizer.json", open_tokenizer(path)
    with refusing(file):
        ids = [*tokenizer.get_vocab(with_added_tokens=True).values(), *tokenizer.encode("").ids]
    if max(ids, default=0) >= rows:
        raise wrong(file, f"numbers tokens up to {max(ids)}, and the weights have {rows} rows")

    def tokens(text: str) -> list[int]:
        # A tokenizer that marks no beginning may make nothing of a text.
        return list(tokenizer.encode(text).ids) or [0]

    return tokens


def _bounded(file: Path, normalizer: object) -> None:
    """`EmbedderError` where a text could become very long: by what is put in place of its parts."""
    todo, left = [normalizer], REPLACES_MOST
    while todo:
        part = todo.pop()
        if isinstance(part, list):
            todo += part
        elif isinstance(part, dict):
            todo += part.values()
            left -= part.get("type") == "Replace"
            long = len(str(part.get("content", ""))) > 1
            if long or left < 0 or len(str(part.get("precompiled_charsmap", ""))) > CHARSMAP_MOST:
                raise wrong(file, "puts long texts, or many, in the place of others")


def _json(path: Path, most: int) -> object:
    with refusing(path):
        _file(path, most)
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise wrong(path, f"is no JSON: {error}") from error


def _file(path: Path, most: int) -> None:
    """`EmbedderError` where there is no file (to open a pipe, say, would wait), or a huge one."""
    if not path.is_file():
        raise wrong(path, "there is no such file")
    if path.stat().st_size > most:
        raise wrong(path, f"has more than {most} bytes")
