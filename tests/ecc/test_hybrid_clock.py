"""The hybrid logical clock: always onward, near the wall clock, and not led astray."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from virtual_clock import VirtualClock

from weftos.ecc.hlc import HybridClock, HybridTime, pack, unpack
from weftos.errors import ClockRefused


def test_a_time_is_the_wall_clock_and_a_count() -> None:
    clock = VirtualClock(1_000)
    hlc = HybridClock(clock)
    assert [unpack(hlc.now()) for _ in range(3)] == [(1_000, 0), (1_000, 1), (1_000, 2)]
    clock.pass_ms(1)
    assert unpack(hlc.now()) == HybridTime(1_001, 0)


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("pass"), st.integers(-5_000, 5_000)),
            st.tuples(st.just("now"), st.just(0)),
            st.tuples(st.just("observe"), st.integers(-90_000, 90_000)),
            st.tuples(st.just("restart"), st.just(0)),
        ),
        max_size=60,
    )
)
def test_times_only_grow_whatever_the_wall_clock_does(steps: list[tuple[str, int]]) -> None:
    clock = VirtualClock()
    hlc = HybridClock(clock)
    last = 0
    for what, amount in steps:
        if what == "pass":
            clock.wall += amount * 1_000_000
            continue
        if what == "restart":
            hlc = HybridClock(clock, last=hlc.last)
            continue
        wall = clock.wall_ns() // 1_000_000
        if what == "now":
            time = hlc.now()
        else:
            remote = pack(wall + amount, 7)
            if amount > 60_000:
                with pytest.raises(ClockRefused, match="ahead"):
                    hlc.observe(remote)
                assert hlc.last == last
                continue
            time = hlc.observe(remote)
            assert time > remote
        assert time > last
        assert unpack(time).millis >= wall
        assert hlc.last == time
        last = time


def test_a_full_count_carries_into_the_milliseconds() -> None:
    clock = VirtualClock(1_000)
    hlc = HybridClock(clock, last=pack(1_000, 0xFFFF))
    assert unpack(hlc.now()) == (1_001, 0)
    assert hlc.ahead_ms == 1
    clock.pass_ms(5)
    assert unpack(hlc.now()) == (1_005, 0)
    assert hlc.ahead_ms == 0


def test_a_clock_that_was_set_back_goes_on_from_the_last_time() -> None:
    hlc = HybridClock(VirtualClock(1_000))
    hlc.restore(pack(500_000, 3))
    assert unpack(hlc.now()) == (500_000, 4)
    hlc.restore(5)
    assert unpack(hlc.now()) == (500_000, 5), "an earlier time takes nothing back"
    # The own past is no foreign clock: what follows it is taken, however far ahead it is.
    assert unpack(hlc.observe(pack(1_500, 0))) == (500_000, 6)


def test_the_largest_time_ends_the_clock() -> None:
    hlc = HybridClock(VirtualClock(1_000), last=(1 << 64) - 1)
    with pytest.raises(ClockRefused, match="largest"):
        hlc.now()


@pytest.mark.parametrize("time", [-1, 1 << 64])
def test_what_is_no_time_is_refused(time: int) -> None:
    with pytest.raises(ClockRefused):
        unpack(time)
    with pytest.raises(ClockRefused):
        HybridClock(VirtualClock()).observe(time)
    with pytest.raises(ClockRefused):
        pack(time >> 16, 0)
    with pytest.raises(ClockRefused):
        pack(0, 1 << 16)
