"""reStructuredText: the sections that docutils sees, labels, references; text that was made to be slow."""

from __future__ import annotations

import io

import pytest
from docutils import nodes
from docutils.frontend import get_default_settings
from docutils.parsers.rst import Parser
from docutils.utils import new_document
from hypothesis import example, given
from hypothesis import strategies as st

from weftos.ecc.passages.cutting import cut
from weftos.limits import PASSAGE_FILE_BYTES

_ROWS = st.sampled_from(
    ["", "", "", "Title", "Title", "Other title", "=====", "=====", "-----", "-----------", "~~~~~",
     "==", "---",
     "===========", "    indented", "  Title", "- item", "* item", "1. Title", ":field: text", "para::", ".. note:: a",
     ".. _label:", ".. comment",
     "| line", ">>> code", "__ x", "...", "::", "漢字", "-a  option", "text that is longer than a rule"]
)  # fmt: skip


def _of_docutils(text: str) -> list[tuple[str, ...]]:
    settings = get_default_settings(Parser)
    settings.report_level = settings.halt_level = 5
    settings.file_insertion_enabled = settings.raw_enabled = False
    settings.warning_stream = io.StringIO()
    document = new_document("x", settings)
    Parser().parse(text, document)
    found = []
    for section in document.findall(nodes.section):
        path: list[str] = []
        node = section
        while isinstance(node, nodes.section):
            path.insert(0, node[0].astext())
            node = node.parent
        found.append(tuple(path))
    return found


@given(st.lists(_ROWS, max_size=40))
@example(["=====", "Title", "=====", "", "Other title", "-----------", "a", "", "Title", "=====", "", "x", "-----"])
def test_sections_are_those_of_docutils(rows: list[str]) -> None:
    text = "\n".join(rows)
    document = cut("a.rst", text)
    assert document.form == "restructuredtext"
    assert [section.path for section in document.sections[1:]] == _of_docutils(text), text


def test_titles_levels_and_lines() -> None:
    text = "====\nBook\n====\n\none\n\nPart\n====\n\n.. code::\n\n   Not\n   ===\n\nSub\n---\n\nPart 2\n======\nend"
    document = cut("a.rst", text)
    assert [(section.path, section.first, section.last) for section in document.sections] == [
        ((), 1, 20), (("Book",), 1, 20), (("Book", "Part"), 7, 17), (("Book", "Part", "Sub"), 15, 17),
        (("Book", "Part 2"), 18, 20),
    ]  # fmt: skip


def test_references_and_labels() -> None:
    text = """\
.. _start here:

Title
=====

A `page <other.rst#part>`_, `site`_, the `Title`_, :doc:`guide </g/intro>`, :ref:`start here`, :func:`f`,
``not `a <b>`_``, site_, no_reference, https://example.org/a_b_. And `missing one`_.

.. _site: https://example.org/
.. image:: pics/a.png

.. toctree::
   :maxdepth: 2

   first
   The second <sub/second>

.. code-block:: c

   `x <y>`_

.. a comment with `x <y>`_
   and :doc:`more`

text::

   `x <y>`_

.. include:: /etc/passwd
"""
    document = cut("a.rst", text)
    assert [(label.name, label.line) for label in document.labels] == [("start here", 1)]
    assert [(found.kind, found.target, found.line) for found in document.references] == [
        ("links", "other.rst#part", 6), ("links", "https://example.org/", 6), ("labels", "title", 6),
        ("documents", "/g/intro", 6), ("labels", "start here", 6), ("links", "https://example.org/", 7),
        ("links", "https://example.org/a_b_", 7), ("labels", "missing one", 7), ("links", "pics/a.png", 10),
        ("documents", "first", 15), ("documents", "sub/second", 16), ("links", "/etc/passwd", 29),
    ]  # fmt: skip


def test_nothing_is_included() -> None:
    text = ".. include:: /etc/passwd\n\n.. raw:: html\n   :file: /etc/passwd\n\n.. csv-table::\n   :file: /etc/passwd\n"
    assert "".join(passage.text for passage in cut("a.rst", text).passages).count("root:") == 0


@pytest.mark.parametrize(
    "unit",
    ["*a ", "`a ", "`a <", "``a` ", "`", ":a", ":a:`", "a_ ", "  - a\n\n", "=\n", "====\nT\n====\n", "T\n=\n",
     "::\n\n> ", ".. _a", ".. |", "http://", "\\", ".. a::\n  ", "<", "+-", "| ", "=== ", ":a: "]
)  # fmt: skip
@pytest.mark.timeout(60)
def test_text_that_repeats_an_opening_is_read(unit: str) -> None:
    """In quadratic time, which docutils takes for some of these, a text of this size would take minutes."""
    line = (unit * (60 // len(unit))).rstrip("\n") + "\n"
    text = line * (300_000 // len(line))
    document = cut("a.rst", text)
    assert document.lines == text.count("\n")


def test_a_document_of_the_largest_size_is_read() -> None:
    block = "Title\n=====\n\nSome `text <a.rst>`_ and more.\n\n"
    document = cut("a.rst", block * (PASSAGE_FILE_BYTES // 8 // len(block)))
    assert len(document.sections) == PASSAGE_FILE_BYTES // 8 // len(block) + 1
