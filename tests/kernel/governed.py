"""Changing the rules of a running kernel, for tests."""

from __future__ import annotations

import msgspec

from weftos.governance.constitution import GENESIS_KIND, SUPERSEDE_KIND, Constitution
from weftos.governance.draft import Draft, signed
from weftos.governance.rules import Branch, Condition, Rule, Severity


def own_rule(outcome, *actions, name="OPS-001", severity=Severity.BLOCKING, **when):
    return Rule(
        id=name,
        description="a rule of a test",
        branch=Branch.EXECUTIVE,
        severity=severity,
        outcome=outcome,
        when=Condition(actions=actions, **when),
    )


def in_force(kernel):
    kinds = (GENESIS_KIND, SUPERSEDE_KIND)
    return Constitution.fold((one.kind, one.payload) for one in kernel.events() if one.kind in kinds)


def govern(kernel, *rules, **more):
    """Put rules into force, signed by all branches."""
    now = in_force(kernel)
    seeds = [(kernel.home.keys / "branches" / f"{branch.value}.key").read_bytes() for branch in Branch]
    change = signed(now, Draft(reason="a test", rules=rules, **more).on(now), seeds)
    return kernel.call("governance.supersede", change=msgspec.to_builtins(change))


def records(kernel, *kinds):
    return [one for one in kernel.events() if one.kind in kinds]


def tell(kernel, pid, /, **payload):
    return kernel.call("agent.send", pid=pid, message=payload, timeout_secs=20.0, timeout=25.0).reply
