"""Questions with one right passage each, made of what is installed: the words that a text has for itself, taken out.

``code``: each summary of a function or class must find the passage of source that it was taken from. ``prose``: each
summary of a docstring must find the rest of that docstring, and each heading in the description of a package what
stands under it. Words that two passages have for themselves are no question. What is installed differs between
machines, so figures compare rankings on one machine.
"""

from __future__ import annotations

import ast
import importlib.metadata
import importlib.util
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from weftos.ecc.passages.cutting import cut
from weftos.ecc.passages.folder import Source, read_folder
from weftos.ecc.passages.model import headed
from weftos.limits import PASSAGE_CHARS, PASSAGE_FILE_BYTES

__all__ = ["Labelled", "code", "prose", "sample"]

_CODE: Final = ("asyncio", "email", "http", "json")
_PROSE: Final = ("click", "networkx", "numpy", "rich", "scipy")
#: Passages of prose: enough to be hard, few enough for a measurement of a minute.
_PROSE_PASSAGES: Final = 3000
_WORDS: Final = 4
_BODY_WORDS: Final = 15


class Labelled(msgspec.Struct, frozen=True):
    """Passages, and questions with the place of their answer."""

    passages: list[str]
    questions: list[tuple[str, int]]


def code(packages: int = len(_CODE), *, with_headings: bool = False) -> Labelled:
    """Passages of source and the summaries taken out of them, from that many packages of the standard library.

    Args:
        packages: how many.
        with_headings: names of classes and functions in front of each passage, as memory embeds it.
    """
    found = Labelled([], [])
    for name in _CODE[:packages]:
        for source in _sources(name):
            _take(source, found, with_headings)
    return found


def prose(most: int = _PROSE_PASSAGES, packages: tuple[str, ...] = _PROSE) -> Labelled:
    """Passages of documentation, each with the summary or heading taken out of it; of more, every so many."""
    pairs = [pair for name in packages for source in _sources(name) for pair in _docstrings(source)]
    pairs += _descriptions()
    times = Counter(" ".join(question.lower().split()) for question, _ in pairs)
    bodies = Counter(body for _, body in pairs)
    pairs = [
        (question, body)
        for question, body in pairs
        if times[" ".join(question.lower().split())] == 1 and bodies[body] == 1 and question not in body
    ]
    pairs = [pairs[number * len(pairs) // most] for number in range(most)] if len(pairs) > most else pairs
    return Labelled([body for _, body in pairs], [(question, number) for number, (question, _) in enumerate(pairs)])


def sample(whole: Labelled, most: int) -> Labelled:
    """Every so many passages and the questions that they answer."""
    count = len(whole.passages)
    kept = sorted({number * count // most for number in range(most)}) if count > most else list(range(count))
    places = {old: new for new, old in enumerate(kept)}
    questions = [(text, places[answer]) for text, answer in whole.questions if answer in places]
    return Labelled([whole.passages[old] for old in kept], questions)


def _sources(package: str) -> Iterator[Source]:
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        return
    for source in read_folder(Path(found.origin).parent):
        # Tests say little about themselves, and the same thing often.
        if isinstance(source, Source) and source.file.endswith(".py") and "tests/" not in source.file:
            yield source


def _docstrings(source: Source) -> Iterator[tuple[str, str]]:
    try:
        module = ast.parse(source.text)
    except SyntaxError:
        return
    for node in ast.walk(module):
        if isinstance(node, ast.Module | ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            first, _, rest = (ast.get_docstring(node) or "").partition("\n\n")
            question, body = " ".join(first.split()), rest.strip()[:PASSAGE_CHARS]
            if _WORDS <= len(question.split()) <= 30 and len(body.split()) >= _BODY_WORDS:
                yield question, body


def _descriptions() -> Iterator[tuple[str, str]]:
    """Headings of the descriptions of all installed packages, and what stands under each."""
    named = {str(one.metadata["Name"]): one for one in importlib.metadata.distributions() if one.metadata["Name"]}
    for name in sorted(named):
        metadata = named[name].metadata
        text = (metadata.get_payload() or metadata["Description"] or "")[:PASSAGE_FILE_BYTES]  # type: ignore[attr-defined]
        kind = metadata["Description-Content-Type"] or "text/x-rst"
        document = cut(f"{name}.md" if "markdown" in kind else f"{name}.rst", text)
        firsts = {section.id: section for section in document.sections[1:]}
        for passage in document.passages:
            section = firsts.get(passage.section)
            if section is None or passage.first != section.first:
                continue
            # Without the lines of the heading itself: its words, and the rules above and below.
            rows = [
                row for row in passage.text.split("\n") if section.path[-1] not in row and len(set(row.strip())) > 1
            ]
            body = "\n".join(rows)
            if len(section.path[-1].split()) >= 2 and len(body.split()) >= _BODY_WORDS:
                yield section.path[-1], body


def _take(source: Source, found: Labelled, with_headings: bool) -> None:
    firsts = {}
    for node in ast.walk(ast.parse(source.text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            text = (ast.get_docstring(node) or "").split("\n")[0]
            if len(text.split()) >= _WORDS:
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
        found.passages.append(headed(passage.path, left) if with_headings else left)
        place = len(found.passages) - 1
        found.questions.extend((firsts[line], place) for line in inside if firsts[line] not in left)
