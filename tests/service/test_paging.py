"""Raw pages through the service: whole records, in order, however small the answers are."""

from __future__ import annotations

import pytest

from weftos import chain
from weftos.chain.copies.replica import Replica
from weftos.chain.folder.pages import RawRecord
from weftos.chain.signing.note import parse_note
from weftos.chain.signing.pins import Pins
from weftos.errors import ProtocolError
from weftos.service import protocol as p
from weftos.service.paging import one_page


@pytest.mark.parametrize("reply_bytes", [8 * 1024, 64 * 1024, 1024 * 1024])
def test_an_agent_reads_the_log_without_a_gap(kernel, reply_bytes):
    """The largest record is larger than an answer of the smaller rings."""
    agent = kernel.agent(1, ring_bytes=256 * 1024, reply_bytes=reply_bytes)
    kernel.start()
    client = agent.client()
    for size in (10, 60_000, 5, 3_000, 64_000, 1):
        client.append("app.note", {"x": "y" * size})
    found = list(client.tail_from(0))
    assert len(found) == kernel.head()["records"]
    assert list(client.tail_from(5)) == found[5:]
    assert list(client.tail_from(10**6)) == []
    page = client.page(2, 3, 1 << 20)
    assert page.records == found[2 : 2 + len(page.records)]
    assert page.note == b"" or parse_note(page.note)
    assert kernel.stop_service() == 0
    stored = [RawRecord(record.header_bytes, record.salted) for record in chain.read(kernel.chain_dir)]
    assert found == stored[: len(found)]


def test_a_replica_follows_the_service(kernel):
    agent = kernel.agent(1, ring_bytes=256 * 1024, reply_bytes=1024 * 1024)
    kernel.start()
    client = agent.client()
    client.append_batch([p.Event("app.n", {"n": n}) for n in range(500)])
    first = next(iter(chain.read(kernel.chain_dir)))
    keys = Pins(str(kernel.home / "known_logs")).get(f"weftos/log/{first.header.log_id.hex()}")
    assert keys is not None

    class Source:
        page = staticmethod(client.page)

    with Replica.open(kernel.home / "copy", first.header.log_id, keys) as replica:
        while replica.pull(Source()):
            continue
        kernel.kill_service()
        kernel.start()
        client.append("app.n", {"n": 500})
        kernel.ask(p.MakeCheckpoint())
        while replica.pull(Source()):
            continue
        assert replica.verified == replica.size == kernel.head()["records"]
    report = chain.verify(kernel.home / "copy", keys=keys)
    assert report.valid, report.errors


def test_hostile_questions_are_answered(kernel):
    agent = kernel.agent(1)
    kernel.start()
    client = agent.client()
    for request in (
        p.TailFrom(-5),
        p.TailFrom(0, -1, -1),
        p.TailFrom(0, 1, 0, 1 << 40),
        p.TailFrom(0, 1, 1, -7),
        p.TailFrom(1 << 62),
        p.TailFrom(0, 1 << 62, 1 << 62),
    ):
        assert isinstance(client.submit(request).result(), p.RawPage)
    assert client.ping() < 5


def test_answers_that_do_not_fit_the_question_are_refused():
    one = RawRecord(b"header", b"salted")
    for answers in (
        [p.RawPage(1, [one])],
        [p.Pong()],
        [p.RawPage(0, [one, one], 5)],
        [p.RawPage(0, [one], 5), p.RawPage(0, [RawRecord(b"", b"")], 5)],
        [p.RawPage(0, [one], 5), p.RawPage(0, [one], 5)],
        [p.RawPage(0, [one], 5), p.RawPage(0, [], 0)],
    ):
        asking = one_page(0, 10, 100)
        next(asking)
        with pytest.raises(ProtocolError):
            for answer in answers:
                asking.send(answer)
