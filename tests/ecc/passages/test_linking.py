"""Edges of a folder: the right ones, the same from any order, and kept up to date by changes alone."""

from __future__ import annotations

import random
from collections.abc import Iterable

from hypothesis import given, settings
from hypothesis import strategies as st

from weftos.ecc.passages.cutting import cut
from weftos.ecc.passages.linking import Edge, FolderLinks, LinkType
from weftos.ecc.passages.model import Document


def _named(documents: Iterable[Document]) -> dict[bytes, str]:
    """A readable name of each id."""
    names = {}
    for document in documents:
        names[document.id] = document.file
        for section in document.sections:
            names[section.id] = f"{document.file}#{'/'.join(section.path)}"
        for passage in document.passages:
            names[passage.id] = f"{document.file}:{passage.first}"
    return names


def _edges(texts: dict[str, str], *kinds: LinkType) -> list[tuple[str, str]]:
    documents = [cut(file, text) for file, text in texts.items()]
    names = _named(documents)
    return sorted((names[e.source], names[e.target]) for e in FolderLinks(documents).edges() if e.type in kinds)


def _unresolved(texts: dict[str, str]) -> list[tuple[str, str, str]]:
    links = FolderLinks(cut(file, text) for file, text in texts.items())
    return [(one.file, one.reference.target, one.why) for one in links.unresolved()]


def test_structure() -> None:
    texts = {"a.md": "intro\n\n# A\n\none\n\n## B\n\ntwo\n\n# C\nend"}
    assert _edges(texts, LinkType.CONTAINS) == [
        ("a.md", "a.md#"), ("a.md#", "a.md#A"), ("a.md#", "a.md#C"), ("a.md#", "a.md:1"), ("a.md#A", "a.md#A/B"),
        ("a.md#A", "a.md:3"), ("a.md#A/B", "a.md:7"), ("a.md#C", "a.md:11"),
    ]  # fmt: skip
    assert _edges(texts, LinkType.FOLLOWS) == [
        ("a.md#C", "a.md#A"), ("a.md:11", "a.md:7"), ("a.md:3", "a.md:1"), ("a.md:7", "a.md:3"),
    ]  # fmt: skip


def test_imports() -> None:
    texts = {
        "src/p/__init__.py": "",
        "src/p/a.py": "def f(): pass\nclass C:\n    def m(self): pass\n",
        "src/p/sub/__init__.py": "from . import b\nfrom .. import a",
        "src/p/sub/b.py": "from ..a import f, missing\nfrom ...p import a\n"
        "from .... import nothing\nimport os\nimport json",
        "src/p/json.py": "",
        "tests/t.py": "import p.a\nfrom p import *\nfrom p.sub import b\nfrom p.a import C\nimport gone.x, helper",
        "tests/helper.py": "from .lost import y",
        "space/inner.py": "",
        "use.py": "from space import inner\n",
    }
    assert _edges(texts, LinkType.IMPORTS) == [
        ("src/p/sub/__init__.py:1", "src/p/a.py"), ("src/p/sub/__init__.py:1", "src/p/sub/b.py"),
        ("src/p/sub/b.py:1", "src/p/a.py"), ("src/p/sub/b.py:1", "src/p/a.py#f"),
        ("tests/t.py:1", "src/p/__init__.py"), ("tests/t.py:1", "src/p/a.py"), ("tests/t.py:1", "src/p/a.py#C"),
        ("tests/t.py:1", "src/p/sub/b.py"), ("tests/t.py:1", "tests/helper.py"), ("use.py:1", "space/inner.py"),
    ]  # fmt: skip
    assert _unresolved(texts) == [
        ("src/p/sub/b.py", "....", "missing"), ("src/p/sub/b.py", "os", "outside"),
        ("src/p/sub/b.py", "json", "outside"), ("tests/helper.py", ".lost", "missing"),
        ("tests/t.py", "gone.x", "outside"),
    ]  # fmt: skip


def test_a_folder_that_is_a_package_is_known_by_its_name() -> None:
    documents = [cut("__init__.py", ""), cut("a.py", "import top.b\nfrom top import b\nimport b"), cut("b.py", "x = 1")]
    edges = FolderLinks(documents, "top").edges()
    names = _named(documents)
    assert [(names[e.source], names[e.target]) for e in edges if e.type is LinkType.IMPORTS] == [("a.py:1", "b.py")]
    assert not [
        e
        for e in FolderLinks(documents[:2], "top").edges()
        if e.type is LinkType.IMPORTS and e.target == documents[2].id
    ]


def test_links() -> None:
    texts = {
        "README.md": "# Start `here`\n[a](docs/a.md#two-words) [b](docs/) [c](#start-here) [d](gone.md) "
        "[e](../x) [f](/docs/a.md)\n"
        "[g](https://x.y/) [h](docs/a.md#none) [i](docs/a%20b.md?x=1) [j](p.py#L3) "
        "[k](p.py#C.m) [l](docs/a.md#two-words-1)",
        "docs/a.md": "# Two words!\nx\n# Two words\ny",
        "docs/index.rst": ".. _top:\n\nTitle of it\n===========\n\n"
        "`Title of it`_ :ref:`far` :doc:`sub/x` :ref:`lost` `m <a.md>`_\n",
        "docs/sub/x.rst": "x\n\n.. _far:\n.. _far two:\n\nY\n=\n\n"
        ":ref:`top` :doc:`/docs/index` `t <../index.rst#title-of-it>`_\n",
        "docs/a b.md": "x",
        "p.py": "class C:\n\n    def m(self): pass\n",
    }
    assert _edges(texts, LinkType.REFERENCES) == [
        ("README.md:1", "README.md#Start `here`"), ("README.md:1", "docs/a b.md"), ("README.md:1", "docs/a.md"),
        ("README.md:1", "docs/a.md#Two words"), ("README.md:1", "docs/a.md#Two words!"),
        ("README.md:1", "docs/index.rst"), ("README.md:1", "p.py#C/m"),
        ("docs/index.rst:3", "docs/a.md"), ("docs/index.rst:3", "docs/index.rst#Title of it"),
        ("docs/index.rst:3", "docs/sub/x.rst"), ("docs/index.rst:3", "docs/sub/x.rst#Y"),
        ("docs/sub/x.rst:6", "docs/index.rst"), ("docs/sub/x.rst:6", "docs/index.rst#Title of it"),
    ]  # fmt: skip
    assert _unresolved(texts) == [
        ("README.md", "gone.md", "missing"), ("README.md", "../x", "outside"), ("README.md", "https://x.y/", "outside"),
        ("README.md", "docs/a.md#none", "heading"), ("docs/index.rst", "lost", "label"),
    ]  # fmt: skip


def test_a_name_that_is_no_utf_8_is_linked() -> None:
    assert _edges({"a.md": "[x](b%FF.md)", "b\udcff.md": "x"}, LinkType.REFERENCES) == [("a.md:1", "b\udcff.md")]


_FILES = st.sampled_from(
    ["a.md", "b.rst", "d/c.md", "d/__init__.py", "d/m.py", "m.py", "d/e/__init__.py", "d.py", "x.rst"]
)
_ROWS = st.sampled_from(
    ["", "", "text", "# One", "# Two", "[l](a.md#one)", "[l](d/c.md#two)", "[l](../b.rst)", "[l](#one)", "[l](d)",
     "`One`_", "One\n===", ".. _lab:", ":ref:`lab`", ":doc:`x`", "import m", "from d import m", "from . import m",
     "from .m import f", "from d.m import f, C", "def f(): pass", "class C: pass", "import d.e", "import top.m",
     "[l](m.py#L3)", "[l](b.rst#lab)"]
)  # fmt: skip
_TEXTS = st.lists(_ROWS, max_size=12).map("\n".join)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(_FILES, st.one_of(st.none(), _TEXTS)), max_size=14), st.randoms(use_true_random=False))
def test_changes_lead_to_what_a_new_start_gives(steps: list[tuple[str, str | None]], chance: random.Random) -> None:
    links = FolderLinks(name="top")
    kept: set[Edge] = set()
    texts: dict[str, str] = {}
    for file, text in steps:
        if text is None:
            texts.pop(file, None)
            change = links.remove(file)
        else:
            texts[file] = text
            change = links.put(cut(file, text))
        assert kept.isdisjoint(change.added)
        assert kept.issuperset(change.removed)
        kept = (kept - set(change.removed)) | set(change.added)
        documents = [cut(file, text) for file, text in texts.items()]
        chance.shuffle(documents)
        fresh = FolderLinks(documents, "top")
        assert links.edges() == fresh.edges()
        assert set(links.edges()) == kept
        assert links.unresolved() == fresh.unresolved()


@given(st.dictionaries(_FILES, _TEXTS, max_size=6))
def test_both_ends_of_each_edge_exist(texts: dict[str, str]) -> None:
    documents = [cut(file, text) for file, text in texts.items()]
    names = _named(documents)
    for edge in FolderLinks(documents).edges():
        assert edge.source in names
        assert edge.target in names


def test_hostile_references_are_resolved_or_told() -> None:
    targets = [
        "../" * 5000 + "x",
        "#" * 900,
        "%00",
        "%",
        "a\\b",
        "?",
        "#L99999999999999999999",
        "#L0",
        "/" * 900,
        "./" * 400,
    ]
    text = "\n\n".join(f"[x](<{target}>)" for target in targets)
    deep = "from " + "." * 3000 + "x import y\nimport " + ".".join("a" * 3000)
    links = FolderLinks([cut("d/a.md", text), cut("d/b.py", deep)])
    known = {edge for edge in links.edges() if edge.type in (LinkType.REFERENCES, LinkType.IMPORTS)}
    assert len(known) + len(links.unresolved()) >= len(targets)
