"""Following logs: nothing twice, nothing missed in silence, and an end when the thing followed ends."""

from __future__ import annotations

import json

import pytest
from fake_kernel import HANG_UP
from samples import ROWS

from weftos import limits
from weftos.errors import ProcessNotFound
from weftos.rpc import agent_types as a
from weftos.rpc import kernel_types as t


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(limits, "FOLLOW_INTERVAL_S", 0.005)
    monkeypatch.setattr(limits, "WATCH_INTERVAL_S", 0.005)


def entry(serial: int, level: str = "info") -> t.LogEntry:
    return t.LogEntry(timestamp=1.0, phase="READY", level=level, message=f"line {serial}", serial=serial)


class GrowingLog:
    """A bounded log that grows by two lines with each question, and whose kernel ends after line ``last``."""

    def __init__(self, last: int, kept: int = 1000, level: str = "info"):
        self.entries = [entry(1), entry(2)]
        self.last, self.kept, self.level = last, kept, level

    def __call__(self, params: t.LogsParams) -> object:
        ranks = ["debug", "info", "warn", "error"]
        kept = self.entries[-self.kept :]
        answer = [e for e in kept if e.serial > params.since and ranks.index(e.level) >= ranks.index(params.level)]
        answer = answer[-params.count :] if params.count else answer
        if self.entries[-1].serial >= self.last:
            self.kept = 0
            return HANG_UP if params.since >= self.last else answer
        self.entries += [entry(self.entries[-1].serial + n, self.level) for n in (1, 2)]
        return answer


def shown(text: str) -> list[int]:
    return [int(line.rsplit(" ", 1)[1]) for line in text.splitlines()]


def test_every_line_is_shown_once_and_the_end_is_said(weaver):
    with weaver.kernel(kernel_logs=GrowingLog(last=21)):
        outcome = weaver("kernel", "logs", "-f")
    assert outcome.status == 0
    assert shown(outcome.out) == list(range(1, shown(outcome.out)[-1] + 1))
    assert shown(outcome.out)[-1] >= 20
    assert outcome.err == "the kernel has ended\n"


def test_attach_shows_a_tail_first(weaver):
    with weaver.kernel(kernel_logs=GrowingLog(last=9)):
        numbers = shown(weaver("kernel", "attach", "-n", "1").out)
    assert numbers == list(range(numbers[0], numbers[-1] + 1))
    assert numbers[0] > 1


def test_attach_without_a_tail_shows_only_what_is_new(weaver):
    with weaver.kernel(kernel_logs=GrowingLog(last=9)):
        assert shown(weaver("kernel", "attach", "-n", "0").out)[0] == 3


def test_lines_that_fell_out_are_reported(weaver):
    with weaver.kernel(kernel_logs=GrowingLog(last=11, kept=1)):
        outcome = weaver("kernel", "logs", "-f")
    assert "fell out of the log before they could be shown" in outcome.err


def test_a_level_filters_what_is_followed(weaver):
    with weaver.kernel(kernel_logs=GrowingLog(last=11)):
        assert weaver("kernel", "logs", "-f", "-l", "error").out == ""


def test_following_as_json_gives_one_object_for_each_line(weaver):
    with weaver.kernel(kernel_logs=GrowingLog(last=9)):
        outcome = weaver("kernel", "logs", "-f", "--json")
    assert [json.loads(line)["serial"] for line in outcome.out.splitlines()][:3] == [1, 2, 3]


def test_the_output_of_an_agent_is_followed_to_its_end(weaver):
    written = [f"out {n}" for n in range(10)]

    def logs(params: a.LogParams) -> a.AgentLog:
        start = 0 if params.offset is None else params.offset
        lines = written[start : start + 3]
        return a.AgentLog(pid=1, lines=lines, offset=start + len(lines), state="exited" if start > 6 else "running")

    with weaver.kernel(agent_logs=logs):
        outcome = weaver("agent", "attach", "1")
    assert outcome.out.splitlines() == written
    assert outcome.err == "agent 1 has ended; `weaver agent inspect 1` shows how\n"


def test_an_agent_between_two_lives_is_still_followed(weaver):
    answers = iter(
        [
            a.AgentLog(pid=1, lines=["first life"], offset=1, state="exited", ended=False),
            a.AgentLog(pid=1, lines=[], offset=1, state="exited", ended=False),
            a.AgentLog(pid=1, lines=["second life"], offset=2, state="running", ended=False),
            a.AgentLog(pid=1, lines=[], offset=2, state="exited", ended=True),
        ]
    )
    with weaver.kernel(agent_logs=lambda _: next(answers)):
        assert weaver("agent", "attach", "1").out.splitlines() == ["first life", "second life"]


def test_an_agent_that_does_not_exist_cannot_be_followed(weaver):
    with weaver.kernel(agent_logs=ProcessNotFound("no agent has pid 4")):
        assert weaver("agent", "attach", "4").status == 1


def test_watching_goes_on_until_the_kernel_ends(weaver):
    answers = iter([ROWS, ROWS, ROWS])
    with weaver.kernel(kernel_ps=lambda _: next(answers, HANG_UP)):
        outcome = weaver("kernel", "ps", "--watch", "--json")
    assert outcome.status == 6
    assert len(outcome.out.splitlines()) == 3
