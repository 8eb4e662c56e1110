"""Keys, seals and lineage of a real instance, through its kernel and through ``weaver``."""

from __future__ import annotations

import json
import os
import stat

from click.testing import CliRunner

from weftos import chain
from weftos.chain.copies.replica import Replica
from weftos.chain.signing.checkpoint import log_origin
from weftos.chain.signing.pins import Pins
from weftos.cli.main import root
from weftos.rpc.client import RpcClient
from weftos.rpc.page_source import KernelSource

A, B = "aa" * 32, "bb" * 32


def run(kernel, *arguments):
    """Outcome of a command on this instance."""
    outcome = CliRunner(env={"WEFTOS_HOME": str(kernel.home.root), "COLUMNS": "120"}).invoke(root, list(arguments))
    if outcome.exception is not None and not isinstance(outcome.exception, SystemExit):
        raise outcome.exception
    return outcome


def weaver(kernel, *arguments):
    """Status and standard output."""
    outcome = run(kernel, *arguments)
    return outcome.exit_code, outcome.stdout


def refused(kernel, *arguments):
    """Status and standard error, of a command that shows nothing."""
    outcome = run(kernel, *arguments)
    assert outcome.stdout == ""
    return outcome.exit_code, outcome.stderr


def shown(kernel, *arguments):
    status, out = weaver(kernel, *arguments, "--json")
    assert status == 0, out
    return json.loads(out)


def tell(kernel, pid, *message):
    return kernel.call("agent.send", pid=pid, message=list(message), wait=True).reply


def test_keys_go_on_with_the_name_and_not_below_another(kernel):
    first = kernel.spawn("shopkeeper", name="orders", restart="on-failure").pid
    seq = tell(kernel, first, "order", "order-17", 1)
    assert tell(kernel, first, "order", "order-17", 1) == seq
    assert tell(kernel, first, "order", "order-17", 2) == "chain.conflict"
    kernel.call("agent.restart", pid=first)
    assert tell(kernel, first, "order", "order-17", 1) == seq
    kernel.call("agent.stop", pid=first)
    second = kernel.spawn("shopkeeper", name="orders").pid
    assert second != first
    assert tell(kernel, second, "order", "order-17", 1) == seq
    below = kernel.spawn("shopkeeper", name="orders", parent_pid=second).pid
    assert tell(kernel, below, "order", "order-17", 2) > seq, "a child of that name has keys of its own"
    kernel.call("kernel.restart-service", name="service")
    assert tell(kernel, second, "order", "order-17", 1) == seq
    kernel.kill()
    kernel.start()
    third = kernel.spawn("shopkeeper", name="orders").pid
    assert tell(kernel, third, "order", "order-17", 1) == seq
    assert tell(kernel, third, "order", "order-17", 3) == "chain.conflict"
    kernel.stop()
    producers = [record.header.producer for record in kernel.events() if record.kind == "app.order"]
    assert producers == ["key:orders#order-17", "key:orders/orders#order-17"]
    assert shown(kernel, "chain", "verify")["valid"]


def test_an_operator_seals_and_checks_the_log(cold, tmp_path):
    cold.home.root.mkdir(exist_ok=True)
    cold.home.config.write_text("[chain]\nseal_secs = 0.05\n")
    cold.start()
    assert shown(cold, "chain", "seal", "status")["on"] is False
    status, err = refused(cold, "chain", "seal", "init", "-o", str(cold.home.root / "seal.key"))
    assert (status, "lies beside the log" in err) == (2, True)
    kept = tmp_path / "stick.key"
    weaver(cold, "chain", "seal", "init", "-o", str(kept))
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    status, err = refused(cold, "chain", "seal", "init", "-o", str(tmp_path / "other.key"))
    assert (status, "exists" in err) == (2, True)
    assert not (tmp_path / "other.key").exists()
    assert stat.S_IMODE(cold.home.seal_state.stat().st_mode) == 0o600
    key = bytes.fromhex(kept.read_text().split()[-1])
    cold.until(lambda: cold.call("chain.status").seals.epoch >= 1)
    found = shown(cold, "chain", "status")["seals"]
    assert found["on"]
    assert "epoch" in weaver(cold, "chain", "status")[1]
    assert "on" in weaver(cold, "chain", "seal", "status")[1]
    cold.call("chain.checkpoint")
    cold.kill()
    cold.start()
    cold.until(lambda: cold.call("chain.status").seals.epoch > found["epoch"])
    cold.stop()
    for folder, _, names in os.walk(cold.home.root):
        for name in names:
            with open(os.path.join(folder, name), "rb") as file:
                data = file.read()
            assert key not in data, f"{name} holds the first key"
            assert key.hex().encode() not in data
    report = shown(cold, "chain", "verify", "--seal-key", str(kept))
    assert report["checks"]["seals"] is True
    assert report["seals"]["next_epoch"] > found["epoch"]
    offline = shown(cold, "chain", "seal", "status")
    assert offline["epoch"] == report["seals"]["next_epoch"] - 1
    wrong = tmp_path / "wrong.key"
    wrong.write_text(kept.read_text().replace(key.hex(), "00" * 32))
    status, out = weaver(cold, "chain", "verify", "--seal-key", str(wrong), "--json")
    assert status == 5
    assert {one["code"] for one in json.loads(out)["errors"]} == {"seal_invalid"}
    status, out = weaver(cold, "chain", "verify", "--seal-key", str(wrong))
    assert status == 5
    assert "seal_invalid" in out
    # A second boot is told from a crash by the last record of the kernel, not by what the service wrote behind it.
    assert [kind for kind in cold.kinds() if kind == "log.seal"][-1:] == ["log.seal"]
    cold.start()
    assert cold.call("kernel.status").clean_start


def test_the_key_is_printed_once_if_no_file_is_named(cold):
    cold.start()
    made = shown(cold, "chain", "seal", "init")
    tag, origin, digits = made["key"].split()
    assert (tag, len(bytes.fromhex(digits))) == ("exo/seal/key/v1", 32)
    assert origin.startswith("weftos/log/")


def test_lineage_is_shown_and_checked(kernel):
    agent = kernel.spawn("shopkeeper", name="trainer").pid
    tell(kernel, agent, "derive", "data", A, None, None, "user")
    tell(kernel, agent, "derive", "more", B, None, None, "user")
    tell(kernel, agent, "derive", "model", A, "data", A, "merge")
    tell(kernel, agent, "derive", "model", A, "more", B, "merge")
    tell(kernel, agent, "derive", "small", B, "trainer#model", A, "quantize")
    assert tell(kernel, agent, "derive", "small", A, "data", A, "clone") == "chain.lineage"
    status, out = weaver(kernel, "chain", "lineage", "small")
    assert status == 0
    lines = out.splitlines()
    assert lines[0].startswith("trainer#small  (quantize, record ")
    assert [line.split("  (")[0] for line in lines[1:]] == [
        "└─ trainer#model",
        "   ├─ trainer#data",
        "   └─ trainer#more",
    ]
    found = shown(kernel, "chain", "lineage", "trainer#small")
    assert found["things"] == {
        "trainer#small": ["trainer#model"],
        "trainer#model": ["trainer#data", "trainer#more"],
        "trainer#data": [],
        "trainer#more": [],
    }
    assert [one["type"] for one in found["records"]] == ["user", "user", "merge", "merge", "quantize"]
    _, down = weaver(kernel, "chain", "lineage", "data", "--children")
    assert [line.split("  (")[0].lstrip(" └─") for line in down.splitlines()] == [
        "trainer#data",
        "trainer#model",
        "trainer#small",
    ]
    checked = shown(kernel, "chain", "lineage", "--check")
    assert (checked["valid"], checked["things"], checked["origins"]) == (True, 4, 2)
    assert "VALID" in weaver(kernel, "chain", "lineage", "--check")[1]
    for wrong in (("nothing",), (), ("data", "--check")):
        status, err = refused(kernel, "chain", "lineage", *wrong)
        assert (status, "weaver chain lineage" in err) == (2, True)
    kernel.stop()
    assert shown(kernel, "chain", "verify")["checks"]["lineage"] is True


def test_a_story_that_does_not_hold_is_found_in_the_files(tmp_path):
    """Nothing that the service writes looks so; somebody else wrote this log."""
    from weftos.chain.statements.lineage import Derivation

    home = tmp_path / "chain"
    with chain.ChainWriter.open(home, boot_id=bytes(16)) as writer:
        step = Derivation("a", bytes(32), "nothing", bytes(32), "clone")
        seq = writer.append(chain.NewEvent("agent:1", "lineage.derivation", step.to_payload())).seq
    outcome = CliRunner().invoke(root, ["chain", "lineage", "--check", "--dir", str(home), "--json"])
    assert outcome.exit_code == 5
    assert json.loads(outcome.stdout)["problems"] == [
        {"seq": seq, "code": "parent_missing", "child": "a", "parent": "nothing"}
    ]
    assert "parent_missing" in CliRunner().invoke(root, ["chain", "lineage", "--check", "--dir", str(home)]).stdout
    report = chain.verify(home)
    assert [(one.code, one.seq) for one in report.errors] == [("lineage_invalid", seq)]


def test_an_operator_notes_heads_of_a_foreign_log(kernel, tmp_path):
    peer, keys = tmp_path / "peer", tmp_path / "peer-keys"
    signer = chain.Signer.open(str(keys))
    notes = []
    with chain.ChainWriter.open(peer, boot_id=bytes(16), signer=signer) as writer:
        origin = log_origin(writer.log_id)
        for number in range(3):
            writer.append(chain.NewEvent("a", "app.note", {"n": number}))
            made = writer.checkpoint()
            notes.append(tmp_path / f"{made.size}.checkpoint")
            notes[-1].write_bytes(signer.sign(made))
    lines = "".join(f"{key.format()}\n" for key in signer.public.verifier_keys(origin))
    with kernel.home.known_logs.open("a") as file:
        file.write(lines)
    assert shown(kernel, "chain", "bridge", "add", str(notes[0]))["proven"] is False
    proof = tmp_path / "proof"
    arguments = ("chain", "bridge", "prove", "3", "--dir", str(peer), "--checkpoint", str(notes[1]), "-o", str(proof))
    assert weaver(kernel, *arguments)[0] == 0
    status, out = weaver(kernel, "chain", "bridge", "add", str(notes[1]), "--consistency", str(proof))
    assert (status, "shown to continue" in out) == (0, True)
    status, err = refused(kernel, "chain", "bridge", "add", str(notes[2]), "--consistency", str(proof))
    assert (status, "proof" in err) == (5, True)
    status, err = refused(kernel, "chain", "bridge", "add", str(notes[0]))
    assert (status, "put back" in err) == (5, True)
    proof.write_text("rubbish")
    assert refused(kernel, "chain", "bridge", "add", str(notes[2]), "--consistency", str(proof))[0] == 5
    running = shown(kernel, "chain", "bridge", "list")
    assert [(one["origin"], one["size"], one["proven"]) for one in running] == [(origin, 4, True)]
    assert origin in weaver(kernel, "chain", "bridge", "list")[1]
    kernel.stop()
    assert shown(kernel, "chain", "bridge", "list") == running
    assert [kind for kind in kernel.kinds() if kind.startswith("chain.")] == [
        "chain.bridge",
        "chain.bridge",
        "chain.split_view",
    ]


def test_a_copy_is_made_over_the_control_socket_and_followed(kernel, tmp_path):
    agent = kernel.spawn("shopkeeper", name="orders").pid
    for number in range(5):
        tell(kernel, agent, "order", f"order-{number}", number)
    log_id = kernel.events()[0].header.log_id
    keys = Pins(str(kernel.home.known_logs)).get(log_origin(log_id))
    copy = tmp_path / "copy"
    with RpcClient(kernel.home.socket) as client, Replica.open(copy, log_id, keys) as replica:
        source = KernelSource(client)
        while replica.pull(source, max_records=3):
            continue
        tell(kernel, agent, "order", "order-9", 9)
        kernel.call("chain.checkpoint")
        while replica.pull(source):
            continue
        assert replica.verified == replica.size
        small = client.call("chain.tail-from", {"seq": 2, "max_records": 2, "max_bytes": 1})
        assert (small.first_seq, len(small.records)) == (2, 1)
        assert client.call("chain.tail-from", {"seq": 10**9}).records == []
    assert shown(kernel, "chain", "verify", "--dir", str(copy))["valid"]
    status, out = weaver(kernel, "chain", "tail", "--from", "3", "--json")
    assert status == 0
    numbers = [json.loads(line)["seq"] for line in out.splitlines()]
    assert numbers == list(range(3, 3 + len(numbers)))
    assert len(numbers) > 5
