"""`aios-eccos train` end to end on a little world."""

import json

import numpy as np
import pytest
from predict_world import make_table

from aios_eccos.cli import train as command
from aios_eccos.errors import ConfigError, HistoryOwned
from aios_eccos.forecast.head.artifact import load_head
from aios_eccos.history.client import own
from aios_eccos.locate import state_dir_of


class Stub:
    """Embeds a question of the little world by the angle in its text."""

    name, dimension, identity = "stub", 2, "stub"

    def embed_with_layers(self, texts):
        angle = np.array([float(text.rsplit(" ", 1)[1]) for text in texts])
        embeddings = np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)
        layers = np.concatenate([embeddings, embeddings**2, embeddings, embeddings], axis=1)
        return embeddings, layers

    def embed(self, texts):
        return self.embed_with_layers(texts)[0]


def test_train_writes_a_head_that_loads_and_reports_on_val(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("aios_eccos.history.open.open_embedder", lambda *args, **more: Stub())
    monkeypatch.setenv("AIOS_ECCOS_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("AIOS_ECCOS_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("AIOS_HOME", raising=False)
    t, _ = make_table(300, seed=21)
    rows = [
        {"query_id": t.ids[i], "query": t.texts[i], "input_token_length": 50,
         "split": "test" if i % 3 == 0 else "val" if i % 10 == 1 else "train",
         "outputs": [{"model_name": name, "correctness": bool(t.correctness[i, j]),
                      "output_token_length": int(t.output_tokens[i, j])}
                     for j, name in enumerate(t.models)]}
        for i in range(300)
    ]  # fmt: skip
    file, out = tmp_path / "rows.jsonl", tmp_path / "head.safetensors"
    file.write_text("\n".join(json.dumps(row) for row in rows))
    command.train(data=[file], out=out, json_file="-")
    body = json.loads(capsys.readouterr().out)
    assert body["schema"] == "aios-eccos/train/1"
    assert body["records"] + body["held_back"] == 200 and body["held_back"] > 0
    assert [row["model"] for row in body["models"]] == ["large", "middle", "small"]
    assert load_head(out, embedder="stub").models == ("large", "middle", "small")
    with pytest.raises(ConfigError, match="exclude each other"):
        command.train(data=[file], from_history=True)


def test_beside_a_kernel_that_owns_the_history_the_remedy_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("aios_eccos.history.open.open_embedder", lambda *args, **more: Stub())
    monkeypatch.setenv("AIOS_ECCOS_STATE", str(tmp_path))
    monkeypatch.delenv("AIOS_HOME", raising=False)
    give_back = own(state_dir_of(None) / "history")
    try:
        with pytest.raises(HistoryOwned, match="--data FILE"):
            command.train()
    finally:
        give_back()
