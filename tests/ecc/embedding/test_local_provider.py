"""The model on this machine: figures that its makers publish, batches, long texts, damaged folders; the registry."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from weftos.ecc.embedding.hashing import HashingProvider
from weftos.ecc.embedding.http import HttpProvider
from weftos.ecc.embedding.local import PACKAGE, LocalParameters, LocalProvider
from weftos.ecc.embedding.registry import EmbeddingSettings, make_provider
from weftos.errors import EmbeddingInvalid, EmbeddingNotInstalled, EmbeddingRefused, WeftError

tokenizers = pytest.importorskip("tokenizers", reason="the extra embed-local is not installed")
safetensors_numpy = pytest.importorskip("safetensors.numpy", reason="the extra embed-local is not installed")

_SHAPE: dict[str, Any] = {
    "model_type": "bert", "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16,
    "vocab_size": 6, "max_position_embeddings": 16, "hidden_act": "gelu",
}  # fmt: skip
_POOLING = {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False}
_STEPS = [{"type": f"sentence_transformers.models.{name}"} for name in ("Transformer", "Pooling", "Normalize")]


def _model(folder: Path) -> Path:
    """A small model with random weights, as sentence-transformers would save it."""
    from weftos.ecc.embedding.bert import BertShape, names_of

    chance = np.random.default_rng(7)
    shapes = names_of(BertShape(**_SHAPE))
    (folder / "1_Pooling").mkdir(parents=True)
    weights = {name: chance.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    safetensors_numpy.save_file(weights, folder / "model.safetensors")
    words = {"[UNK]": 0, "a": 1, "b": 2, "c": 3, "d": 4, "e": 5}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    for name, content in (
        ("config.json", _SHAPE),
        ("modules.json", _STEPS),
        ("1_Pooling/config.json", _POOLING),
        ("sentence_bert_config.json", {"max_seq_length": 8}),
    ):
        (folder / name).write_text(json.dumps(content))
    return folder


def _of(folder: Path) -> LocalProvider:
    return LocalProvider(LocalParameters(folder=str(folder)))


def test_the_model_gives_what_its_makers_publish() -> None:
    """The similarities in the documentation of sentence-transformers for all-MiniLM-L6-v2."""
    pytest.importorskip(PACKAGE, reason="the extra embed-local is not installed")
    provider = LocalProvider()
    texts = ["The weather is lovely today.", "It's so sunny outside!", "He drove to the stadium."]
    vectors = provider.embed(texts)
    assert vectors.dtype == np.float32
    assert provider.identity.dimension == 384
    assert np.allclose(vectors @ vectors.T, [[1, 0.6660, 0.1046], [0.6660, 1, 0.1411], [0.1046, 0.1411, 1]], atol=1e-4)


def test_batches_and_order_do_not_count(tmp_path: Path) -> None:
    provider = _of(_model(tmp_path))
    texts = ["a", "b c", "a b c d e a b", "e " * 50, "zzz", "d"]
    together = provider.embed(texts)
    assert np.allclose(np.linalg.norm(together, axis=1), 1, atol=1e-6)
    for text, vector in zip(texts, together, strict=True):
        assert np.allclose(provider.embed([text])[0], vector, atol=1e-5)
    assert provider.embed([]).shape == (0, 8)


def test_no_part_of_a_long_text_is_left_out(tmp_path: Path) -> None:
    provider = _of(_model(tmp_path))
    long, longer = provider.embed(["a " * 8, "a " * 8 + "b " * 80])
    assert not np.allclose(long, longer, atol=1e-2)
    # Windows are independent of each other, so exchanging two whole ones changes nothing.
    one, other = provider.embed(["a b c d e a b c " + "d " * 8, "d " * 8 + "a b c d e a b c"])
    assert np.allclose(one, other, atol=1e-5)


def test_the_first_token_alone(tmp_path: Path) -> None:
    folder = _model(tmp_path)
    mean = _of(folder)
    (folder / "1_Pooling/config.json").write_text(json.dumps({"pooling_mode_cls_token": True}))
    first = _of(folder)
    assert first.identity != mean.identity
    assert not np.allclose(first.embed(["a b"]), mean.embed(["a b"]), atol=1e-4)


def test_each_file_is_part_of_the_identity(tmp_path: Path) -> None:
    folder = _model(tmp_path)
    seen = {_of(folder).identity}
    for name in ("config.json", "tokenizer.json", "modules.json", "1_Pooling/config.json", "sentence_bert_config.json"):
        (folder / name).write_text((folder / name).read_text() + " ")
        seen.add(_of(folder).identity)
    assert len(seen) == 6
    assert _of(folder).identity in seen


@pytest.mark.parametrize(
    "name",
    ["config.json", "tokenizer.json", "modules.json", "1_Pooling/config.json", "sentence_bert_config.json",
     "model.safetensors"]
)  # fmt: skip
def test_a_file_that_is_missing_or_damaged(name: str, tmp_path: Path) -> None:
    path = _model(tmp_path) / name
    whole = path.read_bytes()
    for data in (b"", b"{", whole[: len(whole) // 2], b"\xff" * 64, b"[]", b"null"):
        path.write_bytes(data)
        with pytest.raises((EmbeddingInvalid, EmbeddingRefused)):
            _of(tmp_path)
    path.unlink()
    with pytest.raises(EmbeddingRefused, match="missing"):
        _of(tmp_path)


@pytest.mark.parametrize(
    ("name", "changed"),
    [*(("config.json", {**_SHAPE, **change}) for change in
       ({"model_type": "roberta"}, {"hidden_act": "relu"}, {"position_embedding_type": "relative_key"},
        {"num_attention_heads": 3}, {"num_attention_heads": 0}, {"hidden_size": 16}, {"num_hidden_layers": 3},
        {"num_hidden_layers": -1}, {"vocab_size": 7})),
     ("1_Pooling/config.json", {"pooling_mode_max_tokens": True}), ("1_Pooling/config.json", {}),
     ("1_Pooling/config.json", {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True}),
     ("sentence_bert_config.json", {"max_seq_length": 17}), ("sentence_bert_config.json", {"max_seq_length": 0}),
     ("modules.json", _STEPS[:1]), ("modules.json", [*_STEPS, {"type": "x.Dense"}])]
)  # fmt: skip
def test_a_model_of_another_kind_is_not_run_by_halves(name: str, changed: Any, tmp_path: Path) -> None:
    (_model(tmp_path) / name).write_text(json.dumps(changed))
    with pytest.raises((EmbeddingInvalid, EmbeddingRefused)):
        _of(tmp_path)


def test_weights_that_are_no_numbers(tmp_path: Path) -> None:
    folder = _model(tmp_path)
    weights = safetensors_numpy.load_file(folder / "model.safetensors")
    weights["embeddings.LayerNorm.bias"][3] = np.nan
    safetensors_numpy.save_file(weights, folder / "model.safetensors")
    with pytest.raises(EmbeddingInvalid, match="finite"):
        _of(folder).embed(["a"])


def test_refused_texts(tmp_path: Path) -> None:
    provider = _of(_model(tmp_path))
    for texts in ("one", [" "], ["\udcff"]):
        with pytest.raises(EmbeddingRefused):
            provider.embed(texts)


@pytest.mark.parametrize("module", ["tokenizers", "safetensors", "safetensors.numpy"])
def test_what_is_not_installed_is_named(module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _model(tmp_path)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(EmbeddingNotInstalled, match=r"weftos\[embed-local\]"):
        _of(tmp_path)


def test_a_package_or_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(EmbeddingNotInstalled, match=r"weftos\[embed-local\]"):
        LocalProvider(LocalParameters(package="no_such_package_of_a_model"))
    for parameters in (LocalParameters(package="../x"), LocalParameters(folder=str(tmp_path / "no"))):
        with pytest.raises(EmbeddingRefused):
            LocalProvider(parameters)


def test_settings_lead_to_providers(tmp_path: Path) -> None:
    assert isinstance(make_provider(EmbeddingSettings()), HashingProvider)
    small = make_provider(EmbeddingSettings("hashing", {"dimension": 64}))
    assert small.identity.dimension == 64
    http = {"base_url": "https://example.org/v1", "model": "m", "dimension": 8}
    assert isinstance(make_provider(EmbeddingSettings("http", http)), HttpProvider)
    assert isinstance(make_provider(EmbeddingSettings("local", {"folder": str(_model(tmp_path))})), LocalProvider)


@pytest.mark.parametrize(
    ("name", "parameters", "words"),
    [("gpt", {}, "hashing, http, local"), ("", {}, "hashing, http, local"), ("hashing", {"dim": 3}, "dim"),
     ("hashing", {"dimension": "64"}, "dimension"), ("http", {}, "base_url"), ("local", {"folder": 3}, "folder"),
     ("http", {"base_url": "https://h", "model": "m", "dimension": 8, "key": "secret"}, "key")]
)  # fmt: skip
def test_settings_that_name_nothing(name: str, parameters: dict[str, Any], words: str) -> None:
    with pytest.raises(WeftError, match=words) as caught:
        make_provider(EmbeddingSettings(name, parameters))
    assert isinstance(caught.value, EmbeddingRefused)
    assert "secret" not in str(caught.value)
