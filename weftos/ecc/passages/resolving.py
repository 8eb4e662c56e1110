"""What a reference of a document means in a folder of documents. No file is opened: the folder is what was cut.

Each look at the folder is noted, hits and misses alike, so that whoever keeps the answers knows which of them a change
of one document can change.

Rules. Python: an absolute import by the name of the folder, where that is a package,
is looked for in it; any other from the folders above the importing file, the nearest first, each of them
and its ``src``; a folder with ``__init__.py`` is inside of a package and is no place to start from; of a package and a
module of one name the package is taken. Links: relative to the document, or to the folder when they begin with ``/``; a
folder stands for its ``README`` or ``index``; ``#words`` is a heading as GitHub or docutils name it, a definition
(``#Class.method``) or a line (``#L12``). Labels: the document's own first, then that of the first file by name.
"""

from __future__ import annotations

import posixpath
import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator
from typing import Final, Literal
from urllib.parse import unquote

import msgspec

from weftos.ecc.passages.model import Document, Passage, Reference

__all__ = ["Folder", "Key", "Meaning", "Why", "passage_at"]

#: What was looked at: whether there is a file, which sections one has, where its lines are, what a label means, or
#: whether there is a module of some name anywhere: an absolute import has many places where it could be.
Key = tuple[Literal["file", "sections", "lines", "label", "module"], str]
#: ``outside``: not of this folder (an address, a library); ``missing``: no document of that name; ``heading``: the
#: document has no such heading; ``label``: no document gives that label.
Why = Literal["outside", "missing", "heading", "label"]

_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:|//")
_LINE: Final = re.compile(r"L(\d{1,9})(?:C\d+)?(?:-L?\d+(?:C\d+)?)?\Z")
_INLINE_LINK: Final = re.compile(r"!?\[([^\[\]]*)\]\([^()]*\)")
_NO_SLUG: Final = re.compile(r"[^\w\- ]")
_NO_ID: Final = re.compile(r"[^a-z0-9]+")
_INDEXES: Final = ("README.md", "index.md", "README.rst", "index.rst", "__init__.py")
_ENDINGS: Final = (".rst", ".md", ".rest", ".markdown", ".txt", "")
_MODULES: Final = ("/__init__.py", ".py", "/__init__.pyi", ".pyi")


class Meaning(msgspec.Struct, frozen=True):
    """What a reference means.

    Attributes:
        targets: universal ids of documents and sections; several only for an import of several names.
        why: why there is none, or not all of it was found; ``None`` otherwise.
    """

    targets: tuple[bytes, ...]
    why: Why | None = None


class Folder:
    """Documents by file, and their labels.

    Args:
        name: of the folder; what absolute imports call it by when it is a package itself.
    """

    def __init__(self, name: str = "") -> None:
        self._name = name
        self.documents: dict[str, Document] = {}
        self._labels: dict[str, dict[str, bytes]] = {}
        self._anchors: dict[str, dict[str, bytes]] = {}

    def put(self, document: Document) -> set[Key]:
        """Add or replace a document; return what it changes, as references look at it."""
        return self._change(document.file, document)

    def remove(self, file: str) -> set[Key]:
        """Take a document out, if there is one; return what that changes."""
        return self._change(file, None)

    def _change(self, file: str, document: Document | None) -> set[Key]:
        old = self.documents.pop(file, None)
        if old is None and document is None:
            return set()
        sections = self._anchors_of(old) if old else None
        self._anchors.pop(file, None)
        before, after = _given(old), _given(document)
        for name in before:
            del self._labels[name][file]
            if not self._labels[name]:
                del self._labels[name]
        for name, section in after.items():
            self._labels.setdefault(name, {})[file] = section
        changed: set[Key] = {("lines", file)}
        changed |= {("label", name) for name in {*before, *after} if before.get(name) != after.get(name)}
        if document:
            self.documents[file] = document
        if document is None or sections != self._anchors_of(document):
            changed.add(("sections", file))
        if old is None or document is None:
            changed.add(("file", file))
            parts = file.rpartition(".")[0].split("/")
            changed.add(("module", parts[-2] if parts[-1] == "__init__" and len(parts) > 1 else parts[-1]))
        return changed

    def resolve(self, document: Document, reference: Reference, looked: set[Key]) -> Meaning:
        """Tell what a reference means.

        Args:
            document: where it stands.
            reference: one of its references.
            looked: what was looked at is added here.
        """
        if reference.kind == "imports":
            return self._import(document, reference, looked)
        if reference.kind == "labels":
            return self._label(document, reference.target, looked)
        return self._link(document, reference, looked)

    def _has(self, file: str, looked: set[Key]) -> Document | None:
        found = self.documents.get(file)
        looked.add(("sections" if found else "file", file))
        return found

    def _module(self, base: str, looked: set[Key]) -> Document | None:
        return next(filter(None, (self._has(base + ending, looked) for ending in _MODULES)), None)

    def _import(self, document: Document, reference: Reference, looked: set[Key]) -> Meaning:
        dotted = reference.target.lstrip(".")
        levels = len(reference.target) - len(dotted)
        inner = dotted.replace(".", "/")
        parts = document.file.split("/")[:-1]
        if levels:
            if levels - 1 > len(parts):
                return Meaning((), "outside")
            around = parts[: len(parts) - levels + 1]
            return self._imported("/".join([*around, *([inner] if inner else [])]), reference, looked, "missing")
        first, _, rest = inner.partition("/")
        if first == self._name and self._has("__init__.py", looked):
            return self._imported(rest, reference, looked, "missing")
        looked |= {("module", name) for name in (inner.rpartition("/")[2], *reference.names)}
        for start in self._starts(parts, looked):
            tried: set[Key] = set()
            found = self._imported(start + inner, reference, tried, "outside")
            if found.targets:
                looked |= {key for key in tried if key[0] == "sections"}
                return found
        return Meaning((), "outside")

    def _starts(self, parts: list[str], looked: set[Key]) -> Iterator[str]:
        for depth in range(len(parts), -1, -1):
            start = "".join(f"{part}/" for part in parts[:depth])
            looked.add(("file", f"{start}__init__.py"))
            if f"{start}__init__.py" not in self.documents:
                yield start
                yield f"{start}src/"

    def _imported(self, base: str, reference: Reference, looked: set[Key], why: Why) -> Meaning:
        """A module by its path without ending, and what is imported from it."""
        module = self._module(base, looked) if base else self._has("__init__.py", looked)
        if not reference.names:
            return Meaning((module.id,)) if module else Meaning((), why)
        targets, left = [], False
        for name in reference.names:
            inner = self._module(f"{base}/{name}" if base else name, looked) if name != "*" else None
            defined = self._anchors_of(module).get(name) if module else None
            found = defined or (inner.id if inner else None) or (module.id if module else None)
            if found:
                targets.append(found)
            left = left or not found
        return Meaning(tuple(targets), why if left else None)

    def _label(self, document: Document, name: str, looked: set[Key]) -> Meaning:
        # What the document itself gives comes first; a change of it resolves all of its references again.
        of_name = self._labels.get(name, {})
        own = of_name.get(document.file) or self._anchors_of(document).get(_identifier(name))
        if own:
            return Meaning((own,))
        looked.add(("label", name))
        return Meaning((of_name[min(of_name)],)) if of_name else Meaning((), "label")

    def _link(self, document: Document, reference: Reference, looked: set[Key]) -> Meaning:
        if _SCHEME.match(reference.target):
            return Meaning((), "outside")
        path, _, fragment = reference.target.partition("#")
        path = unquote(path.partition("?")[0], errors="surrogateescape")
        found: Document | None = document
        if path:
            base = "" if path.startswith("/") else posixpath.dirname(document.file)
            whole = posixpath.normpath(posixpath.join(base, path.lstrip("/")))
            if whole == ".." or whole.startswith("../"):
                return Meaning((), "outside")
            found = self._file("" if whole == "." else whole, reference.kind, looked)
        if found is None:
            return Meaning((), "missing")
        if not fragment:
            return Meaning((found.id,))
        return self._fragment(found, unquote(fragment, errors="surrogateescape"), looked)

    def _file(self, path: str, kind: str, looked: set[Key]) -> Document | None:
        names = [path + ending for ending in _ENDINGS] if kind == "documents" else [path]
        names += [f"{path}/{name}" if path else name for name in _INDEXES]
        return next(filter(None, (self._has(name, looked) for name in names)), None)

    def _fragment(self, document: Document, fragment: str, looked: set[Key]) -> Meaning:
        line = _LINE.match(fragment)
        if line:
            looked.add(("lines", document.file))
            passage = passage_at(document, int(line[1]))
            return Meaning((passage.section,)) if passage else Meaning((), "heading")
        anchors = self._anchors_of(document)
        found = anchors.get(fragment) or anchors.get(fragment.lower())
        looked.add(("label", fragment.lower()))
        label = self._labels.get(fragment.lower(), {}).get(document.file)
        return Meaning((found or label or b"",)) if found or label else Meaning((), "heading")

    def _anchors_of(self, document: Document) -> dict[str, bytes]:
        """Names of the sections of a document, as links have them; of equal ones the first."""
        known = self._anchors.get(document.file)
        if known is None:
            known = self._anchors[document.file] = {}
            seen: Counter[str] = Counter()
            for section in document.sections[1:]:
                title = section.path[-1]
                slug = _NO_SLUG.sub("", _INLINE_LINK.sub(r"\1", title).lower()).replace(" ", "-")
                names = [f"{slug}-{seen[slug]}" if seen[slug] else slug]
                seen[slug] += 1
                names += [".".join(section.path)] if document.form == "python" else [_identifier(title)]
                for name in names:
                    known.setdefault(name, section.id)
        return known


def passage_at(document: Document, line: int) -> Passage | None:
    """The passage that a line is in, or the next one; ``None`` after the last."""
    place = bisect_right(document.passages, line, key=lambda passage: passage.first)
    if place and document.passages[place - 1].last >= line:
        place -= 1
    return document.passages[place] if place < len(document.passages) else None


def _given(document: Document | None) -> dict[str, bytes]:
    """The sections that the labels of a document stand for; of equal labels the first counts."""
    if document is None:
        return {}
    return {label.name: _labelled(document, label.line) for label in reversed(document.labels)}


def _labelled(document: Document, line: int) -> bytes:
    """The section that a label stands for: the one that begins right below it, or the one that it is in."""
    given = {label.line for label in document.labels}
    passage = passage_at(document, line)
    assert passage is not None, "a label is a line of a passage"
    while all(row in given for row in range(line, passage.last + 1)):
        following = passage_at(document, passage.last + 1)
        if following is None:
            break
        if following.section != passage.section:
            return following.section
        passage, line = following, following.first
    return passage.section


def _identifier(title: str) -> str:
    """A name as docutils makes an identifier of it."""
    return _NO_ID.sub("-", title.lower()).strip("-")
