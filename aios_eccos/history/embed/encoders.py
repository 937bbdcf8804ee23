"""A sentence-transformers model's forward pass: by ONNX Runtime where it can be, else PyTorch."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from aios_eccos.errors import EmbedderError
from aios_eccos.history.embed.bert import INPUT, Lookup, bert_encoder
from aios_eccos.history.embed.folder import read_json, read_modules
from aios_eccos.history.embed.int8 import TEXTS, in_eight_bits, ranges
from aios_eccos.history.store import Embeddings

log = logging.getLogger("aios_eccos.history")

#: How vectors are computed: changed whenever others come of the same tokens.
ARITHMETIC = "int8 1"

#: What keeps ONNX Runtime's telemetry off, once it is set before the library is imported; what it
#: offers for that in Python comes too late.
SILENCES = ("ORT_DISABLE_TELEMETRY", "ORT_TELEMETRY_DISABLED")

#: From the token ids of one text: its embedding (d) of any length, and `pooled` layers.
Forward: TypeAlias = Callable[[Sequence[int]], tuple[Embeddings, Embeddings]]


@dataclass(frozen=True, slots=True)
class Encoder:
    """A loaded model.

    Attributes:
        engine: "onnxruntime" or "torch".
        tokens: the token ids of a text, those included that mark its beginning and its end.
        most: token ids that the model reads at most.
        forward: safe to call from several threads.
        passes: how many at once use all processors.
    """

    engine: str
    tokens: Callable[[str], list[int]]
    most: int
    forward: Forward
    passes: int


def load_encoder(path: Path) -> Encoder:
    """Load the model in a folder; `EmbedderError` where that holds none, or a damaged one."""
    from safetensors import SafetensorError

    settings = read_json(path / "config.json")
    if _is_plain_bert(path, settings):
        try:
            return _load_onnx(path, settings)
        except (SafetensorError, KeyError, OSError) as error:
            raise EmbedderError(f"embedder {path} is damaged: {error!r}") from error
        except _refusals() as error:
            log.info("embedding by PyTorch, since ONNX Runtime refuses the model: %.200s", error)
    return _load_torch(path)


def _is_plain_bert(path: Path, settings: dict[str, Any]) -> bool:
    """Whether the model is a BERT encoder with nothing but the mean over tokens after it."""
    kinds = [str(module["type"]).rsplit(".", 1)[-1] for module in read_modules(path)]
    pooling = read_json(path / "1_Pooling" / "config.json") if "Pooling" in kinds else {}
    modes = [
        mode for mode, on in pooling.items() if mode.startswith("pooling_mode_") and on is True
    ]
    modes = modes or [f"pooling_mode_{pooling.get('pooling_mode')}_tokens"]
    return (
        kinds in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"])
        and modes == ["pooling_mode_mean_tokens"]
        and settings.get("model_type") == "bert"
        and settings.get("hidden_act") == "gelu"
        and settings.get("position_embedding_type", "absolute") == "absolute"
        and not read_json(path / "sentence_bert_config.json").get("do_lower_case")
        and (path / "model.safetensors").is_file()
        and (path / "tokenizer.json").is_file()
    )


def _load_onnx(path: Path, settings: dict[str, Any]) -> Encoder:
    """Raises one of `_refusals` where ONNX Runtime lacks an operator, say."""
    from safetensors.numpy import load_file
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(path / "tokenizer.json"))
    except Exception as error:
        raise EmbedderError(f"embedder {path} is damaged: tokenizer.json: {error}") from error
    tokenizer.no_padding()
    tokenizer.no_truncation()
    raw = load_file(path / "model.safetensors")
    # Some models are stored in 16 bits.
    weights = {
        name.removeprefix("bert."): array.astype(np.float32, copy=False)
        for name, array in raw.items()
    }
    lookup, depth = Lookup(weights), int(settings["num_hidden_layers"])
    write = partial(
        bert_encoder,
        weights,
        layers=depth,
        heads=int(settings["num_attention_heads"]),
        epsilon=float(settings["layer_norm_eps"]),
    )
    samples = [lookup(tokenizer.encode(text).ids) for text in TEXTS]
    graph, outputs = write(in_eight_bits(ranges(write, samples, _session)))
    wanted = [outputs[at - 1] for at in _thirds(depth)]
    session = _session(graph.model({INPUT: [1, "length", lookup.width]}, wanted))

    def forward(ids: Sequence[int]) -> tuple[Embeddings, Embeddings]:
        states = session.run(wanted, {INPUT: lookup(ids)})
        layers = pooled([state[0] for state in states])
        return layers[2 * lookup.width : 3 * lookup.width], layers

    most = read_json(path / "sentence_bert_config.json").get("max_seq_length") or lookup.most
    return Encoder(
        engine="onnxruntime",
        tokens=lambda text: list(tokenizer.encode(text).ids),
        most=min(int(most), lookup.most),
        forward=forward,
        passes=processors(),
    )


def processors() -> int:
    """Processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _onnxruntime() -> Any:
    """The library. Its builds since 1.31 write an id of the machine and send what they see."""
    for name in SILENCES:
        os.environ.setdefault(name, "1")
    import onnxruntime

    return onnxruntime


def _session(model: bytes) -> Any:
    onnxruntime = _onnxruntime()
    options = onnxruntime.SessionOptions()
    # A text is too short for threads to share; texts are shared out instead.
    options.intra_op_num_threads, options.inter_op_num_threads = 1, 1
    # Nothing is fused any further: ONNX Runtime would put slower operators in (see bert.py).
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _refusals() -> tuple[type[Exception], ...]:
    """What ONNX Runtime raises of a model that it cannot run."""
    state = _onnxruntime().capi.onnxruntime_pybind11_state
    names = ("Fail", "InvalidArgument", "InvalidGraph", "InvalidProtobuf", "NotImplemented",
             "RuntimeException")  # fmt: skip
    return tuple(getattr(state, name) for name in names)


def _load_torch(path: Path) -> Encoder:
    import torch
    from sentence_transformers import SentenceTransformer

    try:
        # Weights in another format may be a pickle.
        only = {"use_safetensors": True}
        model = SentenceTransformer(
            str(path), device="cpu", local_files_only=True, model_kwargs=only
        ).eval()
        tokenizer = model.tokenizer
        body, heads = model[0].auto_model, list(model)[1:]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
        raise EmbedderError(f"embedder {path} cannot be loaded: {error}") from error

    def tokens(text: str) -> list[int]:
        return list(tokenizer(text, verbose=False)["input_ids"])

    def forward(ids: Sequence[int]) -> tuple[Embeddings, Embeddings]:
        with torch.inference_mode():
            tokens = torch.tensor([list(ids)])
            seen = torch.ones_like(tokens)
            out = body(input_ids=tokens, attention_mask=seen, output_hidden_states=True)
            features = {"token_embeddings": out.last_hidden_state, "attention_mask": seen}
            for head in heads:
                features = head(features)
            states = [out.hidden_states[at] for at in _thirds(len(out.hidden_states) - 1)]
            layers = pooled([state[0].numpy() for state in states])
            return features["sentence_embedding"][0].numpy(), layers

    return Encoder("torch", tokens, int(model.max_seq_length), forward, passes=1)


def _thirds(depth: int) -> tuple[int, int, int]:
    """The layers (counted from 1) after one third, two thirds and all: 2, 4, 6 of 6."""
    return max(depth // 3, 1), max(2 * depth // 3, 1), depth


def pooled(states: Sequence[Embeddings]) -> Embeddings:
    """(4 d): the means over tokens of three states (length, d), and the last one's maxima."""
    means = (state.mean(axis=0, dtype=np.float32) for state in states)
    return np.concatenate([*means, states[-1].max(axis=0)])
