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

from aios_eccos.history.embed.bert import INPUT, Lookup, bert_encoder, shapes_of
from aios_eccos.history.embed.folder import (
    Bert,
    Reading,
    Tokens,
    Unread,
    check_counts,
    checked,
    read,
    read_json,
    read_modules,
    read_tokenizer,
    read_weights,
    wrong,
)
from aios_eccos.history.embed.int8 import TEXTS, in_eight_bits, ranges
from aios_eccos.history.store import Embeddings

log = logging.getLogger("aios_eccos.history")

#: How vectors are computed: changed whenever others come of the same tokens.
ARITHMETIC = "int8 1"

#: Tokens that are read at most of a text: attention takes memory with their square. Of texts' 1,600
#: characters (see gist.py) hardly ever more are made.
LONGEST = 2048

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
    tokens: Tokens
    most: int
    forward: Forward
    passes: int


def load_encoder(path: Path) -> Encoder:
    """Load the model in a folder; where that holds none, or a damaged one, see `refusing`."""
    settings = read_json(path / "config.json")
    if _is_plain_bert(path, settings):
        try:
            return _load_onnx(path, checked(path / "config.json", Bert, settings))
        except _refusals() as error:
            log.info("embedding by PyTorch, since ONNX Runtime refuses the model: %.200s", error)
    return _load_torch(path)


def _is_plain_bert(path: Path, settings: dict[str, Any]) -> bool:
    """Whether the model is a BERT encoder with nothing but the mean over tokens after it."""
    modules = read_modules(path)
    kinds = [module.kind for module in modules]
    if kinds not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
        return False
    pooling = read_json(path / modules[1].path / "config.json")
    modes = [
        mode for mode, on in pooling.items() if mode.startswith("pooling_mode_") and on is True
    ]
    modes = modes or [f"pooling_mode_{pooling.get('pooling_mode')}_tokens"]
    return (
        modes == ["pooling_mode_mean_tokens"]
        and settings.get("model_type") == "bert"
        and settings.get("hidden_act") == "gelu"
        and settings.get("position_embedding_type", "absolute") == "absolute"
        and not _reading(path).do_lower_case
        and (path / "tokenizer.json").is_file()
        and not (path / "model.safetensors.index.json").exists()  # it lies in several files
    )


def _reading(path: Path) -> Reading:
    """How much is read of a text; a folder need not say it."""
    file = path / "sentence_bert_config.json"
    return read(file, Reading) if file.exists() else Reading()


@np.errstate(over="raise", invalid="raise", divide="raise")
def _load_onnx(path: Path, bert: Bert) -> Encoder:
    """Raises one of `_refusals` where ONNX Runtime lacks an operator, say."""
    weights = read_weights(path / "model.safetensors", shapes_of(bert))
    lookup, depth = Lookup(weights), bert.num_hidden_layers
    tokens = read_tokenizer(path, lookup.rows)
    write = partial(bert_encoder, weights, bert)
    samples = [lookup(tokens(text)) for text in TEXTS]
    graph, outputs = write(in_eight_bits(ranges(write, samples, _session)))
    wanted = [outputs[at - 1] for at in _thirds(depth)]
    session = _session(graph.model({INPUT: [1, "length", lookup.width]}, wanted))

    def forward(ids: Sequence[int]) -> tuple[Embeddings, Embeddings]:
        states = session.run(wanted, {INPUT: lookup(ids)})
        layers = pooled([state[0] for state in states])
        return layers[2 * lookup.width : 3 * lookup.width], layers

    most = min(_reading(path).max_seq_length or lookup.most, lookup.most, LONGEST)
    return Encoder("onnxruntime", tokens, most, forward, passes=processors())


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
    """What is raised of a whole model that cannot be read for ONNX Runtime, or run by it."""
    state = _onnxruntime().capi.onnxruntime_pybind11_state
    names = ("Fail", "InvalidArgument", "InvalidGraph", "InvalidProtobuf", "NotImplemented",
             "RuntimeException")  # fmt: skip
    return (Unread, *(getattr(state, name) for name in names))


def _load_torch(path: Path) -> Encoder:
    import torch
    from sentence_transformers import SentenceTransformer

    _check_size(path)
    # Weights in another format may be a pickle.
    only = {"use_safetensors": True}
    model = SentenceTransformer(
        str(path), device="cpu", local_files_only=True, model_kwargs=only
    ).eval().float()  # fmt: skip
    tokenizer, body, heads = model.tokenizer, model[0].auto_model, list(model)[1:]
    _check_weights(path, body)

    def tokens(text: str) -> list[int]:
        return list(tokenizer(text, verbose=False)["input_ids"]) or [0]

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

    bounds = (model.max_seq_length, getattr(body.config, "max_position_embeddings", None), LONGEST)
    most = min(bound for bound in bounds if isinstance(bound, int) and bound > 0)
    return Encoder("torch", tokens, most, forward, passes=1)


def _check_size(path: Path) -> None:
    """`EmbedderError` where the settings describe a model far larger than the weights stored."""
    import torch
    from transformers import AutoConfig, AutoModel

    check_counts(path / "config.json")
    config = AutoConfig.from_pretrained(str(path), local_files_only=True)
    with torch.device("meta"):
        described = sum(each.numel() for each in AutoModel.from_config(config).parameters())
    # Of an encoder's weights in 16 bits, this counts those of a decoder too.
    if described > 4 * sum(file.stat().st_size for file in path.glob("*.safetensors")):
        raise wrong(path / "config.json", f"describes {described} weights, far more than stored")


def _check_weights(path: Path, body: Any) -> None:
    """`EmbedderError` where weights are not finite, or lack: PyTorch takes random ones for them."""
    import torch

    if not all(torch.isfinite(each).all() for each in body.parameters()):
        raise wrong(path, "its weights hold numbers that are not finite")
    loaded = {"local_files_only": True, "use_safetensors": True, "output_loading_info": True}
    lacks = type(body).from_pretrained(str(path), **loaded)[1]["missing_keys"]
    if lost := sorted(name for name in lacks if "pooler" not in name):
        raise wrong(path, f"its weights lack {lost[0]}")


def _thirds(depth: int) -> tuple[int, int, int]:
    """The layers (counted from 1) after one third, two thirds and all: 2, 4, 6 of 6."""
    return max(depth // 3, 1), max(2 * depth // 3, 1), depth


def pooled(states: Sequence[Embeddings]) -> Embeddings:
    """(4 d): the means over tokens of three states (length, d), and the last one's maxima."""
    means = (state.mean(axis=0, dtype=np.float32) for state in states)
    return np.concatenate([*means, states[-1].max(axis=0)])
