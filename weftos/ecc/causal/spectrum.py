"""Components of a causal graph and the spectrum of its Laplacian: how well it hangs together, and where it would part.

Why it is as it is: each edge counts once, whatever its direction. Edges between the same two nodes add up, edges of
weight 0 connect nothing. A graph of several components has an algebraic connectivity of 0 by definition, so no solver
is asked. Small graphs are solved exactly; large ones by Lanczos, shifted and inverted, with a fixed start vector that
no symmetry of the numbering can be orthogonal to.
"""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.linalg import eigh
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import eigsh

from weftos import limits
from weftos.ecc.causal.graph import CausalGraph

__all__ = ["Spectrum", "components", "spectra", "spectrum"]


class Spectrum(msgspec.Struct, frozen=True):
    """λ₂ and λ₃ of some nodes, and the Fiedler vector by number of node (empty where λ₂ is 0)."""

    lambda_2: float
    lambda_3: float
    fiedler: dict[int, float]


def components(graph: CausalGraph) -> list[list[int]]:
    """The connected components, the largest first, at one size by their smallest node; members ascending."""
    ids, matrix = _adjacency(graph)
    return [ids[members].tolist() for members in _members(matrix)]


def spectrum(graph: CausalGraph) -> Spectrum:
    """The spectrum of the whole graph; of a graph that is not connected, or has no two nodes, λ₂ is 0."""
    ids, matrix = _adjacency(graph)
    if len(ids) < 2 or connected_components(matrix, directed=False, return_labels=False) > 1:
        return Spectrum(0.0, 0.0, {})
    return _solve(ids, matrix)


def spectra(graph: CausalGraph) -> list[Spectrum]:
    """The spectrum of each component, in the order of :func:`components`."""
    ids, matrix = _adjacency(graph)
    found = []
    for members in _members(matrix):
        part = matrix[members][:, members]
        found.append(_solve(ids[members], part) if len(members) > 1 else Spectrum(0.0, 0.0, {}))
    return found


def _adjacency(graph: CausalGraph) -> tuple[NDArray[np.int64], Any]:
    ids = np.array(graph.nodes(), np.int64)
    live = graph.columns.live()
    live = live[graph.columns.edge("weight")[live] > 0]
    rows = np.searchsorted(ids, graph.columns.edge("source")[live])
    columns = np.searchsorted(ids, graph.columns.edge("target")[live])
    weights = graph.columns.edge("weight")[live].astype(np.float64)
    one_way = sparse.csr_array((weights, (rows, columns)), shape=(len(ids), len(ids)))
    return ids, sparse.csr_array(one_way + one_way.T)


def _members(matrix: Any) -> list[NDArray[np.intp]]:
    if not matrix.shape[0]:
        return []
    _, labels = connected_components(matrix, directed=False)
    order = np.argsort(labels, kind="stable")
    parts = np.split(order, np.flatnonzero(np.diff(labels[order])) + 1)
    return sorted(parts, key=lambda part: (-len(part), int(part[0])))


def _solve(ids: NDArray[np.int64], matrix: Any) -> Spectrum:
    """Solve for connected nodes, two or more."""
    degrees = np.asarray(matrix.sum(axis=1)).ravel()
    laplacian = sparse.csc_array(sparse.diags_array(degrees) - matrix)
    if len(ids) <= limits.CAUSAL_DENSE_NODES:
        last = min(3, len(ids)) - 1
        values, vectors = eigh(laplacian.toarray(), subset_by_index=(0, last))
    else:
        start = np.random.default_rng(len(ids)).standard_normal(len(ids))
        # Shifted a little below 0, so that what is inverted is not singular.
        shift = -1e-6 * float(degrees.max())
        values, vectors = eigsh(laplacian, k=3, sigma=shift, which="LM", v0=start)
        ascending = np.argsort(values)
        values, vectors = values[ascending], vectors[:, ascending]
    vector = vectors[:, 1]
    # The sign is free: the first node that has a side is on the positive one.
    sided = np.flatnonzero(np.abs(vector) > 1e-9)
    if len(sided) and vector[sided[0]] < 0:
        vector = -vector
    third = max(0.0, float(values[2])) if len(values) > 2 else 0.0
    return Spectrum(max(0.0, float(values[1])), third, dict(zip(ids.tolist(), vector.tolist(), strict=True)))
