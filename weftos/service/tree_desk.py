"""Questions about the resource tree, from the kernel and from agents: plain values in, plain values out."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import islice
from typing import Any, Final

import msgspec

from weftos import limits
from weftos.errors import InvalidRequest, MessageTooLarge
from weftos.service.tree_protocol import AskTree
from weftos.tree import trust
from weftos.tree.acl import EffectiveAcl, decide
from weftos.tree.authority import Grant, authorize
from weftos.tree.delegation import Certificate, agent_subject
from weftos.tree.names import Action, Role
from weftos.tree.nodes import Node
from weftos.tree.paths import ROOT, ResourcePath
from weftos.tree.tree import ResourceTree
from weftos.tree.view import AGENTS, TreeView, acl_rule

__all__ = ["QUESTIONS", "ask_as_agent", "ask_tree", "fitting"]

_READ: Final = Action("read")
_VIEWER: Final = Role("viewer")


def _row(tree: ResourceTree, node: Node) -> dict[str, Any]:
    return {
        "path": str(node.path),
        "kind": str(node.kind),
        "metadata": node.metadata,
        "scoring": msgspec.to_builtins(node.scoring),
        "chain_seq": node.chain_seq,
        "created_ns": node.created_ns,
        "updated_ns": node.updated_ns,
        "hash": tree.hash_of(node.path).hex(),
    }


def _limit(params: dict[str, Any], default: int) -> int:
    limit = params.get("limit", default)
    if type(limit) is not int or limit < 0:
        raise InvalidRequest(f"a limit is a number from 0 up, not {limit!r:.40}")
    return min(limit, limits.TREE_ROWS)


def _tree(tree: ResourceTree, path: ResourcePath, params: dict[str, Any]) -> dict[str, Any]:
    most = _limit(params, limits.TREE_ROWS)
    rows: list[dict[str, Any]] = []
    for node in tree.subtree(path):
        if len(rows) == most:
            break
        rows.append(_row(tree, node))
    return {"root_hash": tree.root_hash().hex(), "nodes": rows, "complete": len(rows) < most}


def _inspect(tree: ResourceTree, path: ResourcePath, _params: dict[str, Any]) -> dict[str, Any]:
    children = [str(node.path) for node in tree.children(path)[: limits.TREE_ROWS]]
    policies = {name: msgspec.to_builtins(rule, enc_hook=str) for name, rule in tree.policies(path).items()}
    return _row(tree, tree.get(path)) | {"children": children, "policies": policies}


def _stats(tree: ResourceTree, _path: ResourcePath, _params: dict[str, Any]) -> dict[str, Any]:
    return msgspec.structs.asdict(tree.statistics()) | {"root_hash": tree.root_hash().hex()}


def _score(tree: ResourceTree, path: ResourcePath, params: dict[str, Any]) -> dict[str, Any]:
    similar = tree.find_similar(path, _limit(params, 5))
    return {
        "path": str(path),
        "scoring": msgspec.to_builtins(tree.get(path).scoring),
        "below": msgspec.to_builtins(tree.aggregate_scoring(path)),
        "similar": [[str(other), value] for other, value in similar],
    }


def _rank(tree: ResourceTree, _path: ResourcePath, params: dict[str, Any]) -> dict[str, Any]:
    weights = params.get("weights") or [1.0] * 6
    return {"ranked": [[str(path), value] for path, value in tree.rank(weights, _limit(params, 10))]}


def _acl(tree: ResourceTree, path: ResourcePath, _params: dict[str, Any]) -> dict[str, Any]:
    """The rules that count for a resource: its own, then those of what is above it, the nearest first."""
    rules = [
        {"path": str(place), "policy_id": name, **msgspec.to_builtins(rule, enc_hook=str)}
        for place in (path, *path.ancestors)
        for name, rule in sorted(tree.policies(place).items())
    ]
    return {"path": str(path), "rules": rules}


def _decide(tree: ResourceTree, path: ResourcePath, params: dict[str, Any]) -> dict[str, Any]:
    decision = decide(tree, str(params["principal"]), Role(params["role"]), Action(params["action"]), path)
    where = None if decision.path is None else str(decision.path)
    return {"allowed": decision.allowed, "reason": decision.reason, "path": where, "policy_id": decision.policy_id}


def _certificates(tree: ResourceTree, _path: ResourcePath, _params: dict[str, Any]) -> dict[str, Any]:
    revoked = {node.path.name: str(node.metadata.get("reason", "")) for node in tree.children(trust.REVOKED)}
    rows = [
        {"id": node.path.name, "record": node.chain_seq, "revoked": node.path.name in revoked, **node.metadata}
        for node in trust.listed(tree)
    ]
    known = {row["id"] for row in rows}
    return {
        "certificates": rows,
        "revoked_elsewhere": sorted(set(revoked) - known),
        "issuers": {key.hex(): str(prefix) for key, prefix in trust.issuers(tree).items()},
    }


def _authorize(tree: ResourceTree, path: ResourcePath, params: dict[str, Any]) -> dict[str, Any]:
    grant = _granted(tree, params["certificates"], str(params["subject"]), Action(params["action"]), path)
    return {"subject": grant.subject, "prefix": str(grant.prefix), "not_after_ns": grant.not_after_ns,
            "actions": sorted(map(str, grant.actions)), "chain": [one.hex() for one in grant.chain]}  # fmt: skip


def _granted(tree: ResourceTree, certificates: list[bytes], subject: str, action: Action, path: ResourcePath) -> Grant:
    return authorize(
        [Certificate.from_bytes(data) for data in certificates],
        subject=subject,
        action=action,
        resource=path,
        trusted=trust.issuers(tree),
        now_ns=time.time_ns(),
        revoked=trust.Revoked(tree),
    )


QUESTIONS: Final[dict[str, Callable[[ResourceTree, ResourcePath, dict[str, Any]], dict[str, Any]]]] = {
    "tree": _tree,
    "inspect": _inspect,
    "stats": _stats,
    "score": _score,
    "rank": _rank,
    "acl": _acl,
    "decide": _decide,
    "certificates": _certificates,
    "authorize": _authorize,
}


def ask_tree(tree: ResourceTree, question: str, path: str, params: dict[str, Any]) -> dict[str, Any]:
    """Answer a question.

    Args:
        tree: what is asked about.
        question: one of ``QUESTIONS``.
        path: of a node.
        params: ``limit``, ``weights``, as far as the question has them.

    Raises:
        InvalidRequest: there is no such question.
        TreeError: there is no such node, or a parameter does not fit.
    """
    answer = QUESTIONS.get(question)
    if answer is None:
        raise InvalidRequest(f"the resource tree cannot be asked for {question!r}")
    return answer(tree, ResourcePath(path), params)


# --- agents -----------------------------------------------------------------------------------------------------------


def _agent_tree(view: TreeView, tree: ResourceTree, path: ResourcePath, params: dict[str, Any]) -> dict[str, Any]:
    most = _limit(params, limits.TREE_ROWS)
    nodes = list(islice(view.subtree(path), most + 1))
    return {"nodes": [_row(tree, node) for node in nodes[:most]], "complete": len(nodes) <= most}


def _agent_inspect(view: TreeView, tree: ResourceTree, path: ResourcePath, _params: dict[str, Any]) -> dict[str, Any]:
    children = [str(node.path) for node in view.children(path)[: limits.TREE_ROWS]]
    return _row(tree, view.get(path)) | {"children": children}


def _agent_rank(view: TreeView, _tree: ResourceTree, _path: ResourcePath, params: dict[str, Any]) -> dict[str, Any]:
    weights = params.get("weights") or [1.0] * 6
    return {"ranked": [[str(path), value] for path, value in view.rank(weights, _limit(params, 10))]}


_AGENT_QUESTIONS: Final[dict[str, Callable[[TreeView, ResourceTree, ResourcePath, dict[str, Any]], dict[str, Any]]]] = {
    "tree": _agent_tree,
    "inspect": _agent_inspect,
    "rank": _agent_rank,
}


def ask_as_agent(tree: ResourceTree, acl: EffectiveAcl, agent_id: str, request: AskTree) -> dict[str, Any]:
    """Answer an agent: from what it may see, by the rules or by the certificates that it shows.

    Args:
        tree: what is asked about.
        acl: its rules.
        agent_id: who asks, as the kernel introduced it.
        request: the question.

    Raises:
        CapabilityDenied: it may not see that; the same whether it exists or not.
        DelegationError: the certificates give nothing.
        InvalidRequest: there is no such question.
        TreeError: there is no such node, or a parameter does not fit.
    """
    answer = _AGENT_QUESTIONS.get(request.question)
    if answer is None:
        raise InvalidRequest(f"an agent cannot ask the resource tree for {request.question!r}")
    path = ResourcePath(request.path)
    if request.certificates:
        grant = _granted(tree, request.certificates, agent_subject(agent_id), _READ, path)
        return answer(TreeView(tree, (grant.prefix,)), tree, path, request.params)
    own = AGENTS.child(agent_id)
    allowed = acl_rule(acl, agent_id, _VIEWER)
    view = TreeView(tree, (ROOT,), lambda place: place.is_within(own) or allowed(place))
    return answer(view, tree, path, request.params)


def fitting(values: dict[str, Any], room: int, encoder: msgspec.msgpack.Encoder) -> dict[str, Any]:
    """Return an answer without the nodes that do not fit.

    Raises:
        MessageTooLarge: it would not fit without any.
    """
    nodes = values.get("nodes", [])
    rest = len(encoder.encode({**values, "nodes": []}))
    kept: list[Any] = []
    for node in nodes:
        rest += len(encoder.encode(node))
        if rest > room:
            break
        kept.append(node)
    if rest > room and not kept:
        raise MessageTooLarge(f"the answer has more than the {room} bytes that your ring takes", size=rest, limit=room)
    return values if len(kept) == len(nodes) else {**values, "nodes": kept, "complete": False}
