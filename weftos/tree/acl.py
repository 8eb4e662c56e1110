"""Who may do what with a resource: the policies from it up to the root decide, and nothing is allowed by silence.

Why it is as it is: the nearest node with a policy that speaks about the question decides, so an exception can be made
below a rule, in both directions. On one node a denial counts more than a permission, whichever came first, because the
order in which two people wrote their lines must not open a door. If no policy speaks, the answer is no.

Decisions are remembered under everything that decides: principal, role, action, resource, and the generation of the
tree's policies. A change of any policy anywhere begins a new generation, so no decision outlives the policies that it
rests on. That forgets more than it would have to; policies change rarely and deciding anew is cheap.

Guaranteed: a remembered decision is the one that would be made now. Not guaranteed: that the principal is who he says
and has the role; the caller knows that.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TypeAlias

import msgspec

from weftos import limits
from weftos.errors import CapabilityDenied, NodeInvalid
from weftos.tree.names import Action, Role, check_label
from weftos.tree.paths import ResourcePath
from weftos.tree.policies import Effect, Policy
from weftos.tree.tree import ResourceTree

__all__ = ["AclStatistics", "Decision", "EffectiveAcl", "decide"]

_Key: TypeAlias = tuple[str, Role, Action, ResourcePath, int]


class Decision(msgspec.Struct, frozen=True):
    """An answer with its grounds.

    Attributes:
        allowed: the answer.
        reason: a sentence that names the policy, or says that there is none.
        path: the node whose policy decided; ``None`` if no policy speaks about the question.
        policy_id: which policy of that node; with several that agree, the first by identifier.
    """

    allowed: bool
    reason: str
    path: ResourcePath | None = None
    policy_id: str | None = None


class AclStatistics(msgspec.Struct, frozen=True):
    """What the memory of decisions was good for.

    Attributes:
        hits, misses: questions that were answered from memory, and that were not.
        entries: decisions remembered now.
    """

    hits: int
    misses: int
    entries: int


def decide(tree: ResourceTree, principal: str, role: Role, action: Action, resource: ResourcePath) -> Decision:
    """Answer a question from the policies as they are.

    Args:
        tree: has the policies.
        principal: who asks.
        role: in what capacity.
        action: what is to be done.
        resource: with what; it need not exist yet, then the policies above it decide.

    Raises:
        NodeInvalid: the principal is no name, or role, action or resource are of another type.
    """
    check_label(principal, "the principal")
    if type(role) is not Role or type(action) is not Action or type(resource) is not ResourcePath:
        raise NodeInvalid("a question has a Role, an Action and a ResourcePath; texts are not taken for them")
    for path in (resource, *resource.ancestors):
        found = _speaking(tree.policies(path), principal, role, action)
        if found is not None:
            policy_id, effect = found
            word = "allows" if effect == "allow" else "denies"
            reason = f"policy {policy_id!r} on {path} {word} {action} on {resource} to {principal} as {role}"
            return Decision(effect == "allow", reason, path, policy_id)
    return Decision(False, f"no policy from {resource} up to / speaks about {action} by {principal} as {role}")


class EffectiveAcl:
    """Answers about one tree, with a memory.

    Args:
        tree: whose policies decide. Another tree needs another object.
        capacity: decisions remembered at most; the one that was not asked for the longest goes first.
    """

    def __init__(self, tree: ResourceTree, capacity: int = limits.TREE_ACL_CACHE) -> None:
        assert capacity > 0, "a memory has room for a decision"
        self._tree = tree
        self._capacity = capacity
        self._known: OrderedDict[_Key, Decision] = OrderedDict()
        self._hits = self._misses = 0

    def decide(self, principal: str, role: Role, action: Action, resource: ResourcePath) -> Decision:
        """Answer a question; see the function ``decide``.

        Raises:
            NodeInvalid: the principal is no name, or role, action or resource are of another type.
        """
        key = (principal, role, action, resource, self._tree.policy_generation)
        known = self._known.get(key)
        if known is not None:
            self._hits += 1
            self._known.move_to_end(key)
            return known
        self._misses += 1
        decision = decide(self._tree, principal, role, action, resource)
        self._known[key] = decision
        if len(self._known) > self._capacity:
            self._known.popitem(last=False)
        return decision

    def require(self, principal: str, role: Role, action: Action, resource: ResourcePath) -> Decision:
        """Answer a question whose answer must be yes.

        Raises:
            CapabilityDenied: it is no, with the reason.
            NodeInvalid: see ``decide``.
        """
        decision = self.decide(principal, role, action, resource)
        if not decision.allowed:
            raise CapabilityDenied(decision.reason)
        return decision

    def statistics(self) -> AclStatistics:
        """Return the counts since the beginning."""
        return AclStatistics(self._hits, self._misses, len(self._known))


def _speaking(policies: dict[str, Policy], principal: str, role: Role, action: Action) -> tuple[str, Effect] | None:
    """Return the policy of one node that decides: the first denial, else the first permission, else none."""
    allowing: str | None = None
    for policy_id in sorted(policies):
        policy = policies[policy_id]
        if policy.matches(principal, role, action):
            if policy.effect == "deny":
                return policy_id, "deny"
            allowing = policy_id if allowing is None else allowing
    return None if allowing is None else (allowing, "allow")
