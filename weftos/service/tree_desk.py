"""Questions about the resource tree, as the kernel asks them: plain values in, plain values out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec

from weftos import limits
from weftos.errors import InvalidRequest
from weftos.tree.nodes import Node
from weftos.tree.paths import ResourcePath
from weftos.tree.tree import ResourceTree

__all__ = ["QUESTIONS", "ask_tree"]


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


def _tree(tree: ResourceTree, path: ResourcePath, params: dict[str, Any]) -> dict[str, Any]:
    most = min(int(params.get("limit", limits.TREE_ROWS)), limits.TREE_ROWS)
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
    similar = tree.find_similar(path, int(params.get("limit", 5)))
    return {
        "path": str(path),
        "scoring": msgspec.to_builtins(tree.get(path).scoring),
        "below": msgspec.to_builtins(tree.aggregate_scoring(path)),
        "similar": [[str(other), value] for other, value in similar],
    }


def _rank(tree: ResourceTree, _path: ResourcePath, params: dict[str, Any]) -> dict[str, Any]:
    weights = params.get("weights") or [1.0] * 6
    return {"ranked": [[str(path), value] for path, value in tree.rank(weights, int(params.get("limit", 10)))]}


QUESTIONS: Final[dict[str, Callable[[ResourceTree, ResourcePath, dict[str, Any]], dict[str, Any]]]] = {
    "tree": _tree,
    "inspect": _inspect,
    "stats": _stats,
    "score": _score,
    "rank": _rank,
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
