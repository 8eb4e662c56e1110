"""The table of kinds: what is refused, and that it agrees with the structs that are written under these kinds."""

from __future__ import annotations

import re

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weftos.chain.signing.rotation import Genesis, Rotation
from weftos.chain.statements.bridge import Bridge
from weftos.chain.statements.custody import Attestation
from weftos.chain.statements.lineage import Derivation
from weftos.chain.statements.seals import Seal
from weftos.errors import AppendRefused
from weftos.events import APP_PREFIX, KINDS, SCHEMAS, check_payload, fields_of
from weftos.tree.deltas import LOG_KINDS
from weftos.tree.snapshot import SnapshotRef

READY = {"elapsed_ms": 7, "services": 1, "os_pid": 99}


def test_a_payload_in_its_form_is_accepted():
    check_payload("boot.ready", READY)
    check_payload("agent.ready", {"pid": 1, "agent_id": "a", "incarnation": 1})
    check_payload("agent.ready", {"pid": 1, "agent_id": "a", "incarnation": 1, "os_pid": None})
    check_payload("app.anything", {"x": [1]})


@pytest.mark.parametrize("field", READY)
@pytest.mark.parametrize("value", ["7", 7.0, True, None, -1, [7], b"7"])
def test_a_field_of_another_type_is_refused_by_name(field, value):
    with pytest.raises(AppendRefused, match=rf"boot\.ready.*{field}"):
        check_payload("boot.ready", READY | {field: value})


@given(st.sets(st.sampled_from([*READY, "more", "Os_pid"])))
def test_fields_are_all_there_and_no_other(names):
    payload = dict.fromkeys(names, 1)
    if names == set(READY):
        check_payload("boot.ready", payload)
        return
    with pytest.raises(AppendRefused, match=r"boot\.ready"):
        check_payload("boot.ready", payload)


def test_endless_nesting_is_refused():
    endless: dict[str, object] = {}
    endless["x"] = endless
    check_payload("app.x", endless)
    with pytest.raises(AppendRefused):
        check_payload("boot.ready", endless)


def test_every_kind_says_what_it_means_and_what_it_holds():
    assert set(KINDS) == set(SCHEMAS)
    for kind, text in KINDS.items():
        assert re.fullmatch(r"[a-z][a-z0-9_]*(\.[a-z0-9][a-z0-9_-]*)*", kind)
        assert not kind.startswith(APP_PREFIX)
        assert len(text.split()) >= 3, kind
        assert all(name and type_ for name, type_, _ in fields_of(kind)), kind


@pytest.mark.parametrize(
    ("kind", "written", "version"),
    [
        ("key.genesis", Genesis, False),
        ("key.rotate", Rotation, False),
        ("log.seal", Seal, True),
        ("lineage.derivation", Derivation, True),
        ("chain.bridge", Bridge, True),
        ("custody.attestation", Attestation, True),
        ("tree.snapshot", SnapshotRef, False),
    ],
)
def test_the_table_has_the_fields_that_are_written(kind, written, version):
    names = {name for name, _, _ in fields_of(kind)}
    assert names == set(written.__struct_fields__) | ({"version"} if version else set())


def test_the_table_has_the_fields_of_changes_of_the_tree():
    for kind, change in LOG_KINDS.items():
        written = {"op"}
        for one in getattr(change, "__args__", (change,)):
            written |= {field.encode_name for field in msgspec.structs.fields(one)}
        assert {name for name, _, _ in fields_of(kind)} == written, kind
