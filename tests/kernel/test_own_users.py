"""Agents that are users of their own: real ones, of a kernel that runs as root and can be read by them."""

import os
import shutil
import stat
import tempfile
from pathlib import Path

import pytest
from reachable import environment, interpreter
from waiting import await_end

from weftos.errors import DoorbellLost, SandboxFailed
from weftos.sandbox import reach, seccomp
from weftos.sandbox.offers import offers
from weftos.sandbox.users import OwnUser
from weftos.shm import Doorbell

pytestmark = [
    pytest.mark.skipif(bool(interpreter()[1]), reason=interpreter()[1]),
    pytest.mark.skipif(not (offers().landlock and offers().seccomp), reason="this machine cannot confine"),
]
DENIED = {"EACCES", "EPERM", "EXDEV"}


@pytest.fixture
def place():
    """A folder that others may pass."""
    folder = Path(tempfile.mkdtemp(prefix="wu-"))
    folder.chmod(0o711)
    try:
        if why := reach.obstacle([(str(folder / "x"), 0)], OwnUser(1, 1)):
            pytest.skip(why)
        yield folder
    finally:
        shutil.rmtree(folder)


@pytest.fixture
def settings(cold, place):
    """Write the settings of the kernel that is to be started."""

    def write(**more):
        cold.home.ensure()
        lines = [f'scratch_dir = "{place / "scratch"}"', *(f"{key} = {value}" for key, value in more.items())]
        cold.home.config.write_text("[sandbox]\n" + "\n".join(lines) + "\n")

    write()
    return write


@pytest.fixture
def apart(cold, place, settings, monkeypatch):
    """A kernel that is not started yet, with an interpreter that its agents can read."""
    monkeypatch.setattr("sys.executable", interpreter()[0])
    for name, value in environment(place).items():
        monkeypatch.setenv(name, value)
    return cold


def detail(kernel, agent):
    return kernel.call("agent.inspect", pid=agent.pid)


def measure(kernel, agent, name):
    return next(one for one in detail(kernel, agent).confinement if one.name == name)


def attempt(kernel, agent, *words):
    return kernel.call("agent.send", pid=agent.pid, message=list(words), timeout_secs=15.0).reply


def do(kernel, agent, **order):
    return kernel.call("agent.send", pid=agent.pid, message=order, timeout_secs=15.0).reply


def users_of(os_pid):
    for line in Path(f"/proc/{os_pid}/status").read_text().splitlines():
        if line.startswith(("Uid:", "Gid:", "Groups:")):
            yield [int(word) for word in line.split()[1:]]


@pytest.mark.parametrize("profile", ["standard", "strict"])
def test_an_agent_is_a_user_of_its_own_talks_is_restarted_and_stopped(apart, profile):
    apart.start()
    one, two = (apart.spawn("tester", name=name, sandbox={"profile": profile}) for name in ("one", "two"))
    mine, other = detail(apart, one), detail(apart, two)
    assert len({0, mine.uid, other.uid}) == 3
    assert mine.gid == other.gid != 0
    assert list(users_of(one.os_pid)) == [[mine.uid] * 4, [mine.gid] * 4, []]
    assert measure(apart, one, "user").state == "enforced"
    assert measure(apart, one, "processes").detail.endswith("for this user alone")
    assert mine.unknown == []
    # Each rings the other's doorbell, and that of the service.
    assert do(apart, one, do="call", to=two.pid, payload={"do": "who"})[0] == two.pid
    assert do(apart, two, do="call", to=one.pid, payload={"do": "who"})[0] == one.pid
    assert do(apart, one, do="append", kind="app.note", n=2)
    again = apart.call("agent.restart", pid=one.pid)
    assert (again.incarnation, detail(apart, one).uid) == (2, mine.uid)
    apart.call("agent.stop", pid=one.pid)
    assert await_end(again.os_pid)
    three = apart.spawn("tester", name="three", sandbox={"profile": profile})
    assert detail(apart, three).uid not in {mine.uid, other.uid}
    assert apart.call("agent.restart", pid=one.pid).incarnation == 3
    assert detail(apart, one).uid == mine.uid
    record = next(one for one in apart.events() if one.kind == "agent.confined")
    assert {"name": "user", "state": "enforced"}.items() <= record.payload["measures"][0].items()


def test_what_belongs_to_another_agent(apart):
    apart.start()
    one, two = apart.spawn("escapist", name="one"), apart.spawn("escapist", name="two")
    assert "done" in attempt(apart, two, "write", "mine")
    scratch = Path(detail(apart, two).scratch)
    assert stat.S_IMODE(scratch.stat().st_mode) == 0o700
    assert scratch.stat().st_uid == detail(apart, two).uid
    assert "done" in attempt(apart, two, "read", str(scratch / "mine"))
    for what in ("read", "write", "truncate", "unlink"):
        assert attempt(apart, one, what, str(scratch / "mine"))["refused"] in DENIED, what
    assert attempt(apart, one, "list", str(scratch))["refused"] in DENIED
    for what in ("signal", "trace", "read memory", "environment", "steal a descriptor", "cores of another"):
        for os_pid in (two.os_pid, apart.os_pid):
            assert attempt(apart, one, what, os_pid)["refused"] in DENIED, what
    for user in (0, detail(apart, two).uid):
        assert attempt(apart, one, "become another", user)["refused"] == "EPERM"


@pytest.mark.skipif(not seccomp.notifies(), reason="this system does not show refused calls")
def test_calls_that_are_refused_to_another_user_are_answered_by_the_kernel_and_recorded(apart):
    apart.start()
    agent = apart.spawn("refused", limits={"processes": 0})
    assert detail(apart, agent).uid != 0
    assert measure(apart, agent, "refused calls").state == "enforced"
    assert detail(apart, agent).refusals.counts == []
    assert attempt(apart, agent, "many", "mount", 5) == {"EPERM": 5}
    child = attempt(apart, agent, "in a child", "bpf")
    assert {one.name: one.count for one in detail(apart, agent).refusals.counts} == {"mount": 5, "bpf": 1}
    apart.call("agent.stop", pid=agent.pid)
    told = {one.payload["name"]: one.payload for one in apart.until(lambda: _refused(apart, 2))}
    assert (told["mount"]["thread"], told["bpf"]["thread"]) == (agent.os_pid, child)


def _refused(kernel, number):
    found = [one for one in kernel.events() if one.kind == "agent.refused"]
    return found if len(found) == number else None


def test_a_fork_bomb_is_held_by_the_system(apart):
    apart.start()
    bomb = apart.spawn("escapist", limits={"processes": 8})
    other = apart.spawn("escapist", limits={"processes": 8})
    assert attempt(apart, bomb, "fork many", 60)["refused"] == "EAGAIN"
    assert "done" in attempt(apart, other, "fork")
    assert apart.until(lambda: detail(apart, bomb).processes == 8)


def test_an_agent_does_not_outlive_a_killed_kernel_and_its_children_not_the_next_boot(apart):
    apart.start()
    agent = apart.spawn("escapist", limits={"processes": 0})
    apart.call("agent.send", pid=agent.pid, message=["fork many", 3], wait=False)
    user = detail(apart, agent).uid
    children = apart.until(lambda: _of_user(user)[3:])
    apart.kill()
    assert await_end(agent.os_pid)
    apart.start()
    assert all(await_end(os_pid) for os_pid in children)
    # What it left in shared folders belongs to nobody new.
    assert detail(apart, apart.spawn("echo")).uid > user


def _of_user(uid):
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if folder.stat().st_uid == uid or next(users_of(folder.name))[0] == uid:
                found.append(int(folder.name))
        except OSError:
            continue  # it has ended
    return found


def test_an_agent_whose_program_others_cannot_read_stays_the_kernels_user_and_says_why(apart, place, settings):
    apart.start()
    closed = place / "closed"
    closed.mkdir(mode=0o700)
    program = closed / "program.py"
    program.write_text("def main(ctx):\n    for message in ctx:\n        ctx.reply(message, 'here')\n")
    agent = apart.call("agent.spawn", program=str(program), restart="never")
    found = measure(apart, agent, "user")
    assert (found.state, detail(apart, agent).uid) == ("absent", 0)
    assert f"{closed} cannot be read by others" in found.detail
    assert measure(apart, agent, "privileges").state == "enforced"
    assert apart.call("agent.send", pid=agent.pid, message="x", timeout_secs=15.0).reply == "here"
    lent = apart.spawn("escapist", sandbox={"writable": [str(closed)]})
    assert f"{closed} cannot be" in measure(apart, lent, "user").detail
    closed.chmod(0o777)
    writer = apart.spawn("escapist", name="writer", sandbox={"writable": [str(closed)]})
    assert "done" in attempt(apart, writer, "write", str(closed / "new"))
    assert (closed / "new").stat().st_uid == detail(apart, writer).uid != 0
    assert detail(apart, apart.spawn("echo", sandbox={"profile": "trusted"})).uid == 0
    apart.stop()
    closed.chmod(0o700)
    settings(require_own_user="true")
    apart.start()
    with pytest.raises(SandboxFailed, match=f"{closed} cannot be read by others"):
        apart.call("agent.spawn", program=str(program), restart="never")
    assert detail(apart, apart.spawn("echo")).uid != 0


def test_doorbells_are_for_members_of_the_group(apart):
    apart.start()
    mine = detail(apart, apart.spawn("echo"))
    names = [one.name for one in Path("/dev/shm").glob(f"sem.{_prefix(apart)}*")]
    assert len(names) >= 2
    for name in names:
        bell = f"/{name.removeprefix('sem.')}"
        assert _may_open(bell, OwnUser(mine.uid + 1, mine.gid))
        assert not _may_open(bell, OwnUser(mine.uid + 1, mine.gid + 1))


def _prefix(kernel):
    from weftos.ids import instance_tag

    return f"weftos-{instance_tag(str(kernel.home.root))}-"


def _may_open(name, user):
    child = os.fork()
    if child == 0:
        code = 2
        try:
            os.setgroups([])
            os.setresgid(user.gid, user.gid, user.gid)
            os.setresuid(user.uid, user.uid, user.uid)
            Doorbell.open(name)
            code = 0
        except DoorbellLost:
            code = 1
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, 1)
    return code == 0


def test_scratch_folders_are_refused_in_a_folder_that_is_somebody_elses(apart, place):
    from weftos.ids import instance_tag

    taken = place / "scratch" / instance_tag(str(apart.home.root))
    taken.mkdir(parents=True)
    os.chown(taken, 65534, 65534)
    with pytest.raises(SandboxFailed, match="not this user's alone"):
        apart.start()
