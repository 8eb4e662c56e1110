"""The root: help, exit statuses, errors, what is imported at start, and that nothing hangs without a kernel."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import click
import pytest

from weftos import errors
from weftos.cli.main import EXIT_CODES, root
from weftos.errors import WeftError

GOLDEN = Path(__file__).with_name("golden_help.txt")


def commands(group: click.Group = root, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], click.Command]:
    """Every command of the tree by its path, groups not included."""
    context = click.Context(group)
    found: dict[tuple[str, ...], click.Command] = {}
    for name in group.list_commands(context):
        if path == ("run",):
            continue  # jobs have a room of their own
        command = group.get_command(context, name)
        assert command is not None
        found |= commands(command, (*path, name)) if isinstance(command, click.Group) else {(*path, name): command}
    return found


def test_the_help_of_the_root_is_the_reviewed_one(weaver):
    assert weaver("--help").out == GOLDEN.read_text()


def test_its_version_in_one_line(weaver):
    from weftos import __version__

    outcome = weaver("--version")
    assert (outcome.status, outcome.out) == (0, f"weaver {__version__}\n")


def test_without_arguments_it_shows_help(weaver):
    outcome = weaver()
    assert outcome.status == 2
    assert "Commands:" in outcome.out + outcome.err


@pytest.mark.parametrize("path", commands(), ids=" ".join)
def test_every_command_has_help_and_a_summary(weaver, path):
    outcome = weaver(*path, "--help")
    assert outcome.status == 0
    command = commands()[path]
    assert command.help
    assert command.get_short_help_str()
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, f"{' '.join(path)} {parameter.name}"
    assert "\\b" not in outcome.out, "the mark that keeps lines apart is a backspace, and never shown"
    assert "\b" not in outcome.out
    examples = [line for line in outcome.out.splitlines() if line.startswith("  weaver ")]
    assert all(line.count("weaver ") == 1 for line in examples), examples


def test_examples_stand_on_lines_of_their_own(weaver):
    lines = weaver("agent", "spawn", "--help").out.splitlines()
    assert "  weaver agent spawn ./mine.py --limit memory=64MiB -- --fast 3" in lines


def test_the_summaries_of_lazy_commands_are_those_of_the_commands():
    context = click.Context(root)
    for name, (_, summary) in root.lazy.items():
        assert root.get_command(context, name).get_short_help_str(200) == summary


# --- errors --------------------------------------------------------------------------------------


def all_errors() -> list[type[WeftError]]:
    return [getattr(errors, name) for name in errors.__all__ if isinstance(getattr(errors, name), type)]


def test_the_table_of_exit_statuses_has_every_status_there_is():
    listed = {code for code, _ in EXIT_CODES}
    assert {kind.exit_code for kind in all_errors()} <= listed
    assert [code for code, _ in EXIT_CODES] == sorted(listed)


@pytest.mark.parametrize("kind", all_errors())
def test_each_error_of_the_kernel_ends_with_its_status(weaver, kind):
    with weaver.kernel(agent_inspect=kind("it is so")):
        plain = weaver("agent", "inspect", "4")
        assert plain.status == kind.exit_code != 0
        assert plain.out == ""
        assert plain.err.startswith("Error: it is so\n")
        as_json = weaver("agent", "inspect", "4", "--json")
        assert as_json.status == kind.exit_code
        assert as_json.error["code"] == kind.code
        assert as_json.error["message"] == "it is so"


@pytest.mark.parametrize(
    ("args", "word"),
    [
        (["agnt"], "agnt"),
        (["zzzzz"], "zzzzz"),
        (["kernel", "statu"], "statu"),
        (["agent", "inspect"], "PID"),
        (["agent", "inspect", "0"], "numbered from 1"),
        (["agent", "inspect", "-1"], "-1"),
        (["agent", "inspect", "one"], "'one' is no pid"),
        (["agent", "inspect", "9" * 40], "is no pid"),
        (["agent", "inspect", "\u0661"], "is no pid"),
        (["agent", "inspect", "1", "2"], "2"),
        (["kernel", "logs", "--level", "loud"], "loud"),
        (["kernel", "logs", "-n", "-1"], "-1"),
        (["agent", "send", "1", "x", "--timeout", "0"], "--timeout"),
        (["agent", "spawn", "echo", "--restart", "maybe"], "maybe"),
        (["kernel", "start", "--config", "/does/not/exist"], "/does/not/exist"),
        (["completion", "tcsh"], "tcsh"),
        (["--home", "", "kernel", "status"], "--home"),
    ],
)
def test_wrong_usage_is_status_2_with_a_hint(weaver, args, word):
    outcome = weaver(*args)
    assert outcome.status == 2
    assert outcome.out == ""
    assert outcome.err.startswith("Error: ")
    assert word in outcome.err
    assert "--help` shows what is accepted" in outcome.err


def test_wrong_usage_with_json_is_an_object(weaver):
    outcome = weaver("agent", "inspect", "one", "--json")
    assert outcome.status == 2
    assert outcome.error["code"] == "usage"


def test_json_after_a_double_dash_belongs_to_the_agent(weaver):
    assert weaver("agent", "inspect", "one", "--", "--json").err.startswith("Error: ")


# --- no kernel -----------------------------------------------------------------------------------

ARGUMENTS = {
    ("kernel", "kill-process"): ["1"],
    ("kernel", "restart-service"): ["chain"],
    ("agent", "spawn"): ["echo"],
    ("agent", "send"): ["1", "hello"],
    ("ipc", "publish"): ["t", "hello"],
    ("recall",): ["why"],
    ("ecc", "search"): ["why"],
    ("ecc", "causal"): ["a"],
    ("ecc", "graph"): ["a", "--dot", "-"],
    ("ecc", "drop"): ["docs", "--yes"],
    ("ecc", "export"): ["docs", "-"],
    ("ipc", "subscribe"): ["1", "t"],
    ("ipc", "prove"): ["1-8", "-o", "proof"],
    ("resource", "inspect"): ["/kernel"],
    ("resource", "score"): ["/kernel"],
    ("resource", "acl", "show"): ["/kernel"],
    ("resource", "acl", "set"): ["/kernel", "allow", "--id", "p", "--reason", "r"],
    ("resource", "acl", "remove"): ["/kernel", "p", "--reason", "r"],
    ("resource", "acl", "check"): ["/kernel", "echo.1"],
    ("resource", "delegate", "issue"): ["agent:echo.1", "--action", "read", "--reason", "r"],
    ("resource", "delegate", "revoke"): ["ab" * 32, "--reason", "r"],
    ("resource", "delegate", "restore"): ["ab" * 32, "--reason", "r"],
    ("capability", "grant"): ["1", "can_ipc"],
    ("capability", "revoke"): ["1", "can_ipc"],
    ("capability", "elevate"): ["1", "can_ipc"],
    ("budget", "set"): ["1", "--tokens", "5"],
    ("auth", "token", "issue"): ["ci", "--access", "read"],
    ("auth", "token", "revoke"): ["ci", "--reason", "r"],
    ("auth", "credential", "add"): ["mail"],
    ("auth", "credential", "remove"): ["mail", "--reason", "r"],
    ("auth", "credential", "rotate"): ["mail"],
    ("config", "get"): ["log.level"],
    ("config", "set"): ["log.level", "debug"],
    ("artifact", "put"): [__file__],
    ("gate", "check"): ["1", "agent.spawn"],
    ("gate", "approve"): ["7"],
    ("gate", "deny"): ["7"],
    ("governance", "supersede"): [__file__],
    ("env", "switch"): ["staging", "--reason", "r"],
    ("artifact", "release"): ["0" * 64],
}
WITHOUT_KERNEL = {
    ("doctor",),
    ("kernel", "start"),
    ("kernel", "restart"),
    ("version",),
    ("completion",),
    ("chain",),
    ("custody", "check"),
    # These work on files, and are tested with their kernel in test_kernel_access.
    ("resource", "delegate", "check"),
    ("resource", "delegate", "hand-on"),
    ("resource", "delegate", "keygen"),
    ("resource", "delegate", "show"),
    # The first reads the log's files, the second standard input; see test_kernel_config and test_kernel_auth.
    ("config", "history"),
    ("auth", "token", "verify"),
    ("artifact", "get"),
    ("artifact", "list"),
    ("artifact", "stat"),
    ("artifact", "verify"),
    ("gate", "history"),
    # It reads its file first; see test_cli_ecc.
    ("ecc", "import"),
}


@pytest.mark.parametrize(
    "path", [p for p in commands() if p not in WITHOUT_KERNEL and p[:1] not in WITHOUT_KERNEL], ids=" ".join
)
def test_no_command_hangs_without_a_kernel(weaver, path):
    arguments = ARGUMENTS.get(path)
    if arguments is None:
        needs_pid = any(isinstance(p, click.Argument) and p.name == "pid" for p in commands()[path].params)
        arguments = ["1"] if needs_pid else ["/kernel"] if path in ("resource inspect", "resource score") else []
    begun = time.monotonic()
    outcome = weaver(*path, *arguments)
    assert time.monotonic() - begun < 5
    assert outcome.status == 6
    assert outcome.err == f"Error: no kernel is running for {weaver.home}; start one with `weaver kernel start`\n"
    assert outcome.out == ""


def test_a_hint_is_not_given_twice(weaver):
    with weaver.kernel(agent_inspect=errors.ProcessNotFound("no agent has pid 4")):
        assert weaver("agent", "inspect", "4").err == (
            "Error: no agent has pid 4\nHint: `weaver agent list --all` shows the agents that exist\n"
        )
    message = "no agent has pid 4; `weaver agent list --all` shows those that exist"
    with weaver.kernel(agent_inspect=errors.ProcessNotFound(message)):
        assert weaver("agent", "inspect", "4").err == f"Error: {message}\n"


def test_verbose_names_each_question_and_its_time(weaver):
    with weaver.kernel(agent_list=[]):
        outcome = weaver("-v", "agent", "list", "--json")
        assert outcome.out == "[]\n"
        assert re.fullmatch(r"agent\.list took \d+\.\d ms\n", outcome.err)
        assert weaver("agent", "list", "--json").err == ""


def test_home_may_be_given_as_an_option(weaver, tmp_path):
    other = tmp_path / "other"
    outcome = weaver("--home", str(other), "kernel", "status")
    assert f"no kernel is running for {other};" in outcome.err


# --- as a program --------------------------------------------------------------------------------


def run(*args: str, **extra: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "weftos.cli.main", *args], capture_output=True, text=True, check=False, **extra
    )


@pytest.mark.parametrize("args", [["--help"], ["version"], ["agent", "--help"], ["kernel", "status"]])
def test_nothing_heavy_is_imported_at_start(tmp_path, args):
    env = os.environ | {"WEFTOS_HOME": str(tmp_path)}
    report = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "weftos.cli.main", *args],
        capture_output=True,
        text=True,
        env=env,
        check=False,
    ).stderr
    imported = set(re.findall(r"\|\s+([\w.]+)$", report, re.MULTILINE))
    assert "click" in imported
    heavy = {"numpy", "cryptography", "psutil", "faiss", "rich", "asyncio", "posix_ipc", "weftos.kernel", "weftos.shm"}
    assert not heavy & imported
    if args in (["--help"], ["version"]):
        assert "weftos.rpc" not in imported


def test_a_closed_pipe_ends_quietly():
    reader, writer = os.pipe()
    os.close(reader)
    process = subprocess.run(
        [sys.executable, "-m", "weftos.cli.main", "--help"],
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(writer)
    assert process.returncode == 141
    assert process.stderr == ""


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="the system has no full device")
def test_a_full_disk_is_an_error():
    with open("/dev/full", "w") as full:
        process = subprocess.run(
            [sys.executable, "-m", "weftos.cli.main", "version"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert process.returncode == 1
    assert process.stderr.startswith("Error: the output could not be written")


def test_version_as_a_program():
    from weftos import __version__

    assert json.loads(run("version", "--json").stdout)["version"] == __version__
    assert run("version").stdout.startswith(f"weaver {__version__} ")


#: A test run in the background of a shell has SIGINT ignored, and so would its children.
_INTERRUPTIBLE = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
from weftos.cli.main import main
main()
"""


def test_an_interrupt_ends_quietly_with_130(weaver):
    from weftos.rpc.kernel_types import LogEntry

    line = LogEntry(timestamp=1.0, phase="READY", level="info", message="one", serial=1)
    with weaver.kernel(kernel_logs=lambda params: [] if params.since else [line]):
        process = subprocess.Popen(
            [sys.executable, "-c", _INTERRUPTIBLE, "kernel", "logs", "-f"],
            env=os.environ | {"WEFTOS_HOME": str(weaver.home)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert process.stdout is not None
        assert process.stdout.readline().endswith(b"one\n")
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
    assert (process.returncode, out, err.strip()) == (130, b"", b"")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_are_written(weaver, shell):
    outcome = weaver("completion", shell)
    assert outcome.status == 0
    assert "_WEAVER_COMPLETE" in outcome.out


def test_the_completion_protocol_answers():
    env = os.environ | {"_WEAVER_COMPLETE": "bash_complete", "COMP_WORDS": "weaver ker", "COMP_CWORD": "1"}
    assert run(env=env).stdout.split() == ["plain,kernel"]


def test_pids_are_completed_from_the_running_kernel(weaver):
    from weftos.rpc.agent_types import ProcessInfo

    rows = [
        ProcessInfo(pid=pid, os_pid=1, agent_id="a", name="echo", program="echo", state="running") for pid in (1, 12, 7)
    ]
    env = os.environ | {"WEFTOS_HOME": str(weaver.home), "_WEAVER_COMPLETE": "bash_complete", "COMP_CWORD": "3"}
    env["COMP_WORDS"] = "weaver agent inspect 1"
    with weaver.kernel(agent_list=rows):
        assert run(env=env).stdout.split() == ["plain,1", "plain,12"]
        env |= {"WEFTOS_HOME": "/nowhere", "COMP_CWORD": "5"}
        env["COMP_WORDS"] = f"weaver --home {weaver.home} agent inspect 7"
        assert run(env=env).stdout.split() == ["plain,7"]
    assert run(env=env).stdout.split() == []
