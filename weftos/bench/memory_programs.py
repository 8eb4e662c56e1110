"""Agents that use semantic memory; the benchmark spawns them as ``weftos.bench.memory_programs:NAME``.

Why it is as it is: they use what any agent uses, ``ctx.memory`` and ``ctx.causal``, one call at a time. Each stays
for as many orders as come, so that a measurement does not begin with the start of eight processes. What is longer than
an answer of a named pipe goes through files of NumPy in the benchmark's folder.
"""

from __future__ import annotations

import time
from typing import Any, Final

import msgspec
import numpy as np

from weftos.agent.context import Context
from weftos.bench.memory_data import K
from weftos.bench.programs import write_answer
from weftos.bench.samples import percentiles
from weftos.ecc.impulses.model import ImpulseType
from weftos.ecc.universal import StructureTag
from weftos.service.ecc_protocol import EmitImpulses, Remembered

__all__ = [
    "Emits",
    "Links",
    "Loads",
    "Searches",
    "Upserts",
    "emitter",
    "linker",
    "loader",
    "searcher",
    "upserter",
]

#: Longest wait for one answer: a service that starts again has to read its log and its index first.
_PATIENCE_S: Final = 60.0
_EMIT: Final = 128


class Loads(msgspec.Struct, frozen=True):
    """What a loader is to do: make a collection and fill it; the answer is the seconds that the writing took.

    Attributes:
        space: of the collection.
        vectors: file of NumPy, (rows, dimension).
        path: named pipe for the answer.
    """

    space: str
    vectors: str
    path: str


class Searches(msgspec.Struct, frozen=True):
    """What a searcher is to do.

    The answer is ``rate`` in questions; ``p50``, ``p99``, ``p99.9`` and ``longest`` of a call; ``asked``, how many
    questions it asked, the warm-up included; and ``cpu``, the seconds of processor time that it needed for these.

    Attributes:
        space: where.
        queries: file of NumPy, (questions, dimension).
        first: the question to begin with.
        ef: length of the list of candidates; 0 for what the index chose.
        begin: ``time.monotonic()`` at which counting begins; what comes before warms up.
        seconds: how long to count.
        pause: seconds of sleep before each call.
        together: questions in one call.
        path: named pipe for the answer.
        found: file for what was found, (questions, ``K``): -1 for what was not asked, -2 for what came later; none if
            empty.
    """

    space: str
    queries: str
    first: int
    ef: int
    begin: float
    seconds: float
    path: str
    pause: float = 0.0
    together: int = 1
    found: str = ""


class Upserts(msgspec.Struct, frozen=True):
    """What an upserter is to do; the answer is ``rate``, ``p50`` and ``p99`` of a call.

    Attributes:
        space: where.
        vectors: file of NumPy, (rows, dimension), written in turn.
        rate: entries to write each second.
        every: seconds between two looks at how many are due; those go into one call.
        begin: ``time.monotonic()`` at which it begins.
        seconds: how long.
        path: named pipe for the answer.
    """

    space: str
    vectors: str
    rate: float
    every: float
    begin: float
    seconds: float
    path: str


class Links(msgspec.Struct, frozen=True):
    """What a linker is to do: add edges to a causal graph; the answer is the seconds that it took.

    Attributes:
        space: where.
        edges: file of NumPy, (edges, 2), numbers of the nodes.
        path: named pipe for the answer.
    """

    space: str
    edges: str
    path: str


class Emits(msgspec.Struct, frozen=True):
    """What an emitter is to do: emit impulses, each about a node of its own; the answer is the seconds that it took.

    Attributes:
        space: where.
        count: how many.
        path: named pipe for the answer.
    """

    space: str
    count: int
    path: str


def loader(ctx: Context) -> None:
    """Fill collections."""
    for message in ctx:
        order = msgspec.convert(message.payload, Loads)
        vectors = np.load(order.vectors)
        ids = [str(number) for number in range(len(vectors))]
        metadata = [{"n": number} for number in range(len(vectors))]
        ctx.memory.create(order.space, vectors.shape[1])
        began = time.perf_counter()
        ctx.memory.put(ids, vectors, metadata, space=order.space, timeout_s=_PATIENCE_S)
        write_answer(order.path, time.perf_counter() - began)


def searcher(ctx: Context) -> None:
    """Search, one call at a time."""
    for message in ctx:
        order = msgspec.convert(message.payload, Searches)
        write_answer(order.path, _search(ctx, order))


def _search(ctx: Context, order: Searches) -> dict[str, float]:
    now, search, queries = time.perf_counter, ctx.memory.search, np.load(order.queries)
    found: dict[int, Any] = {}
    samples: list[float] = []
    number = warmed = order.first
    ef, busy = order.ef or None, time.process_time()
    counting, began = False, 0.0
    before = now()
    while not counting or before - began < order.seconds:
        if counting and order.pause:
            time.sleep(order.pause)
            before = now()
        at = number % len(queries)
        asked = queries[at : at + order.together]
        matches = search(asked, K, space=order.space, ef=ef, metadata=False, timeout_s=_PATIENCE_S)
        after = now()
        number += len(asked)
        if counting:
            samples.append(after - before)
            if order.found:
                found.update(enumerate(matches, at))
        elif time.monotonic() >= order.begin:
            counting, warmed, began = True, number, after
        before = after
    more = {"asked": number - order.first, "cpu": time.process_time() - busy, "longest": max(samples)}
    if order.found:
        rows = np.full((len(queries), K), -1, np.int64)
        for at, matches in found.items():
            rows[at] = [int(one.id) if one.id.isdigit() else -2 for one in matches]
        np.save(order.found, rows)
    return percentiles(samples) | more | {"rate": (number - warmed) / (before - began)}


def upserter(ctx: Context) -> None:
    """Write entries at a pace."""
    for message in ctx:
        order = msgspec.convert(message.payload, Upserts)
        vectors = np.load(order.vectors)
        samples: list[float] = []
        sent, end = 0, order.begin + order.seconds
        while (at := time.monotonic()) < end:
            due = int((at - order.begin) * order.rate)
            if sent < due:
                numbers = range(sent, due)
                rows = vectors[[number % len(vectors) for number in numbers]]
                ids = [f"written-{number}" for number in numbers]
                ctx.memory.put(ids, rows, space=order.space, timeout_s=_PATIENCE_S)
                samples.append(time.monotonic() - at)
                sent = due
            time.sleep(max(0.0, at + order.every - time.monotonic()))
        write_answer(order.path, percentiles(samples or [0.0]) | {"rate": sent / (time.monotonic() - order.begin)})


def linker(ctx: Context) -> None:
    """Add edges."""
    for message in ctx:
        order = msgspec.convert(message.payload, Links)
        # A graph in a space that is nobody's own counts to the collection there.
        ctx.memory.create(order.space, 2)
        edges = [(f"n{one}", f"n{other}", "Causes", 0.5) for one, other in np.load(order.edges).tolist()]
        began = time.perf_counter()
        ctx.causal.link_many(edges, space=order.space, timeout_s=_PATIENCE_S)
        write_answer(order.path, time.perf_counter() - began)


def emitter(ctx: Context) -> None:
    """Emit impulses."""
    kind, chain, graph = int(ImpulseType.BELIEF_UPDATE), int(StructureTag.EXO_CHAIN), int(StructureTag.CAUSAL_GRAPH)
    for message in ctx:
        order = msgspec.convert(message.payload, Emits)
        ctx.memory.create(order.space, ctx.memory.provider.identity.dimension, texts=True)
        began = time.perf_counter()
        for first in range(0, order.count, _EMIT):
            impulses = [
                (kind, chain, number.to_bytes(32, "big"), graph, {"text": f"belief {number} about {number % 97}"})
                for number in range(first, min(first + _EMIT, order.count))
            ]
            ctx.service.ask(EmitImpulses(order.space, impulses), Remembered, _PATIENCE_S)
        write_answer(order.path, time.perf_counter() - began)
