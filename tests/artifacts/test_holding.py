"""Who holds what, summed up over records: against a sum that is made anew from the whole list each time."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from weftos.artifacts.holding import Holdings

HASHES = [digit * 64 for digit in "abc"]
BOOTS = [b"1" * 16, b"2" * 16]
hashes = st.sampled_from(HASHES)
people = st.sampled_from(["operator", "agent:1", "agent:2"])
noise = st.sampled_from(
    [
        ("artifact.put", {}), ("artifact.put", {"hash": "short"}),
        ("artifact.release", {"hash": None, "by": "operator"}),
        ("app.x", {"artifact": HASHES[0]}), ("app.x", {"artifact": {"hash": 5}}), ("app.x", {"hash": HASHES[0]}),
        ("app.x", {"artifact": {"hash": "A" * 64}}), ("artifact.damaged", {"hash": HASHES[0]}), ("artifact.gc", {}),
    ]
)  # fmt: skip
events = st.one_of(
    st.tuples(st.just("artifact.put"), st.fixed_dictionaries({"hash": hashes, "by": people})),
    st.tuples(st.just("artifact.release"), st.fixed_dictionaries({"hash": hashes, "by": people})),
    st.tuples(
        st.just("artifact.gc"), st.fixed_dictionaries({"hashes": st.lists(hashes, max_size=3), "id": st.just("x")})
    ),
    st.tuples(st.sampled_from(["app.x", "tool.call"]), st.builds(lambda h: {"artifact": {"hash": h}}, hashes)),
    noise,
)


def holds(history, digest):
    """Whether something holds an artifact, told by the definition alone."""
    named, holders = False, set()
    for boot, (kind, payload) in history:
        by = payload.get("by")
        who = (by, boot if by != "operator" else None)
        if kind == "artifact.gc" and digest in payload.get("hashes", ()):
            named, holders = False, set()
        elif kind == "artifact.put" and payload.get("hash") == digest:
            holders.add(who)
        elif kind == "artifact.release" and payload.get("hash") == digest:
            holders = set() if by == "operator" else holders - {who}
        elif not kind.startswith("artifact.") and payload.get("artifact") == {"hash": digest}:
            named = True
    return named or bool(holders)


@given(st.lists(st.tuples(st.sampled_from(BOOTS), events), max_size=30))
def test_what_is_held_is_what_the_records_say(history):
    holdings = Holdings()
    for seq, (boot, (kind, payload)) in enumerate(history):
        holdings.take(seq, boot, kind, payload)
    assert holdings.hashes() == {digest for digest in HASHES if holds(history, digest)}


def test_an_erased_record_holds_nothing():
    holdings = Holdings()
    for kind in ("artifact.put", "app.x", "artifact.gc", "artifact.release"):
        holdings.take(1, BOOTS[0], kind, {})
    assert holdings.hashes() == set()


def test_the_records_that_hold_are_named_by_number():
    holdings = Holdings()
    holdings.take(3, BOOTS[0], "artifact.put", {"hash": HASHES[0], "by": "agent:1"})
    holdings.take(4, BOOTS[0], "artifact.put", {"hash": HASHES[0], "by": "agent:1"})
    holdings.take(5, BOOTS[1], "artifact.put", {"hash": HASHES[0], "by": "agent:1"})
    for seq in (6, 8):
        holdings.take(seq, BOOTS[0], "app.x", {"artifact": {"hash": HASHES[0]}})
    assert holdings.puts[HASHES[0]] == {("agent:1", BOOTS[0]): 4, ("agent:1", BOOTS[1]): 5}
    assert holdings.named[HASHES[0]] == [6, 8]
