"""The pure part of the inventory: walking, hashing, comparing, and b3sum's format."""

from __future__ import annotations

import os
import shutil
import subprocess

import blake3
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from weftos_workers.inventory_changes import compare
from weftos_workers.inventory_files import (
    Entry,
    entry_row,
    hash_file,
    root_digest,
    row_entry,
    summarise,
    walk,
)

from weftos.cli.inventory_digests import digest_line

names = st.binary(min_size=1, max_size=12).filter(lambda n: b"/" not in n and b"\0" not in n and n not in (b".", b".."))
entries = st.builds(
    Entry,
    names,
    st.sampled_from(["file", "link"]),
    st.integers(0, 2**40),
    st.integers(0, 2**60),
    st.sampled_from([b"", b"a" * 32, b"b" * 32]),
    st.sampled_from(["ok", "unreadable", "growing"]),
    st.sampled_from([b"", b"target"]),
)


def test_a_folder_deeper_than_calls_can_nest_is_walked(tmp_path, request):
    # pytest's own clean-up nests calls, for this folder too many.
    request.addfinalizer(lambda: subprocess.run(["rm", "-rf", tmp_path / "d"], check=True))
    here = os.open(tmp_path, os.O_RDONLY)
    for _ in range(1200):
        os.mkdir("d", dir_fd=here)
        below = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=here))
    os.close(here)
    assert [(e.path, e.status) for e in walk(os.fsencode(tmp_path))] == [(b"d/" * 1200 + b"file", "ok")]


def test_the_order_is_that_of_names_folder_by_folder(tmp_path):
    for name in ("b/y", "b/x/1", "a", "c", "b.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert [e.path for e in walk(os.fsencode(tmp_path))] == [b"a", b"b/x/1", b"b/y", b"b.txt", b"c"]


def test_a_further_name_of_a_file_is_no_duplicate(tmp_path):
    root = os.fsencode(tmp_path)
    (tmp_path / "one").write_bytes(b"same")
    os.link(tmp_path / "one", tmp_path / "two")
    (tmp_path / "three").write_bytes(b"same")
    counts = summarise(hash_file(root, entry) for entry in walk(root))
    assert (counts["files"], counts["hard_links"], counts["duplicates"]) == (3, 1, 1)


def test_a_row_of_another_length():
    row = entry_row(Entry(b"a", "file", 1, 2))
    assert row_entry(row[:-1]) == Entry(b"a", "file", 1, 2), "as recorded before hard links were told apart"
    for wrong in (row[:3], [*row, "more"]):
        with pytest.raises(msgspec.ValidationError):
            row_entry(wrong)


@given(entries)
def test_entries_travel_unchanged(entry):
    assert row_entry(entry_row(entry)) == entry


def test_a_folder_with_every_odd_thing_in_it(tmp_path):
    root = os.fsencode(tmp_path)
    odd = [b"plain", b"new\nline", b"back\\slash", b"\xff\xfe not utf-8", "ümläut".encode(), b" lead", b"-dash"]
    for name in odd:
        with open(os.path.join(root, name), "wb") as file:
            file.write(b"content of " + name)
    os.mkdir(tmp_path / "sub")
    (tmp_path / "sub" / "deep").write_bytes(b"x")
    os.symlink("nowhere", tmp_path / "dangling")
    os.symlink("..", tmp_path / "sub" / "loop")
    os.mkfifo(tmp_path / "pipe")
    found = {entry.path: hash_file(root, entry) for entry in walk(root)}
    assert set(found) == {*odd, b"sub/deep", b"dangling", b"sub/loop", b"pipe"}
    assert all(found[name].digest == blake3.blake3(b"content of " + name).digest() for name in odd)
    assert (found[b"dangling"].kind, found[b"dangling"].target) == ("link", b"nowhere")
    assert found[b"sub/loop"].kind == "link"
    assert (found[b"pipe"].kind, found[b"pipe"].status) == ("other", "skipped")
    assert summarise(found.values())["files"] == len(odd) + 1
    assert [e.path for e in walk(root, ["sub", "*line"])] == sorted(
        set(found) - {b"sub/deep", b"sub/loop", b"new\nline"}
    )


def test_what_vanishes_or_cannot_be_read_is_a_fact_not_an_error(tmp_path):
    root = os.fsencode(tmp_path)
    (tmp_path / "gone").write_bytes(b"x")
    (entry,) = walk(root)
    (tmp_path / "gone").unlink()
    assert hash_file(root, entry).status == "vanished"
    os.symlink("/etc/passwd", tmp_path / "gone")
    assert hash_file(root, entry).status == "unreadable"
    (missing,) = walk(os.path.join(root, b"no such folder"))
    assert missing.status == "vanished"


def test_a_file_that_grows_while_it_is_read_is_reported(tmp_path, monkeypatch):
    path = tmp_path / "log"
    path.write_bytes(b"start")
    (entry,) = walk(os.fsencode(tmp_path))
    read = os.read

    def growing(fd, size):
        with open(path, "ab") as file:
            file.write(b"more")
        return read(fd, 3) if os.fstat(fd).st_size < 200 else b""

    monkeypatch.setattr("weftos_workers.inventory_files.os.read", growing)
    assert hash_file(os.fsencode(tmp_path), entry).status == "growing"


@given(st.dictionaries(names, entries, max_size=8), st.dictionaries(names, entries, max_size=8))
def test_comparison_follows_a_model(old, new):
    def named(table):
        return [Entry(name, e.kind, e.size, e.mtime_ns, e.digest, e.status, e.target) for name, e in table.items()]

    changes = compare(named(old), named(new))
    assert changes.added == sorted(set(new) - set(old))
    assert changes.removed == sorted(set(old) - set(new))
    both = set(old) & set(new)
    touched = set(changes.changed) | set(changes.unreadable)
    assert touched <= both

    def content(e):
        return e.kind, e.size, e.digest, e.status, e.target

    assert touched == {name for name in both if content(old[name]) != content(new[name])}
    assert compare(named(old), named(old)).any is False


@given(st.lists(entries, unique_by=lambda e: e.path, max_size=6), st.randoms())
def test_the_root_digest_depends_on_content_not_on_order_or_time(found, random):
    shuffled = list(found)
    random.shuffle(shuffled)
    later = [Entry(e.path, e.kind, e.size, e.mtime_ns + 1, e.digest, e.status, e.target) for e in shuffled]
    assert root_digest(found) == root_digest(later)
    if found:
        assert root_digest(found) != root_digest(found[1:])


@pytest.mark.parametrize(
    ("name", "line"),
    [
        (b"a", b"00" * 32 + b"  a\n"),
        (b"a\nb", b"\\" + b"00" * 32 + b"  a\\nb\n"),
        (b"a\\b", b"\\" + b"00" * 32 + b"  a\\\\b\n"),
        (b"a\r", b"00" * 32 + b"  a\r\n"),
        (b"\xff", None),
    ],
)
def test_digest_lines(name, line):
    assert digest_line(bytes(32), name) == line


@pytest.mark.skipif(shutil.which("b3sum") is None, reason="b3sum is not installed")
def test_b3sum_itself_accepts_the_file(tmp_path):
    lines = []
    for name in (b"plain", b"new\nline", b"back\\slash", b"mid\rdle", b"end\r", "ümläut".encode()):
        path = os.path.join(os.fsencode(tmp_path), name)
        with open(path, "wb") as file:
            file.write(name)
        lines.append(digest_line(blake3.blake3(name).digest(), path))
    (tmp_path / "sums").write_bytes(b"".join(lines))
    subprocess.run(["b3sum", "--check", str(tmp_path / "sums")], check=True, capture_output=True)
