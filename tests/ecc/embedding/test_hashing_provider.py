"""The hashing provider: same text, same vector, everywhere; likeness of words; refusals."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weftos.ecc.embedding.hashing import HashingParameters, HashingProvider, words_of
from weftos.errors import EmbeddingRefused
from weftos.limits import EMBED_BATCH, EMBED_TEXT_CHARS

_TEXTS = st.text(min_size=1, max_size=80).filter(str.strip)


@given(st.lists(_TEXTS, min_size=1, max_size=6))
def test_vectors_are_of_length_one_and_independent_of_the_batch(texts: list[str]) -> None:
    together = HashingProvider().embed(texts)
    assert together.dtype == np.float32
    assert together.shape == (len(texts), 512)
    assert np.allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)
    backwards = HashingProvider().embed(texts[::-1])[::-1]
    assert together.tobytes() == np.ascontiguousarray(backwards).tobytes()
    for text, vector in zip(texts, together, strict=True):
        assert HashingProvider().embed([text])[0].tobytes() == vector.tobytes()


def test_other_processes_give_the_same_bits() -> None:
    program = (
        "import sys; from weftos.ecc.embedding.hashing import HashingProvider as P; p = P();"
        "sys.stdout.write(p.identity.parameters + p.embed(['the quick brown fox', 'readFile(größe)']).tobytes().hex())"
    )
    answers = {
        subprocess.run(
            [sys.executable, "-c", program], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("0", "1", "4711")
    }
    ours = HashingProvider()
    expected = ours.identity.parameters + ours.embed(["the quick brown fox", "readFile(größe)"]).tobytes().hex()
    assert answers == {expected.encode()}


def test_order_of_words_does_not_count_but_words_do() -> None:
    one, same, near, far = HashingProvider().embed(
        ["open the ring buffer", "buffer ring the open", "opening ring buffers", "parsing of calendar dates"]
    )
    assert one.tobytes() == same.tobytes()
    assert one @ near > 0.4 > 0.3 > abs(one @ far)


def test_names_in_code_are_split() -> None:
    assert words_of("readFile HTTPServer2 snake_case __all__ plain") == [
        "readfile", "read", "file", "httpserver2", "http", "server", "2", "snake_case", "snake", "case", "all", "plain",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "texts", ["one text", [""], [" \n"], [b"bytes"], ["x" * (EMBED_TEXT_CHARS + 1)], ["x"] * (EMBED_BATCH + 1)]
)
def test_refused_texts(texts) -> None:
    with pytest.raises(EmbeddingRefused):
        HashingProvider().embed(texts)


@pytest.mark.parametrize(
    "changed", [{"dimension": 0}, {"dimension": 1 << 20}, {"shortest": 6}, {"shortest": 0}, {"word": 0}, {"grams": -1}]
)
def test_refused_parameters(changed: dict[str, int]) -> None:
    with pytest.raises(EmbeddingRefused):
        HashingProvider(HashingParameters(**changed))


def test_each_parameter_is_part_of_the_identity() -> None:
    changes = [
        {},
        {"dimension": 256},
        {"shortest": 2},
        {"longest": 6},
        {"word": 90},
        {"stem": 0},
        {"grams": 0},
        {"common": 5},
    ]
    assert len({HashingProvider(HashingParameters(**change)).identity for change in changes}) == len(changes)


def test_no_texts_give_no_rows() -> None:
    assert HashingProvider().embed([]).shape == (0, 512)
