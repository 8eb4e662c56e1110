"""Pictures of causal graphs: well formed, with every node and edge, whatever their labels hold."""

from __future__ import annotations

from xml.etree import ElementTree as ET

from hypothesis import given, settings
from hypothesis import strategies as st

from weftos.cli.graph_picture import dot_text, svg_text
from weftos.ecc.causal.graph import EdgeType
from weftos.rpc import ecc_types as e

SVG = "{http://www.w3.org/2000/svg}"
TYPES = [one.value for one in EdgeType]


def view(labels, edges, depths=None):
    nodes = [
        e.CausalNode(id=n, label=label, universal_id="", created_at=0, chain_seq=0, depth=(depths or {}).get(n, 0))
        for n, label in enumerate(labels)
    ]
    links = [
        e.CausalLink(source=a, target=b, type=kind, weight=weight, created_at=0, chain_seq=7)
        for a, b, kind, weight in edges
    ]
    return e.CausalView(nodes=nodes, edges=links, start=0)


@settings(max_examples=60)
@given(
    st.lists(st.text(max_size=60), min_size=1, max_size=8),
    st.lists(st.tuples(st.integers(0, 7), st.integers(0, 7), st.sampled_from(TYPES), st.floats(0, 1)), max_size=12),
    st.dictionaries(st.integers(0, 7), st.integers(-3, 3)),
)
def test_a_picture_is_well_formed_and_whole(labels, edges, depths):
    there = [edge for edge in edges if edge[0] < len(labels) and edge[1] < len(labels)]
    found = view(labels, there, depths)
    root = ET.fromstring(svg_text(found, "title <&>"))
    width, height = float(root.get("width")), float(root.get("height"))
    boxes = root.findall(f"{SVG}g/{SVG}rect")
    assert len(boxes) == len(labels)
    for box in boxes:
        assert 0 <= float(box.get("x")) <= width - float(box.get("width"))
        assert 0 <= float(box.get("y")) <= height - float(box.get("height"))
    drawn = [path for path in root.findall(f"{SVG}path") if path.get("marker-end")]
    assert len(drawn) == len(there)
    kinds = {kind for _, _, kind, _ in there}
    assert {one.get("id") for one in root.findall(f"{SVG}marker")} == kinds
    text = dot_text(found)
    assert text.count(" -> ") >= len(there)
    assert text.count("{") >= 1


def test_every_type_of_edge_has_a_colour_of_its_own():
    found = view(["a", "b"], [(0, 1, kind, 1.0) for kind in TYPES])
    root = ET.fromstring(svg_text(found, "t"))
    colours = [path.get("stroke") for path in root.findall(f"{SVG}path") if path.get("marker-end")]
    assert len(set(colours)) == len(TYPES)
    assert "#000000" not in colours


def test_labels_cannot_leave_their_quotes():
    text = dot_text(view(['x"]; evil [label="y', "back\\slash"], []))
    assert r'label="x\"]; evil [label=\"y"' in text
    assert r'label="back\\slash"' in text
