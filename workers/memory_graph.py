"""The part of the causal graph that a folder is: which nodes and edges there should be, and what differs. Pure.

Nodes are documents, their sections and their passages. A document contains the sections and passages right below it, a
section those in it. A document imports or refers to documents (a reference also to a section) of the same folder.

Guaranteed: what is there after a difference was carried out depends on the documents alone, not on what was there
before. Nodes and edges of other types, or of others than this folder, are left alone.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any, Final

import msgspec

from weftos import limits
from weftos.ecc.passages.linking import FolderLinks, LinkType
from weftos.ecc.passages.model import Document, universal_id
from weftos.service.memory import GraphContent

__all__ = ["LINKS", "TYPES", "Difference", "Mark", "difference", "ends_of", "is_of", "wanted"]

#: Types of the edges that are made here; a document's order is in its passages' lines.
LINKS: Final = (LinkType.IMPORTS.value, LinkType.REFERENCES.value)
TYPES: Final = (LinkType.CONTAINS.value, *LINKS)


class Mark(msgspec.Struct, frozen=True):
    """Two nodes and an edge that stand in the graph while a folder is being read.

    If they are there when a run begins, an earlier one did not end well, and the links are made anew.

    Attributes:
        name: of the folder, as it is shown.
        root: the folder.
        run: name of the run.
    """

    name: str
    root: str
    run: str

    @property
    def node(self) -> tuple[bytes, str]:
        """The node that says that the folder is being read."""
        return universal_id("reading", self.root), f"{self.name}/ is being read"

    @property
    def edge(self) -> tuple[tuple[bytes, str], tuple[bytes, str], str, float]:
        """Which run made it so."""
        by = universal_id("memory run", self.run), f"{self.name}/ run {self.run}"
        return self.node, by, "TriggeredBy", 1.0


class Difference(msgspec.Struct, frozen=True):
    """What leads from one content to another.

    Attributes:
        nodes_gone: universal ids of nodes to be removed, with all their edges.
        edges_gone: source, target, type.
        edges_new: as ``ctx.causal.link_many`` takes them.
    """

    nodes_gone: list[bytes]
    edges_gone: list[tuple[bytes, bytes, str]]
    edges_new: list[tuple[tuple[bytes, str], tuple[bytes, str], str, float]]


def wanted(documents: Iterable[Document]) -> GraphContent:
    """The edges of a folder, and the labels of all that could be their ends, from all its documents."""
    labels: dict[bytes, str] = {}
    # The document as a whole and its first section, which is the same, are one node; and what a thing is a part of.
    same: dict[bytes, bytes] = {}
    whole: dict[bytes, bytes] = {}
    held = list(documents)
    for document in held:
        labels[document.id] = _short(document.file)
        same[document.sections[0].id] = document.id
        for section in document.sections[1:]:
            labels[section.id] = _short(f"{document.file}#{'/'.join(section.path)}")
        for passage in document.passages:
            labels[passage.id] = _short(f"{document.file}:{passage.first}-{passage.last}")
        parts: tuple[Any, ...] = (document, *document.sections, *document.passages)
        whole |= {part.id: document.id for part in parts}
    edges: set[tuple[bytes, bytes, str]] = set()
    for edge in FolderLinks(held).edges():
        kind, source, target = edge.type.value, same.get(edge.source, edge.source), same.get(edge.target, edge.target)
        if edge.type in (LinkType.IMPORTS, LinkType.REFERENCES):
            source = whole[source]
        if edge.type is LinkType.IMPORTS:
            target = whole[target]
        if kind in TYPES and source != target:
            edges.add((source, target, kind))
    return GraphContent(labels, edges)


def ends_of(edges: Iterable[tuple[bytes, bytes, str]]) -> set[bytes]:
    """The nodes that edges have as their ends."""
    return {end for source, target, _ in edges for end in (source, target)}


def is_of(label: str, files: Collection[str]) -> bool:
    """Whether a node is one of some files, or of files in some folders."""
    return label in files or any(label[:place] in files for place, char in enumerate(label) if char in "#:/")


def difference(
    there: GraphContent,
    should: GraphContent,
    mark: Mark,
    keep: Collection[str] = (),
    only: Collection[str] | None = None,
) -> Difference:
    """Tell what to remove and to add. A node is there as long as it has an edge.

    Args:
        there: what the graph holds: of all the folder; or of ``only``, with all imports and references.
        should: all of the folder, as ``wanted`` gives it.
        mark: stays.
        keep: paths, as they are shown, of files and folders that could not be read: what is there of them stays, with
            its edges.
        only: paths, as they are shown, of the files that changed, came or went since the graph was in step.
    """
    present = ends_of(should.edges)
    kept = {node for node, _ in mark.edge[:2]}
    kept |= {node for node, label in there.labels.items() if keep and is_of(label, keep)}
    removed = {
        node
        for node, label in there.labels.items()
        if node not in kept and (node not in present or should.labels[node] != label)
    }
    left = {edge for edge in there.edges if not removed.intersection(edge[:2])}
    ours = should.labels.keys() | there.labels.keys()
    # What somebody else linked to a document is not ours to take away.
    gone = [edge for edge in left - should.edges if not kept.intersection(edge[:2]) and ours.issuperset(edge[:2])]
    removed |= (ends_of(there.edges - left) | ends_of(gone)) & should.labels.keys() - present - kept
    new = [
        ((source, should.labels[source]), (target, should.labels[target]), kind, 1.0)
        for source, target, kind in sorted(should.edges - left)
        if only is None or kind in LINKS or is_of(should.labels[source], only)
    ]
    return Difference(sorted(removed), sorted(gone), new)


def _short(label: str) -> str:
    """A label of a permitted length; the id tells equal ones apart."""
    data = label.encode("utf-8", "surrogatepass")
    if len(data) <= limits.CAUSAL_LABEL_BYTES:
        return label
    return data[: limits.CAUSAL_LABEL_BYTES - 3].decode("utf-8", "ignore") + "…"
