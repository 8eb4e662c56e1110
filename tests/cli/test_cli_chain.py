"""The chain from its files, as ``weaver`` shows and verifies it without a kernel, with logs made by the real writer."""

from __future__ import annotations

import json
import os
import shutil

import pytest

from weftos import chain
from weftos.chain.signing.checkpoint import log_origin
from weftos.chain.signing.pins import Pins
from weftos.errors import ChainCorrupted, ProtocolError
from weftos.rpc.chain_view import chain_row, chain_status, detail_line


@pytest.fixture
def log(weaver, tmp_path):
    """A signed log of 2 + 30 records in the instance's own place, with its keys pinned; gives the public keys."""
    directory, keys = weaver.home / "chain", weaver.home / "keys"
    weaver.home.mkdir()
    keys.mkdir(mode=0o700)
    with chain.ChainWriter.open(directory, boot_id=b"b" * 16, signer=chain.Signer.open(str(keys))) as writer:
        for number in range(30):
            event = chain.NewEvent("agent:1", "app.test", {"n": number, "blob": b"\x01\x02", "name": "a\x1b[31m\nb"})
            writer.append(event)
        origin = log_origin(writer.log_id)
    public = chain.Signer.open(str(keys)).public
    Pins(str(weaver.home / "known_logs")).pin(origin, public)
    return public


def damage(directory, at=-200):
    path = max(directory.glob("*.log"))
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def test_status_works_without_a_kernel(weaver, log):
    outcome = weaver("chain", "status", "--json")
    assert outcome.status == 0, outcome.err
    status = outcome.json
    newest = chain.tail(weaver.home / "chain", 1)[0]
    assert status["dir"] == str(weaver.home / "chain")
    assert status["state"] == "offline"
    assert status["records"] == newest.seq + 1 > 30
    assert (status["head_seq"], status["head_hash"]) == (newest.seq, newest.hash.hex())
    assert status["segments"] == 1
    assert status["bytes"] == sum(p.stat().st_size for p in (weaver.home / "chain").glob("*.log"))
    assert "offline" in weaver("chain", "status").out


def test_local_shows_the_newest_records_without_a_kernel(weaver, log):
    rows = weaver("chain", "local", "-n", "3", "--json").json
    newest = chain.tail(weaver.home / "chain", 3)
    assert [row["hash"] for row in rows] == [record.hash.hex() for record in newest]
    assert rows[0]["source"] == "agent:1"
    assert rows[0]["payload"]["blob"] == "0102"
    assert rows[0]["detail"].startswith("name=")
    everything = weaver("chain", "local", "-n", "0", "--json").json
    assert [row["sequence"] for row in everything] == list(range(newest[-1].seq + 1))


def test_what_agents_wrote_stays_on_its_line(weaver, log):
    lines = weaver("chain", "local", "-n", "5").out.splitlines()
    assert len(lines) == 6
    assert not [line for line in lines if "\x1b" in line]


def test_verify_of_an_intact_log(weaver, log):
    report = weaver("chain", "verify", "--json")
    assert report.status == 0
    assert report.json["valid"] is True
    assert report.json["records"] > 30
    assert report.json["errors"] == []
    assert report.json["signature"] == "good"
    text = weaver("chain", "verify").out
    assert "VALID" in text
    assert "all passed" in text
    assert "key given" in text, "pinned by the instance"
    (weaver.home / "known_logs").unlink()
    text = weaver("chain", "verify").out
    assert "key named by the log itself" in text


def test_verify_with_keys_from_outside(weaver, log, tmp_path):
    (tmp_path / "keys.txt").write_text(weaver("chain", "keys").out)
    (weaver.home / "known_logs").unlink()
    report = weaver("chain", "verify", "--key", str(tmp_path / "keys.txt"), "--json").json
    assert (report["key_origin"], report["signed_by"]) == ("given", log.pair_id)
    other = chain.Signer.open(str(tmp_path / "other")).public
    origin = f"weftos/log/{report['log_id']}"
    (tmp_path / "wrong.txt").write_text("".join(key.format() + "\n" for key in other.verifier_keys(origin)))
    wrong = weaver("chain", "verify", "--key", str(tmp_path / "wrong.txt"), "--json")
    assert (wrong.status, wrong.json["valid"], wrong.json["signature"]) == (5, False, "bad")
    assert weaver("chain", "keys").status == 2, "nothing is pinned any more"


@pytest.mark.parametrize("key", ["", "xyz", "/does/not/exist"])
def test_a_key_file_that_is_not_there_is_wrong_usage(weaver, log, key):
    outcome = weaver("chain", "verify", "--key", key)
    assert outcome.status == 2
    assert "--key" in outcome.err


def test_a_key_file_of_another_form_is_refused(weaver, log, tmp_path):
    (tmp_path / "keys.txt").write_text("zz" * 32 + "\n")
    outcome = weaver("chain", "verify", "--key", str(tmp_path / "keys.txt"))
    assert outcome.status == 2
    assert "line 1" in outcome.err


def test_a_proof_verifies_elsewhere_with_nothing_but_the_keys(weaver, log, tmp_path):
    keys, proof = tmp_path / "keys.txt", tmp_path / "event.tlog-proof"
    keys.write_text(weaver("chain", "keys").out)
    assert weaver("chain", "prove", "7", "-o", str(proof)).status == 0
    shutil.rmtree(weaver.home / "chain")
    (weaver.home / "known_logs").unlink()
    shown = weaver("chain", "check", str(proof), "--key", str(keys), "--json").json
    assert (shown["valid"], shown["seq"], shown["kind"], shown["payload"]["n"]) == (True, 7, "app.test", 5)
    assert "VALID" in weaver("chain", "check", str(proof), "--key", str(keys)).out
    assert weaver("chain", "check", str(proof)).status == 2, "whose keys?"
    data = proof.read_bytes()
    for at in (30, len(data) // 20, data.index(b"\nindex") + 8, data.index(b"\n\n") - 5, data.index(b"\n\n") + 60):
        proof.write_bytes(data[:at] + bytes((data[at] ^ 1,)) + data[at + 1 :])
        assert weaver("chain", "check", str(proof), "--key", str(keys)).status in (2, 5), at


def test_what_cannot_be_proved_says_why(weaver, log, tmp_path):
    outcome = weaver("chain", "prove", "999")
    assert outcome.status == 1
    assert "covers the records 0 to" in outcome.err


def test_verification_from_an_older_checkpoint(weaver, log, tmp_path):
    older = tmp_path / "older"
    shutil.copy(weaver.home / "chain" / "checkpoint", older)
    signer = chain.Signer.open(str(weaver.home / "keys"))
    with chain.ChainWriter.open(weaver.home / "chain", boot_id=b"b" * 16, signer=signer) as writer:
        for number in range(600):
            writer.append(chain.NewEvent("agent:1", "app.test", {"n": number}))
    report = weaver("chain", "verify", "--since", str(older), "--json").json
    assert (report["valid"], report["since"], report["size"]) == (True, 32, 632)


def test_a_damaged_log_is_status_5_and_says_where(weaver, log):
    damage(weaver.home / "chain", at=2000)
    report = weaver("chain", "verify", "--json")
    assert report.status == 5
    assert report.json["valid"] is False
    first = report.json["errors"][0]
    assert first["file"].endswith(".log")
    plain = weaver("chain", "verify")
    assert plain.status == 5
    assert "INVALID" in plain.out
    assert first["code"] in plain.out
    assert str(first["offset"]) in plain.out


def test_a_log_cut_below_its_signed_head_is_found_out(weaver, log):
    path = next((weaver.home / "chain").glob("*.log"))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    report = weaver("chain", "verify", "--json")
    assert report.status == 5
    assert report.json["rolled_back"] is True
    assert "shorter than was promised" in weaver("chain", "verify").out


def test_a_copy_is_read_where_it_is(weaver, log, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(weaver.home / "chain", copy)
    damage(weaver.home / "chain", at=2000)
    assert weaver("chain", "verify", "--dir", str(copy)).status == 0
    assert weaver("chain", "status", "--dir", str(copy), "--json").json["dir"] == str(copy)
    assert len(weaver("chain", "local", "--dir", str(copy), "--json").json) == 20


@pytest.mark.parametrize("command", ["status", "local", "verify"])
def test_without_a_log_it_says_so(weaver, tmp_path, command):
    outcome = weaver("chain", command, "--json")
    assert outcome.status == 1
    assert outcome.error["code"] == "chain"
    (tmp_path / "empty").mkdir()
    assert weaver("chain", command, "--dir", str(tmp_path / "empty")).status == 1
    assert weaver("chain", command, "--dir", __file__).status == 2


def test_a_log_that_lost_its_first_file_is_corrupted(weaver, log):
    next((weaver.home / "chain").glob("*.log")).unlink()
    outcome = weaver("chain", "verify", "--json")
    assert outcome.status == ChainCorrupted.exit_code
    assert outcome.error["code"] == ChainCorrupted.code


def test_nothing_is_written_by_reading(weaver, log):
    before = {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in weaver.home.rglob("*")}
    for args in (["status"], ["local"], ["verify"]):
        assert weaver("chain", *args).status == 0
    assert {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in weaver.home.rglob("*")} == before


# --- rows and figures ----------------------------------------------------------------------------


def test_the_service_s_figures_become_the_status():
    status = chain_status(
        {
            "dir": "/c", "state": "ok", "records": 3, "head_seq": 2, "head_hash": "ab", "segments": 1, "bytes": 10,
            "pid": 77, "uptime_seconds": 1.5, "mean_group": 2.0, "something_new": 1,
        }
    )  # fmt: skip
    assert (status.os_pid, status.uptime_secs, status.mean_group, status.clients) == (77, 1.5, 2.0, None)


def test_figures_that_are_none_are_refused():
    with pytest.raises(ProtocolError):
        chain_status({"dir": "/c"})
    with pytest.raises(ProtocolError):
        chain_row({"seq": 1})


@pytest.mark.parametrize(
    ("payload", "line"),
    [
        ({}, ""),
        (None, ""),
        ("text", "text"),
        ({"z": 1, "pid": 4, "agent_id": "a.4"}, "agent_id=a.4 pid=4 z=1"),
        ({"a": [1, {"b": None}], "c": None, "d": False}, 'a=[1,{"b":null}] d=false'),
        ({"message": "x" * 100}, "message=" + "x" * 59 + "…"),
        ({f"k{n}": "v" * 50 for n in range(9)}, None),
    ],
)
def test_details_fit_on_a_line(payload, line):
    shown = detail_line(payload)
    assert len(shown) <= 160
    assert line is None or shown == line


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_log_that_may_not_be_read_says_so(weaver, log):
    (weaver.home / "chain").chmod(0)
    outcome = weaver("chain", "verify")
    (weaver.home / "chain").chmod(0o700)
    assert outcome.status == 1


def test_tail_shows_the_newest_and_follows(weaver, log):
    lines = weaver("chain", "tail", "-n", "3").out.splitlines()
    assert [int(line.split()[0]) for line in lines] == [29, 30, 31]
    assert [json.loads(line)["seq"] for line in weaver("chain", "tail", "-n", "2", "--json").out.splitlines()] == [
        30,
        31,
    ]
    assert weaver("chain", "tail", "-n", "0").out == ""


def test_export_of_every_record(weaver, log, tmp_path):
    lines = weaver("chain", "export").out.splitlines()
    assert [json.loads(line)["seq"] for line in lines] == list(range(32))
    assert weaver("chain", "export", "-o", str(tmp_path / "log.jsonl")).status == 0
    assert (tmp_path / "log.jsonl").read_text().splitlines() == lines
    assert weaver("chain", "export", "-o", str(tmp_path / "no" / "such")).status == 1


def test_export_of_tiles_verifies_by_itself(weaver, log, tmp_path):
    from weftos.chain.signing.checkpoint import parse_text
    from weftos.chain.signing.note import parse_note
    from weftos.chain.tiles.tile_tree import root_at

    target = tmp_path / "mirror"
    assert weaver("chain", "export", "--format", "tiles", "-o", str(target)).status == 0
    stated = parse_text(parse_note((target / "checkpoint").read_bytes()).text)
    assert root_at(str(target), stated.size, stated.size) == stated.root
    again = weaver("chain", "export", "--format", "tiles", "-o", str(target))
    assert (again.status, "not empty" in again.err) == (2, True)
    assert weaver("chain", "export", "--format", "tiles").status == 2
