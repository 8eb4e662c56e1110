"""Settings of a running kernel: changed whole or not at all, on the log, in force, and as the file says."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from test_kernel_auth import WHO, issue, records, weaver

from weftos import chain, config
from weftos.errors import AccessDenied, ConfigError, InvalidRequest, KernelNotRunning, WeftError
from weftos.rpc.client import RpcClient
from weftos.settings.history import History


def history(kernel):
    return History().take_all(chain.read(str(kernel.home.chain)))


def file_of(kernel):
    return kernel.home.config.read_text() if kernel.home.config.exists() else ""


def agreed(kernel):
    """File, log and kernel say the same."""
    found = config.explicit(file_of(kernel), "file")
    assert history(kernel).values == found
    held = kernel.call("kernel.state")
    assert {one.key: json.loads(one.value) for one in held.settings} == found
    kernel.audit()
    return found


def test_a_setting_is_in_the_file_on_the_log_and_in_force(kernel):
    done = kernel.call("config.set", key="kernel.max_processes", value=1)
    assert (done.old, done.new, done.effect) == (None, 1, "now")
    kernel.spawn("echo")
    with pytest.raises(WeftError, match="max_processes is 1"):
        kernel.spawn("echo")
    kernel.call("config.set", key="kernel.max_processes", value=3)
    kernel.spawn("echo")
    assert kernel.call("config.get", key="kernel.max_processes").value == 3
    kernel.call("config.set", key="kernel.max_processes", value=None)
    assert kernel.call("kernel.status").max_processes == config.Config().kernel.max_processes
    assert agreed(kernel) == {}
    rows = [(one.key, one.old, one.new, one.state) for one in history(kernel).changes]
    assert rows == [("kernel.max_processes", *row, "done") for row in ((None, 1), (1, 3), (3, None))]
    assert all(one.payload["by"].startswith(WHO) for one in records(kernel, "config.set"))


def test_a_limit_holds_for_new_agents_and_a_place_at_the_next_start(kernel):
    kernel.call("config.set", key="limits.descriptors", value=99)
    agent = kernel.spawn("echo")
    assert kernel.call("agent.inspect", pid=agent.pid).limits["descriptors"] == 99
    done = kernel.call("config.set", key="chain.segment_bytes", value="1MiB")
    assert done.effect == "next-start"
    shown = kernel.call("config.get", key="chain.segment_bytes")
    assert (shown.value, shown.waiting) == (config.Config().chain.segment_bytes, 1 << 20)
    kernel.stop()
    kernel.start()
    shown = kernel.call("config.get", key="chain.segment_bytes")
    assert (shown.value, shown.waiting) == (1 << 20, None)
    agreed(kernel)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("limits.memory_bytes", -1, "line 2: limits.memory_bytes: .*accepts a whole number from 0 to"),
        ("limits.memory_bytes", "many", "line 2: limits.memory_bytes: 'many' is no size"),
        ("limits.memory_bytes", 1.5, "accepts a whole number"),
        ("limits.memory_bytes", True, "accepts a whole number"),
        ("kernel.health_check_interval_secs", 0, "accepts a number above 0 to 86400"),
        ("chain.durability", "sometimes", 'accepts "durable" or "queued"|durable, queued'),
        ("ipc.proof_topics", ["a", ""], "ipc.proof_topics"),
        ("ipc.proof_topics", "a", "a list"),
        ("log.level", "loudly", "log.level"),
        ("supervisor.backoff_secs", 80_000, "backoff_max_secs"),
        ("access.read_uids", [0], "access.read_uids"),
    ],
)
def test_a_value_that_does_not_fit_is_refused_with_key_line_and_range(shared, key, value, said):
    shared.home.config.write_text("[limits]\nmemory_bytes = 300000000\n")
    before = file_of(shared)
    with pytest.raises(ConfigError, match=said) as refused:
        shared.call("config.set", key=key, value=value)
    assert "Nothing was changed" in str(refused.value)
    assert file_of(shared) == before
    assert "config.set" not in shared.kinds()


@pytest.mark.parametrize("value", [{"a": 1}, [[1]], [None], 2**63, "x\ud800y"])
def test_a_value_that_no_file_holds_is_refused(shared, value):
    before = file_of(shared)
    with pytest.raises((InvalidRequest, ConfigError, WeftError)):
        shared.call("config.set", key="ipc.proof_topics", value=value)
    assert file_of(shared) == before


def test_secrets_are_refused_and_told_where_they_belong(kernel):
    for key, value in (("kernel.api_token", "x"), ("log.level", "weftos-token-1.whatever"), ("ipc.password", 1)):
        with pytest.raises(InvalidRequest, match="weaver auth credential add"):
            kernel.call("config.set", key=key, value=value)
    assert not [one for one in kernel.events() if one.kind.startswith("config.")]


def test_comments_mode_and_a_link_stay(kernel, tmp_path):
    real = tmp_path / "real.toml"
    real.write_text("# ours\n[log]\nlevel = 'info' # quiet\n")
    real.chmod(0o640)
    kernel.home.config.symlink_to(real)
    kernel.call("config.set", key="log.level", value="debug")
    assert real.read_text() == '# ours\n[log]\nlevel = "debug" # quiet\n'
    assert real.stat().st_mode & 0o777 == 0o640
    assert kernel.home.config.is_symlink()
    agreed(kernel)


def test_what_was_edited_by_hand_is_noticed_at_the_start_at_sighup_and_before_a_change(cold):
    cold.home.config.write_text("[limits]\ndescriptors = 100\n")
    cold.start()
    assert [(one.key, one.old, one.new, one.by) for one in history(cold).changes] == [
        ("limits.descriptors", None, 100, "file")
    ]
    agreed(cold)
    cold.stop()
    cold.home.config.write_text("[limits]\ndescriptors = 101\nprocesses = 50\n")
    cold.start()
    assert len(history(cold).changes) == 3
    cold.home.config.write_text("[limits]\ndescriptors = 102\n")
    os.kill(cold.os_pid, signal.SIGHUP)
    cold.until(lambda: len(history(cold).changes) == 5)
    assert cold.call("config.get", key="limits.descriptors").value == 102
    cold.home.config.write_text("[limits]\ndescriptors = 103\n")
    cold.call("config.set", key="log.level", value="debug")
    assert [(one.key, one.new, one.state) for one in history(cold).changes][5:] == [
        ("limits.descriptors", 103, "edited"),
        ("log.level", "debug", "done"),
    ]
    assert agreed(cold) == {"limits.descriptors": 103, "log.level": "debug"}
    cold.home.config.write_text("[limits]\ndescriptors = -1\n")
    os.kill(cold.os_pid, signal.SIGHUP)
    cold.until(lambda: "not reloaded" in cold.log())
    with pytest.raises(ConfigError, match=r"line 2: limits\.descriptors"):
        cold.call("config.set", key="log.level", value="info")
    cold.home.config.write_text("[limits]\ndescriptors = 103\n[log]\nlevel = 'debug'\n")
    agreed(cold)


def test_a_file_that_cannot_be_written_is_undone_on_the_log(kernel):
    if os.geteuid() == 0:
        # Root may write everywhere; a folder in the place of the new file stops it.
        (kernel.home.root / "weftos.toml.tmp").mkdir()
    else:
        kernel.home.root.chmod(0o500)
    with pytest.raises(WeftError, match="as before"):
        kernel.call("config.set", key="log.level", value="debug")
    if os.geteuid() == 0:
        (kernel.home.root / "weftos.toml.tmp").rmdir()
    kernel.home.root.chmod(0o700)
    (change,) = history(kernel).changes
    assert (change.state, change.key) == ("undone", "log.level")
    assert "cannot be written" in change.reason
    assert kernel.call("config.get", key="log.level").value == "info"
    assert agreed(kernel) == {}


def test_a_token_may_change_settings_but_not_who_may_connect(kernel):
    token = issue(kernel, access="admin")
    with RpcClient(kernel.home.socket, token=token) as client:
        client.call("config.set", {"key": "log.level", "value": "debug"})
        with pytest.raises(AccessDenied):
            client.call("config.set", {"key": "access.admin_uids", "value": [1001]})
    assert records(kernel, "config.done")[0].payload["by"].endswith("#ci")
    assert agreed(kernel) == {"log.level": "debug"}


def test_any_sequence_of_changes_is_what_a_map_says(kernel):
    import random

    chance, model = random.Random(3), {}
    choices = {
        "kernel.max_processes": [None, 5, 6, 7],
        "limits.messages": [None, 10, 0],
        "log.level": [None, "debug", "info", "weftos.ipc=trace,info"],
        "ipc.proof_topics": [None, [], ["a"], ["a", "b#c"]],
        "chain.archive": [None, True, False, "by-hand"],
        "supervisor.backoff_secs": [None, 0.5, 1.0],
    }
    for _ in range(40):
        key = chance.choice(sorted(choices))
        value = chance.choice(choices[key])
        done = kernel.call("config.set", key=key, value=value)
        assert (done.old, done.new) == (model.get(key), value)
        assert (done.record == -1) == (model.get(key) == value)
        model = {**model, key: value} if value is not None else {k: v for k, v in model.items() if k != key}
    assert agreed(kernel) == model
    kernel.kill()
    kernel.start()
    assert agreed(kernel) == model
    assert not [one for one in history(kernel).changes if one.state != "done"]


def test_a_kill_at_any_step_leaves_the_change_whole_or_absent_and_the_log_says_which(cold):
    """The kernel kills itself at each step in turn; the next one looks at what is left."""
    program, seen, settled = Path(__file__).with_name("dying_kernel.py"), [], 0
    for step in range(60):
        reader, writer = os.pipe()
        process = subprocess.Popen(
            [sys.executable, str(program), str(step)],
            env=os.environ | {"WEFTOS_HOME": str(cold.home.root), "WEFTOS_READY_FD": str(writer)},
            pass_fds=[writer],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(writer)
        with os.fdopen(reader, "rb") as file:
            assert json.loads(file.readline())["code"] == ""
        # What the one before was killed in is settled by now.
        found = config.explicit(file_of(cold), "file")
        told = history(cold)
        assert told.values == found
        assert not [one for one in told.changes if one.state == "pending"]
        if len(told.changes) > settled:
            settled = len(told.changes)
            seen.append(told.changes[-1].state)
            last = told.changes[-1]
            assert (found.get("limits.messages") == last.new) == (last.state == "done")
        cold.audit()
        try:
            cold.call("config.set", key="limits.messages", value=1000 + step)
        except KernelNotRunning:
            assert process.wait(20) == -signal.SIGKILL
            continue
        cold.os_pid = process.pid
        cold.stop()
        assert process.wait(20) == 0
        cold.os_pid = 0
        break
    assert step > 8, "there are that many steps"
    assert {"done", "undone"} <= set(seen)
    assert tomllib.loads(file_of(cold))["limits"]["messages"] == 1000 + step


def test_the_command_line_changes_shows_and_tells_the_history(kernel):
    assert b"next start" in weaver(kernel, "config", "set", "chain.keep_days", "30").stdout
    assert b"new agents" in weaver(kernel, "config", "list", "--json").stdout.replace(b"-", b" ")
    done = json.loads(weaver(kernel, "config", "set", "ipc.proof_topics", '["a"]', "--json").stdout)
    assert (done["key"], done["new"]) == ("ipc.proof_topics", ["a"])
    assert b"already" in weaver(kernel, "config", "set", "ipc.proof_topics", '["a"]').stdout
    assert b'["a"]' in weaver(kernel, "config", "get", "ipc.proof_topics").stdout
    rows = weaver(kernel, "config", "list", "--changed").stdout.splitlines()
    assert len(rows) == 3
    ran = weaver(kernel, "config", "set", "limits.memory_bytes", "lots", status=2)
    assert b"is no size" in ran.stderr
    weaver(kernel, "config", "set", "limits.memory_bytes", status=2)
    weaver(kernel, "config", "set", "ipc.proof_topics", "--default")
    kernel.stop()
    told = json.loads(weaver(kernel, "config", "history", "ipc.proof_topics", "--json").stdout)
    assert [(one["old"], one["new"], one["state"]) for one in told] == [(None, ["a"], "done"), (["a"], None, "done")]
    assert b"chain.keep_days" in weaver(kernel, "config", "history").stdout
