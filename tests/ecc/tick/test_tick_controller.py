"""The controller of the tick's interval: bounds, one change a window, rest without work."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weftos.ecc.tick.controller import TickController, TickPace
from weftos.errors import ConfigError


def _drive(controller: TickController, ticks: int, compute_us: Any, start_ns: int = 0) -> tuple[int, list[float]]:
    """Let ticks with work come at their interval; return the time at the end and the intervals."""
    now, seen = start_ns, []
    for _ in range(ticks):
        now += int(controller.next_delay_ms * 1e6)
        load = compute_us(controller) if callable(compute_us) else compute_us
        controller.record(load, now_ns=now, worked=True)
        seen.append(controller.interval_ms)
    return now, seen


def test_drift_is_more_than_the_budget_and_not_equal_to_it() -> None:
    controller = TickController(TickPace(adaptive_tick=False))
    assert controller.budget_us == pytest.approx(15_000)
    for compute in (14_999, controller.budget_us, controller.budget_us + 0.001, 20_000):
        controller.record(compute, now_ns=0, worked=True)
    found = controller.statistics()
    assert (found.tick_count, found.drift_count, found.max_compute_us) == (4, 2, 20_000)
    assert found.avg_compute_us == pytest.approx((14_999 + 15_000 + 15_000.001 + 20_000) / 4)


def test_the_interval_changes_once_a_window_and_not_with_each_tick() -> None:
    controller = TickController(TickPace(adaptive_window_s=30))
    _, seen = _drive(controller, 600, 1_000)
    assert seen[:599] == [50.0] * 599, "30 s have 600 ticks of 50 ms"
    _, seen = _drive(controller, 5, 1_000, 30_050_000_000)
    assert seen[0] == 25.0
    assert controller.statistics().adaptations == 1


def test_a_load_in_the_band_changes_nothing() -> None:
    for load in (0.5, 0.8, 1.1):
        controller = TickController(TickPace(adaptive_window_s=1))
        _drive(controller, 500, controller.budget_us * load)
        assert controller.interval_ms == 50.0


@given(st.floats(1, 1e6), st.floats(1, 1000))
def test_a_steady_load_settles_within_the_bounds_and_stays(compute_us: float, start_ms: float) -> None:
    pace = TickPace(tick_interval_ms=start_ms, adaptive_window_s=0.001)
    controller = TickController(pace)
    now, _ = _drive(controller, 40, compute_us)
    settled = controller.interval_ms
    _drive(controller, 40, compute_us, now)
    assert controller.interval_ms == settled, "no swinging"
    assert pace.min_ms <= settled <= pace.max_ms
    load = compute_us / controller.budget_us
    assert 0.5 <= load <= 1.1 or settled == (pace.min_ms if load < 0.5 else pace.max_ms)


@given(st.lists(st.tuples(st.floats(0, 1e7), st.booleans()), max_size=80))
def test_intervals_and_waits_keep_their_bounds(ticks: list[tuple[float, bool]]) -> None:
    controller = TickController(TickPace(adaptive_window_s=0.05, min_ms=2, max_ms=400))
    now = 0
    for compute, worked in ticks:
        now += int(controller.next_delay_ms * 1e6 + compute * 1e3)
        controller.record(compute, now_ns=now, worked=worked)
        assert 2 <= controller.interval_ms <= controller.next_delay_ms <= 400


# --- what goes wrong elsewhere, and not here --------------------------------------------------------------------------


def test_idle_ticks_do_not_shorten_the_interval_until_it_burns() -> None:
    """Adapting on every tick brings 50 ms down to 10 ms within 16 ticks without work, and stays there."""
    controller = TickController(TickPace(adaptive_window_s=0.01))
    waits = []
    for _ in range(16):
        waits.append(controller.next_delay_ms)
        controller.record(3, now_ns=int(sum(waits) * 1e6), worked=False)
    assert waits[:6] == [50, 100, 200, 400, 800, 1000]
    assert waits[-1] == 1000
    assert controller.interval_ms == 50.0
    controller.record(3, now_ns=0, worked=True)
    assert controller.next_delay_ms == 50.0
    for _ in range(2000):
        controller.record(0, now_ns=0, worked=False)
    assert controller.next_delay_ms == 1000
    controller.wake()
    assert controller.next_delay_ms == 50.0


def test_a_small_interval_can_grow() -> None:
    """In whole milliseconds, 4 ms times 1.1 is 4 ms again for ever."""
    controller = TickController(TickPace(tick_interval_ms=1.0, adaptive_window_s=0.01))
    _drive(controller, 200, 350)
    assert controller.interval_ms == pytest.approx(350 / 0.8 / 300)


def test_a_calibrated_interval_below_a_floor_does_not_jump_up_when_there_is_little_load() -> None:
    """A lower bound of 10 ms in the step alone makes 1 ms into 10 ms when it was to shrink."""
    controller = TickController(TickPace(tick_interval_ms=1.0, min_ms=0.25, adaptive_window_s=0.01))
    _, seen = _drive(controller, 200, 10)
    assert sorted(seen, reverse=True) == seen
    assert seen[-1] == 0.25


def test_there_is_an_upper_bound() -> None:
    controller = TickController(TickPace(adaptive_window_s=0.01))
    _drive(controller, 300, lambda one: one.budget_us * 5)
    assert controller.interval_ms == 1000.0


def test_reset_restores_the_interval_and_keeps_the_counts() -> None:
    controller = TickController(TickPace(adaptive_window_s=0.01))
    _drive(controller, 50, 1)
    assert controller.interval_ms < 50
    controller.reset()
    assert controller.interval_ms == 50.0
    assert controller.statistics().tick_count == 50


# ----------------------------------------------------------------------------------------------------------------------


def test_a_calibrated_interval_is_kept_within_the_bounds() -> None:
    controller = TickController(TickPace(min_ms=5, max_ms=100))
    for given_ms, taken in ((0.5, 5), (60, 60), (5000, 100)):
        controller.set_interval(given_ms)
        assert controller.interval_ms == taken
    for wrong in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ConfigError):
            controller.set_interval(wrong)


@pytest.mark.parametrize(
    "settings",
    [
        {"tick_interval_ms": 0.0},
        {"tick_interval_ms": 0.5},
        {"tick_interval_ms": 2000.0},
        {"tick_budget_ratio": 0.0},
        {"tick_budget_ratio": 1.1},
        {"adaptive_window_s": 0.0},
        {"min_ms": 0.0},
        {"max_ms": float("inf")},
        {"max_ms": float("nan")},
    ],
    ids=repr,
)
def test_settings_out_of_range_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(settings))):
        TickPace(**settings)
