"""How the service starts, refuses to start, fails and ends."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import time

import pytest
from kernel_double import KernelDouble, leftovers

from weftos import chain
from weftos.errors import GovernanceDenied, StorageFailed
from weftos.service import protocol as p


def kinds(kernel):
    return [record.kind for record in chain.read(kernel.chain_dir)]


def test_the_order_to_stop_finishes_what_lies_in_the_rings(kernel):
    kernel.start()
    agent = kernel.agent(1)
    client = agent.client()
    pendings = [client.submit(p.Append("app.last", {"i": i})) for i in range(300)]
    assert kernel.stop_service() == 0
    seqs = [pending.result(1).seq for pending in pendings]
    assert seqs == list(range(seqs[0], seqs[0] + 300))
    assert kinds(kernel).count("app.last") == 300
    report = chain.verify(kernel.chain_dir)
    assert report.valid
    assert leftovers(kernel.prefix), "the kernel lives; its semaphores are its own"


def test_the_end_of_the_kernel_is_noticed_and_nothing_accepted_is_lost(kernel):
    kernel.start()
    client = kernel.agent(1).client()
    client.append("app.first", {})
    pendings = [client.submit(p.Append("app.accepted", {"i": i}, durable=False)) for i in range(500)]
    serial = kernel.post(p.Append("boot.services", {"count": 1}))
    started = time.monotonic()
    kernel.channel.close()
    assert kernel.service.wait() == 0
    assert time.monotonic() - started < 5
    assert all(pending.result(1) for pending in pendings)
    assert kinds(kernel).count("app.accepted") == 500
    assert kinds(kernel).count("boot.services") == 1, serial
    assert leftovers(kernel.prefix), "out of reach is not dead: the kernel may still need its semaphores"


def test_an_idle_service_notices_the_end_of_the_kernel_without_being_woken(kernel):
    kernel.start()
    kernel.head()
    started = time.monotonic()
    kernel.channel.close()
    assert kernel.service.wait(5) == 0
    assert time.monotonic() - started < 2, "a slice of 50 ms, on a busy machine"


def test_signals(kernel):
    kernel.start()
    client = kernel.agent(1).client()
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGPIPE):
        kernel.service.kill(number)
    assert client.append("app.alive", {}).durable
    pending = client.submit(p.Append("app.pending", {}))
    kernel.service.kill(signal.SIGTERM)
    assert kernel.service.wait() == 0
    assert pending.result(1).durable
    assert leftovers(kernel.prefix)


def test_a_damaged_chain_is_refused_and_left_as_it_is(kernel):
    kernel.start()
    client = kernel.agent(1).client()
    for i in range(50):
        client.append("app.x", {"i": i})
    kernel.stop_service()
    kernel.channel.close()
    log = next(path for path in sorted(kernel.chain_dir.iterdir()) if path.suffix == ".log")
    data = bytearray(log.read_bytes())
    data[len(data) // 2] ^= 0x10
    log.write_bytes(data)
    before = {path: path.read_bytes() for path in kernel.chain_dir.rglob("*") if path.is_file()}
    failed = kernel.start()
    assert isinstance(failed, p.ServiceBootFailed)
    assert failed.code == "chain.corrupted"
    assert log.name in failed.message
    assert any(character.isdigit() for character in failed.message.split(log.name)[1]), "it names the offset"
    assert kernel.service.wait() == 5
    assert {path: path.read_bytes() for path in kernel.chain_dir.rglob("*") if path.is_file()} == before


def test_a_key_that_others_can_read_is_refused(kernel):
    kernel.start()
    kernel.stop_service()
    kernel.channel.close()
    keys = [path for path in (kernel.home / "keys").iterdir() if path.stat().st_mode & 0o077 == 0]
    assert keys
    for path in keys:
        path.chmod(0o644)
    failed = kernel.start()
    assert isinstance(failed, p.ServiceBootFailed)
    assert "key" in failed.message
    assert kernel.service.wait() not in (0, 70)


def test_when_the_disk_is_full_the_gate_shuts_and_the_service_still_answers(kernel):
    kernel.start(before=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000)))
    client = kernel.agent(1).client()
    acked = []

    def fill():
        for i in range(10_000):
            ack = client.append("app.fill", {"i": i, "data": bytes(500)}, durable=i % 10 == 0)
            acked.append((i, ack))

    with pytest.raises(StorageFailed):
        fill()
    assert len(acked) > 100
    with pytest.raises(StorageFailed):
        client.append("app.more", {}, durable=False)
    with pytest.raises(GovernanceDenied, match="recorded"):
        client.require("agent.spawn")
    head = client.head()
    assert head["state"] == "failed"
    assert head["failure"]
    assert client.ping() < 5
    refused = kernel.ask(p.Append("boot.services", {"count": 1}))
    assert isinstance(refused, p.Failed)
    assert refused.code == "chain.storage"
    assert kernel.stop_service() == StorageFailed.exit_code
    found = {r.seq: r.payload["i"] for r in chain.read(kernel.chain_dir) if r.kind == "app.fill"}
    durable = {ack.seq: i for i, ack in acked if ack.durable}
    assert durable.items() <= found.items(), "what was acknowledged as durable is there"
    kernel.channel.close()
    assert isinstance(kernel.start(), p.ServiceReady), "the next one recovers"
    assert client.append("app.after", {}).durable


def test_what_was_accepted_reaches_the_disk_by_itself(kernel):
    kernel.start()
    client = kernel.agent(1).client()
    client.append("app.quiet", {}, durable=False)
    groups = kernel.head()["durable_groups"]
    deadline = time.monotonic() + 10
    while kernel.head()["durable_groups"] <= groups and groups == 0:
        assert time.monotonic() < deadline
    assert kernel.head()["durable_groups"] >= 1


def test_an_early_end_of_the_kernel_ends_the_start(kernel):
    def orphan():
        with contextlib.suppress(OSError):
            os.set_blocking(0, False)

    kernel.start(before=orphan)
    kernel.channel.close()
    assert kernel.service.wait() == 0


def test_the_service_of_the_next_kernel_waits_for_the_log(kernel, tmp_path):
    kernel.start()
    client = kernel.agent(1).client()
    client.append("app.old", {})
    old = kernel.service
    old.kill(signal.SIGSTOP)
    kernel.channel.close()
    following = KernelDouble(tmp_path)
    try:
        # The old one goes on when the new one is at the door.
        assert isinstance(following.start(before=lambda: old.kill(signal.SIGCONT)), p.ServiceReady)
        assert old.wait() == 0
        assert following.agent(1).client().append("app.new", {}).durable
        assert following.stop_service() == 0
    finally:
        following.close()
    assert [kind for kind in kinds(kernel) if kind.startswith("app.")] == ["app.old", "app.new"]
    assert chain.verify(kernel.chain_dir).valid
