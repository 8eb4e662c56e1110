"""Lineage through the service: an agent names its own things, and no story can be told that does not hold."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from weftos import chain
from weftos.chain.index.log_index import LogIndex
from weftos.chain.statements.lineage import LINEAGE_KIND, Derivation, verify_lineage
from weftos.errors import AppendRefused, LineageRefused
from weftos.service import protocol as p
from weftos.service.derivations import check_derivation, derivation_of
from weftos.service.ledgers import LedgerSettings

A, B, C = (bytes([n]) * 32 for n in (1, 2, 3))


def stories(kernel):
    records = [record for record in chain.read(kernel.chain_dir) if record.kind == LINEAGE_KIND]
    return [(record, Derivation.from_payload(record.payload)) for record in records]


def test_agents_speak_of_their_own_things_and_build_on_those_of_others(kernel):
    loader, trainer = kernel.agent(1, scope="loader"), kernel.agent(2, scope="loader/trainer")
    kernel.start()
    one, two = loader.client(), trainer.client()
    data = one.derive("data", A)
    model = two.derive("model", B, "loader#data", A, "transform", 7, "trained")
    two.derive("model-2", C, "model", B, "quantize")
    for child in ("loader#data", "x#y", ""):
        with pytest.raises(AppendRefused):
            two.derive(child, A)
    one.derive("model", C)  # its own name, not that of the other
    refused = [
        (("data", A), "repeated"),
        (("new", A, "nothing", A), "parent_missing"),
        (("new", A, "data", B), "parent_hash"),
        (("new", A, "new", A), "cycle"),
        (("data", B, "model", C), "repeated"),
    ]
    before = kernel.head()["records"]
    for arguments, code in refused:
        with pytest.raises(LineageRefused, match=f"^{code}"):
            one.derive(*arguments)
    with pytest.raises(AppendRefused):
        one.derive("new", b"short")
    assert kernel.head()["records"] == before
    assert kernel.stop_service() == 0
    found = stories(kernel)
    assert [(r.seq, r.source, d.child, d.parent) for r, d in found[:2]] == [
        (data.seq, "agent:1", "loader#data", None),
        (model.seq, "agent:2", "loader/trainer#model", "loader#data"),
    ]
    assert found[1][0].subject == "loader/trainer#model"
    assert verify_lineage(d for _, d in found).valid
    report = chain.verify(kernel.chain_dir)
    assert report.valid
    assert report.checks.lineage is True


def test_a_merge_has_several_parents(kernel):
    agent = kernel.agent(1, scope="m")
    kernel.start()
    client = agent.client()
    client.derive("a", A)
    client.derive("b", B)
    client.derive("ab", C, "a", A, "merge")
    client.derive("ab", C, "b", B, "merge")
    for again in (("ab", C, "b", B, "merge"), ("ab", B, "a", A, "merge"), ("ab", C, "b", B, "clone"), ("ab", C)):
        with pytest.raises(LineageRefused):
            client.derive(*again)
    client.derive("late", A)
    with pytest.raises(LineageRefused, match="parent_later"):
        client.derive("ab", C, "late", A, "merge")
    assert kernel.stop_service() == 0
    assert verify_lineage(d for _, d in stories(kernel)).valid


def test_lineage_outlives_the_service_and_its_index(kernel):
    agent = kernel.agent(1, scope="m")
    kernel.start()
    agent.client().derive("a", A)
    kernel.kill_service()
    (kernel.home / "chain.index" / "log.db").unlink()
    kernel.start()
    client = agent.client()
    with pytest.raises(LineageRefused, match="repeated"):
        client.derive("a", A)
    client.derive("b", B, "a", A)
    assert kernel.stop_service() == 0
    assert verify_lineage(d for _, d in stories(kernel)).valid


def test_a_derivation_that_is_read_again_is_the_same(kernel):
    """The service dies before it says that it has read the request; its successor answers as it would have."""
    from weftos.shm import layout

    agent = kernel.agent(1, scope="m")
    kernel.start()
    client = agent.client()
    ack = client.derive("a", A)
    commit = agent.request.words[layout.COMMIT]
    kernel.kill_service()
    agent.request.words[layout.COMMIT] = 0
    kernel.start()
    while agent.request.words[layout.COMMIT] < commit:
        kernel.head()
    assert client.derive("b", B, "a", A).seq > ack.seq
    assert client.statistics().strays == 1
    assert kernel.stop_service() == 0
    assert [record.seq for record, one in stories(kernel) if one.child == "m#a"] == [ack.seq]


def test_snapshots_of_the_tree_have_a_lineage(kernel):
    kernel.settings["ledgers"] = LedgerSettings()
    for boot in range(3):
        kernel.boot_id = bytes([boot]) * 16
        kernel.start()
        spawned = {
            "pid": boot + 1, "agent_id": f"a.{boot + 1}", "name": "a", "program": "echo", "args": [], "parent_pid": 0,
            "requested_by": 0, "restart": "never", "limits": {}, "capabilities": {},
        }  # fmt: skip
        assert isinstance(kernel.ask(p.Append("agent.spawn", spawned)), p.Appended)
        assert kernel.stop_service() == 0
        kernel.channel.close()
    records = {record.seq: record for record in chain.read(kernel.chain_dir)}
    steps = [(record, one) for record, one in stories(kernel) if record.source == "tree"]
    assert len(steps) == 3
    assert [one.parent for _, one in steps] == [None, steps[0][1].child, steps[1][1].child]
    for record, one in steps:
        snapshot = records[record.header.cause]
        assert snapshot.kind == "tree.snapshot"
        assert one.child_hash == snapshot.payload["digest"]
        assert one.mutations >= 1
    assert verify_lineage(one for _, one in steps).valid


NAMES = st.sampled_from("abcd")
HASHES = st.sampled_from((A, B))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(NAMES, HASHES, st.none() | st.tuples(NAMES, HASHES), st.sampled_from(("merge", "clone", "snapshot"))),
        max_size=12,
    )
)
def test_what_is_taken_is_what_the_check_accepts(tmp_path_factory, steps):
    """Any row of derivations: one is taken exactly if the row with it has no problem."""
    home = tmp_path_factory.mktemp("l")
    taken = []
    with chain.ChainWriter.open(home / "chain", boot_id=bytes(16)) as writer:
        index = LogIndex.open(str(home / "index"), str(home / "chain"), writer.log_id, 1)
        for child, digest, parent, how in steps:
            name, parent_hash = parent or (None, None)
            step = derivation_of("s", Derivation(child, digest, name, parent_hash, how))
            holds = verify_lineage([*taken, step]).valid
            try:
                check_derivation(index, step)
            except LineageRefused:
                assert not holds
            else:
                assert holds
                event = chain.NewEvent("agent:1", LINEAGE_KIND, step.to_payload())
                ack = writer.append(event)
                index.take(event, ack.seq, ack.hash)
                taken.append(step)
        index.close()
