"""The witnesses of a running kernel: they sign, come back when killed, and remember what the log had said."""

from __future__ import annotations

import os
import shutil
import signal

import pytest

from weftos.chain.signing.checkpoint import parse_text
from weftos.chain.signing.note import parse_note
from weftos.errors import WeftError
from weftos.witness.known import known_witnesses
from weftos.witness.quorum import Quorum


def witness_pids(kernel):
    """OS pids of the witnesses, from the kernel's log."""
    found = {}
    for line in kernel.log().splitlines():
        if "weftos/witness-" in line and " forked: OS process " in line:
            name, _, rest = line.partition(" forked: OS process ")
            found[name.split()[-1]] = int(rest.split()[0])
    return found


def cosigned(kernel):
    status = kernel.call("chain.status")
    return bool(status.witnesses) and status.cosigned_size >= status.records - 1


def test_checkpoints_are_cosigned_and_their_signatures_can_be_checked(kernel):
    made = kernel.call("chain.checkpoint")
    assert made.cosigned
    keys = known_witnesses(str(kernel.home.known_witnesses))
    assert sorted(key.name for key in keys) == ["weftos/witness-1", "weftos/witness-2"]
    tally = Quorum(keys, 2).tally(made.note.encode())
    assert tally.is_cosigned
    assert (kernel.home.chain / "checkpoint").read_text() == made.note


def test_an_append_can_wait_for_the_witnesses(kernel):
    agent = kernel.spawn("cosigner")
    reply = kernel.call("agent.send", pid=agent.pid, message="hello").reply
    assert reply["cosigned_size"] > reply["seq"]
    newest = parse_text(parse_note((kernel.home.chain / "checkpoint").read_bytes()).text)
    assert newest.size > reply["seq"]


def test_a_killed_witness_comes_back_and_signs_again(kernel):
    kernel.call("chain.checkpoint")
    victim = witness_pids(kernel)["weftos/witness-1"]
    os.kill(victim, signal.SIGKILL)
    kernel.until(lambda: witness_pids(kernel)["weftos/witness-1"] != victim)
    kernel.spawn("echo")
    kernel.until(lambda: not any(one.problem for one in kernel.call("chain.status").witnesses) and cosigned(kernel))
    assert len(known_witnesses(str(kernel.home.known_witnesses))) == 2, "it kept its key"


def test_the_log_goes_on_without_witnesses_and_says_so(cold):
    cold.start_with(WITNESS_SIGN_S=0.5, WITNESS_CLIENT_S=0.5)
    cold.call("chain.checkpoint")
    for pid in witness_pids(cold).values():
        os.kill(pid, signal.SIGSTOP)
    try:
        cold.spawn("echo")
        cold.until(lambda: cold.call("chain.status").witnesses[0].problem, 40.0)
        cold.until(lambda: (s := cold.call("chain.status")).checkpoint_size > s.cosigned_size, 40.0)
        assert cold.call("chain.status").state == "ok"
    finally:
        for pid in witness_pids(cold).values():
            os.kill(pid, signal.SIGCONT)
    cold.spawn("echo")
    cold.until(lambda: cosigned(cold), 40.0)


@pytest.mark.parametrize("also", ["the log alone", "the high-water mark too"])
def test_a_log_put_back_to_an_older_state_is_not_opened(kernel, also, tmp_path):
    kernel.call("chain.checkpoint")
    kernel.stop()
    shutil.copytree(kernel.home.chain, tmp_path / "older")
    shutil.copy(kernel.home.keys / "high-water.json", tmp_path / "mark")
    kernel.start()
    kernel.spawn("echo")
    kernel.call("chain.checkpoint")
    kernel.stop()
    shutil.rmtree(kernel.home.chain)
    shutil.copytree(tmp_path / "older", kernel.home.chain)
    if also == "the high-water mark too":
        shutil.copy(tmp_path / "mark", kernel.home.keys / "high-water.json")
    before = (kernel.home.chain / "00000001.log").read_bytes()
    with pytest.raises(WeftError, match="rolled back") as caught:
        kernel.start()
    assert caught.value.exit_code == 5
    assert ("witness" in str(caught.value)) == (also == "the high-water mark too")
    assert (kernel.home.chain / "00000001.log").read_bytes() == before, "the evidence stays"


def test_no_witnesses_are_started_where_none_are_wanted(cold):
    kernel = cold
    kernel.home.root.mkdir(mode=0o700, exist_ok=True)
    kernel.home.config.write_text("[chain]\nwitnesses = 0\n")
    kernel.start()
    assert witness_pids(kernel) == {}
    made = kernel.call("chain.checkpoint")
    assert not made.cosigned
    assert kernel.call("chain.status").witnesses == []
