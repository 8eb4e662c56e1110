"""Editing a configuration file: exactly one value changes, comments stay, and what cannot be done is refused."""

from __future__ import annotations

import copy
import string
import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weftos.errors import ConfigError, InvalidRequest
from weftos.settings.toml_edit import edit, encode_value

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
SCALARS = st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False) | TEXTS
VALUES = SCALARS | st.lists(SCALARS, max_size=4)
NAMES = st.sampled_from(["a", "b", "long_name"])
SECTIONS = st.sampled_from(["one", "two"])


@given(VALUES)
def test_a_value_is_read_as_it_was_written(value):
    again = tomllib.loads(f"value = {encode_value(value)}")["value"]
    assert (again, type(again)) == (value, type(value))


@given(st.lists(st.tuples(SECTIONS, NAMES, st.none() | VALUES), max_size=12))
def test_edits_in_any_order_give_what_a_map_gives(edits):
    text, model = "", {}
    for section, name, value in edits:
        text = edit(text, f"{section}.{name}", value)
        if value is None:
            model.get(section, {}).pop(name, None)
        else:
            model.setdefault(section, {})[name] = value
        found = {key: values for key, values in tomllib.loads(text).items() if values}
        assert found == {key: values for key, values in model.items() if values}


COMMENTS = st.text(string.ascii_letters + " #\"'[]=", max_size=20)


@given(st.lists(st.tuples(NAMES, VALUES, COMMENTS), max_size=3, unique_by=lambda row: row[0]), NAMES, VALUES)
def test_comments_stay_and_nothing_else_changes(rows, name, value):
    lines = ["# at the top", "[one] # the first", *(f"{n} = {encode_value(v)} # {c}" for n, v, c in rows), "", "[two]"]
    text = "\n".join(lines)
    before = tomllib.loads(text)
    changed = edit(text, f"one.{name}", value)
    wanted = copy.deepcopy(before)
    wanted["one"][name] = value
    assert tomllib.loads(changed) == wanted
    for comment in ["# at the top", "# the first", *(f"# {c}".rstrip("\r") for _, _, c in rows)]:
        assert comment in changed


def test_the_line_that_is_replaced_is_the_right_one():
    text = '[one]\n"b" = 1\n\n[two]\nb = 2 # why\n  a = "x # y" # note\n'
    assert edit(text, "two.b", 3) == '[one]\n"b" = 1\n\n[two]\nb = 3 # why\n  a = "x # y" # note\n'
    assert edit(text, "two.a", "z") == '[one]\n"b" = 1\n\n[two]\nb = 2 # why\n  a = "z" # note\n'
    assert edit(text, "one.b", None) == '[one]\n\n[two]\nb = 2 # why\n  a = "x # y" # note\n'
    assert edit(text, "one.missing", None) == text
    assert edit("[one]\r\nb = 1\r\n", "one.b", 2).startswith("[one]\r\nb = 2")


@pytest.mark.parametrize(
    "text",
    ["one = { b = 1 }\n", "one.b = 1\n", "[one]\nb = [\n1,\n2]\n", '[one]\nb = """x\ny"""\n', '["one"]\nb = 1\n'],
)
def test_a_spelling_that_cannot_be_edited_safely_is_refused(text):
    with pytest.raises(ConfigError, match="by hand"):
        edit(text, "one.b", 5)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {"a": 1}, b"x", "\ud800", [[object()]], 1j])
def test_a_value_that_no_file_holds_is_refused(value):
    with pytest.raises(InvalidRequest):
        edit("", "one.b", value)


@given(st.text(max_size=200), NAMES, VALUES)
def test_any_file_is_edited_right_or_refused(text, name, value):
    try:
        before = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return
    try:
        changed = edit(text, f"one.{name}", value)
    except ConfigError:
        return
    assert tomllib.loads(changed)["one"][name] == value
    assert {key: one for key, one in tomllib.loads(changed).items() if key != "one"} == before
