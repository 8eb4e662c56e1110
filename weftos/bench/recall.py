"""How well the provider without a model finds: the summary of a function must lead to the passage it was taken from.

Each passage of a section of the standard library's ``email``, ``asyncio``, ``json`` and ``http`` packages that begins
with a docstring is indexed without that docstring's first line; that line is the question, the passage the one right
answer. BM25 (the package bm25s) ranks the same passages with its own rules for words.
"""

from __future__ import annotations

import ast
import importlib.util
import time
from pathlib import Path
from typing import Any, Final

import numpy as np

from weftos.bench.model import Collector, Settings
from weftos.ecc.embedding.hashing import HashingParameters, HashingProvider
from weftos.ecc.passages.cutting import cut
from weftos.ecc.passages.folder import Source, read_folder
from weftos.limits import EMBED_BATCH

__all__ = ["run"]

_PACKAGES: Final = ("asyncio", "email", "http", "json")
_PARAMETERS: Final = {
    "weftos": HashingParameters(),
    "weftos-256": HashingParameters(dimension=256),
    "weftos-1024": HashingParameters(dimension=1024),
    "weftos-words": HashingParameters(stem=0, grams=0),
}
_TOP: Final = 10


def run(settings: Settings) -> Collector:
    """Measure quality of ranking and speed; BM25 too when it is installed."""
    collector = Collector("recall")
    passages, questions = _labelled(2 if settings.quick else len(_PACKAGES))
    case = f"{len(questions)} questions, {len(passages)} passages"
    answers = np.array([answer for _, answer in questions])
    asked = [text for text, _ in questions]
    for who, parameters in _PARAMETERS.items():
        provider = HashingProvider(parameters)
        vectors = _embed(provider, passages)
        _score(collector, case, who, _embed(provider, asked) @ vectors.T, answers)
        began = time.perf_counter()
        _embed(provider, passages)
        collector.add(case, who, "passages embedded", len(passages) / (time.perf_counter() - began), "1/s")
    try:
        import bm25s
    except ImportError:
        collector.skip("bm25s", "not installed: pip install bm25s")
        return collector
    index: Any = bm25s.BM25()
    index.index(bm25s.tokenize(passages, show_progress=False), show_progress=False)
    rows = bm25s.tokenize(asked, show_progress=False, return_ids=False)
    _score(collector, case, "bm25s", np.stack([index.get_scores(words) for words in rows]), answers)
    return collector


def _embed(provider: HashingProvider, texts: list[str]) -> Any:
    return np.vstack([provider.embed(texts[at : at + EMBED_BATCH]) for at in range(0, len(texts), EMBED_BATCH)])


def _score(collector: Collector, case: str, who: str, scores: Any, answers: Any) -> None:
    # The middle of those with an equal score: a ranking that tells nothing apart must not seem good.
    own = scores[np.arange(len(answers)), answers][:, None]
    rank = 1 + (scores > own).sum(axis=1) + ((scores == own).sum(axis=1) - 1) / 2
    inside = rank <= _TOP
    collector.add(case, who, "nDCG@10", float(np.where(inside, 1 / np.log2(rank + 1), 0).mean()), "")
    collector.add(case, who, "recall@10", float(inside.mean()), "")
    collector.add(case, who, "MRR", float((1 / rank).mean()), "")


def _labelled(packages: int) -> tuple[list[str], list[tuple[str, int]]]:
    """Passages, and questions with the place of their answer."""
    passages: list[str] = []
    questions: list[tuple[str, int]] = []
    for name in _PACKAGES[:packages]:
        found = importlib.util.find_spec(name)
        if found is None or found.origin is None:
            continue
        for source in read_folder(Path(found.origin).parent):
            if isinstance(source, Source) and source.file.endswith(".py"):
                _take(source, passages, questions)
    return passages, questions


def _take(source: Source, passages: list[str], questions: list[tuple[str, int]]) -> None:
    firsts = {}
    for node in ast.walk(ast.parse(source.text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            text = (ast.get_docstring(node) or "").split("\n")[0]
            if len(text.split()) >= 4:
                firsts[node.body[0].lineno] = text
    for passage in cut(source.file, source.text).passages:
        inside = [line for line in firsts if passage.first <= line <= passage.last]
        rows = passage.text.split("\n")
        for line in inside:
            rows[line - passage.first] = rows[line - passage.first].replace(firsts[line], "")
        # A first line that goes on in the source under another indentation stays: only what is gone is asked.
        left = "\n".join(rows)
        if len(left.split()) < 5:
            continue
        passages.append(left)
        questions += [(firsts[line], len(passages) - 1) for line in inside if firsts[line] not in left]
