"""Control groups as files in folders: plain ones that have the files which the system would have made."""

import os
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weftos.config import SandboxSection
from weftos.governance.capability import ResourceLimits
from weftos.kernel import groups as kernel_groups
from weftos.kernel.groups import AgentGroups
from weftos.sandbox.group_choice import GroupChoice, choose
from weftos.sandbox.groups import WANTED, ControlGroup, GroupLimits, mount_of, own_path

FILES = {
    "cgroup.controllers": "cpu io memory pids\n",
    "cgroup.subtree_control": "",
    "cgroup.procs": "",
    "cgroup.kill": "",
    "memory.max": "max\n",
    "memory.swap.max": "max\n",
    "memory.oom.group": "0\n",
    "memory.current": "5000000\n",
    "memory.peak": "9000000\n",
    "memory.stat": "anon 3000000\ninactive_file 1000000\n",
    "memory.events": "low 0\nhigh 0\nmax 7\noom 1\noom_kill 2\noom_group_kill 1\n",
    "pids.max": "max\n",
    "pids.current": "3\n",
    "cpu.weight": "100\n",
    "cpu.max": "max 100000\n",
    "cpu.stat": "usage_usec 1500000\nuser_usec 1000000\n",
}


class Folder(ControlGroup):
    """A plain folder: what the system makes and takes away with a group, this does."""

    def child(self, name):
        made = super().child(name)
        fill(made.folder)
        return made

    def remove(self):
        shutil.rmtree(self.folder)
        return True

    def _write(self, name, content):
        path = self.folder / name
        if not path.is_file():
            raise FileNotFoundError(2, "No such file or directory", str(path))
        if name == "cgroup.subtree_control":
            now = set(path.read_text().split())
            now = now | {content[1:]} if content[0] == "+" else now - {content[1:]}
            content = " ".join(sorted(now))
        path.write_text(content + "\n")


def fill(folder, **other):
    for name, content in FILES.items():
        (folder / name).write_text(other.get(name.replace(".", "_"), content))


@pytest.fixture
def top(tmp_path):
    fill(tmp_path)
    return Folder(tmp_path)


def text(group, name):
    return (group.folder / name).read_text().strip()


def test_limits_are_set_and_read_back(top):
    group = top.child("one")
    wanted = GroupLimits(memory_bytes=64 * 2**20, tasks=8, cpu_weight=50, cpu_percent=150)
    in_force = group.limit(wanted, WANTED)
    assert in_force == ["memory.max", "memory.swap.max", "memory.oom.group", "pids.max", "cpu.weight", "cpu.max"]
    assert [text(group, name) for name in in_force] == [str(64 * 2**20), "0", "1", "8", "50", "150000 100000"]
    assert group.limit(GroupLimits(), WANTED) == in_force
    assert (text(group, "memory.max"), text(group, "pids.max")) == ("max", "max")
    assert (text(group, "memory.swap.max"), text(group, "cpu.max")) == ("max", "max 100000")


def test_what_the_system_did_not_take_is_not_called_a_limit(top):
    group = top.child("one")
    (group.folder / "memory.swap.max").unlink()
    assert group.limit(GroupLimits(memory_bytes=2**20, tasks=8), ["memory"]) == ["memory.max", "memory.oom.group"]
    assert text(group, "pids.max") == "max"

    class Deaf(Folder):
        def _write(self, name, content):
            """Take everything and do nothing."""

    assert Deaf(group.folder).limit(GroupLimits(memory_bytes=2**30, tasks=9), ["memory", "pids"]) == [
        "memory.oom.group"
    ]


def test_a_limit_in_pages_counts_as_the_one_that_was_wanted(top):
    group = top.child("one")

    class InPages(Folder):
        def _write(self, name, content):
            super()._write(name, str(int(content) // 4096 * 4096) if name == "memory.max" else content)

    assert "memory.max" in InPages(group.folder).limit(GroupLimits(memory_bytes=2**20 + 1), ["memory"])


def test_usage_comes_from_the_controllers_that_there_are(top):
    group = top.child("one")
    seen = group.usage(WANTED)
    assert (seen.memory_bytes, seen.memory_peak, seen.tasks, seen.cpu_seconds) == (4_000_000, 9_000_000, 3, 1.5)
    bare = group.usage([])
    assert (bare.memory_bytes, bare.memory_peak, bare.tasks, bare.cpu_seconds) == (None, None, None, 1.5)
    assert group.out_of_memory() == 2
    (group.folder / "memory.events").unlink()
    assert group.out_of_memory() == 0


@given(st.text(max_size=60), st.sampled_from(["memory.current", "memory.stat", "memory.events", "cpu.stat"]))
def test_files_with_any_content_are_read_without_harm(content, name):
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        fill(Path(folder))
        (Path(folder) / name).write_text(content, encoding="utf-8")
        group = ControlGroup(Path(folder))
        group.usage(WANTED)
        group.out_of_memory()


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw", (Path("/sys/fs/cgroup"), "/")),
        ("30 23 0:26 /a /mnt/a\\040b rw - cgroup2 none rw", (Path("/mnt/a b"), "/a")),
        ("30 23 0:26 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu", None),
        ("30 23 0:26 / /proc rw", None),
        ("", None),
    ],
)
def test_the_hierarchy_is_found_among_the_mounts(line, found):
    assert mount_of(f"22 1 8:1 / / rw - ext4 /dev/sda rw\n{line}\n") == found


def test_the_own_group_is_the_one_of_version_2():
    assert own_path("9:name=systemd:/\n4:memory:/x\n0::/user.slice/a:b\n") == "/user.slice/a:b"
    assert own_path("4:memory:/x\n") is None


def mounts(folder):
    return f"30 23 0:26 / {folder} rw - cgroup2 cgroup2 rw"


def test_nothing_is_changed_unasked(top):
    (top.folder / "me").mkdir()
    fill(top.folder / "me")
    unasked = choose("", mounts(top.folder), "0::/me\n")
    assert unasked.base is None
    assert "does not hand out memory pids cpu" in unasked.why
    assert unasked.offered == ("cpu", "io", "memory", "pids")
    fill(top.folder / "me", cgroup_subtree_control="cpu memory pids\n")
    assert choose("", mounts(top.folder), "0::/me\n").base == top.folder / "me"
    assert choose("own", mounts(top.folder), "0::/me\n") == GroupChoice(
        base=top.folder / "me", move=True, offered=unasked.offered
    )
    named = choose("/me", mounts(top.folder), "0::/\n")
    assert (named.base, named.move) == (top.folder / "me", False)


def test_why_there_is_none_is_said(top):
    assert choose("own", "", "0::/\n").why == choose("", mounts(top.folder), "4:memory:/\n").why == "cgroup v2 absent"
    assert "no group /nowhere" in choose("/nowhere", mounts(top.folder), "0::/\n").why
    assert "not to be seen" in choose("own", mounts(top.folder), "0::/elsewhere\n").why
    (top.folder / "plain").mkdir()
    assert "not delegated" in choose("/plain", mounts(top.folder), "0::/\n").why
    part = "30 23 0:26 /a /mnt rw - cgroup2 none rw".replace("/mnt", str(top.folder))
    assert choose("own", part, "0::/a\n").base == top.folder
    assert choose("own", part, "0::/b\n").base is None


@pytest.fixture
def agents(top, monkeypatch):
    choice = GroupChoice(base=top.folder, move=True)
    monkeypatch.setattr(kernel_groups, "look", lambda _setting: choice)
    monkeypatch.setattr(kernel_groups, "ControlGroup", Folder)
    return AgentGroups("/somewhere")


def test_a_kernel_becomes_a_leaf_hands_out_controllers_and_leaves_all_as_it_was(top, agents):
    assert agents.begin(SandboxSection(cgroup="own")) == []
    assert agents.used
    assert agents.controllers == WANTED
    (leaf,) = top.children("weftos-")
    assert text(leaf, "cgroup.procs") == str(os.getpid())
    assert text(top, "cgroup.subtree_control") == "cpu memory pids"
    amounts = ResourceLimits(memory_bytes=2**26, processes=5)
    made = agents.make(7, 2, amounts, SandboxSection(cpu_weight=10, cpu_percent=25))
    assert made.name.endswith("-7.2")
    assert (text(made.group, "memory.max"), text(made.group, "pids.max")) == (str(2**26), "5")
    assert (text(made.group, "cpu.weight"), text(made.group, "cpu.max")) == ("10", "25000 100000")
    assert made.out_of_memory()
    assert made.usage().tasks == 3
    door = made.group.door()
    os.write(door, b"0")
    os.close(door)
    assert text(made.group, "cgroup.procs") == "0"
    agents.close(made)
    assert not made.group.folder.exists()
    agents.end()
    assert top.children("weftos-") == []
    assert text(top, "cgroup.subtree_control") == ""
    assert text(top, "cgroup.procs") == str(os.getpid())


def test_what_an_earlier_boot_left_is_ended_and_removed(top, agents):
    agents.begin(SandboxSection(cgroup="own"))
    left = agents.make(1, 1, ResourceLimits(), SandboxSection())
    (left.group.folder / "cgroup.procs").write_text("99999999\n")
    (foreign := top.child("weftos-ffffffffffff-1.1")).folder.joinpath("cgroup.procs").write_text("1\n")
    later = AgentGroups("/somewhere")
    (said,) = later.begin(SandboxSection(cgroup="own"))
    assert "had 1 processes" in said
    assert not left.group.folder.exists()
    assert text(foreign, "cgroup.kill") == ""


def test_a_controller_that_is_refused_keeps_none_of_the_others(top, agents, monkeypatch):
    write = Folder._write

    def refuse(self, name, content):
        if content == "+memory":
            raise OSError(16, "Device or resource busy")
        write(self, name, content)

    monkeypatch.setattr(Folder, "_write", refuse)
    (said,) = agents.begin(SandboxSection(cgroup="own"))
    assert "memory is refused (Device or resource busy)" in said
    assert agents.controllers == ("pids", "cpu")
    made = agents.make(1, 1, ResourceLimits(), SandboxSection())
    assert made.in_force == ("pids.max", "cpu.weight", "cpu.max")
    assert made.usage().memory_bytes is None


def test_a_group_that_is_still_in_use_is_removed_later(agents, monkeypatch):
    agents.begin(SandboxSection(cgroup="own"))
    made = agents.make(1, 1, ResourceLimits(), SandboxSection())
    remove = Folder.remove
    monkeypatch.setattr(Folder, "remove", lambda _self: False)
    agents.close(made)
    assert text(made.group, "cgroup.kill") == "1"
    monkeypatch.setattr(Folder, "remove", remove)
    agents.tick()
    assert not made.group.folder.exists()
