"""The forward pass of a BERT encoder over NumPy arrays: token ids to one vector for each token.

Why here: a sentence encoder of six layers is some sixty lines of matrix products, and the libraries that would do it
(PyTorch, ONNX Runtime) are hundreds of megabytes, or need the model in a form in which it does not come. Devlin et al.,
"BERT: Pre-training of Deep Bidirectional Transformers", 2019; activation: GELU in its exact form, by the error
function. Names of the weights are those of the files.

Not guaranteed: equal bits on another machine, with another BLAS, or in another batch; differences are about 1e-6.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy.special import erf

__all__ = ["BertShape", "Encoder", "names_of"]

Array = NDArray[np.float32]


class BertShape(msgspec.Struct, frozen=True):
    """``config.json`` of a model: what the forward pass depends on; other members are not read."""

    model_type: str
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    vocab_size: int
    max_position_embeddings: int
    layer_norm_eps: float = 1e-12
    hidden_act: str = "gelu"
    position_embedding_type: str = "absolute"
    type_vocab_size: int = 2


def names_of(shape: BertShape) -> dict[str, tuple[int, ...]]:
    """Name and shape of each array of weights that the encoder needs."""
    size, inner = shape.hidden_size, shape.intermediate_size
    named: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (shape.vocab_size, size),
        "embeddings.position_embeddings.weight": (shape.max_position_embeddings, size),
        "embeddings.token_type_embeddings.weight": (shape.type_vocab_size, size),
        "embeddings.LayerNorm.weight": (size,),
        "embeddings.LayerNorm.bias": (size,),
    }
    for number in range(shape.num_hidden_layers):
        layer = f"encoder.layer.{number}."
        for name, rows, columns in (
            ("attention.self.query", size, size),
            ("attention.self.key", size, size),
            ("attention.self.value", size, size),
            ("attention.output.dense", size, size),
            ("intermediate.dense", inner, size),
            ("output.dense", size, inner),
        ):
            named |= {f"{layer}{name}.weight": (rows, columns), f"{layer}{name}.bias": (rows,)}
        for name in ("attention.output.LayerNorm", "output.LayerNorm"):
            named |= {f"{layer}{name}.weight": (size,), f"{layer}{name}.bias": (size,)}
    return named


class Encoder:
    """An encoder with its weights.

    Args:
        shape: of the model.
        weights: arrays of float32 by name, as ``names_of`` lists them.
    """

    def __init__(self, shape: BertShape, weights: Mapping[str, Array]) -> None:
        self._shape = shape
        self._weights = weights

    def __call__(self, ids: NDArray[np.int64], mask: NDArray[np.bool_]) -> Array:
        """Encode token ids.

        Args:
            ids: shape (texts, tokens), padded at the end with any id.
            mask: of the same shape; false where padded.

        Returns:
            Shape (texts, tokens, ``hidden_size``).
        """
        weights = self._weights
        state = weights["embeddings.word_embeddings.weight"][ids]
        state = state + weights["embeddings.position_embeddings.weight"][: ids.shape[1]]
        state += weights["embeddings.token_type_embeddings.weight"][0]
        state = self._normal(state, "embeddings.LayerNorm")
        # What is padded gets no share of the attention.
        bias = np.where(mask, np.float32(0), np.float32(-1e9))[:, None, None, :]
        for number in range(self._shape.num_hidden_layers):
            state = self._layer(state, bias, f"encoder.layer.{number}.")
        return state

    def _layer(self, state: Array, bias: Any, layer: str) -> Array:
        seen = self._attention(state, bias, layer + "attention.self.")
        seen = self._dense(seen, layer + "attention.output.dense")
        state = self._normal(state + seen, layer + "attention.output.LayerNorm")
        inner = self._dense(state, layer + "intermediate.dense")
        inner *= np.float32(0.5) * (np.float32(1) + erf(inner * np.float32(2**-0.5)))
        return self._normal(state + self._dense(inner, layer + "output.dense"), layer + "output.LayerNorm")

    def _attention(self, state: Array, bias: Any, name: str) -> Array:
        texts, tokens, size = state.shape
        heads = self._shape.num_attention_heads
        query, key, value = (
            self._dense(state, name + part).reshape(texts, tokens, heads, size // heads).transpose(0, 2, 1, 3)
            for part in ("query", "key", "value")
        )
        shares: Any = query @ key.transpose(0, 1, 3, 2)
        shares *= np.float32((size // heads) ** -0.5)
        shares += bias
        shares -= shares.max(axis=-1, keepdims=True)
        np.exp(shares, out=shares)
        shares /= shares.sum(axis=-1, keepdims=True)
        seen: Array = (shares @ value).transpose(0, 2, 1, 3).reshape(texts, tokens, size)
        return seen

    def _dense(self, state: Array, name: str) -> Any:
        made: Array = state @ self._weights[name + ".weight"].T
        made += self._weights[name + ".bias"]
        return made

    def _normal(self, state: Array, name: str) -> Array:
        state = np.subtract(state, state.mean(axis=-1, keepdims=True), dtype=np.float32)
        variance = np.square(state).mean(axis=-1, keepdims=True)
        np.divide(state, np.sqrt(variance + np.float32(self._shape.layer_norm_eps)), out=state)
        state *= self._weights[name + ".weight"]
        state += self._weights[name + ".bias"]
        return state
