"""The process for what would hold up the service for seconds: ``python -m weftos.service.ecc_builder WORK PID``.

The order comes on standard input, what came of it goes to standard output; both are MessagePack. It ends with whoever
started it, the process ``PID``.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np

from weftos import limits
from weftos.disk.files import RealFiles
from weftos.ecc.vectors.orders import SealOrder
from weftos.errors import EccError
from weftos.sandbox.libc import prctl

__all__ = ["GraphOrder", "GraphShape", "main"]

_PR_SET_PDEATHSIG: Final = 1


class GraphOrder(msgspec.Struct, frozen=True):
    """A causal graph whose shape is to be found: numbers of its nodes; its edges, column by column, little-endian."""

    nodes: bytes
    sources: bytes
    targets: bytes
    kinds: bytes
    weights: bytes


class GraphShape(msgspec.Struct, frozen=True):
    """How a causal graph hangs together.

    Attributes:
        components: their sizes, the largest first; 100 at most.
        component_count: how many there are.
        lambda_2: algebraic connectivity of the whole graph; 0 if it has several components.
        lambda_3: the next value of the spectrum.
        largest_lambda_2: algebraic connectivity of the largest component.
        communities: their sizes, the largest first; 100 at most.
        community_count: how many there are.
    """

    components: list[int]
    component_count: int
    lambda_2: float
    lambda_3: float
    largest_lambda_2: float
    communities: list[int]
    community_count: int


class _Work(NamedTuple):
    order: type[Any]
    do: Callable[[Any], Any]


def _seal(order: SealOrder) -> Any:
    from weftos.ecc.vectors.sealing import seal

    return seal(order, RealFiles(), os.cpu_count() or 1)


def _shape(order: GraphOrder) -> GraphShape:
    from weftos.ecc.causal.communities import communities
    from weftos.ecc.causal.graph import CausalGraph, Node
    from weftos.ecc.causal.spectrum import components, spectra, spectrum

    graph = CausalGraph()
    numbers = np.frombuffer(order.nodes, "<u4").tolist()
    graph.restore_nodes((Node(one, "", 0, bytes(32), 0) for one in numbers), numbers[-1] + 1 if numbers else 1)
    sources, targets = np.frombuffer(order.sources, "<u4"), np.frombuffer(order.targets, "<u4")
    kinds, weights = np.frombuffer(order.kinds, "u1"), np.frombuffer(order.weights, "<f4")
    none = np.zeros(len(sources), np.uint64)
    graph.link_arrays(sources, targets, kinds, weights, none, none)
    parts, whole, groups = components(graph), spectrum(graph), communities(graph)
    largest = spectra(graph)[0].lambda_2 if len(parts) > 1 else whole.lambda_2
    return GraphShape(
        [len(one) for one in parts[:100]],
        len(parts),
        whole.lambda_2,
        whole.lambda_3,
        largest,
        [len(one) for one in groups[:100]],
        len(groups),
    )


def _calibrate(folder: str) -> Any:
    from weftos.ecc.calibration import CalibrationSettings, calibrate

    return calibrate(CalibrationSettings(folder))


#: What can be ordered.
_WORKS: Final = {
    "seal": _Work(SealOrder, _seal),
    "shape": _Work(GraphOrder, _shape),
    "calibrate": _Work(str, _calibrate),
}


def main(arguments: list[str]) -> int:
    """Do it; returns the exit status, with the reason on standard output if it is not 0."""
    if sys.platform == "linux":
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if len(arguments) != 2 or os.getppid() != int(arguments[1]):
        return 1  # who wanted it is gone already
    os.nice(limits.ECC_BUILDER_NICE)
    work = _WORKS[arguments[0]]
    try:
        done = work.do(msgspec.msgpack.decode(sys.stdin.buffer.read(), type=work.order))
    except (EccError, OSError, msgspec.MsgspecError, MemoryError) as error:
        sys.stdout.write(str(error) or repr(error))
        return 1
    sys.stdout.buffer.write(msgspec.msgpack.encode(done))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
