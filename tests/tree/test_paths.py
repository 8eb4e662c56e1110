"""Paths: one text for one place, and "within" goes by segments (the prefix that confuses ``a`` with ``ab``)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weftos import limits
from weftos.errors import PathInvalid
from weftos.tree.paths import ROOT, ResourcePath

SEGMENT = st.from_regex(r"\A[A-Za-z0-9_@:+-][A-Za-z0-9_.@:+-]{0,7}\Z")
PATHS = st.lists(SEGMENT, max_size=6).map(lambda parts: ResourcePath("/" + "/".join(parts)))


@pytest.mark.parametrize(
    "text",
    ["", "a", "a/b", "//", "/a/", "/a//b", "//a", "/.", "/..", "/a/../b", "/a/./b", "/a b", "/ä", "/a\n", "/a\x00",
     "/a\\b", "/a%2fb", "/*", "/a?", "/~", "/" + "a" * 256, "/" + "/".join("a" * 33), "/" + "/".join(["a" * 250] * 5)],
)  # fmt: skip
def test_what_is_no_path(text: str) -> None:
    with pytest.raises(PathInvalid):
        ResourcePath(text)


@pytest.mark.parametrize("value", [None, 1, b"/a", ["/a"], ROOT])
def test_a_path_is_made_of_text(value: object) -> None:
    with pytest.raises(PathInvalid, match="text"):
        ResourcePath(value)  # type: ignore[arg-type]


def test_the_largest_paths() -> None:
    assert ResourcePath("/" + "/".join("a" * limits.TREE_DEPTH)).depth == limits.TREE_DEPTH
    assert ResourcePath("/" + "a" * limits.TREE_SEGMENT_BYTES).name == "a" * 255
    assert len(str(ResourcePath(("/" + "a" * 255) * 4))) == limits.TREE_PATH_BYTES


def test_root() -> None:
    assert (str(ROOT), ROOT.name, ROOT.parent, ROOT.depth, ROOT.ancestors) == ("/", "/", None, 0, ())
    assert ROOT.child("a") == ResourcePath("/a")
    assert ResourcePath("/a").parent == ROOT


def test_neighbours_of_a_path() -> None:
    path = ResourcePath("/kernel/agents/a.b-1")
    assert path.name == "a.b-1"
    assert path.parent == ResourcePath("/kernel/agents")
    assert [str(above) for above in path.ancestors] == ["/kernel/agents", "/kernel", "/"]
    assert path.child("x") == ResourcePath("/kernel/agents/a.b-1/x")


@pytest.mark.parametrize("name", ["", "a/b", "..", ".", "/"])
def test_a_child_has_one_segment(name: str) -> None:
    with pytest.raises(PathInvalid):
        path = ResourcePath("/a").child(name)
        raise AssertionError(path)


@pytest.mark.parametrize(
    ("path", "prefix", "within"),
    [
        ("/agents/ab", "/agents/a", False),
        ("/agents/a", "/agents/ab", False),
        ("/agents/a", "/agents/a", True),
        ("/agents/a/b", "/agents/a", True),
        ("/agents", "/agents/a", False),
        ("/agents", "/", True),
        ("/", "/", True),
        ("/", "/a", False),
    ],
)
def test_within_goes_by_segments(path: str, prefix: str, within: bool) -> None:
    assert ResourcePath(path).is_within(ResourcePath(prefix)) is within


@given(PATHS, PATHS)
def test_within_means_prefix_among_the_ancestors(path: ResourcePath, other: ResourcePath) -> None:
    assert path.is_within(other) == (other in (path, *path.ancestors))
    assert (path == other) == (str(path) == str(other)) == (hash(path) == hash(other))
    assert ResourcePath(str(path)) == path


@given(st.lists(PATHS, max_size=8))
def test_the_order_is_that_of_a_walk(paths: list[ResourcePath]) -> None:
    ordered = sorted(set(paths))
    for place, path in enumerate(ordered):
        below = [other.is_within(path) for other in ordered[place:]]
        assert below == sorted(below, reverse=True)
        assert not any(other.is_within(path) for other in ordered[:place])


def test_paths_do_not_change() -> None:
    path = ResourcePath("/a")
    with pytest.raises(AttributeError):
        path.name = "b"  # type: ignore[misc]
