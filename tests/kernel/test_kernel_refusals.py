"""What the system refuses to agents is on the log: at once, once of each kind, and in sums; and nobody is held up."""

import os
import signal
import threading

import psutil
import pytest
from governed import records

from weftos import limits
from weftos.errors import AgentExited
from weftos.sandbox import seccomp

pytestmark = pytest.mark.skipif(not seccomp.notifies(), reason="this system does not show refused calls")


@pytest.fixture
def kernel(shared):
    """One kernel for all; who needs one of its own takes ``fresh``."""
    return shared


def deed(kernel, agent, *words, timeout=30.0):
    return kernel.call(
        "agent.send", pid=agent.pid, message=list(words), timeout_secs=timeout, timeout=timeout + 5
    ).reply


def counts(kernel, agent):
    found = kernel.call("agent.inspect", pid=agent.pid).refusals
    assert found.calls == "recorded"
    return {one.name: one.count for one in found.counts if one.what == "syscall"}


def on_the_log(kernel, agent):
    """Add up what the log says, when the agent has ended."""
    told = {}
    for one in records(kernel, "agent.refused"):
        if one.payload["pid"] == agent.pid:
            assert one.payload["name"] not in told, "there is one record of each kind"
            told[one.payload["name"]] = one.payload["count"]
    for one in records(kernel, "agent.refusals"):
        if one.payload["pid"] == agent.pid:
            for each in one.payload["counts"]:
                told[each["name"]] = told.get(each["name"], 0) + each["count"]
    return told


def stop(kernel, agent):
    kernel.call("agent.stop", pid=agent.pid)
    kernel.until(lambda: agent.pid in {one.payload["pid"] for one in records(kernel, "agent.gone")})


@pytest.fixture
def agent(kernel):
    return kernel.spawn("refused", limits={"processes": 0})


def test_the_first_of_a_kind_has_a_record_at_once_and_the_others_are_in_a_sum(kernel, agent):
    assert deed(kernel, agent, "refused", "ptrace", 16, agent.os_pid) == "EPERM"
    first = kernel.until(lambda: records(kernel, "agent.refused"))[0].payload
    assert (first["pid"], first["incarnation"], first["os_pid"], first["thread"]) == (agent.pid, 1, *[agent.os_pid] * 2)
    assert (first["what"], first["name"], first["errno"], first["count"]) == ("syscall", "ptrace", "EPERM", 1)
    assert first["arguments"] == [16, agent.os_pid]
    assert deed(kernel, agent, "many", "mount", 40) == {"EPERM": 40}
    assert deed(kernel, agent, "many", "ptrace", 9) == {"EPERM": 9}
    assert counts(kernel, agent) == {"mount": 40, "ptrace": 10}
    stop(kernel, agent)
    assert on_the_log(kernel, agent) == {"mount": 40, "ptrace": 10}
    kinds = [one for one in kernel.kinds() if one.startswith("agent.")]
    assert kinds.index("agent.refusals") < kinds.index("agent.exit")
    # It stays to be seen.
    assert counts(kernel, agent) == {"mount": 40, "ptrace": 10}


def test_a_sum_comes_while_the_agent_lives(kernel, agent):
    deed(kernel, agent, "many", "mount", 3)
    found = kernel.until(lambda: records(kernel, "agent.refusals"), timeout_s=3 * limits.REFUSALS_SUM_S)
    assert [one["count"] for one in found[0].payload["counts"]] == [2]


def test_what_starts_it_tries_by_itself_and_what_is_allowed_is_on_no_record(kernel, agent):
    assert deed(kernel, agent, "honest", 0)
    assert counts(kernel, agent) == {}
    strict = kernel.spawn("echo", sandbox={"profile": "strict"})
    stop(kernel, strict)
    assert records(kernel, "agent.refused") == []


def test_children_and_other_programs_are_recorded_as_the_agent_is(kernel, agent):
    child = deed(kernel, agent, "in a child", "bpf")
    first = kernel.until(lambda: records(kernel, "agent.refused"))[0].payload
    assert (first["name"], first["os_pid"], first["thread"]) == ("bpf", agent.os_pid, child)
    code = "import os\ntry: os.chroot('/')\nexcept PermissionError as error: print(error.errno)"
    assert deed(kernel, agent, "another program", code) == "1\n"
    assert counts(kernel, agent) == {"bpf": 1, "chroot": 1}
    strict = kernel.spawn("refused", sandbox={"profile": "strict"}, limits={"processes": 0})
    with pytest.raises(AgentExited, match="not permitted"):
        deed(kernel, strict, "another program", "1")
    last = records(kernel, "agent.refused")[-1].payload
    assert (last["name"], last["os_pid"]) == ("execve", strict.os_pid)
    assert last["thread"] not in (None, strict.os_pid), "it was made between vfork and exec"


def test_calls_that_no_system_has_are_recorded_and_bounded(kernel, agent):
    assert deed(kernel, agent, "unknown", 0x40000000, 1) == ["ENOSYS"]
    assert deed(kernel, agent, "unknown", 5000, limits.REFUSAL_KINDS_MAX + 20) == ["ENOSYS"]
    assert counts(kernel, agent)["others"] == 21
    stop(kernel, agent)
    assert len(records(kernel, "agent.refused")) == limits.REFUSAL_KINDS_MAX + 1
    assert sum(on_the_log(kernel, agent).values()) == limits.REFUSAL_KINDS_MAX + 21


def test_signals_lose_no_call_and_make_none_count_twice(kernel, agent):
    times = 3 * limits.REFUSALS_BURST
    answers, fired = deed(kernel, agent, "under signals", "mount", times)
    assert answers == {"EPERM": times}
    assert fired
    assert counts(kernel, agent) == {"mount": times}


def test_who_floods_waits_and_nobody_else(kernel, agent):
    others = [kernel.spawn("refused", name=f"flood-{n}") for n in range(2)]
    times = 2 * limits.REFUSALS_BURST
    flooding = [
        threading.Thread(target=deed, args=(kernel, one, "in threads", "mount", times, 2), kwargs={"timeout": 60.0})
        for one in others
    ]
    for one in flooding:
        one.start()
    # A quiet one gets its answers meanwhile, also to its own refused calls.
    for number in range(20):
        assert deed(kernel, agent, "many", "bpf", 3) == {"EPERM": 3}, number
    for one in flooding:
        one.join(60)
    for one in others:
        assert counts(kernel, one) == {"mount": 2 * times}
        stop(kernel, one)
        assert on_the_log(kernel, one) == {"mount": 2 * times}
    assert counts(kernel, agent) == {"bpf": 60}
    assert len(records(kernel, "agent.refused")) == 3


def test_a_new_life_counts_anew_and_the_old_ones_listener_is_closed(kernel):
    agent = kernel.spawn("refused", restart="on-failure")
    assert deed(kernel, agent, "honest", 0)
    kept = psutil.Process(kernel.os_pid).num_fds()
    for life in (1, 2):
        assert deed(kernel, agent, "refused", "mount") == "EPERM"
        assert counts(kernel, agent) == {"mount": 1}
        os.kill(kernel.call("agent.inspect", pid=agent.pid).os_pid, signal.SIGKILL)
        seen = lambda life=life: kernel.call("agent.inspect", pid=agent.pid)  # noqa: E731
        kernel.until(lambda seen=seen, life=life: (now := seen()).incarnation == life + 1 and now.state == "running")
    assert [one.payload["incarnation"] for one in records(kernel, "agent.refused")] == [1, 2]
    kernel.until(lambda: psutil.Process(kernel.os_pid).num_fds() == kept)


def test_what_a_program_gives_as_its_listener_is_not_taken(kernel, agent):
    kept = psutil.Process(kernel.os_pid).num_fds()
    assert deed(kernel, agent, "give a listener")
    assert deed(kernel, agent, "many", "mount", 2) == {"EPERM": 2}
    assert counts(kernel, agent) == {"mount": 2}
    kernel.until(lambda: psutil.Process(kernel.os_pid).num_fds() == kept)


def test_an_agent_that_waits_for_an_answer_ends_with_the_kernel(fresh):
    agent = fresh.spawn("refused", limits={"processes": 0})
    fresh.call("agent.send", pid=agent.pid, message=["many", "mount", 1 << 40], wait=False)
    fresh.until(lambda: counts(fresh, agent).get("mount", 0) > limits.REFUSALS_BURST)
    os.kill(fresh.os_pid, signal.SIGSTOP)
    fresh.kill()
    assert fresh.await_end(agent.os_pid)


def test_a_trusted_agent_is_refused_nothing(kernel):
    agent = kernel.spawn("refused", sandbox={"profile": "trusted"})
    found = kernel.call("agent.inspect", pid=agent.pid).refusals
    assert (found.calls, found.counts) == ("the profile is trusted", [])
