"""Jobs in parts: order, errors, waiting for the loop, and the end."""

from __future__ import annotations

import threading

import pytest

from weftos.errors import InvalidRequest, ServiceUnavailable, WrongState
from weftos.service.side_work import SideWork


class Loop:
    """Turns until all jobs are done."""

    def __init__(self):
        self.news = threading.Semaphore(0)
        self.work = SideWork(self.news.release)
        self.done = []

    def begin(self, job):
        self.work.begin(job, lambda value, error: self.done.append((value, error)))

    def until(self, count):
        while len(self.done) < count:
            assert self.news.acquire(timeout=20)
            self.work.turn()
        return self.done


@pytest.fixture
def loop():
    made = Loop()
    yield made
    made.work.close()
    assert made.work.active == 0
    assert not [one for one in threading.enumerate() if one.name.startswith("side-work")]


def test_parts_run_in_threads_and_the_rest_in_the_loop(loop):
    here = threading.get_ident()
    seen = []

    def job():
        seen.append(threading.get_ident() == here)
        first = yield threading.get_ident
        seen.append(threading.get_ident() == here)
        second = yield lambda: first
        return first, second

    loop.begin(job())
    (value, error), *_ = loop.until(1)
    assert error is None
    assert seen == [True, True]
    assert value[0] == value[1] != here


def test_what_a_part_raises_is_raised_in_the_job(loop):
    def fail():
        raise InvalidRequest("in a thread")

    def careful():
        try:
            yield fail
        except InvalidRequest as error:
            return str(error)

    def careless():
        yield fail

    def at_once():
        raise WrongState("before any part")
        yield

    for job in (careful, careless, at_once):
        loop.begin(job())
    found = loop.until(3)
    assert ("in a thread", None) in found
    assert {type(error) for _, error in found} == {type(None), InvalidRequest, WrongState}


def test_a_thread_can_have_something_done_in_the_loop_first(loop):
    here, order = threading.get_ident(), []

    def part():
        loop.work.in_loop(lambda: order.append(("loop", threading.get_ident() == here)))
        order.append(("thread", threading.get_ident() == here))
        with pytest.raises(WrongState):
            loop.work.in_loop(refuse)

    def refuse():
        raise WrongState("not now")

    def job():
        yield part

    loop.begin(job())
    assert loop.until(1) == [(None, None)]
    assert order == [("loop", True), ("thread", False)]


def test_at_the_end_what_is_under_way_is_finished_and_nothing_is_begun(loop):
    entered, leave, ran = threading.Event(), threading.Event(), []

    def part():
        entered.set()
        assert leave.wait(20)
        loop.work.in_loop(lambda: ran.append("told"))
        ran.append("first")

    def job():
        yield part
        ran.append("between")
        yield lambda: ran.append("second")

    loop.begin(job())
    assert entered.wait(20)
    threading.Timer(0.05, leave.set).start()
    loop.work.close()
    assert ran == ["told", "first", "between"]
    assert type(loop.done[0][1]) is ServiceUnavailable
    loop.begin(job())
    assert type(loop.done[1][1]) is ServiceUnavailable
    assert ran == ["told", "first", "between"]


def test_many_jobs_at_once(loop):
    def job(number):
        total = 0
        for step in range(5):
            total += yield lambda step=step: number * step
        return number, total

    for number in range(40):
        loop.begin(job(number))
    assert sorted(value for value, _ in loop.until(40)) == [(number, number * 10) for number in range(40)]
