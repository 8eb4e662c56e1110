"""Which edges exist among the documents of a folder: what contains what, what follows what, what refers to what.

Pure: documents in, edges out. Both ends of an edge are universal ids. A document contains its first section, a section
the sections and passages right inside of it. A passage follows the one before it in the document, a section the one
before it inside of the same section. A reference goes from the passage in which it is written to a document or a
section; what it means is told by ``resolving``.

Guaranteed: the edges depend on the documents alone, not on the order in which they came; after any changes they are
those that a new start with the same documents gives. A change costs what the document has, and what looked at it.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator

import msgspec

from weftos.ecc.passages.model import Document, Reference
from weftos.ecc.passages.resolving import Folder, Key, Why, passage_at

__all__ = ["Edge", "FolderLinks", "LinkChange", "LinkType", "Unresolved", "structure_of"]


class LinkType(enum.Enum):
    """What an edge says. The values are the words on the wire."""

    CONTAINS = "Contains"
    FOLLOWS = "Follows"
    IMPORTS = "Imports"
    REFERENCES = "References"


class Edge(msgspec.Struct, frozen=True):
    """The source contains, follows, imports or refers to the target; universal ids, 32 bytes each."""

    type: LinkType
    source: bytes
    target: bytes


class Unresolved(msgspec.Struct, frozen=True):
    """A reference without a target in the folder: where it is, what is written there, and why (see ``resolving``)."""

    file: str
    reference: Reference
    why: Why


class LinkChange(msgspec.Struct, frozen=True):
    """What became of the edges of a folder when one document changed; each in the order of type, source, target."""

    added: tuple[Edge, ...]
    removed: tuple[Edge, ...]


class FolderLinks:
    """The edges of a folder, kept up to date. Not for several threads.

    Args:
        documents: those of the folder; of two with one path the later counts.
        name: of the folder; what absolute imports call it by when it is a Python package itself.
    """

    def __init__(self, documents: Iterable[Document] = (), name: str = "") -> None:
        self._folder = Folder(name)
        self._edges: dict[str, frozenset[Edge]] = {}
        self._unresolved: dict[str, tuple[Unresolved, ...]] = {}
        self._looked: dict[str, frozenset[Key]] = {}
        self._lookers: dict[Key, set[str]] = {}
        for document in documents:
            self._folder.put(document)
        for file in self._folder.documents:
            self._link(file)

    def put(self, document: Document) -> LinkChange:
        """Add a document, or put the new version of one in the place of the old; tell what that changes."""
        return self._relink({document.file}, self._folder.put(document))

    def remove(self, file: str) -> LinkChange:
        """Take out a document that is gone, if it is known; tell what that changes."""
        return self._relink({file}, self._folder.remove(file))

    def edges(self) -> tuple[Edge, ...]:
        """All edges, in the order of type, source, target."""
        return _ordered(edge for of_file in self._edges.values() for edge in of_file)

    def unresolved(self) -> tuple[Unresolved, ...]:
        """The references without a target, in the order of files and lines."""
        return tuple(one for file in sorted(self._unresolved) for one in self._unresolved[file])

    def _relink(self, files: set[str], changed: set[Key]) -> LinkChange:
        for key in changed:
            files |= self._lookers.get(key, set())
        # No two files have an edge in common: its source is of the file.
        before = {edge for file in files for edge in self._edges.get(file, ())}
        for file in files:
            self._link(file)
        after = {edge for file in files for edge in self._edges.get(file, ())}
        return LinkChange(_ordered(after - before), _ordered(before - after))

    def _link(self, file: str) -> None:
        """Make the edges of one file anew, or take them out when it is gone."""
        for key in self._looked.pop(file, ()):
            self._lookers[key].discard(file)
            if not self._lookers[key]:
                del self._lookers[key]
        self._edges.pop(file, None)
        self._unresolved.pop(file, None)
        document = self._folder.documents.get(file)
        if document is None:
            return
        looked: set[Key] = set()
        edges = set(structure_of(document))
        unresolved = []
        for reference in document.references:
            meaning = self._folder.resolve(document, reference, looked)
            source = passage_at(document, reference.line)
            kind = LinkType.IMPORTS if reference.kind == "imports" else LinkType.REFERENCES
            edges |= {Edge(kind, source.id if source else document.id, target) for target in meaning.targets}
            if meaning.why:
                unresolved.append(Unresolved(file, reference, meaning.why))
        self._edges[file] = frozenset(edges)
        self._unresolved[file] = tuple(unresolved)
        self._looked[file] = frozenset(looked)
        for key in looked:
            self._lookers.setdefault(key, set()).add(file)


def structure_of(document: Document) -> Iterator[Edge]:
    """The edges inside of a document: what contains what, and what follows what."""
    yield Edge(LinkType.CONTAINS, document.id, document.sections[0].id)
    around = [document.sections[0]]
    before: dict[bytes, bytes] = {}
    for section in document.sections[1:]:
        while around[-1].last < section.first:
            around.pop()
        outer = around[-1].id
        yield Edge(LinkType.CONTAINS, outer, section.id)
        if outer in before:
            yield Edge(LinkType.FOLLOWS, section.id, before[outer])
        before[outer] = section.id
        around.append(section)
    for number, passage in enumerate(document.passages):
        yield Edge(LinkType.CONTAINS, passage.section, passage.id)
        if number:
            yield Edge(LinkType.FOLLOWS, passage.id, document.passages[number - 1].id)


def _ordered(edges: Iterable[Edge]) -> tuple[Edge, ...]:
    return tuple(sorted(edges, key=lambda edge: (edge.type.value, edge.source, edge.target)))
