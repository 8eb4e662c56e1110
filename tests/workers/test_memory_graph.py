"""What of a graph is to be changed, against documents and graphs that hypothesis makes up."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from weftos_workers.memory_files import Known, content_digest, document_of, known_files, outline_of
from weftos_workers.memory_graph import LINKS, Mark, difference, ends_of, is_of, wanted

from weftos.ecc.passages.cutting import cut
from weftos.ecc.passages.model import headed
from weftos.service.memory import GraphContent

MARK = Mark("d", "/d", "r1")

_lines = st.sampled_from(
    ["# One", "## Two", "# Three", "text", "", "[b](b.md)", "[c](sub/c.md#two)", "[home](../a.md#one)", "more words"]
)
_names = st.sampled_from(["d/a.md", "d/b.md", "d/sub/c.md", "d/e.txt"])
_folders = st.dictionaries(_names, st.lists(_lines, max_size=12).map("\n".join), max_size=4)


def applied(there, found):
    """A graph after a difference, as a store carries it out."""
    gone = set(found.nodes_gone)
    labels = {node: label for node, label in there.labels.items() if node not in gone}
    edges = {edge for edge in there.edges if not gone & set(edge[:2])} - set(found.edges_gone)
    for (source, from_label), (target, to_label), kind, _ in found.edges_new:
        # A node that is there stays as it is.
        labels.setdefault(source, from_label)
        labels.setdefault(target, to_label)
        edges.add((source, target, kind))
    return GraphContent(labels, edges)


def graph_of(folder):
    """The graph of a folder, with its edge-less documents."""
    return wanted([cut(name, text) for name, text in sorted(folder.items())])


def bare(graph):
    """Without what has no edge: as a store has it."""
    return GraphContent({node: graph.labels[node] for node in ends_of(graph.edges)}, graph.edges)


def with_mark(graph):
    (node, label), (by, by_label), kind, _ = MARK.edge
    return GraphContent({**graph.labels, node: label, by: by_label}, {*graph.edges, (node, by, kind)})


@given(_folders, _folders)
def test_a_difference_leads_from_any_folder_to_any_other(before, after):
    there, should = with_mark(bare(graph_of(before))), graph_of(after)
    found = difference(there, should, MARK)
    assert applied(there, found) == with_mark(bare(should))
    assert difference(with_mark(bare(should)), should, MARK) == type(found)([], [], [])


@given(_folders, _folders)
def test_the_part_that_changed_is_enough(before, after):
    touched = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    there, should = with_mark(bare(graph_of(before))), graph_of(after)
    own = {node for node, label in there.labels.items() if is_of(label, touched)}
    asked = GraphContent(
        {node: there.labels[node] for node in own},
        {edge for edge in there.edges if edge[2] in LINKS or edge[0] in own},
    )
    assert applied(there, difference(asked, should, MARK, (), touched)) == with_mark(bare(should))


@given(_folders, _folders)
def test_what_others_linked_stays(before, after):
    there = with_mark(bare(graph_of(before)))
    foreign = b"f" * 32
    there.labels[foreign] = "somebody's"
    there.edges.update({(node, foreign, "References") for node in list(there.labels) if node != foreign})
    seen = GraphContent({node: label for node, label in there.labels.items() if node != foreign}, there.edges)
    found = difference(seen, graph_of(after), MARK)
    assert foreign not in found.nodes_gone
    assert not [edge for edge in found.edges_gone if foreign in edge]


@given(_folders, _folders, _names)
def test_what_could_not_be_read_stays_with_its_edges(before, after, name):
    after.pop(name, None)
    there = with_mark(bare(graph_of(before)))
    found = applied(there, difference(there, graph_of(after), MARK, {name}))
    own = {node: label for node, label in there.labels.items() if label.partition("#")[0].partition(":")[0] == name}
    assert own.items() <= found.labels.items()
    inside = {edge for edge in there.edges if {edge[0], edge[1]} <= own.keys()}
    assert inside <= found.edges


def test_documents_contain_import_and_refer():
    texts = {
        "d/a.md": "# One\nsee [b](b.md#two-words) and [b](b.md)\n",
        "d/b.md": "# First\n## Two words\ntext\n",
        "d/m.py": "from n import f\n",
        "d/n.py": "def f():\n    return 1\n",
    }
    graph = graph_of(texts)
    edges = {(graph.labels[source], graph.labels[target], kind) for source, target, kind in graph.edges}
    assert ("d/a.md", "d/b.md#First/Two words", "References") in edges
    assert ("d/a.md", "d/b.md", "References") in edges
    assert ("d/m.py", "d/n.py", "Imports") in edges
    assert ("d/b.md", "d/b.md#First", "Contains") in edges
    assert ("d/b.md#First", "d/b.md#First/Two words", "Contains") in edges
    assert ("d/b.md#First/Two words", "d/b.md:2-3", "Contains") in edges
    assert {kind for *_, kind in edges} == {"Contains", "Imports", "References"}


def test_a_very_long_label_is_cut_and_still_one_node():
    graph = graph_of({"d/a.md": f"# {'é' * 2000}\ntext\n"})
    assert max(len(label.encode()) for label in graph.labels.values()) <= 1024
    assert len(graph.labels) == 3


def test_a_file_is_known_if_all_its_passages_are_of_one_content():
    rows = [
        (("d/whole", "s1", 3, 1), 3),
        (("d/part", "s2", 3, 1), 2),
        (("d/two", "s3", 1, 1), 1),
        (("d/two", "s4", 2, 1), 2),
        (("d/old", "s5", 1, 0), 1),
        ((None, None, None, None), 7),
    ]
    assert known_files(rows) == {
        "d/whole": Known("s1", 3),
        "d/part": Known("", 2),
        "d/two": Known("", 3),
        "d/old": Known("", 1),
    }


def test_an_outline_is_the_document_without_its_texts():
    document = cut("d/a.md", "# One\nwords\n")
    outline = document_of(outline_of(document))
    assert [passage.text for passage in outline.passages] == [""]
    assert wanted([outline]) == wanted([document])
    assert headed(document.passages[0].path, "words") == "One\nwords"


def test_the_digest_of_contents_tells_names_from_contents():
    assert content_digest([("a", "b")]) != content_digest([("ab", "")])
    assert content_digest([("a", "1"), ("b", "2")]) == content_digest([("b", "2"), ("a", "1")])
