"""How well providers of embeddings find: the words that a text has for itself must lead to it (see ``recall_sets``).

BM25 (the package bm25s) ranks the same passages twice: with its own rules for words, and with those of the hashing
provider (names in code split, the same stems, the same common words left out), so that the words alone make no
difference. ``fused`` is the hashing provider and the second BM25 by reciprocal rank fusion, ``model+bm25s`` the model
and that BM25. The model of the extra ``embed-local`` is slow without an accelerator, so it is measured on samples,
where the others are measured again.
"""

from __future__ import annotations

import time
from typing import Any, Final

import numpy as np
from scipy.stats import rankdata

from weftos.bench.model import Collector, Settings
from weftos.bench.recall_sets import Labelled, code, prose, sample
from weftos.ecc.embedding.hashing import HashingParameters, HashingProvider, stems_of
from weftos.ecc.embedding.local import LocalProvider
from weftos.ecc.embedding.provider import EmbeddingProvider
from weftos.errors import EmbeddingNotInstalled
from weftos.limits import EMBED_BATCH

__all__ = ["run"]

_PARAMETERS: Final = {
    "weftos": HashingParameters(),
    "weftos-256": HashingParameters(dimension=256),
    "weftos-1024": HashingParameters(dimension=1024),
    "weftos-words": HashingParameters(stem=0, grams=0),
}
_TOP: Final = 10
#: The constant of reciprocal rank fusion (Cormack, Clarke, Büttcher, SIGIR 2009).
_RANK_OFFSET: Final = 60
#: Passages that the model is measured on: about a quarter of a second each on one core.
_SAMPLE: Final = 160


def run(settings: Settings) -> Collector:
    """Measure quality of ranking and speed; BM25 and the local model where they are installed."""
    collector = Collector("recall")
    quick = settings.quick
    sets = {"code": code(2) if quick else code(), "prose": prose(500) if quick else prose()}
    for name, whole in sets.items():
        case = f"{name}: {len(whole.questions)} questions, {len(whole.passages)} passages"
        _measure(collector, case, whole, _PARAMETERS)
    headed = code(2, with_headings=True) if quick else code(with_headings=True)
    case = f"code, with headings: {len(headed.questions)} questions, {len(headed.passages)} passages"
    _embedded(collector, case, "weftos", HashingProvider(), headed)
    try:
        model = LocalProvider()
    except EmbeddingNotInstalled as error:
        collector.skip("model", str(error))
        return collector
    for name, whole in sets.items():
        part = sample(whole, _SAMPLE // 8 if quick else _SAMPLE)
        case = f"{name}, sample: {len(part.questions)} questions, {len(part.passages)} passages"
        words = _measure(collector, case, part, {"weftos": HashingParameters()})
        ranked = _embedded(collector, case, "model", model, part)
        if words is not None:
            _score(collector, case, "model+bm25s", _fused(ranked, words), part)
    return collector


def _measure(collector: Collector, case: str, labelled: Labelled, parameters: dict[str, HashingParameters]) -> Any:
    """Measure the ways that need no model; return the scores of the second BM25, or ``None`` without it."""
    scores = {
        who: _embedded(collector, case, who, HashingProvider(chosen), labelled) for who, chosen in parameters.items()
    }
    try:
        import bm25s
    except ImportError:
        collector.skip("bm25s", "not installed: pip install bm25s")
        return None
    asked = [text for text, _ in labelled.questions]
    own = bm25s.tokenize(labelled.passages, show_progress=False, return_ids=False)
    own_asked = bm25s.tokenize(asked, show_progress=False, return_ids=False)
    _score(collector, case, "bm25s", _bm25(own, own_asked), labelled)
    fair = _bm25([stems_of(text) for text in labelled.passages], [stems_of(text) for text in asked])
    _score(collector, case, "bm25s-fair", fair, labelled)
    _score(collector, case, "fused", _fused(scores["weftos"], fair), labelled)
    return fair


def _bm25(passages: list[list[str]], asked: list[list[str]]) -> Any:
    import bm25s

    index: Any = bm25s.BM25()
    index.index(passages, show_progress=False)
    known = {word for words in passages for word in words}
    kept = [[word for word in words if word in known] for words in asked]
    return np.stack([index.get_scores(words) if words else np.zeros(len(passages)) for words in kept])


def _fused(one: Any, other: Any) -> Any:
    """Scores by reciprocal rank fusion; equal scores share the middle of their places."""
    return sum(1 / (_RANK_OFFSET + rankdata(-scores, axis=1)) for scores in (one, other))


def _embedded(collector: Collector, case: str, who: str, provider: EmbeddingProvider, labelled: Labelled) -> Any:
    began = time.perf_counter()
    vectors = _embed(provider, labelled.passages)
    collector.add(case, who, "passages embedded", len(labelled.passages) / (time.perf_counter() - began), "1/s")
    scores = _embed(provider, [text for text, _ in labelled.questions]) @ vectors.T
    _score(collector, case, who, scores, labelled)
    return scores


def _embed(provider: EmbeddingProvider, texts: list[str]) -> Any:
    return np.vstack([provider.embed(texts[at : at + EMBED_BATCH]) for at in range(0, len(texts), EMBED_BATCH)])


def _score(collector: Collector, case: str, who: str, scores: Any, labelled: Labelled) -> None:
    answers = np.array([answer for _, answer in labelled.questions])
    # The middle of those with an equal score: a ranking that tells nothing apart must not seem good.
    own = scores[np.arange(len(answers)), answers][:, None]
    rank = 1 + (scores > own).sum(axis=1) + ((scores == own).sum(axis=1) - 1) / 2
    inside = rank <= _TOP
    collector.add(case, who, "nDCG@10", float(np.where(inside, 1 / np.log2(rank + 1), 0).mean()), "")
    collector.add(case, who, "recall@10", float(inside.mean()), "")
    collector.add(case, who, "MRR", float((1 / rank).mean()), "")
