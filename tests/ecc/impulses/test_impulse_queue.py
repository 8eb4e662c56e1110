"""The queue of impulses under a virtual clock: order, leases, death, decay, bounds, routing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dying_files import UnsyncedFiles
from virtual_clock import VirtualClock

from weftos import limits
from weftos.ecc.hlc import HybridClock, pack
from weftos.ecc.impulses.model import Cursor, Delivery, ImpulseSettings, ImpulseType, Overflow
from weftos.ecc.impulses.queue import ImpulseQueue
from weftos.ecc.universal import StructureTag
from weftos.errors import ImpulseQueueFull, ImpulseRefused, UniversalIdInvalid

GRAPH, INDEX = StructureTag.CAUSAL_GRAPH, StructureTag.HNSW_INDEX
NODE = bytes(range(32))


class Bench:
    """A queue with its clocks."""

    def __init__(self, folder: str, **settings: Any) -> None:
        self.folder = folder
        self.clock = VirtualClock()
        self.settings = ImpulseSettings(**settings)
        self.queue = self._open()

    def _open(self) -> ImpulseQueue:
        self.hlc = HybridClock(self.clock)
        return ImpulseQueue.open(UnsyncedFiles(), self.folder, self.clock, self.hlc, self.settings)

    def emit(self, target: StructureTag = INDEX, **more: Any) -> int:
        arguments = {"source_structure": GRAPH, "source_node": NODE, "target_structure": target, "payload": {}} | more
        return self.queue.emit(arguments.pop("kind", ImpulseType.BELIEF_UPDATE), **arguments)

    def kill(self) -> None:
        self.queue.close()
        self.queue = self._open()

    def lease(self, limit: int = 100, target: StructureTag | None = None) -> list[int]:
        return _ids(self.queue.lease(limit, target))


def _ids(deliveries: list[Delivery]) -> list[int]:
    return [one.impulse.id for one in deliveries]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(str(tmp_path))
    yield made
    made.queue.close()


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Any]:
    made: list[Bench] = []

    def one(**settings: Any) -> Bench:
        made.append(Bench(str(tmp_path), **settings))
        return made[-1]

    yield one
    for each in made:
        each.queue.close()


def test_an_impulse_comes_out_as_it_went_in(bench: Bench) -> None:
    payload = {"z": [1, 2.5, None, {"ä": True}], "a": "text"}
    number = bench.emit(kind=ImpulseType.custom(42), payload=payload, strength=0.5)
    (found,) = bench.queue.lease(1)
    assert (found.attempt, found.strength) == (1, 0.5)
    assert found.impulse.id == number == 1
    assert str(found.impulse.type) == "Custom(42)"
    assert found.impulse.content == payload
    assert found.impulse.payload == '{"a":"text","z":[1,2.5,null,{"ä":true}]}'.encode()
    assert (found.impulse.source_structure, found.impulse.target_structure) == (GRAPH, INDEX)
    assert found.impulse.source_node == NODE
    assert found.impulse.hlc == pack(bench.clock.wall // 1_000_000, 0)


def test_the_order_is_that_of_the_clock_then_the_number(bench: Bench) -> None:
    times = [bench.hlc.now() for _ in range(3)]
    for hlc in (times[2], times[0], times[1], times[0]):
        bench.emit(hlc=hlc)
    assert bench.lease(2) == [2, 4]
    assert bench.lease() == [3, 1]


def test_a_time_that_the_clock_does_not_know_is_refused(bench: Bench) -> None:
    with pytest.raises(ImpulseRefused, match="observe"):
        bench.emit(hlc=bench.hlc.last + 1)
    assert bench.emit(hlc=bench.hlc.observe(bench.hlc.last + 1)) == 1


def test_a_lease_that_ran_out_is_handed_out_again_before_what_is_behind(bench: Bench) -> None:
    for _ in range(4):
        bench.emit()
    assert bench.lease(2) == [1, 2]
    bench.queue.done([2])
    bench.clock.pass_ms(limits.IMPULSE_LEASE_MS - 1)
    assert bench.lease(1) == [3]
    bench.clock.pass_ms(1)
    found = bench.queue.lease(10)
    assert [(one.impulse.id, one.attempt) for one in found] == [(1, 2), (4, 1)]
    counted = bench.queue.statistics()
    assert (counted.delivered, counted.redelivered, counted.leased, counted.ready) == (5, 1, 3, 0)


def test_the_wall_clock_does_not_end_leases(bench: Bench) -> None:
    bench.emit()
    bench.lease()
    bench.clock.wall += 3600 * 10**9
    assert bench.lease() == []


def test_done_is_taken_late_and_counts_once(make: Any) -> None:
    bench = make(max_attempts=1)
    bench.emit()
    bench.emit()
    bench.lease()
    bench.clock.pass_ms(limits.IMPULSE_LEASE_MS)
    assert bench.queue.statistics().dead == 2
    assert bench.queue.done([1, 1, 99]) == 1
    assert bench.queue.done([1]) == 0
    counted = bench.queue.statistics()
    assert (counted.dead, counted.done) == (1, 1)


def test_after_its_last_attempt_an_impulse_is_dead_kept_and_counted(make: Any) -> None:
    bench = make(max_attempts=3, max_dead=2)
    for _ in range(3):
        bench.emit()
    for attempt in (1, 2, 3):
        assert [one.attempt for one in bench.queue.lease(10)] == [attempt] * 3
        bench.clock.pass_ms(limits.IMPULSE_LEASE_MS)
    assert bench.lease() == []
    assert [(one.impulse.id, one.attempt) for one in bench.queue.dead()] == [(2, 3), (3, 3)]
    counted = bench.queue.statistics()
    assert (counted.dead, counted.dropped, counted.size) == (2, {"dead": 1}, 0)
    bench.queue.sync()
    bench.kill()
    assert bench.queue.purge([3, 1, 7]) == 1
    assert bench.queue.revive([2, 3]) == 1
    assert [(one.impulse.id, one.attempt) for one in bench.queue.lease(9)] == [(2, 1)]
    assert bench.queue.statistics().dropped == {"dead": 1, "purged": 1}


def test_what_kills_its_consumer_each_time_ends_as_dead(make: Any) -> None:
    bench = make(max_attempts=3)
    bench.emit()
    bench.queue.sync()
    for attempt in (1, 2, 3):
        assert [one.attempt for one in bench.queue.lease(1)] == [attempt]
        bench.queue.sync()
        bench.kill()
    assert bench.lease() == []
    assert _ids(bench.queue.dead()) == [1]


def test_released_is_not_an_attempt(bench: Bench) -> None:
    bench.emit()
    bench.emit()
    for _ in range(20):
        assert [one.attempt for one in bench.queue.lease(1)] == [1]
        assert bench.queue.release([1, 2, 3]) == 1
    # The lease of before must not end the one of now.
    bench.lease(1)
    bench.clock.pass_ms(limits.IMPULSE_LEASE_MS - 1)
    bench.queue.release([1])
    bench.lease(1)
    bench.clock.pass_ms(1)
    assert bench.queue.statistics().leased == 1


def test_each_structure_has_its_cursor(bench: Bench) -> None:
    for target in (INDEX, GRAPH, INDEX, GRAPH, StructureTag(0x33)):
        bench.emit(target)
    assert bench.lease(9, GRAPH) == [2, 4]
    assert bench.lease(9, StructureTag.EXO_CHAIN) == []
    assert bench.lease(1, INDEX) == [1]
    bench.queue.done([4, 2])
    cursors = bench.queue.statistics().cursors
    time = pack(bench.clock.wall // 1_000_000, 3)
    assert cursors == {
        "CausalGraph": Cursor(time, 4, 0, 0, 2),
        "HnswIndex": Cursor(0, 0, 1, 1, 0),
        "Custom(0x33)": Cursor(0, 0, 1, 0, 0),
    }
    assert bench.lease(9) == [3, 5]
    bench.queue.compact()
    bench.kill()
    assert bench.queue.statistics().cursors["CausalGraph"] == cursors["CausalGraph"]


def test_a_full_queue_refuses_and_loses_nothing(make: Any) -> None:
    bench = make(max_count=3)
    for _ in range(3):
        bench.emit(strength=0.1)
    with pytest.raises(ImpulseQueueFull, match="full with 3 impulses") as caught:
        bench.emit()
    assert (caught.value.count, caught.value.size) == (3, 3 * (2 + limits.IMPULSE_OVERHEAD_BYTES))
    assert bench.queue.statistics().refused == 1
    bench.lease(1)
    with pytest.raises(ImpulseQueueFull):
        bench.emit()
    bench.queue.done([1])
    assert bench.emit() == 4
    assert bench.queue.statistics().dropped == {}


def test_a_full_queue_drops_its_weakest_by_what_is_left_of_them(make: Any) -> None:
    bench = make(max_count=3, overflow=Overflow.DROP_WEAKEST, half_life_ms=1000)
    bench.emit(strength=1.0)
    bench.clock.pass_ms(2000)
    bench.emit(strength=0.5)
    bench.emit(strength=0.9)
    # The first is at a quarter now, whatever it was.
    assert bench.emit(strength=0.3) == 4
    assert bench.queue.statistics().dropped == {"weakest": 1}
    with pytest.raises(ImpulseQueueFull):
        bench.emit(strength=0.2)
    assert bench.lease() == [2, 3, 4], "what was refused has dropped nothing"
    with pytest.raises(ImpulseQueueFull):
        bench.emit(strength=1.0)
    assert bench.queue.statistics().refused == 2


def test_bytes_are_bounded_too(make: Any) -> None:
    size = 100 + limits.IMPULSE_OVERHEAD_BYTES
    text = {"t": "x" * (100 - len('{"t":""}'))}
    bench = make(max_bytes=3 * size, overflow=Overflow.DROP_WEAKEST)
    for strength in (0.1, 0.3, 0.2):
        bench.emit(payload=text, strength=strength)
    assert bench.queue.statistics().size == 3 * size
    large = {"t": "x" * (101 - len('{"t":""}'))}
    assert bench.emit(payload=large, strength=0.5) == 4, "two make room for one that is larger"
    assert bench.lease() == [2, 4]
    with pytest.raises(ImpulseRefused, match="never fits"):
        bench.emit(payload={"t": "x" * 700})


def test_strength_halves_and_what_is_below_the_floor_expires(make: Any) -> None:
    bench = make(half_life_ms=1000, floor=0.1)
    bench.emit(strength=0.8)
    bench.emit(strength=0.2)
    bench.clock.pass_ms(1000)
    (first, second) = bench.queue.lease(2)
    assert (round(first.strength, 9), round(second.strength, 9)) == (0.4, 0.1)
    bench.queue.release([1])
    bench.clock.pass_ms(1)
    bench.clock.pass_ms(1990)
    assert bench.lease() == [1], "just above the floor it is still there"
    assert bench.queue.statistics().dropped == {}, "what is handed out does not expire"
    bench.queue.release([2])
    assert bench.lease() == []
    assert bench.queue.statistics().dropped == {"expired": 1}
    bench.queue.release([1])
    bench.clock.pass_ms(20)
    assert bench.lease() == []
    assert bench.queue.statistics().dropped == {"expired": 2}


@pytest.mark.parametrize("settings", [{"half_life_ms": None}, {"floor": 0.0, "half_life_ms": 1}])
def test_without_decay_or_floor_nothing_expires(make: Any, settings: dict[str, Any]) -> None:
    bench = make(**settings)
    bench.emit(strength=0.5)
    bench.clock.pass_ms(10**9)
    assert bench.lease() == [1]


def test_a_stamp_ahead_of_the_wall_clock_makes_nothing_stronger(make: Any) -> None:
    bench = make(half_life_ms=1)
    bench.emit(strength=0.5, hlc=bench.hlc.observe(pack(bench.clock.wall // 1_000_000 + 50_000)))
    assert bench.queue.lease(1)[0].strength == 0.5


def test_the_clock_goes_on_behind_what_the_files_say(bench: Bench) -> None:
    bench.emit()
    bench.queue.sync()
    before = bench.hlc.last
    bench.clock.wall -= 10**12
    bench.kill()
    bench.emit()
    times = [one.impulse.hlc for one in bench.queue.lease(2)]
    assert times == [before, before + 1]


@pytest.mark.parametrize(
    "payload",
    [
        {"a": float("nan")},
        {"a": float("inf")},
        {1: 2},
        {"a": b"bytes"},
        {"a": {1, 2}},
        {"a": 1 << 64},
        {"a": "\ud800"},
        {"t": "x" * limits.IMPULSE_PAYLOAD_BYTES},
        [1, 2],
        "text",
    ],
    ids=repr,
)
def test_what_is_no_json_object_within_the_limits_is_refused(bench: Bench, payload: Any) -> None:
    with pytest.raises(ImpulseRefused):
        bench.emit(payload=payload)
    assert bench.emit() == 1, "a refused impulse takes no number"


def test_a_payload_that_nests_too_deep_is_refused(bench: Bench) -> None:
    def nested(depth: int) -> Any:
        return {"a": nested(depth - 1)} if depth else 1

    bench.emit(payload=nested(limits.IMPULSE_PAYLOAD_DEPTH))
    with pytest.raises(ImpulseRefused, match="deep"):
        bench.emit(payload=nested(limits.IMPULSE_PAYLOAD_DEPTH + 1))
    with pytest.raises(ImpulseRefused, match="deep"):
        bench.emit(payload=nested(900))


@pytest.mark.parametrize("strength", [0.0, -1.0, 1.0001, float("nan"), float("inf")])
def test_a_strength_out_of_range_is_refused(bench: Bench, strength: float) -> None:
    with pytest.raises(ImpulseRefused, match="strength"):
        bench.emit(strength=strength)


def test_wrong_ids_and_numbers_are_refused(bench: Bench) -> None:
    with pytest.raises(UniversalIdInvalid):
        bench.emit(source_node=bytes(31))
    with pytest.raises(UniversalIdInvalid):
        bench.emit(target=7)
    with pytest.raises(ImpulseRefused):
        bench.emit(kind=77)


@pytest.mark.parametrize(
    "settings",
    [{"max_count": 0}, {"max_bytes": 0}, {"lease_ms": 0}, {"max_attempts": 0}, {"max_dead": -1}, {"half_life_ms": 0}]
    + [{"floor": value} for value in (-0.1, 1.0, float("nan"))],
    ids=repr,
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ImpulseRefused, match=next(iter(settings))):
        ImpulseSettings(**settings)


def test_heaps_do_not_grow_with_what_comes_back(bench: Bench) -> None:
    for _ in range(8):
        bench.emit()
    for _ in range(500):
        bench.queue.release(bench.lease(5))
    state = bench.queue._state
    assert len(state._weak) <= 8
    assert all(len(lane.heap) <= 8 for lane in state._lanes.values())
    for _ in range(5):
        bench.clock.pass_ms(limits.IMPULSE_LEASE_MS)
        bench.lease()
    assert len(state._weak) <= 8
