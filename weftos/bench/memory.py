"""Semantic memory beside faiss and hnswlib in process, and what it does while other things happen.

``search, ef N``: questions per second and recall@10. The libraries take all questions in one call, on one thread, over
the same vectors with the same parameters; ``weftos, A agents`` are agents of a real kernel that each ask one question
at a time, over rings, with the gate asked for each; ``by 32``: agents that each ask 32 questions in one call.
``of faiss`` is their share of what faiss does in the same round.
Each question's processor time says what could be reached if each process had a core of its own: on a busy machine two
processes that wait for each other mostly wait for a core. ``one question`` is how long a single one takes, and what
rings and service add to it. Then: searches beside a writer,
the gate beside searches, a restart, impulses, the causal graph.

Why it is as it is: an index in process serves one process and forgets; what the service's memory costs beyond it is
the price of everything else, so it is measured against nothing less.

Guaranteed: recall is that of the very answers that were counted. Not guaranteed: that the graphs are equal; they are
built by several threads, each time anew.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

from weftos.bench.curves import Curve, svg_curves
from weftos.bench.machine import machine
from weftos.bench.memory_data import VectorSet, clustered, recall
from weftos.bench.memory_graph import measure_graph, random_edges
from weftos.bench.memory_large import measure_large
from weftos.bench.memory_peers import Peer, ask_all, peers
from weftos.bench.memory_served import Searched, ServedSet
from weftos.bench.model import Collector, Settings
from weftos.bench.samples import percentiles, time_calls
from weftos.errors import BenchFailed

__all__ = ["run"]

_ROWS, _QUICK_ROWS = 100_000, 10_000
_QUESTIONS: Final = 1000
_EFS: Final = (12, 16, 24, 32, 48, 64, 128, 256)
_QUICK_EFS: Final = (16, 64, 256)
_AGENTS: Final = (1, 4, 8)
#: Questions in one call of those that ask several.
_TOGETHER: Final = 32
#: How many agents, and how many questions each in one call.
_ASKING: Final = (*((agents, 1) for agents in _AGENTS), (1, _TOGETHER), (4, _TOGETHER))
#: Length of the list for a single question.
_ONE_EF: Final = 64
_WRITES: Final = 1000.0
#: How much longer than another measurement those take in which something has to happen meanwhile.
_LONGER: Final = 10
_PAUSE_S: Final = 0.002


def run(settings: Settings) -> Collector:
    """Measure all of it.

    Raises:
        WeftError: the kernel does not start.
    """
    collector = Collector("memory")
    rows = settings.vectors or (_QUICK_ROWS if settings.quick else _ROWS)
    data = clustered(rows, settings.dimension, _QUESTIONS)
    size = f"{rows} x {settings.dimension}"
    libraries = peers(collector, f"building, {size}", data)
    with ServedSet(data) as served:
        collector.add(f"building, {size}", "weftos", "written by one agent", rows / served.loaded_s, "1/s")
        collector.add(f"building, {size}", "weftos", "rest of sealing, one segment", served.sealed_s, "s")
        for _ in range(settings.rounds):
            for ef in _QUICK_EFS if settings.quick else _EFS:
                _curve(collector, served, libraries, data, ef, settings.seconds)
            for agents in _AGENTS:
                found = served.search(agents, 0, settings.seconds)
                _served(collector, "search, ef of the index's choice", _who(agents), found, data)
            _single(collector, served, libraries, data, settings.seconds)
        _beside(collector, served, settings)
    measure_graph(collector, settings)
    if settings.large:
        measure_large(collector, settings)
    if settings.plot:
        Path(settings.plot).write_text(_picture(collector, size))
    return collector


def _curve(
    collector: Collector, served: ServedSet, libraries: list[Peer], data: VectorSet, ef: int, seconds: float
) -> None:
    case = f"search, ef {ef}"
    rates, cpu = {}, {}
    for peer in libraries:
        rates[peer.name], cpu[peer.name], found = ask_all(peer, data, ef, seconds)
        collector.add(case, f"{peer.name}, batched", "processor time", cpu[peer.name], "s")
        collector.add(case, f"{peer.name}, batched", "rate", rates[peer.name], "1/s")
        collector.add(case, f"{peer.name}, batched", "recall@10", recall(found, data.truth), "")
    for agents, together in _ASKING:
        searched = served.search(agents, ef, seconds, together=together)
        who = _who(agents, together)
        _served(collector, case, who, searched, data)
        if "faiss" in rates:
            collector.add(case, who, "of faiss", searched.rate / rates["faiss"], "")
            if searched.service_cpu:  # the system counts it in hundredths of a second
                share = cpu["faiss"] / searched.service_cpu
                collector.add(case, who, "of faiss, by processor time", share, "")


def _who(agents: int, together: int = 1) -> str:
    by = f" by {together}" if together > 1 else ""
    return f"weftos, {agents} agent{'s' if agents > 1 else ''}{by}"


def _served(collector: Collector, case: str, who: str, searched: Searched, data: VectorSet) -> None:
    collector.add(case, who, "rate", searched.rate, "1/s")
    collector.add(case, who, "recall@10", recall(searched.found, data.truth), "")
    collector.add(case, who, "processor time, service", searched.service_cpu, "s")
    collector.add(case, who, "processor time, agent", searched.agent_cpu, "s")
    for metric in ("p50", "p99"):
        collector.add(case, who, metric, getattr(searched, metric), "s")


def _single(collector: Collector, served: ServedSet, libraries: list[Peer], data: VectorSet, seconds: float) -> None:
    """How long one question takes: of a process with an index of its own, and of an agent."""
    for case, pause in ((f"one question, ef {_ONE_EF}", 0.0), (f"one question, ef {_ONE_EF}, after 2 ms", _PAUSE_S)):
        alone = {}
        for peer in libraries:
            numbers = iter(range(1 << 62))

            def ask(_: object, peer: Peer = peer, numbers: object = numbers) -> None:
                at = next(numbers) % len(data.queries)  # type: ignore[call-overload]
                peer.search(data.queries[at : at + 1], _ONE_EF)

            alone[peer.name] = percentiles(time_calls(ask, None, seconds, pause))
            for metric in ("p50", "p99"):
                collector.add(case, peer.name, metric, alone[peer.name][metric], "s")
        searched = served.search(1, _ONE_EF, seconds, pause)
        collector.add(case, "weftos", "p50", searched.p50, "s")
        collector.add(case, "weftos", "p99", searched.p99, "s")
        if "faiss" in alone:
            collector.add(case, "weftos", "p50 added to faiss", max(searched.p50 - alone["faiss"]["p50"], 0.0), "s")


def _beside(collector: Collector, served: ServedSet, settings: Settings) -> None:
    """Searches beside a writer, the gate beside searches, a restart, impulses, edges."""
    seconds, quick = settings.seconds * _LONGER, settings.quick
    # Once: the kernel waits longer before each restart that follows another.
    collector.add("restart, first answer after a kill", "weftos", "longest", served.restart(max(seconds, 4.0)), "s")
    for _ in range(settings.rounds):
        for agents in (1, 4):
            case = f"{_who(agents)[8:]} searching"
            idle = served.search(agents, 0, seconds / 2)
            busy, wrote = served.search_beside_writes(agents, _WRITES, seconds)
            for name, one in (("", idle), (f" beside {_WRITES:.0f} upserts/s", busy)):
                collector.add(case + name, "weftos", "p50", one.p50, "s")
                collector.add(case + name, "weftos", "p99", one.p99, "s")
            beside = f"{case} beside {_WRITES:.0f} upserts/s"
            collector.add(beside, "weftos", "p99 of idle p99", busy.p99 / idle.p99, "")
            collector.add(beside, "upserter", "rate", wrote["rate"], "1/s")
            for metric in ("p50", "p99"):
                collector.add(beside, "upserter", metric, wrote[metric], "s")
        for agents in (0, *_AGENTS):
            asked = served.gate_beside_searches(agents, settings.seconds)
            for metric in ("p50", "p99"):
                collector.add(f"gate check beside {agents} searching", "weftos", metric, asked[metric], "s")
        count = 100 if quick else 300
        collector.add(
            "impulses, emitted and taken up by ticks", "weftos", "rate", count / served.impulses(count), "1/s"
        )
        edges = random_edges(2_000 if quick else 50_000)
        collector.add("edges, by one agent in batches", "weftos", "rate", len(edges) / served.link(edges), "1/s")


def _picture(collector: Collector, size: str) -> str:
    """The curves of recall and questions per second.

    Raises:
        BenchFailed: none was measured.
    """
    points: dict[str, dict[str, dict[str, float]]] = {}
    for row in collector.rows():
        if row.case.startswith("search, ef ") and row.metric in {"rate", "recall@10"} and "choice" not in row.case:
            points.setdefault(row.who, {}).setdefault(row.case, {})[row.metric] = row.value
    if not points:
        raise BenchFailed("there is no curve to draw")
    facts = machine()
    notes = f"{size} vectors, k = 10, one search thread; {facts['cores']} shared cores, load {facts['load'][0]}, "
    notes += time.strftime("%Y-%m-%d")
    curves = [
        Curve(who, [(one["recall@10"], one["rate"]) for one in cases.values()], dashed=not who.startswith("weftos"))
        for who, cases in sorted(points.items())
    ]
    return svg_curves("Semantic memory: recall and speed", notes, curves)
