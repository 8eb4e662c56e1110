"""Artifacts of a running kernel: what agents may do and may not, what the log says, and weaver from outside."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from blake3 import blake3

from weftos import chain
from weftos.errors import InvalidRequest, MessageTooLarge, WeftError
from weftos.governance.capability import AgentCapabilities

TEXT = "text/plain"


def name_of(content):
    return blake3(content).hexdigest()


@pytest.fixture
def ask(kernel):
    """An archivist, and a way to tell it what to do."""
    return asker(kernel)


def asker(kernel, **params):
    # It hands over sockets and files of others, which a confined agent could not even make.
    agent = kernel.spawn("archivist", sandbox={"profile": "trusted"}, **params)

    def ask(**turn):
        return kernel.call("agent.send", pid=agent.pid, message=turn, timeout_secs=60, timeout=90).reply

    ask.pid = agent.pid
    ask.agent_id = agent.agent_id
    return ask


def put(kernel, content, **params):
    import base64

    return kernel.call("artifact.put", data=base64.b64encode(content).decode(), **params)


def records(kernel, *kinds):
    return [record for record in kernel.events() if record.kind in kinds]


def service_pid(kernel):
    return next(s.os_pid for s in kernel.call("kernel.services") if s.name == "service")


def open_files(os_pid):
    return len(os.listdir(f"/proc/{os_pid}/fd"))


# --- agents -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
def test_what_one_agent_puts_another_can_read(kernel, ask, stream):
    content = "some content " * 1000
    ref = ask(do="put", content=content, stream=stream)
    assert ref == {"hash": name_of(content.encode()), "size": len(content), "content_type": TEXT}
    other = asker(kernel)
    assert other(do="sizes", hash=ref["hash"]) == [len(content), TEXT, len(content)]
    other(do="put", content="short")
    assert other(do="get", hash=name_of(b"short")) == "short"
    found = records(kernel, "artifact.put")
    assert [record.payload["by"] for record in found] == [f"agent:{ask.pid}", f"agent:{other.pid}"]
    assert found[0].payload == ref | {"by": f"agent:{ask.pid}"}
    assert (found[0].source, found[0].subject) == ("artifacts", ref["hash"])


def test_a_record_of_any_size_by_way_of_an_artifact(shared):
    ask = asker(shared)
    ref = ask(do="put", size=5_000_000)
    seq = ask(do="append", hash=ref["hash"], size=ref["size"])
    record = next(chain.read(str(shared.home.chain), start=seq, stop=seq + 1))
    assert record.payload == {"n": 1, "artifact": ref}
    assert (record.source, record.kind) == (f"agent:{ask.pid}", "app.result")
    row = next(row for row in shared.call("chain.local", count=5) if row.sequence == seq)
    assert f"artifact={ref['hash'][:12]}… (5000000 bytes, text/plain)" in row.detail


def test_a_record_cannot_name_what_is_not_there(shared):
    ask = asker(shared)
    missing = {"hash": "0" * 64, "size": 1, "content_type": TEXT}
    assert ask(do="append_raw", artifact=missing)["error"] == "artifact.not_found"
    assert ask(do="batch", artifact=missing)["error"] == "artifact.not_found"
    assert ask(do="append_raw", artifact="some text")["error"] == "chain.append_refused"
    assert records(shared, "app.result") == []


HOSTILE = [
    "nothing", "two", "unsealed", "unsealable", "may shrink", "may grow", "writable", "a file", "a fifo", "a pipe",
    "a device", "a terminal's maker", "a folder", "a path", "write only",
]  # fmt: skip


def test_descriptors_that_are_no_sealed_memory_are_refused(kernel, ask):
    assert ask(do="hand", what="good")["size"] == 5000
    before, service = open_files(kernel.os_pid), open_files(service_pid(kernel))
    for what in HOSTILE:
        answer = ask(do="hand", what=what)
        assert answer["error"] == "rpc.invalid", what
    assert ask(do="hand", what="good")["size"] == 5000
    kernel.until(lambda: open_files(kernel.os_pid) <= before)
    kernel.until(lambda: open_files(service_pid(kernel)) == service)
    assert len(records(kernel, "artifact.put")) == 2
    assert [info.size for info in kernel.call("artifact.list").artifacts] == [5000]


def test_what_is_too_large_is_refused_before_it_is_read(shared):
    ask = asker(shared, limits={"file_bytes": 0, "artifact_bytes": 0})
    assert ask(do="hand", what="too large")["error"] == "ipc.message_too_large"


def test_an_agent_fills_its_share_and_no_more(shared):
    ask = asker(shared, limits={"artifact_bytes": 1_300_000})
    first = ask(do="put", size=600_000)
    assert ask(do="put", size=600_000) == first, "the same counts once"
    refused = ask(do="put", size=700_000)
    assert refused["error"] == "artifact.quota"
    assert "1300000" in refused["text"]
    breach = shared.until(lambda: records(shared, "resource.breach"))[0]
    assert (breach.payload["resource"], breach.payload["limit"]) == ("artifact_bytes", 1_300_000)
    assert shared.call("agent.inspect", pid=ask.pid).usage["artifact_bytes"] == 602_112
    assert ask(do="release", hash=first["hash"]) is True
    assert ask(do="put", size=700_000)["size"] == 700_000
    assert len(records(shared, "artifact.release")) == 1
    tiny = [ask(do="put", content=str(number)) for number in range(200)]
    assert any(isinstance(one, dict) and one.get("error") == "artifact.quota" for one in tiny), "each takes a block"


def test_an_agent_has_few_puts_under_way(shared):
    ask = asker(shared)
    codes = ask(do="answers", n=9, size=2_000_000)
    assert set(codes) == {"", "process.limit"}
    assert 4 <= codes.count("") < 9
    assert ask(do="put", content="later")["size"] == 5


def test_without_the_capability_nothing_can_be_put_or_read(shared):
    digest = put(shared, b"content").hash
    ask = asker(shared, capabilities=AgentCapabilities(can_store=False))
    for turn in ({"do": "put", "content": "x"}, {"do": "get", "hash": digest}, {"do": "release", "hash": digest}):
        assert ask(**turn)["error"] == "gate.denied"
    denied = [record.payload["action"] for record in records(shared, "gate.deny")]
    assert denied == ["artifact.put", "artifact.get", "artifact.release"]
    assert shared.call("agent.inspect", pid=ask.pid).usage["artifact_bytes"] == 0


def test_one_agent_cannot_release_what_another_holds(kernel, ask):
    ref = ask(do="put", content="mine")
    other = asker(kernel)
    assert other(do="release", hash=ref["hash"]) is True
    assert kernel.call("artifact.gc", older_than_secs=0).held == 1
    assert ask(do="get", hash=ref["hash"]) == "mine"
    ask(do="release", hash=ref["hash"])
    assert kernel.call("artifact.gc", older_than_secs=0).hashes == [ref["hash"]]
    assert ask(do="get", hash=ref["hash"])["error"] == "artifact.not_found"


def test_an_agent_that_ends_with_puts_under_way_harms_nobody(kernel):
    ask = asker(kernel)
    before = open_files(kernel.os_pid)
    ask(do="leave", n=4, size=30_000_000)
    kernel.call("agent.stop", pid=ask.pid, graceful=False)
    kernel.until(lambda: open_files(kernel.os_pid) < before)
    assert asker(kernel)(do="put", content="another")["size"] == 7


def test_a_service_that_dies_during_a_put_is_told_and_the_put_can_be_repeated(kernel, ask):
    before = open_files(kernel.os_pid)
    ask(do="leave", n=4, size=100_000_000)
    os.kill(service_pid(kernel), signal.SIGKILL)
    kernel.until(lambda: "the service process is back" in kernel.log())
    ref = kernel.until(lambda: put_again(ask))
    assert ask(do="get", hash=ref["hash"]) == "again"
    # The reader of the socket for the dead incarnation may still go.
    kernel.until(lambda: open_files(kernel.os_pid) <= before)
    assert kernel.call("agent.inspect", pid=ask.pid).usage["artifact_bytes"] >= 4096


def put_again(ask):
    answer = ask(do="put", content="again")
    return answer if "hash" in answer else None


def test_an_async_agent_does_the_same(shared, tmp_path):
    program = tmp_path / "later.py"
    program.write_text(
        "import io\n"
        "async def main(ctx):\n"
        "    ref = await ctx.artifacts.put(io.BytesIO(b'async content'), 'text/x-async')\n"
        "    ack = await ctx.service.append('app.async', {'n': 1}, artifact=ref)\n"
        "    assert await ctx.artifacts.get(ref) == b'async content'\n"
        "    with await ctx.artifacts.open(ref.hash) as stream:\n"
        "        assert (stream.size, stream.content_type) == (13, 'text/x-async')\n"
        "    await ctx.artifacts.release(ref)\n"
        "    async for message in ctx:\n"
        "        await ctx.reply(message, ack.seq)\n"
    )
    agent = shared.spawn(str(program))
    seq = shared.call("agent.send", pid=agent.pid, message="?").reply
    record = next(chain.read(str(shared.home.chain), start=seq, stop=seq + 1))
    assert record.payload["artifact"]["content_type"] == "text/x-async"
    assert [r.kind for r in records(shared, "artifact.put", "artifact.release")] == ["artifact.put", "artifact.release"]


def test_a_put_that_ends_after_the_kernel_said_goodbye_is_no_unclean_end(kernel, ask):
    ask(do="leave", n=4, size=60_000_000)
    kernel.stop()
    kinds = kernel.kinds()
    kernel.start()
    assert kernel.call("kernel.status").clean_start, kinds[-12:]
    assert kernel.call("artifact.gc", older_than_secs=0).young == 0
    assert len(kernel.call("artifact.list").artifacts) == (1 if "artifact.put" in kinds else 0)


def test_a_killed_kernel_is_recognised_behind_any_number_of_artifacts(kernel):
    for number in range(40):
        put(kernel, b"%d" % number)
    kernel.kill()
    kernel.start()
    assert not kernel.call("kernel.status").clean_start
    assert kernel.kinds().count("kernel.unclean_shutdown") == 1


# --- what holds what --------------------------------------------------------------------------------------------------


def test_redaction_of_the_record_that_names_it_lets_an_artifact_go(kernel, ask):
    ref = ask(do="put", content="personal")
    seq = ask(do="append", hash=ref["hash"], size=8)
    ask(do="release", hash=ref["hash"])
    assert kernel.call("artifact.gc", older_than_secs=0).held == 1
    kernel.call("chain.redact", seq=seq, reason="it was asked for")
    assert kernel.call("artifact.gc", older_than_secs=0, dry_run=True).hashes == [ref["hash"]]
    assert kernel.call("artifact.gc").young == 1, "the configured grace period is an hour"
    assert kernel.call("artifact.gc", older_than_secs=0).removed == 1
    assert kernel.call("artifact.list").artifacts == []
    report = chain.verify(str(kernel.home.chain))
    assert report.valid, report.errors


def test_what_holds_an_artifact_survives_every_end(kernel):
    """Agents of an earlier boot hold what they put, until the operator releases it; a pid may come again."""
    ask = asker(kernel)
    held, named = ask(do="put", content="held"), ask(do="put", content="named")
    ask(do="append", hash=named["hash"], size=5)
    ask(do="release", hash=named["hash"])
    for end in (kernel.stop, kernel.kill):
        end()
        kernel.start()
        assert kernel.call("artifact.gc", older_than_secs=0).held == 2
    again = asker(kernel)
    assert again.pid == ask.pid
    again(do="release", hash=held["hash"])
    assert kernel.call("artifact.gc", older_than_secs=0).held == 2, "that agent is another"
    kernel.call("artifact.release", hash=held["hash"])
    assert kernel.call("artifact.gc", older_than_secs=0).hashes == [held["hash"]]
    assert again(do="get", hash=named["hash"]) == "named"


def test_damage_is_told_recorded_and_kept(kernel, ask):
    ref = ask(do="put", content="precious")
    path = kernel.home.artifacts / ref["hash"][:2] / ref["hash"]
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    answer = ask(do="get", hash=ref["hash"])
    assert answer["error"] == "artifact.corrupted"
    evidence = [one for one in path.parent.iterdir() if ".damaged-" in one.name]
    assert len(evidence) == 1
    assert str(evidence[0]) in answer["text"]
    assert evidence[0].read_bytes().endswith(b"preciou?")
    assert [record.subject for record in records(kernel, "artifact.damaged")] == [ref["hash"]]
    assert ask(do="get", hash=ref["hash"])["error"] == "artifact.not_found"
    assert ask(do="put", content="precious") == ref, "putting it again mends it"
    assert ask(do="get", hash=ref["hash"]) == "precious"


def test_the_configuration_says_how_large_the_store_is_and_how_old_its_garbage(cold):
    cold.home.root.mkdir(exist_ok=True)
    cold.home.config.write_text('[artifacts]\nstore_bytes = "1MB"\ngrace_secs = 0\n[limits]\nartifact_bytes = "10MB"\n')
    cold.start()
    ask = asker(cold)
    first = ask(do="put", size=600_000)
    answer = ask(do="put", size=700_000)
    assert answer["error"] == "artifact.quota"
    assert "1000000" in answer["text"]
    ask(do="release", hash=first["hash"])
    assert cold.call("artifact.gc").removed == 1
    assert ask(do="put", size=700_000)["size"] == 700_000


def test_the_record_of_a_collection_cannot_be_redacted(kernel):
    """Without it the log would say that what went is still needed."""
    made = put(kernel, b"content")
    kernel.call("artifact.release", hash=made.hash)
    kernel.call("artifact.gc", older_than_secs=0)
    seq = records(kernel, "artifact.gc")[0].seq
    with pytest.raises(WeftError, match=r"artifact\.gc"):
        kernel.call("chain.redact", seq=seq, reason="why not")
    assert weaver(kernel, "artifact", "verify").returncode == 0


# --- the control socket -----------------------------------------------------------------------------------------------


def test_the_control_socket_puts_and_gets_what_is_small(kernel):
    made = put(kernel, bytes(range(256)), content_type="application/x-own")
    assert (made.hash, made.size) == (name_of(bytes(range(256))), 256)
    found = kernel.call("artifact.get", hash=made.hash)
    assert (found.data, found.content_type) == (bytes(range(256)), "application/x-own")
    stat = kernel.call("artifact.stat", hash=made.hash, check=True)
    assert (stat.checked, stat.size) == (True, 256)
    assert records(kernel, "artifact.put")[0].payload["by"] == "operator"
    large = put(kernel, bytes(512 * 1024))
    assert len(kernel.call("artifact.get", hash=large.hash).data) == 512 * 1024


def test_the_control_socket_refuses_what_is_large_or_makes_no_sense(kernel, ask):
    with pytest.raises(InvalidRequest):
        put(kernel, bytes(512 * 1024 + 1))
    ref = ask(do="put", size=512 * 1024 + 1)
    before = open_files(kernel.os_pid)
    with pytest.raises(MessageTooLarge, match="weaver artifact get"):
        kernel.call("artifact.get", hash=ref["hash"])
    kernel.until(lambda: open_files(kernel.os_pid) <= before)
    for method, params in (
        ("artifact.put", {}),
        ("artifact.put", {"data": "eA==", "hash": "0" * 64}),
        ("artifact.put", {"data": "no base64!"}),
        ("artifact.put", {"data": "eA==", "content_type": "nonsense"}),
        ("artifact.get", {"hash": "../../keys"}),
        ("artifact.list", {"after": "x"}),
        ("artifact.gc", {"older_than_secs": -1}),
    ):
        with pytest.raises(InvalidRequest):
            kernel.call(method, **params)
    for method in ("artifact.get", "artifact.stat", "artifact.release"):
        with pytest.raises(WeftError, match="no artifact"):
            kernel.call(method, hash="0" * 64)


def weaver(kernel, *args, **more):
    command = [sys.executable, "-m", "weftos.cli.main", "--home", str(kernel.home.root), *args]
    return subprocess.run(command, capture_output=True, timeout=120, **more)


def test_weaver_puts_and_gets_with_a_kernel_and_gets_without(kernel, tmp_path):
    file = Path(tmp_path, "large.bin")
    file.write_bytes(os.urandom(20_000_000))
    done = weaver(kernel, "artifact", "put", str(file))
    assert done.returncode == 0, done.stderr
    digest = done.stdout.decode().strip()
    assert digest == name_of(file.read_bytes())
    assert weaver(kernel, "artifact", "get", digest[:10]).stdout == file.read_bytes()
    assert b"operator" in weaver(kernel, "artifact", "stat", digest).stdout
    kernel.stop()
    assert weaver(kernel, "artifact", "get", digest).stdout == file.read_bytes()
    assert weaver(kernel, "artifact", "verify").returncode == 0
    assert weaver(kernel, "artifact", "put", str(file)).returncode == 6
    kernel.start()
    assert weaver(kernel, "artifact", "release", digest).returncode == 0
    assert b"1 artifact removed" in weaver(kernel, "artifact", "gc", "--older-than", "0").stdout
    assert weaver(kernel, "artifact", "verify", "--json").stdout == b'{"checked":0,"damaged":[],"missing":[]}\n'
