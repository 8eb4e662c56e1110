"""Agents that lie, flood or do not listen hurt themselves only."""

from __future__ import annotations

import contextlib
import os
import random

import msgspec
import numpy as np
import pytest

from weftos import limits
from weftos.errors import WeftError
from weftos.governance.gate import Permit
from weftos.service import protocol as p
from weftos.shm import Mailbox, RingConsumer, RingProducer, create_ring
from weftos.shm.layout import DATA_WORD, HEAD, HEADER_BYTES

FRAME = msgspec.msgpack.Decoder(p.ReplyFrame)


@pytest.fixture
def running(kernel):
    assert isinstance(kernel.start(), p.ServiceReady)
    return kernel


class Raw:
    """An agent without manners: it writes what it likes and reads what comes."""

    def __init__(self, kernel, pid, **sizes):
        self.agent = kernel.agent(pid, **sizes)
        self.producer = self.agent.producer()
        self.consumer = RingConsumer(self.agent.reply)
        self.mailbox = Mailbox(self.agent.mailbox, self.agent.bell, spin=False)

    def answers(self, count):
        found = []
        while len(found) < count:
            found += [FRAME.decode(data) for _, data in self.consumer.take(1000)]
            self.consumer.commit()
            if len(found) < count:
                assert self.mailbox.wait(20, lambda: self.consumer.depth_bytes() > 0), (
                    f"{len(found)} of {count} answers"
                )
                while self.mailbox.next_ready() is not None:
                    continue
        return found


GOOD = msgspec.msgpack.encode(p.Append("app.x", {"a": 1}))


def test_a_malformed_request_is_answered_so(running):
    raw = Raw(running, 1)
    cases = (
        b"",
        b"\xc1",
        b"\x00",
        msgspec.msgpack.encode([99, "x"]),
        msgspec.msgpack.encode([1, 5, {}]),
        msgspec.msgpack.encode([1, "app.x", {1: 2}]),
        msgspec.msgpack.encode([2, [["app.x"]]]),
        GOOD[:-1],
        GOOD + b"\x00",
        b"\x91" * 3000,
        b"\x81\xa1a" * 3000,
    )
    for number, data in enumerate(cases, 1):
        position = raw.producer.put(data)
        good = raw.producer.put(GOOD)
        refused, accepted = raw.answers(2)
        assert refused.request == position, data
        assert isinstance(refused.reply, p.Failed), data
        assert refused.reply.code == "ipc.protocol", data
        assert accepted.request == good, data
        assert isinstance(accepted.reply, p.Appended), data
        assert running.head()["rejected"] == number, data


def test_random_bytes_are_all_answered(running):
    raw = Raw(running, 1)
    chance = random.Random(5)
    sent = []
    for _ in range(400):
        data = bytearray(GOOD if chance.random() < 0.7 else chance.randbytes(chance.randrange(60)))
        for _ in range(chance.randrange(1, 4)):
            if data:
                data[chance.randrange(len(data))] = chance.randrange(256)
        sent.append(raw.producer.put(bytes(data), timeout=10))
    assert [answer.request for answer in raw.answers(400)] == sent
    assert running.head()["state"] == "ok"


def test_values_of_every_strange_kind_are_answered(running):
    raw = Raw(running, 1, ring_bytes=1 << 20)
    data = b"\x93\x01\xa5app.x" + b"\x81\xa1a" * 5000 + b"\x80"
    nearly = [b"\x93\x01\xa5app.x" + b"\x81\xa1a" * depth + b"\x80" for depth in range(150, 1000, 7)]
    gate = [b"\x93\x03\xabagent.spawn" + b"\x81\xa1a" * depth + b"\x80" for depth in range(900, 1000)]
    ext = [msgspec.msgpack.encode([1, "app.x", {"e": msgspec.msgpack.Ext(5, b"abc")}])]
    big = [msgspec.msgpack.encode([1, "app." + "x" * 10_000, {}]), msgspec.msgpack.encode([3, "y" * 60_000, {}])]
    floats = [msgspec.msgpack.encode([1, "app.x", {"f": float("nan")}])]
    everything = [data, *nearly, *gate, *ext, *big, *floats]
    for item in everything:
        raw.producer.put(item, timeout=10)
    assert len(raw.answers(len(everything))) == len(everything)
    assert running.head()["state"] == "ok"


def test_an_oversized_request_is_refused(running):
    raw = Raw(running, 1, ring_bytes=1 << 20)
    raw.producer.put(msgspec.msgpack.encode(p.Append("app.x", {"data": bytes(limits.SERVICE_REQUEST_BYTES)})))
    raw.producer.put(GOOD)
    refused, accepted = raw.answers(2)
    assert refused.reply.code == "ipc.message_too_large"
    assert isinstance(accepted.reply, p.Appended)


def test_an_array_is_no_request(running):
    raw = Raw(running, 1)
    raw.producer.put_array(np.arange(10))
    raw.producer.put(GOOD)
    refused, accepted = raw.answers(2)
    assert refused.reply.code == "ipc.protocol"
    assert isinstance(accepted.reply, p.Appended)


def scribble_head(agent):
    agent.request.words[HEAD] = 3


def scribble_length(agent):
    words, head = agent.request.words, agent.request.words[HEAD]
    words[DATA_WORD + head // 8] = 0xFFFF_FFFF_FFFF
    words[HEAD] = head + 64


def scribble_all(agent):
    agent.request.map[:] = os.urandom(agent.request.size)


def send_fragments(agent):
    with contextlib.suppress(WeftError):
        agent.producer().put(bytes(limits.MAX_MESSAGE_BYTES // 4), timeout=0.5)


def close_reply(agent):
    agent.reply.map[64:HEADER_BYTES] = b"\xff" * (HEADER_BYTES - 64)
    agent.producer().put(GOOD)


@pytest.mark.parametrize("attack", [scribble_head, scribble_length, scribble_all, send_fragments, close_reply])
def test_a_broken_ring_is_detached_and_reported_and_the_others_go_on(running, attack):
    bad = running.agent(1)
    good = running.agent(2).client()
    bad.client().append("app.before", {})
    attack(bad)
    notify = bad.producer if attack is close_reply else None
    if notify is None:
        running.mailbox.map[-limits.MAILBOX_SLOTS + bad.slot] = 1
    assert good.append("app.after", {}).durable
    running.pump_until(lambda: bool(running.reports))
    report = running.reports[0]
    assert report.pid == 1
    assert report.detached
    assert report.code.startswith(("shm.", "ipc."))
    assert good.append("app.later", {}).durable
    head = running.head()
    assert (head["clients"], head["detached"]) == (1, 1)
    decision = running.ask(p.GateCheck("agent.spawn", {}, on_behalf=1))
    assert isinstance(decision.decision, Permit), "the gate still knows the agent"
    # Its next incarnation may bring rings of its own.
    fresh = running.agent(3).client()
    assert fresh.append("app.fresh", {}).durable


def test_descriptors_that_are_no_rings_are_refused_at_attachment(running):
    agent = running.agent(1)
    other = running.agent(2)
    good = other.client()
    null = os.open("/dev/null", os.O_RDONLY)
    ring = create_ring(4096)
    frame = p.AttachClient(9, "id-9", 1, running.agents[1][1], None, 9, 1, 900, agent.bell.name)
    for fds in ([null, null, null], [ring.fd], [agent.request.fd, agent.reply.fd, ring.fd], [null] * 5):
        running.send(frame, fds)
    running.send(msgspec.structs.replace(frame, bell=running.prefix + "none"), agent.fds())
    os.close(null)
    ring.close()
    running.pump_until(lambda: len(running.reports) == 5)
    assert {report.pid for report in running.reports} == {9}
    assert good.append("app.x", {}).durable
    assert running.head()["clients"] == 2
    before = files_of(running)
    for _ in range(20):
        running.send(frame, [agent.request.fd])
    running.pump_until(lambda: len(running.reports) == 25)
    assert files_of(running) == before


def files_of(running):
    """How many files the service has open, while no checkpoint is being made."""
    running.ask(p.MakeCheckpoint())
    return len(os.listdir(f"/proc/{running.service.pid}/fd"))


def test_an_agent_that_does_not_read_loses_its_answers_and_nobody_elses(running):
    deaf = Raw(running, 1, reply_bytes=4096)
    good = running.agent(2).client()
    before = running.head()["appends_total"]
    request = msgspec.msgpack.encode(p.Append("app.deaf", {}, durable=False))
    for _ in range(2000):
        deaf.producer.put(request, timeout=10)
    assert good.append("app.good", {}).durable
    running.pump_until(lambda: bool(running.reports))
    assert (running.reports[0].pid, running.reports[0].detached) == (1, False)
    while running.head()["appends_total"] - before < 2001:
        continue
    dropped = running.head()["dropped_replies"]
    assert 0 < dropped < 2000
    assert len(running.reports) <= 3, "reports are rare"
    assert running.head()["appends_total"] - before == 2001, "what it asked for was done"
    # When it reads again it is served again.
    assert len(deaf.answers(2000 - dropped)) == 2000 - dropped
    deaf.producer.put(GOOD)
    assert isinstance(deaf.answers(1)[0].reply, p.Appended)


def test_a_flooded_ring_gets_one_share_per_round(kernel):
    flooder, modest = kernel.agent(1, ring_bytes=1 << 20).client(in_flight=4000), kernel.agent(2).client()
    for i in range(3000):
        flooder.submit(p.Append("app.flood", {"i": i}, durable=False))
    pending = modest.submit(p.Append("app.modest", {}))
    kernel.start()
    ack = pending.result()
    assert ack.seq < 2 * limits.SERVICE_RING_QUOTA + 10, "it did not wait for the flood"


def test_ready_bytes_are_only_hints(running):
    client = running.agent(1).client()
    page = running.mailbox.map
    for _ in range(50):
        page[-limits.MAILBOX_SLOTS :] = b"\x01" * limits.MAILBOX_SLOTS
        assert client.append("app.x", {}).durable
    # A request whose sender died before it set the ready byte is found all the same.
    raw = running.agent(2)
    running.head()
    RingProducer(raw.request).put(GOOD)
    mailbox = Mailbox(raw.mailbox, raw.bell, spin=False)
    assert mailbox.wait(limits.SERVICE_SWEEP_S + 10)


def test_an_agent_that_ended_is_served_to_the_end_and_then_forgotten(running):
    raw = Raw(running, 1)
    for _ in range(1000):
        raw.producer.put(GOOD, timeout=10)
    running.send(p.DetachClient(1))
    assert len(raw.answers(1000)) == 1000
    while running.head()["clients"]:
        continue
    decision = running.ask(p.GateCheck("agent.spawn", {}, on_behalf=1)).decision
    assert not isinstance(decision, Permit), "an ended agent may do nothing"
    # Its slot serves the next one.
    running.agents.pop(1)[0].close()
    again = running.agent(1).client()
    assert again.append("app.x", {}).durable
