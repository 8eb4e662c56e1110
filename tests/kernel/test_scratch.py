"""Scratch folders and what is in them, without a kernel."""

import os
import select

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weftos.kernel.inspect import descriptor_count, parse_rollup
from weftos.kernel.scratch import ScratchFolders
from weftos.kernel.scratch_meter import ScratchMeter


def on_disk(folder):
    total = 0
    for where, folders, files in os.walk(folder):
        total += sum(os.lstat(os.path.join(where, name)).st_blocks * 512 for name in folders + files)
    return total


def fill(folder, sizes):
    for number, size in enumerate(sizes):
        place = folder / f"folder-{number % 5}"
        place.mkdir(exist_ok=True)
        (place / f"file-{number}").write_bytes(bytes(size))


@pytest.mark.parametrize("entries", [1, 3, 7, 1000])
def test_a_folder_is_added_up_over_several_looks(tmp_path, entries):
    fill(tmp_path, [5000] * 20)
    (tmp_path / "link").symlink_to("/usr")
    meter = ScratchMeter()
    looks = 0
    while meter.used(1) != on_disk(tmp_path):
        meter.look({1: str(tmp_path)}, entries)
        looks += 1
        assert looks < 200
    assert looks >= 26 // entries


def test_what_is_found_so_far_counts_if_it_is_more_and_the_gone_are_forgotten(tmp_path):
    meter = ScratchMeter()
    meter.look({1: str(tmp_path)}, 10)
    assert meter.used(1) == 0
    fill(tmp_path, [1 << 16] * 30)
    meter.look({1: str(tmp_path)}, 10)
    assert 0 < meter.used(1) < on_disk(tmp_path), "a part, and that counts already"
    meter.look({}, 10)
    assert meter.used(1) == 0
    meter.look({2: str(tmp_path / "missing")}, 10)
    assert meter.used(2) == 0


def test_folders_are_made_kept_and_removed_with_all_that_is_in_them(tmp_path):
    folders = ScratchFolders(tmp_path / "scratch")
    assert folders.begin() == 0
    path = folders.make(1)
    assert folders.make(1) == path
    deep = path
    for _ in range(40):
        deep = os.path.join(deep, "x")
        os.mkdir(deep)
    children = set(os.listdir("/proc"))
    folders.remove(1)
    assert not os.path.exists(path), "at once, whatever it holds"
    _reap(children)
    assert not list((tmp_path / "scratch.leaving").iterdir())
    folders.make(2)
    folders.remove(2)
    folders.remove(3)
    open(os.path.join(folders.make(4), "left"), "w").close()
    later = ScratchFolders(tmp_path / "scratch")
    children = set(os.listdir("/proc"))
    assert later.begin() == 1
    _reap(children)
    assert not os.listdir(tmp_path / "scratch")


def _reap(before):
    """Wait for the one child that was started since."""
    mine = []
    for name in set(os.listdir("/proc")) - before:
        if name.isdecimal():
            with open(f"/proc/{name}/stat", "rb") as file:
                if int(file.read().rpartition(b")")[2].split()[1]) == os.getpid():
                    mine.append(int(name))
    for pid in mine:
        handle = os.pidfd_open(pid)
        assert select.select([handle], [], [], 10)[0]
        os.close(handle)
        assert os.waitpid(pid, 0)[1] == 0


def test_shares_of_memory_are_read_from_what_the_system_writes():
    text = (
        "56-7f r--p\nRss:  900 kB\nPss:  310 kB\nPrivate_Clean:  8 kB\nPrivate_Dirty:  120 kB\nPrivate_Hugetlb: 0 kB\n"
    )
    assert parse_rollup(text) == (128 * 1024, 310 * 1024)
    with open("/proc/self/smaps_rollup") as file:
        unique, shared = parse_rollup(file.read())
    assert 0 < unique <= shared


@given(st.text())
def test_any_text_in_their_place_is_survived(text):
    unique, shared = parse_rollup(text)
    assert unique >= 0
    assert shared >= 0


def test_descriptors_are_counted():
    before = descriptor_count(os.getpid())
    reader, writer = os.pipe()
    assert descriptor_count(os.getpid()) == before + 2
    os.close(reader)
    os.close(writer)
    assert descriptor_count(2**30) == 0
