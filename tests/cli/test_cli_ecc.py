"""`weaver ecc` and `weaver recall` against a kernel that only answers."""

from __future__ import annotations

import json

import pytest

from weftos.ecc.embedding.hashing import HashingProvider
from weftos.rpc import ecc_types as e
from weftos.rpc.methods import METHODS

IDENTITY = HashingProvider().identity
STATUS = e.EccStatus(
    state="open", reason="", collections=1, entries=3, segments=1, searches=7, graphs=1, nodes=2, edges=1, crossrefs=4,
    impulses=0, commits=2, waiting=0, building=False, built=1, build_failures=0, tick_interval_ms=50.0,
)  # fmt: skip
HELD = e.CollectionView(
    dimension=512, metric="cosine", identity=IDENTITY, owner="reader", live=3, tombstones=0, delta_rows=0, segments=1,
    bytes=7000, generation=1, recall=0.97, content_root="ab" * 32,
)  # fmt: skip
SPACES = [e.SpaceView(space="docs", nodes=2, edges=1, collection=HELD)]
MATCH = e.EccEntry(
    id="a" * 64, score=0.5, chain_seq=35, text="\x1b[31mthe pump failed\nat noon",
    metadata={"file": "docs/pump.md", "first": 3, "last": 4, "heading": "Pumps"},
)  # fmt: skip
FOUND = e.EccSearchResult(matches=[MATCH])
NODES = [
    e.CausalNode(id=1, label="docs/a.md", universal_id="11" * 32, created_at=1, chain_seq=9),
    e.CausalNode(id=2, label="docs/b.md", universal_id="22" * 32, created_at=1, chain_seq=9, depth=1),
]
LINK = e.CausalLink(source=1, target=2, type="References", weight=1.0, created_at=1, chain_seq=9)
VIEW = e.CausalView(nodes=NODES, edges=[LINK], start=1)
COHERENCE = e.CoherenceView(
    known=True, of_change=8, last_change=9, computed_at=1.0, computing=False, problem="", components=[2],
    component_count=1, lambda_2=2.0, lambda_3=0.0, largest_lambda_2=2.0, communities=[2], community_count=1,
)  # fmt: skip
REF = e.CrossRefView(
    source="11" * 32, source_structure="CausalGraph", target="22" * 32, target_structure="HnswIndex", type="Imports",
    created_at=1, chain_seq=9,
)  # fmt: skip
FIGURES = {
    "compute_p50_us": 300.0, "compute_p95_us": 900.0, "hnsw_vector_count": 10_000, "tick_interval_ms": 10.0,
    "append": {"p50_us": 800.0, "p95_us": 900.0}, "blake3_mb_s": 4000.0, "ed25519_signs_s": 9000.0,
    "spectrum_us": 9000.0, "spectral_nodes": 1000,
}  # fmt: skip
SPACE = {"space": "docs"}
WALK = {
    "space": "docs", "question": "walk", "node": "docs/a.md", "goal": "", "text": "", "direction": "both", "types": [],
    "depth": 2, "limit": 100, "strongest": False,
}  # fmt: skip
CASES = [
    (["ecc", "status"], "ecc.status", {}, STATUS, "3 entries in 1 collection"),
    (["ecc", "collections"], "ecc.collections", {}, SPACES, "weftos-hashing"),
    (["ecc", "causal", "docs/a.md"], "ecc.causal", WALK, VIEW, "References"),
    (
        ["ecc", "causal", "--find", "a"],
        "ecc.causal",
        WALK | {"question": "find", "node": "", "text": "a"},
        e.CausalView(nodes=NODES[:1], total=5),
        "docs/a.md",
    ),
    (
        ["ecc", "causal", "docs/a.md", "--to", "docs/b.md", "--strongest"],
        "ecc.causal",
        WALK | {"question": "path", "goal": "docs/b.md", "strongest": True},
        VIEW,
        "docs/b.md",
    ),
    (["ecc", "crossrefs"], "ecc.crossrefs", SPACE | {"node": "", "limit": 100},
     e.CrossRefsView(refs=[], total=4, types={"Imports": 4}), "Imports"),
    (["ecc", "crossrefs", "11" * 32], "ecc.crossrefs", SPACE | {"node": "11" * 32, "limit": 100},
     e.CrossRefsView(refs=[REF], total=1, types={"Imports": 1}), "HnswIndex"),
    (["ecc", "coherence"], "ecc.coherence", SPACE, COHERENCE, "a graph 1 change ago"),
    (["ecc", "calibrate", "--show"], "ecc.calibrate", {"begin": False},
     e.CalibrationView(calibration=FIGURES, computing=False, problem=""), "each 10 ms"),
    (["ecc", "tick"], "ecc.tick", {}, e.EccTickResult(record=40, commits=3, ticks=[]), "record 40"),
    (["ecc", "compact", "docs"], "ecc.compact", SPACE, e.EccCompactResult(spaces=["docs"]), "to be compacted"),
    (["ecc", "drop", "docs", "--yes"], "ecc.drop", SPACE, e.EccPutResult(count=3, op=9), "3 entries removed"),
]  # fmt: skip


@pytest.mark.parametrize(("args", "method", "params", "answer", "shown"), CASES, ids=lambda one: str(one)[:40])
def test_a_command_asks_one_thing_and_shows_the_answer(weaver, args, method, params, answer, shown):
    with weaver.kernel(**{method.replace(".", "_"): answer}) as kernel:
        plain = weaver(*args)
        assert plain.status == 0, plain.err
        assert shown in plain.out
        as_json = weaver(*args, "--json")
        assert as_json.json is not None
        assert [(asked, sent) for asked, sent in kernel.asked if asked == method] == [(method, params)] * 2


def test_every_method_is_asked_by_some_command():
    asked = {method for _, method, *_ in CASES} | {"ecc.search", "ecc.entries", "ecc.put"}
    assert asked == {name for name in METHODS if name.startswith("ecc.")}


def test_recall_shows_where_a_passage_stands_and_what_proves_it(weaver):
    with weaver.kernel(ecc_collections=SPACES, ecc_search=FOUND) as kernel:
        plain = weaver("recall", "when did the pump fail", "-k", "2", "--where", "n=3", "--where", "file=docs/pump.md")
        assert plain.status == 0, plain.err
        assert "docs/pump.md:3-4" in plain.out
        assert "record 35" in plain.out
        assert "\x1b" not in plain.out, "what agents wrote cannot drive the terminal"
        sent = dict(kernel.asked)["ecc.search"]
        assert (sent["k"], sent["identity"]["name"]) == (2, IDENTITY.name)
        parts = sent["condition"]["parts"]
        assert [(one["field"], one["value"]) for one in parts] == [("n", 3), ("file", "docs/pump.md")]
        assert weaver("recall", "x", "--json").json["matches"][0]["chain_seq"] == 35
        assert "file=docs/pump.md" in weaver("ecc", "search", "pump").out
        assert weaver("recall", "x", "--where", "nonsense").status == 2


def test_a_space_of_another_model_or_of_none_is_refused(weaver):
    import msgspec

    foreign = msgspec.structs.replace(IDENTITY, name="another")
    for identity, word in ((foreign, "another"), (None, "by vectors")):
        held = msgspec.structs.replace(HELD, identity=identity)
        with weaver.kernel(ecc_collections=[msgspec.structs.replace(SPACES[0], collection=held)]):
            outcome = weaver("recall", "x")
            assert outcome.status == 2
            assert word in outcome.err
    with weaver.kernel(ecc_collections=[]):
        outcome = weaver("recall", "x")
        assert outcome.status == 1
        assert "weaver run memory" in outcome.err


def test_pictures_are_written(weaver, tmp_path):
    with weaver.kernel(ecc_causal=VIEW):
        assert weaver("ecc", "graph", "docs/a.md", "--svg", str(tmp_path / "a.svg")).status == 0
        assert (tmp_path / "a.svg").read_text().startswith("<svg")
        assert "digraph" in weaver("ecc", "graph", "docs/a.md", "--dot", "-").out
        assert weaver("ecc", "graph", "docs/a.md").status == 2
        assert weaver("ecc", "graph", "docs/a.md", "--svg", str(tmp_path / "no" / "a.svg")).status == 1
    with weaver.kernel(ecc_causal=e.CausalView(nodes=[], found=False)):
        assert weaver("ecc", "causal", "a", "--to", "b").status == 1
    assert weaver("ecc", "causal").status == 2


def test_an_export_is_read_again(weaver, tmp_path):
    entries = [
        e.EccEntry(id=str(n), chain_seq=3, metadata={"n": n}, text=f"text {n}", vector=bytes(2048)) for n in range(3)
    ]
    page = e.EccPage(entries=entries, after=3, more=False)
    file = tmp_path / "docs.jsonl"
    with weaver.kernel(ecc_collections=SPACES, ecc_entries=page):
        assert weaver("ecc", "export", "docs", str(file)).status == 0
        assert weaver("ecc", "export", "nowhere", str(file)).status == 1
    lines = file.read_text().splitlines()
    assert len(lines) == 4
    assert json.loads(lines[0])["format"] == "weftos.ecc.export/1"
    with weaver.kernel(ecc_put=e.EccPutResult(count=3, op=3)) as kernel:
        assert weaver("ecc", "import", str(file), "--space", "copy", "--json").json == {"space": "copy", "entries": 3}
        sent = dict(kernel.asked)["ecc.put"]
        assert (sent["space"], sent["dimension"], len(sent["entries"])) == ("copy", 512, 3)
        file.write_text("\n".join([*lines[:2], '{"id": 5}']))
        broken = weaver("ecc", "import", str(file))
        assert broken.status == 2
        assert "line 3" in broken.err
        file.write_text('{"foreign": true}\n')
        assert weaver("ecc", "import", str(file)).status == 2
