"""Proofs that one message belongs to a window: made by real agents, checked elsewhere, and attacked."""

from __future__ import annotations

import json
import os
import signal

import msgspec
import pytest
from click.testing import CliRunner

from weftos import chain
from weftos.chain.signing.pins import Pins
from weftos.chain.verification.proof_file import make_proof
from weftos.chain.verification.window_proof import WindowProof, check_window_proof, parse_window_proof
from weftos.cli.chain_keys import origin_of
from weftos.cli.main import root
from weftos.errors import ProofInvalid
from weftos.ipc.message import decode_message


def tell(kernel, agent_pid, **what):
    return kernel.call("agent.send", pid=agent_pid, message=what, timeout_secs=30.0).reply


def seen(kernel, agent_pid, count):
    return kernel.until(lambda: (got := tell(kernel, agent_pid, do="seen")) and len(got) >= count and got)


def weaver(home, *args):
    return CliRunner(env={"WEFTOS_HOME": str(home), "COLUMNS": "80"}).invoke(root, [str(arg) for arg in args])


def ring_between(kernel, a, b):
    return next(
        r.payload["ring"]
        for r in kernel.events()
        if r.kind == "ipc.grant" and (r.payload["from"], r.payload["to"]) == (a.pid, b.pid)
    )


@pytest.fixture
def proving(cold):
    """A kernel whose rings have windows with a Merkle root, and one topic."""
    text = '[ipc]\nwindows = "messages"\nproof_topics = ["orders"]\n'
    (cold.home.root / "weftos.toml").write_text(text)
    cold.start()
    return cold


@pytest.fixture
def sent(proving):
    """Two agents, and where each of five messages between them lay."""
    a, b = proving.spawn("tester"), proving.spawn("tester")
    places = [tell(proving, a.pid, do="send_at", to=b.pid, payload=f"m{n}") for n in range(5)]
    seen(proving, b.pid, 5)
    return a, b, [f"{ring_between(proving, a, b):x}-{place:x}" for place in places]


def proved(kernel, tmp_path, message_id, *options):
    proof, message = tmp_path / f"{message_id}.txt", tmp_path / f"{message_id}.bin"
    made = weaver(kernel.home.root, "ipc", "prove", message_id, "-o", proof, "-m", message, *options)
    assert made.exit_code == 0, made.stderr
    return proof, message


@pytest.mark.parametrize("side", ["consumer", "producer"])
def test_a_message_is_proved_to_somebody_with_nothing_but_the_keys(proving, sent, tmp_path, side):
    a, b, ids = sent
    proof, message = proved(proving, tmp_path, ids[3], "--side", side)
    keys = tmp_path / "keys.txt"
    keys.write_text(weaver(proving.home.root, "chain", "keys").stdout)
    proving.stop()
    elsewhere = tmp_path / "elsewhere"
    checked = weaver(elsewhere, "chain", "check", proof, "--message", message, "--key", keys, "--json")
    assert checked.exit_code == 0, checked.stderr
    said = json.loads(checked.stdout)
    speaker = b if side == "consumer" else a
    assert (said["valid"], said["has_message"], said["side"]) == (True, True, side)
    assert (said["source"], said["index"]) == (f"agent:{speaker.pid}", 3)
    leaf = message.read_bytes()
    assert f"{said['ring']:x}-{int.from_bytes(leaf[:8], 'little'):x}" == ids[3]
    n = int.from_bytes(leaf[8:16], "little")
    assert decode_message(leaf[16 : 16 + n]).payload == "m3"
    # Without the message: its hash belongs to the window. As text as well.
    shown = weaver(elsewhere, "chain", "check", proof, "--key", keys)
    assert "VALID" in shown.stdout
    assert "only its hash" in shown.stdout
    # Without the keys: nothing is believed.
    assert weaver(elsewhere, "chain", "check", proof).exit_code != 0


def test_what_was_changed_proves_nothing(proving, sent, tmp_path):
    proof_file, message_file = proved(proving, tmp_path, sent[2][2])
    other_file, _ = proved(proving, tmp_path, sent[2][1])
    data, message = proof_file.read_bytes(), message_file.read_bytes()
    origin = origin_of(parse_window_proof(data).window.checkpoint)
    keys = Pins(str(proving.home.known_logs)).get(origin)
    check_window_proof(parse_window_proof(data), keys, origin, message)
    for changed in (message + b"x", message[:-1], b"", other_file.read_bytes()):
        with pytest.raises(ProofInvalid, match="not the one"):
            check_window_proof(parse_window_proof(data), keys, origin, changed)
    proof = parse_window_proof(data)
    other = parse_window_proof(other_file.read_bytes())
    forgeries = {
        "leaf": other.leaf,
        "index": proof.index + 1,
        "size": proof.size + 1,
        "path": proof.path[::-1],
        "window": proof.grant,
        "grant": proof.window,
    }
    for field, value in forgeries.items():
        with pytest.raises(ProofInvalid):
            check_window_proof(msgspec.structs.replace(proof, **{field: value}), keys, origin, message)
    # Any byte of the file: refused, or in a witness's signature, on which nobody here relies, and it shows the same.
    shown = weaver(proving.home.root, "chain", "check", proof_file, "--json").stdout
    refused = 0
    for at in range(0, len(data), 97):
        spoiled = bytearray(data)
        spoiled[at] ^= 1
        (tmp_path / "spoiled").write_bytes(spoiled)
        outcome = weaver(proving.home.root, "chain", "check", tmp_path / "spoiled", "--json")
        refused += outcome.exit_code != 0
        assert outcome.exit_code != 0 or outcome.stdout == shown, at
    assert refused > len(data) // 97 // 2


def test_a_window_by_somebody_else_proves_nothing(proving, sent, tmp_path):
    """Anybody can log a window of anything; only the ends that the kernel named are believed."""
    ids = sent[2]
    liar = proving.spawn("forger")
    proof_file, message_file = proved(proving, tmp_path, ids[0])
    proof = parse_window_proof(proof_file.read_bytes())
    ring = int(ids[0].split("-")[0], 16)
    forged = tell(proving, liar.pid, ring=ring, leaf=message_file.read_bytes().hex())
    proving.call("chain.checkpoint")
    window = make_proof(proving.home.chain, forged["seq"])
    claim = WindowProof(proof.leaf, 0, 1, [], window, proof.grant)
    origin = origin_of(window.checkpoint)
    keys = Pins(str(proving.home.known_logs)).get(origin)
    with pytest.raises(ProofInvalid, match=f"agent:{liar.pid} wrote the window .* no end of that stream"):
        check_window_proof(parse_window_proof(claim.encode()), keys, origin)


def test_a_message_to_a_topic_is_proved_by_the_window_of_the_topic(cold, tmp_path):
    (cold.home.root / "weftos.toml").write_text('[ipc]\nproof_topics = ["orders"]\n')
    cold.start()
    a, b = cold.spawn("tester"), cold.spawn("tester")
    tell(cold, b.pid, do="subscribe", topic="orders")
    tell(cold, b.pid, do="subscribe", topic="chat")
    for n in range(3):
        tell(cold, a.pid, do="publish", topic="orders", payload=f"order {n}")
        tell(cold, a.pid, do="publish", topic="chat", payload=f"words {n}")
    ids = [m["id"] for m in seen(cold, b.pid, 6)]
    proof, message = proved(cold, tmp_path, ids[2])
    said = json.loads(weaver(cold.home.root, "chain", "check", proof, "--message", message, "--json").stdout)
    assert (said["topic"], said["publisher"], said["index"]) == ("orders", a.pid, 1)
    assert decode_message(message.read_bytes()).payload == "order 1"
    # The other topic is none that is proved.
    refused = weaver(cold.home.root, "ipc", "prove", ids[3], "-o", tmp_path / "none")
    assert refused.exit_code != 0
    assert "proof_topics" in refused.stderr
    assert not (tmp_path / "none").exists()
    cold.stop()
    checks = chain.verify(str(cold.home.chain)).checks
    assert checks.topic_windows_paired > 0


def test_who_asks_for_nonsense_is_told(proving, sent, tmp_path):
    a, b, ids = sent
    ring = ids[0].split("-")[0]
    for wrong, why in (
        ("x", "no id of a message"),
        ("zz-1", "no id of a message"),
        ("ffff-0", "joins no two agents"),
        (f"{ring}-7", "not in a window"),
    ):
        outcome = weaver(proving.home.root, "ipc", "prove", wrong, "-o", tmp_path / "p")
        assert outcome.exit_code != 0
        assert why in outcome.stderr, wrong
    # Both ends are gone, and what they kept with them.
    for agent in (a, b):
        os.kill(proving.call("agent.inspect", pid=agent.pid).os_pid, signal.SIGKILL)
    proving.until(lambda: proving.kinds().count("agent.exit") == 2)
    outcome = weaver(proving.home.root, "ipc", "prove", ids[0], "-o", tmp_path / "p")
    assert outcome.exit_code != 0
    assert "agents have ended" in outcome.stderr


def test_the_writer_proves_what_its_dead_reader_cannot(proving, sent, tmp_path):
    a, b, ids = sent
    os.kill(proving.call("agent.inspect", pid=b.pid).os_pid, signal.SIGKILL)
    proving.until(lambda: "agent.exit" in proving.kinds())
    proof, message = proved(proving, tmp_path, ids[4])
    said = json.loads(weaver(proving.home.root, "chain", "check", proof, "--message", message, "--json").stdout)
    assert (said["side"], said["source"]) == ("producer", f"agent:{a.pid}")
