"""The service is killed under load, again and again; what it acknowledged is in the log, once, and in order."""

from __future__ import annotations

import mmap
import os
import random
import select
import struct
import time

import pytest

from weftos import chain
from weftos.service import protocol as p

ACK = struct.Struct("<QQ")


def appender(agent, over, pipe, seed):
    """In a process of its own: append numbered events until ``over``, and tell each acknowledgement."""
    chance = random.Random(seed)

    def run():
        client = agent.client(in_flight=64)
        waiting = []
        sent = 0

        def settle(limit):
            while len(waiting) > limit:
                first, size, pending = waiting.pop(0)
                ack = pending.result(60)
                whole = ack.seq - ack.first_seq == size - 1
                # A batch that was torn apart by the crash is completed behind what came between.
                for offset in range(size) if whole else (0, size - 1):
                    os.write(pipe, ACK.pack(first + offset, ack.first_seq + offset if whole or not offset else ack.seq))

        while not over[0]:
            size = chance.choice((1, 1, 1, 1, 5))
            durable = chance.random() < 0.7
            if size == 1:
                request = p.Append("app.n", {"pid": agent.pid, "i": sent}, durable=durable)
            else:
                events = [p.Event("app.n", {"pid": agent.pid, "i": sent + k}) for k in range(size)]
                request = p.AppendBatch(events, durable)
            waiting.append((sent, size, client.submit(request, 60)))
            sent += size
            settle(40)
        settle(0)
        return 0

    return run


class Reader:
    def __init__(self, fd, child):
        self.fd, self.child, self.acks, self.rest, self.open = fd, child, {}, b"", True

    def read(self):
        data = os.read(self.fd, 65536)
        if not data:
            self.open = False
            os.close(self.fd)
            return
        data = self.rest + data
        whole = len(data) // ACK.size * ACK.size
        for number, seq in ACK.iter_unpack(data[:whole]):
            assert number not in self.acks
            self.acks[number] = seq
        self.rest = data[whole:]


def run_campaign(kernel, clients, kills, seed):
    chance = random.Random(seed)
    kernel.start()
    readers = []
    over = mmap.mmap(-1, 1)
    for pid in range(1, clients + 1):
        agent = kernel.agent(pid)
        reading, writing = os.pipe()
        child = kernel.fork(appender(agent, over, writing, seed + pid))
        os.close(writing)
        readers.append(Reader(reading, child))
    kernel_acks = {}
    next_kill = time.monotonic() + chance.uniform(0.005, 0.1)
    done = 0
    deadline = time.monotonic() + 600  # against hanging; forty starts with more and more to read take minutes
    while any(reader.open for reader in readers):
        assert time.monotonic() < deadline
        open_readers = {reader.fd: reader for reader in readers if reader.open}
        ready, _, _ = select.select([*open_readers, kernel.channel.fileno()], [], [], 0.01)
        for fd in ready:
            if fd in open_readers:
                open_readers[fd].read()
            else:
                kernel.drain()
        if done == kills:
            over[0] = 1
        elif time.monotonic() >= next_kill:
            serials = [kernel.post(p.Append("app.info", {"kill": done, "k": k})) for k in range(3)]
            kernel.kill_service()
            done += 1
            assert isinstance(kernel.start(), p.ServiceReady)
            for k, serial in enumerate(serials):
                if serial not in kernel.replies:
                    kernel.send(p.KernelRequest(serial, "kernel", p.Append("app.info", {"kill": done - 1, "k": k})))
                    kernel_acks[serial] = kernel.result(serial)
                else:
                    kernel_acks[serial] = kernel.replies[serial]
            next_kill = time.monotonic() + chance.uniform(0.002, 0.1)
    for reader in readers:
        assert reader.child.wait() == 0
    assert kernel.stop_service() == 0
    over.close()
    check_log(kernel, readers, kernel_acks)


def check_log(kernel, readers, kernel_acks):
    found = {}
    kernel_seqs = []
    for record in chain.read(kernel.chain_dir):
        if record.kind == "app.n":
            found.setdefault(record.payload["pid"], []).append((record.payload["i"], record.seq))
            assert record.source == f"agent:{record.payload['pid']}"
        elif record.kind == "app.info":
            kernel_seqs.append(record.seq)
    for pid, reader in enumerate(readers, 1):
        written = found[pid]
        numbers = [number for number, _ in written]
        assert len(reader.acks) > 100
        assert numbers == list(range(len(numbers))), "each once, in order"
        assert reader.acks.items() <= dict(written).items(), "each where its acknowledgement said"
        assert max(reader.acks) == numbers[-1]
    assert sorted(ack.seq for ack in kernel_acks.values()) == kernel_seqs
    report = chain.verify(kernel.chain_dir)
    assert report.valid, report.errors


def test_killed_under_load(kernel):
    run_campaign(kernel, clients=3, kills=6, seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_killed_under_load_many_times(kernel, seed):
    run_campaign(kernel, clients=4, kills=40, seed=seed * 100)


def test_answers_lost_between_put_and_commit_come_again_as_they_were(kernel):
    kernel.start()
    agent = kernel.agent(1)
    client = agent.client()
    ack = client.append("app.once", {"n": 1})
    commit = agent.request.words[commit_word()]
    kernel.kill_service()
    # As if the service had died before its commit: the request lies there again for the next one.
    agent.request.words[commit_word()] = 0
    kernel.start()
    while agent.request.words[commit_word()] < commit:
        kernel.head()
    assert client.append("app.twice", {}).seq == kernel_next(kernel, ack)
    assert client.statistics().strays == 1, "the answer came a second time"
    kernel.stop_service()
    records = [record for record in chain.read(kernel.chain_dir) if record.kind == "app.once"]
    assert [record.seq for record in records] == [ack.seq]


def kernel_next(kernel, ack):
    """The sequence number after everything written before: recovery and boot events may lie between."""
    return kernel.head()["head_seq"]


def commit_word():
    from weftos.shm import layout

    return layout.COMMIT
