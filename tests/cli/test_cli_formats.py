"""Numbers for people, and text that cannot do harm."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weftos.cli import formats as f
from weftos.cli.output import Panel, Table, plain


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (2**20 - 1, "1.0 MiB"),
        (3 * 2**30, "3.0 GiB"),
    ],
)
def test_sizes(value, text):
    assert f.size(value) == text


@given(st.integers(0, 2**59))
def test_a_size_never_shows_four_digits_before_the_point(value):
    number = f.size(value).split()[0]
    assert len(number.split(".")[0]) <= 4
    assert not (number.startswith("1024") and not f.size(value).endswith("PiB"))


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0.0 s"), (59.94, "59.9 s"), (60, "1m 0s"), (3599, "59m 59s"), (3600, "1h 0m"), (90_000, "1d 1h")],
)
def test_ages(value, text):
    assert f.age(value) == text


@pytest.mark.parametrize(("value", "text"), [(0, "0 µs"), (0.00043, "430 µs"), (0.0121, "12.1 ms"), (3.214, "3.21 s")])
def test_short_times(value, text):
    assert f.seconds(value) == text


@pytest.mark.parametrize(("fraction", "marks"), [(0, 0), (0.001, 1), (0.5, 10), (1, 20), (7, 20)])
def test_bars(fraction, marks):
    assert f.bar(fraction) == "█" * marks + "░" * (20 - marks)


def test_a_limit_of_0_is_never_used_up():
    assert f.share(100, 0) == 0
    assert f.share(5, 10) == 0.5


def test_counts():
    assert [f.count(n, "reply", "replies") for n in (0, 1, 1200)] == ["0 replies", "1 reply", "1,200 replies"]


@given(st.text())
def test_no_control_character_survives(text):
    shown = f.control_free(text)
    assert not [char for char in shown if unicodedata.category(char) in ("Cc", "Cs", "Cf") and char not in "\t\n"]


@given(st.text(alphabet=st.characters(categories=["L", "N", "P", "S"])))
def test_ordinary_text_is_left_as_it_is(text):
    assert f.control_free(text) == text


@given(st.lists(st.tuples(st.text(max_size=9), st.text(max_size=9), st.text(max_size=9)), max_size=5))
def test_a_plain_table_has_one_line_for_each_row(rows):
    lines = list(plain(Table(("A", "B", "C"), [list(row) for row in rows], right=("B",), empty="none")))
    assert len(lines) == (len(rows) + 1 if rows else 1)
    assert not [line for line in lines if "\n" in line]


def test_plain_panels():
    assert list(plain(Panel("T", [("one", "1"), ("three", ("a\nb", "bad"))]))) == ["T:", "  one    1", "  three  a\\nb"]
