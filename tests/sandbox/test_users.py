"""Users for agents: which ids, who could reach what, and what becoming one leaves."""

import errno
import os
import shutil
import signal
import stat
import tempfile
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weftos import limits
from weftos.config import parse
from weftos.errors import ConfigError
from weftos.governance.capability import AgentCapabilities, ResourceLimits, SandboxPolicy
from weftos.sandbox import apply, identity, probe, reach, seccomp
from weftos.sandbox.measure import Measure
from weftos.sandbox.plan import Places, plan_for
from weftos.sandbox.users import NEEDED, OwnUser, UserIds, block_of, lacking_capabilities, unmapped

TAGS = st.text("0123456789abcdef", min_size=12, max_size=12)


class Mark:
    """What is on the disk, and how often it was written."""

    def __init__(self, folder):
        self.path = folder / "next_user"
        self.written = 0

    def write(self, path, data):
        assert path == self.path
        path.write_bytes(data)
        self.written += 1


@given(st.integers(1, 2**31), st.integers(1, 2**21), TAGS)
def test_an_instance_takes_a_part_of_the_range_by_its_name(first, more, tag):
    ids = block_of([first, first + more], tag)
    assert first <= ids[0] < ids[-1] <= first + more
    assert ids == block_of([first, first + more], tag)
    if more + 1 < 2 * limits.AGENT_USERS:
        assert len(ids) == more + 1
    else:
        assert len(ids) == limits.AGENT_USERS
        assert (ids[0] - first) % limits.AGENT_USERS == 0
    assert len(block_of([], tag)) == 0


@given(st.lists(st.sampled_from(["take", "end", "boot"]), max_size=120), st.integers(2, 40))
def test_users_are_never_shared_and_not_given_again_before_all_others(steps, size):
    with tempfile.TemporaryDirectory() as folder:
        mark, ids = Mark(Path(folder)), range(1000, 1000 + size)
        pool, living, last = UserIds(ids, mark.path, mark.write), [], None
        for step in steps:
            if step == "boot":
                pool, living, last = UserIds(ids, mark.path, mark.write), [], None
            elif step == "end" and living:
                living.pop(0)
            elif step == "take":
                user = pool.take(living)
                if user is None:
                    assert len(living) == size - 1
                    continue
                assert user.gid == 1000
                assert user.uid not in living
                if last is not None:
                    # The next one that is free, round and round.
                    order = [1001 + (last - 1001 + n) % (size - 1) for n in range(1, size)]
                    assert user.uid == next(uid for uid in order if uid not in living)
                assert user.uid in ids[1:]
                living.append(user.uid)
                last = user.uid


def test_ids_are_fresh_over_boots_until_the_range_is_through(tmp_path):
    mark, ids = Mark(tmp_path), range(5000, 5000 + 4 * limits.AGENT_USERS_AHEAD + 1)
    seen = []
    for _boot in range(4):
        pool = UserIds(ids, mark.path, mark.write)
        seen += [pool.take(()).uid for _ in range(3)]
    assert len(set(seen)) == len(seen)
    assert mark.written == 4
    assert UserIds(ids, mark.path, mark.write).take(()).uid == seen[0]
    mark.path.write_text("nonsense")
    assert UserIds(ids, mark.path, mark.write).take(()).uid == 5001


def test_what_cannot_be_remembered_is_not_given(tmp_path):
    def refuse(_path, _data):
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        UserIds(range(10, 20), tmp_path / "next_user", refuse).take(())


def test_capabilities_are_read_from_the_status():
    assert lacking_capabilities("Name:\tx\nCapEff:\t000001ffffffffff\n") == []
    assert lacking_capabilities("CapEff:\t0000000000000000\n") == lacking_capabilities("") == list(NEEDED)
    assert lacking_capabilities(f"CapEff:\t{0xFF & ~(1 << 7):016x}\n") == ["CAP_SETUID"]


def test_ids_that_a_namespace_does_not_have():
    assert not unmapped("         0          0 4294967295\n", range(5, 9))
    assert unmapped("0 100000 65536\n", range(65530, 65540))
    assert not unmapped("0 100000 65536\n70000 1 10\n", range(70000, 70010))
    assert unmapped("", range(1, 2))


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("uids = [5]", "the first and the last"),
        ("uids = [5, 5]", "the first and the last"),
        ("uids = [9, 5]", "the first and the last"),
        ("uids = [0, 5]", ">= 1"),
        ('cgroup = "agents"', "no absolute path"),
        ('cgroup = "/a/../b"', "no absolute path"),
        ('scratch_dir = "own"', "no absolute path"),
        ("cpu_weight = 0", ">= 1"),
    ],
)
def test_settings_that_make_no_sense_are_refused(text, word):
    with pytest.raises(ConfigError, match=word):
        parse(f"[sandbox]\n{text}\n", "weftos.toml")


def test_settings_that_make_sense():
    found = parse('[sandbox]\nuids = []\ncgroup = "own"\nscratch_dir = "/srv/x"\n', "weftos.toml").sandbox
    assert (found.uids, found.cgroup, found.scratch_dir) == ([], "own", "/srv/x")
    assert parse("", "weftos.toml").sandbox.uids == [limits.AGENT_UID_FIRST, limits.AGENT_UID_LAST]


# --- reach ------------------------------------------------------------------------------------------------------------

ME = OwnUser(77, 88)


@given(
    st.sampled_from([0, 77]),
    st.sampled_from([0, 88]),
    st.integers(0, 0o777),
    st.booleans(),
    st.sampled_from([0, reach.READ, reach.READ | reach.WRITE]),
)
def test_a_mode_opens_what_the_system_would_open(owner, group, mode, folder, wanted):
    kind = stat.S_IFDIR if folder else stat.S_IFREG

    def look(path):
        if path in ("/", "/nowhere"):
            return SimpleNamespace(st_mode=stat.S_IFDIR | 0o755, st_uid=0, st_gid=0)
        return SimpleNamespace(st_mode=kind | mode, st_uid=owner, st_gid=group)

    digit = int(f"{mode:03o}"[0 if owner == ME.uid else 1 if group == ME.gid else 2])
    needs = wanted | (1 if folder and wanted & reach.READ else 0)
    assert bool(reach.obstacle([("/nowhere/thing", wanted)], ME, look)) == (digit & needs != needs)


def test_the_folder_that_is_in_the_way_is_named(tmp_path):
    tmp_path = Path(tempfile.mkdtemp())
    try:
        tmp_path.chmod(0o755)
        inner = tmp_path / "closed" / "open"
        inner.mkdir(parents=True)
        (inner / "file").touch()
        (tmp_path / "link").symlink_to(inner / "file")
        (tmp_path / "closed").chmod(0o700)
        for path in (inner / "file", tmp_path / "link"):
            found = reach.obstacle([(str(path), reach.READ)], ME)
            assert found == f"{tmp_path}/closed cannot be entered by others"
        (tmp_path / "closed").chmod(0o711)
        assert reach.obstacle([(str(inner / "file"), reach.READ)], ME) == ""
        assert "written to" in reach.obstacle([(str(inner / "file"), reach.WRITE)], ME)
        assert reach.obstacle([(str(tmp_path / "absent"), reach.READ)], ME) == ""
        if os.geteuid() == 0:
            os.chown(inner / "file", 0, ME.gid)
            (inner / "file").chmod(0o620)
            assert "cannot be read" in reach.obstacle([(str(inner / "file"), reach.READ)], ME)
            assert reach.obstacle([(str(inner / "file"), reach.WRITE)], ME) == ""
    finally:
        shutil.rmtree(tmp_path)


# --- becoming one -----------------------------------------------------------------------------------------------------


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives users away")
def test_a_user_of_its_own_is_kept_from_others_by_the_system_alone():
    """No Landlock, no filter: this is what stays when they have a hole."""
    place = Path(tempfile.mkdtemp())
    mine, other = (OwnUser(limits.AGENT_UID_FIRST + number, limits.AGENT_UID_FIRST) for number in (1, 2))
    hold, held = os.pipe()
    told, tell = os.pipe()
    neighbour = os.fork()
    if neighbour == 0:
        os.close(held)
        os.setsid()  # within a session anybody may send SIGCONT
        identity.become(other)
        os.write(tell, b"x")
        os.read(hold, 1)
        os._exit(0)
    try:
        assert os.read(told, 1) == b"x"
        place.chmod(0o711)
        folder = place / "scratch"
        folder.mkdir(mode=0o700)
        (folder / "file").touch()
        os.chown(folder, other.uid, other.gid)
        child = os.fork()
        if child == 0:
            try:
                os._exit(_attempts(mine, neighbour, folder))
            finally:
                os._exit(99)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    finally:
        os.close(held)
        os.waitpid(neighbour, 0)
        for fd in (hold, told, tell):
            os.close(fd)
        shutil.rmtree(place)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives users away")
@pytest.mark.skipif(not seccomp.offered(), reason="this machine cannot confine")
def test_what_the_user_alone_refuses_does_not_pass_for_landlock():
    place = Path(tempfile.mkdtemp())
    user = OwnUser(limits.AGENT_UID_FIRST + 1, limits.AGENT_UID_FIRST)
    (place / "home").mkdir(mode=0o700)
    (place / "scratch").mkdir()
    os.chown(place / "scratch", user.uid, user.gid)
    place.chmod(0o711)
    strict = AgentCapabilities(sandbox=SandboxPolicy(profile="strict"))
    plan = plan_for(strict, ResourceLimits(), Places(home=str(place / "home"), scratch=str(place / "scratch")))
    plan = msgspec.structs.replace(plan, user=user)
    told, tell = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            identity.become(user)
            failed = apply.confine(plan, abi=0)
            measures = probe.probe(plan, failed, [])
            os.write(tell, msgspec.json.encode([measures, probe.lacking(plan, measures)]))
        finally:
            os._exit(0)
    os.close(tell)
    try:
        with open(told, "rb") as told_all:
            measures, lacking = msgspec.json.decode(told_all.read(), type=tuple[list[Measure], list[str]])
    finally:
        os.waitpid(child, 0)
        shutil.rmtree(place)
    states = {one.name: one.state for one in measures}
    assert (states["user"], states["files"], states["calls"]) == ("enforced", "partial", "enforced")
    assert lacking == ["files"]


def _attempts(user, neighbour, folder):
    """Become a user and try; returns 0, or the number of the first attempt that was not refused."""
    from weftos.sandbox.libc import syscall
    from weftos.sandbox.syscalls import number_of

    identity.become(user)
    assert identity.is_now(user)
    assert not identity.may_go_back()
    Path("/proc/self/status").read_text()
    attempts = (
        lambda: os.kill(neighbour, 0),
        lambda: signal.pidfd_send_signal(os.pidfd_open(neighbour), signal.SIGCONT),
        lambda: syscall(number_of("ptrace"), 16, neighbour, 0, 0),
        lambda: Path(f"/proc/{neighbour}/environ").read_bytes(),
        lambda: os.listdir(f"/proc/{neighbour}/fd"),
        lambda: os.listdir(folder),
        lambda: (folder / "file").read_bytes(),
        lambda: os.kill(os.getppid(), 0),
        lambda: os.setgroups([0]),
        lambda: os.chown(folder, user.uid, user.gid),
    )
    for number, attempt in enumerate(attempts, 1):
        try:
            attempt()
        except PermissionError:
            continue
        return number
    return 0
