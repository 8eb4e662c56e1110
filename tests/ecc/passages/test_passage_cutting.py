"""Cutting: every line once, ids that survive edits elsewhere, the right sections, hostile text."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weftos.ecc.passages.cutting import change_between, cut
from weftos.ecc.passages.model import Document
from weftos.errors import PassageRefused
from weftos.limits import PASSAGE_FILE_BYTES, PASSAGE_LINE_CHARS, PASSAGE_LINES

_ROWS = st.sampled_from(
    ["", "  ", "# One", "## Two", "# One", "text here", "- item", "> # quoted", "```", "def f(): return 1",
     "class A:",
     "    def g(self):", "        return 2", "@decorated",
     "import os", "from . import x", "[a](b.md#c)", "Title", "===",
     "é\u2028ß", "\x0c", "x" * 900, "x" * (PASSAGE_LINE_CHARS + 1), "if 1:", "(" * 300]
)  # fmt: skip
_TEXTS = st.one_of(
    st.text(max_size=200),
    st.builds(lambda rows, end: end.join(rows), st.lists(_ROWS, max_size=90), st.sampled_from(["\n", "\r\n", "\r"])),
)
_NAMES = st.sampled_from(["a.md", "a.rst", "b.py", "c.txt", "d"])


def _rows(text: str) -> list[str]:
    rows = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return rows[:-1] if not rows[-1] else rows


@given(_NAMES, _TEXTS)
def test_every_line_is_in_one_passage_or_skipped(file: str, text: str) -> None:
    document, rows = cut(file, text), _rows(text)
    assert document.lines == len(rows)
    pieces = [*document.passages, *document.skipped]
    covered = sorted(line for piece in pieces for line in range(piece.first, piece.last + 1))
    assert covered == list(range(1, len(rows) + 1))
    assert len({passage.id for passage in document.passages}) == len(document.passages)
    sections = {section.id: section for section in document.sections}
    assert len(sections) == len(document.sections)
    for passage in document.passages:
        assert passage.text == "\n".join(rows[passage.first - 1 : passage.last])
        assert passage.last - passage.first < PASSAGE_LINES
        section = sections[passage.section]
        assert section.first <= passage.first <= passage.last <= section.last
        assert section.path == passage.path
    for skipped in document.skipped:
        for row in rows[skipped.first - 1 : skipped.last]:
            assert (not row.strip()) if skipped.why == "blank" else len(row) > PASSAGE_LINE_CHARS


def _section(title: str, words: str) -> str:
    return f"# {title}\n\n{words}\n\n"


@given(st.lists(st.text("abc ", min_size=1).filter(str.strip), min_size=2, max_size=6), st.data())
def test_an_edit_in_one_section_leaves_the_ids_of_the_others(bodies: list[str], data: st.DataObject) -> None:
    edited = data.draw(st.integers(0, len(bodies) - 1))
    changed = [body if number != edited else f"new\n\nlines\n{body}" for number, body in enumerate(bodies)]
    old, new = (
        cut("a.md", "".join(_section(f"S{number}", body) for number, body in enumerate(version)))
        for version in (bodies, changed)
    )
    change = change_between(old, new)
    assert {passage.path for passage in (*change.added, *change.removed)} == {(f"S{edited}",)}
    assert len(change.kept) == len(bodies) - 1


def test_markdown_sections() -> None:
    text = "intro\n\n# A\n\none [x](b.md#c)\n\n## B\n\n```\n# code\n```\n\n# C\nend"
    document = cut("a.md", text)
    assert [(s.path, s.first, s.last) for s in document.sections] == [
        ((), 1, 14), (("A",), 3, 12), (("A", "B"), 7, 12), (("C",), 13, 14),
    ]  # fmt: skip
    assert [(p.path, p.first, p.last) for p in document.passages] == [
        ((), 1, 1), (("A",), 3, 5), (("A", "B"), 7, 11), (("C",), 13, 14),
    ]  # fmt: skip
    assert [(r.kind, r.target, r.line) for r in document.references] == [("links", "b.md#c", 5)]


def test_python_sections() -> None:
    text = '"""Doc."""\nimport os\nfrom ..x import y\n\n\n'
    text += 'class A:\n    """Of A."""\n\n    @property\n    def f(self):\n        return 1\n'
    document = cut("a.py", text)
    assert [(s.path, s.first, s.last) for s in document.sections] == [
        ((), 1, 11), (("A",), 6, 11), (("A", "f"), 9, 11),
    ]  # fmt: skip
    assert [(r.target, r.line) for r in document.references] == [("os", 2), ("..x", 3)]


@pytest.mark.parametrize("text", ["def (", "x = '\0'", "(" * 5000, "-" * 20000 + "1", "\\"])
def test_what_is_no_python_is_read_by_lines(text: str) -> None:
    document = cut("a.py", text)
    assert document.form == "lines"
    assert document.passages[0].text == text


def test_a_document_that_is_too_large_is_refused() -> None:
    with pytest.raises(PassageRefused):
        cut("a.txt", "x" * (PASSAGE_FILE_BYTES + 1))


def test_versions_of_two_files_are_not_compared() -> None:
    with pytest.raises(PassageRefused):
        change_between(cut("a", "x"), cut("b", "x"))


def test_ids_are_the_same_in_other_processes() -> None:
    program = "from weftos.ecc.passages.cutting import cut\n"
    program += "print([p.id.hex() for p in cut('a.md', '# A\\nx\\n# B\\ny').passages])"
    answers = {
        subprocess.run(
            [sys.executable, "-c", program], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("1", "2")
    }
    document: Document = cut("a.md", "# A\nx\n# B\ny")
    assert answers == {f"{[p.id.hex() for p in document.passages]}\n".encode()}
