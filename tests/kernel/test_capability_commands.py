"""``weaver capability`` and ``weaver budget`` on a real kernel."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from weftos.cli.main import root


@pytest.fixture
def weaver(kernel):
    """Runs ``weaver`` on a running kernel with two agents: 1, and 2 below it."""

    def run(*arguments, status=0):
        outcome = CliRunner(env={"WEFTOS_HOME": str(kernel.home.root), "COLUMNS": "160"}).invoke(root, list(arguments))
        if outcome.exception is not None and not isinstance(outcome.exception, SystemExit):
            raise outcome.exception
        assert outcome.exit_code == status, outcome.output
        return outcome.stdout if status == 0 else outcome.stderr

    run("agent", "spawn", "echo")
    run("agent", "spawn", "echo", "--parent", "1")
    return run


def test_capabilities_are_shown_taken_given_and_exceeded(weaver):
    shown = weaver("capability", "show", "1")
    assert "can_network" in shown
    assert "1, as it was started" in shown
    told = weaver("capability", "revoke", "1", "can_store", "ipc_scope=none", "--reason", "on trial")
    assert "lost what was revoked: epoch 2" in told
    assert "below it, narrowed as well: 2" in told
    assert "nothing changed; epoch 2" in weaver("capability", "revoke", "1", "can_store")
    found = json.loads(weaver("capability", "show", "2", "--json"))
    assert (found["capabilities"]["can_store"], found["changed_by"], found["changed_why"]) == (
        False,
        "operator",
        "on trial",
    )
    assert "it may get back: yes" in weaver("capability", "show", "1")
    refused = weaver("capability", "grant", "2", "can_store", status=4)
    assert "agent 2 may not have can_store: its parent, agent 1, has not" in refused
    weaver("capability", "grant", "1", "can_store")
    assert "`weaver capability elevate 1" in weaver("capability", "grant", "1", "can_network", status=4)
    elevated = weaver("capability", "elevate", "1", "can_network", "sandbox.network")
    assert "is elevated, approved by the operator" in elevated
    changed = json.loads(weaver("capability", "elevate", "1", "sandbox=trusted", "--json"))
    assert (changed["changed"], changed["at_restart"]) == (True, ["sandbox"])
    assert "by operator: the operator asked" in weaver("agent", "inspect", "1")
    assert "kernel and log agree" in weaver("kernel", "audit")


def test_what_makes_no_sense_is_refused_with_a_reason(weaver):
    for arguments, status, said in (
        (["capability", "grant", "1", "can_fly"], 2, "there is no right 'can_fly'"),
        (["capability", "revoke", "9", "can_ipc"], 1, "no agent has pid 9"),
        (["capability", "revoke", "1"], 2, "Missing argument"),
        (["budget", "set", "1"], 2, "name at least one of"),
        (["budget", "set", "1", "--loop", "often"], 2, "N/SECONDS"),
        (["budget", "set", "9", "--tokens", "1"], 1, "no agent has pid 9"),
        (["budget", "show", "9"], 1, "no agent has pid 9"),
    ):
        assert said in weaver(*arguments, status=status), arguments


def test_budgets_are_shown_with_the_rule_that_won(weaver):
    weaver("budget", "set", "0", "--tokens", "500", "--loop", "8/30")
    weaver("budget", "set", "1", "--tokens", "900", "--cost", "2500000", "--claims")
    shown = weaver("budget", "show", "2")
    assert "agent 2, agent 1, the kernel" in shown
    assert "the 9th time within 30 s, by the rule of the kernel" in shown
    found = json.loads(weaver("budget", "show", "2", "--json"))
    rows = {row["dimension"]: (row["remaining"], row["rule_pid"]) for row in found["dimensions"]}
    assert (rows["tokens"], rows["cost"], rows["turns"]) == ((500, 0), (2_500_000, 1), (None, None))
    # Its own word counts only if every rule above takes it.
    assert found["claims"] is False
    weaver("budget", "set", "0", "--tokens", "0", "--claims")
    found = json.loads(weaver("budget", "show", "2", "--json"))
    assert (found["dimensions"][2]["remaining"], found["claims"]) == (900, True)
    assert "record" in json.loads(weaver("budget", "set", "1", "--turns", "3", "--json"))
    assert "kernel and log agree" in weaver("kernel", "audit")


def test_an_agent_is_started_in_a_role(weaver):
    started = json.loads(weaver("agent", "spawn", "echo", "--role", "worker", "--json"))
    shown = json.loads(weaver("capability", "show", str(started["pid"]), "--json"))
    assert (shown["role"], shown["capabilities"]["can_spawn"]) == ("worker", False)
    told = json.loads(weaver("agent", "spawn", "echo", "--allow-tool", "fs.*", "--deny-tool", "fs.write", "--json"))
    tools = json.loads(weaver("capability", "show", str(told["pid"]), "--json"))["capabilities"]["tools"]
    assert tools == {"allow": ["fs.*"], "deny": ["fs.write"]}
    assert "there is no role 'boss'" in weaver("agent", "spawn", "echo", "--role", "boss", status=2)
    assert "at its end at most" in weaver("agent", "spawn", "echo", "--allow-tool", "a*b", status=2)
