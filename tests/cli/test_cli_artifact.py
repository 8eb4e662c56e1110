"""``weaver artifact`` without a kernel, which is the store's folder alone, and what it asks of a kernel."""

from __future__ import annotations

import io
import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from samples import STATUS

from weftos import chain
from weftos.artifacts import ArtifactStore
from weftos.errors import ArtifactCorrupted
from weftos.rpc import artifact_types as t

BINARY = bytes(range(256)) * 300


@pytest.fixture
def store(weaver):
    weaver.home.mkdir()
    return ArtifactStore(weaver.home / "artifacts")


def run(weaver, *args, **more):
    """The real program: standard output is what a shell would get."""
    command = [sys.executable, "-m", "weftos.cli.main", "--home", str(weaver.home), "artifact", *args]
    return subprocess.run(command, capture_output=True, timeout=60, **more)


def spoil(store, digest):
    path = Path(store.directory, digest[:2], digest)
    path.write_bytes(path.read_bytes() + b"!")
    return path


# --- reading ----------------------------------------------------------------------------------------------------------


def test_get_writes_exactly_the_content(weaver, store, tmp_path):
    ref = store.put(BINARY, "application/octet-stream")
    done = run(weaver, "get", ref.hash)
    assert (done.returncode, done.stdout, done.stderr) == (0, BINARY, b"")
    target = tmp_path / "out"
    outcome = weaver("artifact", "get", ref.hash, "-o", str(target), "--json")
    assert outcome.json == {
        "hash": ref.hash,
        "size": len(BINARY),
        "content_type": "application/octet-stream",
        "file": str(target),
    }
    assert target.read_bytes() == BINARY
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["out"]


def test_an_empty_artifact_is_an_artifact(weaver, store):
    ref = store.put(b"", "text/plain")
    done = run(weaver, "get", ref.hash)
    assert (done.returncode, done.stdout) == (0, b"")


def test_the_first_digits_will_do(weaver, store):
    refs = [store.put(b"%d" % number, "text/plain") for number in range(3)]
    for number, ref in enumerate(refs):
        assert run(weaver, "get", ref.hash[:8]).stdout == b"%d" % number
    outcome = weaver("artifact", "get", "00000000")
    assert outcome.status == 1
    assert "`weaver artifact list`" in outcome.err


def test_digits_that_several_begin_with_are_refused(weaver, store):
    seen: dict[str, str] = {}
    for number in range(20_000):
        # Six digits of a hash meet after some thousand tries.
        content = b"%d" % number
        from blake3 import blake3

        digest = blake3(content).hexdigest()
        if digest[:6] in seen:
            break
        seen[digest[:6]] = digest
    else:
        pytest.fail("no two began alike")
    for one in (content, b"%d" % list(seen).index(digest[:6])):
        store.put(one, "text/plain")
    outcome = weaver("artifact", "get", digest[:6], "--json", "-o", "/dev/null")
    assert (outcome.status, outcome.error["code"]) == (2, "rpc.invalid")
    assert "2 artifacts" in outcome.error["message"]


@pytest.mark.parametrize("text", ["", "12345", "x" * 64, "0" * 65, "A" * 64, "../../keys"])
def test_what_is_no_hash_is_wrong_usage(weaver, store, text):
    assert weaver("artifact", "get", text).status == 2


def test_json_needs_a_place_for_the_content(weaver, store):
    ref = store.put(b"x", "text/plain")
    outcome = weaver("artifact", "get", ref.hash, "--json")
    assert outcome.status == 2
    assert "--output" in outcome.error["message"]


def test_binary_content_does_not_go_to_a_terminal(weaver, store):
    ref = store.put(BINARY, "application/octet-stream")
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "weftos.cli.main", "--home", str(weaver.home), "artifact", "get", ref.hash]
    done = subprocess.run(command, stdout=theirs, stderr=subprocess.PIPE, timeout=60)
    os.close(theirs)
    os.close(ours)
    assert done.returncode == 2
    assert b"--output FILE" in done.stderr


def test_a_closed_pipe_is_no_error_of_ours(weaver, store):
    ref = store.put(BINARY * 50, "application/octet-stream")
    command = [sys.executable, "-m", "weftos.cli.main", "--home", str(weaver.home), "artifact", "get", ref.hash]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.read(10)
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(60) == 141


@pytest.mark.parametrize("target", ["/dev/full", "no/such/folder/out"])
def test_a_target_that_cannot_be_written_is_said(weaver, store, tmp_path, target):
    ref = store.put(BINARY, "application/octet-stream")
    outcome = weaver("artifact", "get", ref.hash, "-o", str(tmp_path / target), "--json")
    assert outcome.status == 1
    assert outcome.error["code"] == "artifact.storage"
    assert [path.name for path in tmp_path.iterdir()] == ["home"]


def test_damage_is_told_and_left_alone_without_a_kernel(weaver, store, tmp_path):
    good, bad = store.put(b"good", "text/plain"), store.put(b"bad", "text/plain")
    path = spoil(store, bad.hash)
    for command in (["get", bad.hash, "-o", str(tmp_path / "out")], ["verify"]):
        outcome = weaver("artifact", *command)
        assert outcome.status == 5
        assert "is damaged" in outcome.err + outcome.out
    assert path.exists()
    assert not (tmp_path / "out").exists()
    assert run(weaver, "get", bad.hash).stdout == b""
    report = weaver("artifact", "verify", "--json").json
    assert (report["checked"], [one["hash"] for one in report["damaged"]], report["missing"]) == (2, [bad.hash], [])
    assert weaver("artifact", "verify", good.hash[:10], "--json").json["damaged"] == []


def test_damage_is_shown_to_the_kernel_if_there_is_one(weaver, store):
    ref = store.put(b"bad", "text/plain")
    spoil(store, ref.hash)
    said = ArtifactCorrupted("the kernel looked, and set it aside")
    with weaver.kernel(artifact_stat=said) as kernel:
        outcome = weaver("artifact", "get", ref.hash)
    assert (outcome.status, kernel.asked) == (5, [("artifact.stat", {"hash": ref.hash, "check": True})])
    assert "the kernel looked" in outcome.err


def test_list_shows_what_is_there(weaver, store):
    refs = [store.put(b"%d" % number * 2000, f"text/x-{number}") for number in range(3)]
    Path(store.directory, refs[0].hash[:2], refs[0].hash).write_bytes(b"no header")
    rows = {row["hash"]: row for row in weaver("artifact", "list", "--json").json}
    assert rows.keys() == {ref.hash for ref in refs}
    assert rows[refs[0].hash]["content_type"] is None
    assert (rows[refs[1].hash]["size"], rows[refs[1].hash]["content_type"]) == (2000, "text/x-1")
    text = weaver("artifact", "list").out
    assert [line.split()[0] for line in text.splitlines()[1:]] == sorted(rows)
    assert "damaged" in text


def test_without_a_store_there_is_nothing(weaver):
    assert weaver("artifact", "list", "--json").json == []
    assert weaver("artifact", "verify", "--json").json == {"checked": 0, "damaged": [], "missing": []}
    assert not weaver.home.exists(), "looking makes nothing"


def test_stat_says_what_holds_it_as_the_log_tells(weaver, store):
    ref = store.put(b"content", "text/plain")
    other = store.put(b"other", "text/plain")
    facts = {"hash": ref.hash, "size": 7, "content_type": "text/plain"}
    with chain.ChainWriter.open(weaver.home / "chain", boot_id=b"b" * 16) as writer:

        def add(kind, payload):
            return writer.append(chain.NewEvent("artifacts", kind, payload)).seq

        put = add("artifact.put", facts | {"by": "operator"})
        add("artifact.put", facts | {"by": "agent:3"})
        add("artifact.release", {"hash": ref.hash, "by": "agent:3"})
        named = [add("app.result", {"artifact": facts}) for _ in range(2)]
        add("app.result", {"artifact": {"hash": "no reference"}})
        lost = add("artifact.put", {"hash": "0" * 64, "size": 1, "content_type": "text/plain", "by": "operator"})
    found = weaver("artifact", "stat", ref.hash, "--json").json
    assert (found["put_by"], found["named_by"]) == ([{"by": "operator", "record": put}], named)
    assert (found["size"], found["set_aside"]) == (7, [])
    text = weaver("artifact", "stat", ref.hash).out
    assert f"operator (record {put})" in text
    assert f"2 records: {named[0]}, {named[1]}" in text
    assert weaver("artifact", "stat", other.hash, "--json").json["put_by"] == []
    assert lost
    outcome = weaver("artifact", "verify", "--json")
    assert (outcome.status, outcome.json["missing"]) == (5, ["0" * 64])


# --- what a kernel is asked -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["file", "stdin"])
def test_put_stores_the_content_and_has_it_recorded(weaver, tmp_path, way):
    file = tmp_path / "notes.txt"
    file.write_bytes(b"some notes")

    def put(params):
        return t.ArtifactPutResult(hash=params.hash, size=10, content_type=params.content_type, record=7)

    weaver.home.mkdir()
    with weaver.kernel(kernel_status=STATUS, artifact_put=put) as kernel:
        given = (str(file),) if way == "file" else ("-", "--type", "text/x-own")
        outcome = weaver("artifact", "put", *given, "--json", stdin=b"some notes")
        assert outcome.status == 0, outcome.err
        digest = outcome.json["hash"]
        assert outcome.json["content_type"] == ("text/plain" if way == "file" else "text/x-own")
        text = weaver("artifact", "put", *given, stdin=b"some notes")
    assert text.out == f"{digest}\n", "so that it can be used in a shell"
    assert "record 7" in text.err
    assert [method for method, _ in kernel.asked] == ["kernel.status", "artifact.put"] * 2
    assert kernel.asked[1][1]["data"] is None
    assert run(weaver, "get", digest).stdout == b"some notes"


def test_put_refuses_before_it_stores_anything(weaver, tmp_path):
    weaver.home.mkdir()
    with weaver.kernel(kernel_status=STATUS) as kernel:
        for arguments, code in (
            (["/etc/hostname", "--type", "no type"], "rpc.invalid"),
            ([str(tmp_path / "none")], "artifact.storage"),
            ([str(tmp_path)], "artifact.storage"),
        ):
            outcome = weaver("artifact", "put", *arguments, "--json")
            assert (outcome.status != 0, outcome.error["code"]) == (True, code)
    assert {method for method, _ in kernel.asked} == {"kernel.status"}
    assert ArtifactStore(weaver.home / "artifacts").list() == []


def test_the_quota_of_the_configuration_holds_for_weaver_too(weaver, tmp_path):
    weaver.home.mkdir()
    (weaver.home / "weftos.toml").write_text('[artifacts]\nstore_bytes = "10kB"\n')
    file = tmp_path / "large.bin"
    file.write_bytes(bytes(20_000))
    with weaver.kernel(kernel_status=STATUS):
        outcome = weaver("artifact", "put", str(file), "--json")
    assert outcome.error["code"] == "artifact.quota"
    assert "weaver artifact gc" in outcome.error["hint"]


RESULT = t.ArtifactGcResult(removed=25, freed_bytes=4096, hashes=["a" * 64] * 25, young=2, held=3, dry_run=True)


def test_gc_asks_the_kernel(weaver):
    with weaver.kernel(artifact_gc=RESULT) as kernel:
        assert weaver("artifact", "gc", "--dry-run", "--older-than", "60", "--json").json["removed"] == 25
        text = weaver("artifact", "gc", "--dry-run").out
    assert kernel.asked == [
        ("artifact.gc", {"older_than_secs": 60.0, "dry_run": True}),
        ("artifact.gc", {"older_than_secs": None, "dry_run": True}),
    ]
    lines = text.splitlines()
    assert lines.count("a" * 64) == 20
    assert lines[-2:] == ["and 5 more", "25 artifacts would go (4.0 KiB); 3 held, 2 too young"]
    assert weaver("artifact", "gc", "--older-than", "-1").status == 2


def test_release_asks_the_kernel(weaver, store):
    ref = store.put(b"x", "text/plain")
    with weaver.kernel(artifact_release=t.ArtifactReleased(hash=ref.hash, record=9)) as kernel:
        assert weaver("artifact", "release", ref.hash[:12], "--json").json == {"hash": ref.hash, "record": 9}
        assert "record 9" in weaver("artifact", "release", ref.hash).out
    assert kernel.asked == [("artifact.release", {"hash": ref.hash})] * 2


# --- the bar ----------------------------------------------------------------------------------------------------------


def test_a_bar_is_drawn_on_a_terminal_for_what_is_large(weaver, store, tmp_path):
    ref = store.put(io.BytesIO(bytes(40_000_000)), "application/octet-stream")
    ours, theirs = pty.openpty()
    command = [
        *(sys.executable, "-m", "weftos.cli.main", "--home", str(weaver.home)),
        *("artifact", "get", ref.hash, "-o", str(tmp_path / "out")),
    ]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "80"}
    done = subprocess.run(command, stderr=theirs, stdout=subprocess.PIPE, timeout=60, env=environment)
    os.close(theirs)
    drawn = os.read(ours, 100_000)
    os.close(ours)
    assert (done.returncode, done.stdout) == (0, b"")
    assert b"reading" in drawn
    assert (tmp_path / "out").stat().st_size == 40_000_000


def test_rows_of_the_log_show_a_reference_in_short():
    from weftos.rpc.chain_view import detail_line

    facts = {"hash": "ab" * 32, "size": 1234, "content_type": "text/plain"}
    line = detail_line({"n": 1, "artifact": facts})
    assert line == f"n=1 artifact={'ab' * 6}… (1234 bytes, text/plain)"
    assert json.dumps(facts["hash"])[1:13] in line
    assert detail_line({"artifact": {"hash": 5}}) == 'artifact={"hash":5}'
