"""Every privileged action stands in the gate's table, and every way to one of them passes the gate."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from governed import govern, own_rule, records, tell

import weftos.kernel
from weftos.agent import frames as f
from weftos.governance.articles import EFFECTS
from weftos.governance.gate import ACTIONS
from weftos.kernel.agent_requests import AgentRequests
from weftos.kernel.core import Core
from weftos.kernel.grants import Grants

#: What agents can ask of the kernel: by which action the gate is asked, or why it is not.
BODIES = {
    f.OpenChannel: "ipc.send",
    f.GrowChannel: None,  # a channel that was granted, with larger records
    f.OpenTopic: "ipc.publish",
    f.Subscribe: "ipc.subscribe",
    f.BroadcastPeers: "ipc.broadcast",
    f.SpawnChild: "agent.spawn",
    f.StopProcess: "agent.stop",
    f.RegisterService: "service.register",
    f.Monitor: None,  # to be told of an end; of no effect on anybody
    f.Describe: None,  # reads what every agent may know
    f.PutArtifact: "artifact.put",
    f.GetArtifact: "artifact.get",
    f.ReleaseArtifact: "artifact.release",
    f.RequestCapability: "capability.elevate",
}
HASH = hashlib.sha256(b"x").hexdigest()
#: One order to the tester for each of these actions.
ORDERS = {
    "ipc.send": {"do": "send", "to": 2, "payload": "x"},
    "ipc.publish": {"do": "publish", "topic": "news", "payload": "x"},
    "ipc.subscribe": {"do": "subscribe", "topic": "news"},
    "ipc.broadcast": {"do": "broadcast", "payload": "x"},
    "agent.spawn": {"do": "spawn", "program": "echo"},
    "agent.stop": {"do": "stop", "pid": 1},
    "service.register": {"do": "serve", "name": "shop"},
    "capability.elevate": {"do": "ask_for", "rights": ["can_network"], "reason": "x"},
    "artifact.put": {"do": "put_artifact", "text": "x"},
    "artifact.get": {"do": "artifact", "how": "get", "args": [HASH]},
    "artifact.release": {"do": "artifact", "how": "release", "args": [HASH]},
}


def test_every_request_of_an_agent_is_in_the_table(weftos_home):
    from weftos.config import Config
    from weftos.home import Home

    core = Core(Home(weftos_home), Config())
    requests = AgentRequests(core, None, Grants(core, None), None, None, type("Proofs", (), {"answered": None}))
    assert requests._bodies.keys() | {f.PutArtifact} == BODIES.keys()
    by_kernel = {action for action, one in ACTIONS.items() if one.facts is not None}
    assert {action for action in BODIES.values() if action} == by_kernel == ORDERS.keys()


def test_every_action_has_an_effect_and_nobody_else_asks():
    assert ACTIONS.keys() <= EFFECTS.keys()
    folder = Path(weftos.kernel.__file__).parent
    asking = sorted(one.name for one in folder.glob("*.py") if "GateCheck(" in one.read_text())
    assert asking == ["gatekeeper.py"], "one way past the gate, with intent and outcome"
    used = {one.name for one in folder.glob("*.py") if "gatekeeper.effect(" in one.read_text()}
    assert used == {
        "agent_artifacts.py",
        "agent_requests.py",
        "capabilities.py",
        "gatekeeper.py",
        "grants.py",
        "supervisor.py",
    }


@pytest.mark.parametrize("outcome", ["deny", "require_approval"])
def test_what_the_rules_do_not_permit_is_not_done(kernel, outcome):
    agent, other = kernel.spawn("tester"), kernel.spawn("tester")
    assert (agent.pid, other.pid) == (1, 2), "as the orders have it"
    govern(kernel, own_rule(outcome, "*"))
    code = {"deny": "gate.denied", "require_approval": "gate.deferred"}[outcome]
    held = kernel.call("kernel.state")
    for action, order in ORDERS.items():
        answer = tell(kernel, agent.pid, **order)
        # What always takes a person is that person's matter, though a blocking rule denies it.
        assert answer["error"] == ("gate.deferred" if ACTIONS[action].person else code), (action, answer)
    kind = {"deny": "gate.deny", "require_approval": "gate.request"}[outcome]
    refused = [*records(kernel, kind), *(records(kernel, "gate.request") if outcome == "deny" else ())]
    found = {one.payload["action"]: one.payload for one in refused}
    assert found.keys() == ORDERS.keys()
    for action, payload in found.items():
        assert payload["context"].keys() == set(ACTIONS[action].facts), action
        # Of rules that say the same the first speaks, and getting more rights is a large effect.
        assert payload["rule"] == ("GOV-001" if action == "capability.elevate" else "OPS-001")
    after = kernel.call("kernel.state")
    for name in ("agents", "rings", "topics", "services"):
        assert getattr(after, name) == getattr(held, name), "nothing happened"
    assert {one.payload["pid"] for one in records(kernel, "gate.intent")} == {0}, "the operator's spawns alone"
    assert tell(kernel, other.pid, do="gate", action="tool.exec") in ("Deny", "Defer")


def test_what_is_done_leaves_intent_and_outcome(kernel):
    agent, _other = kernel.spawn("tester"), kernel.spawn("tester")
    child = tell(kernel, agent.pid, do="spawn", program="echo")
    stored = tell(kernel, agent.pid, do="put_artifact", text="x")
    more = {"agent.stop": {"pid": child}, "artifact.get": {"args": [stored]}}
    permitted = {action: order for action, order in ORDERS.items() if not ACTIONS[action].person}
    for action, order in permitted.items():
        answer = tell(kernel, agent.pid, **order | more.get(action, {}))
        failed = isinstance(answer, dict) and "error" in answer
        assert failed == (action == "artifact.release"), (action, answer)
    kernel.until(lambda: len(records(kernel, "gate.outcome")) == len(records(kernel, "gate.intent")))
    outcomes = {one.header.cause: one for one in records(kernel, "gate.outcome")}
    seen = set()
    for intent in records(kernel, "gate.intent"):
        outcome = outcomes[intent.seq]
        assert outcome.payload["intent"] == intent.seq
        assert outcome.payload["action"] == intent.payload["action"]
        assert outcome.payload["result"] == ("failed" if intent.payload["action"] == "artifact.release" else "done")
        seen.add(intent.payload["action"])
    assert seen == permitted.keys()
