"""The artifact store of a real service process: what holds what, what a collection takes, and what a kill leaves."""

from __future__ import annotations

import io
import os
import shutil
import signal
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from blake3 import blake3
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from kernel_double import KernelDouble, leftovers

from weftos import chain
from weftos.artifacts import ArtifactStore
from weftos.artifacts.looking import list_artifacts
from weftos.artifacts.reading import ArtifactFile
from weftos.artifacts.sealed import make_sealed
from weftos.service import protocol as p
from weftos.service.artifact_desk import ArtifactDesk
from weftos.service.artifact_protocol import (
    CollectArtifacts,
    ListArtifacts,
    OpenArtifact,
    ReleaseArtifact,
    StatArtifact,
    StoreArtifact,
)
from weftos.service.artifact_removal import PendingRemoval
from weftos.service.artifact_scan import scan_holdings

TEXT = "text/plain"
#: So long ago nothing was put.
LONG_S = 1e6


def name_of(content):
    return blake3(content).hexdigest()


@contextmanager
def sealed(content):
    fd = make_sealed((content,))
    try:
        yield [fd]
    finally:
        os.close(fd)


def put(kernel, content, by="agent:1", content_type=TEXT):
    with sealed(content) as fds:
        return kernel.ask_artifact(StoreArtifact(content_type), fds, by)


def name(kernel, content, size=None):
    reference = {"hash": name_of(content), "size": len(content) if size is None else size, "content_type": TEXT}
    return kernel.ask(p.Append("app.named", {"artifact": reference}))


def collect(kernel, older_than_s=0.0, dry_run=False):
    return kernel.ask_artifact(CollectArtifacts(older_than_s, dry_run), by="operator")


def folder(kernel):
    return f"{kernel.chain_dir}.artifacts"


def kept(kernel):
    return [info.hash for info in list_artifacts(folder(kernel))]


def records(kernel, prefix="artifact."):
    return [record for record in chain.read(kernel.chain_dir) if record.kind.startswith(prefix)]


def read(kernel, content):
    serial = kernel.post_artifact(OpenArtifact(name_of(content)))
    reply = kernel.result(serial)
    if isinstance(reply, p.Failed):
        assert serial not in kernel.descriptors
        return reply
    with ArtifactFile.of_descriptor(kernel.descriptors.pop(serial)[0], name_of(content)) as file:
        return file.read_content()


@pytest.fixture
def running(kernel):
    kernel.start()
    return kernel


# --- the model --------------------------------------------------------------------------------------------------------

CONTENTS = st.sampled_from([b"", b"one", b"two", b"x" * 70_000])
PEOPLE = st.sampled_from(["agent:1", "agent:2", "operator"])


class Model(RuleBasedStateMachine):
    """A dictionary does the same as service, log and folder, over any restart."""

    def __init__(self):
        super().__init__()
        self.home = Path(tempfile.mkdtemp())
        self.kernel = KernelDouble(self.home)
        self.kernel.start()
        self.there: set[bytes] = set()
        self.puts: dict[bytes, set[str]] = {}
        self.named: dict[bytes, set[int]] = {}

    def teardown(self):
        self.kernel.close()
        assert leftovers(self.kernel.prefix) == []
        shutil.rmtree(self.home)

    def held(self):
        return {one for one in self.there if self.puts.get(one) or self.named.get(one)}

    @rule(content=CONTENTS, by=PEOPLE)
    def put(self, content, by):
        reply = put(self.kernel, content, by)
        assert isinstance(reply, p.Done), reply
        assert reply.values["hash"] == name_of(content)
        record = records(self.kernel)[-1]
        assert (record.seq, record.kind, record.payload["by"]) == (reply.values["record"], "artifact.put", by)
        self.there.add(content)
        self.puts.setdefault(content, set()).add(by)

    @rule(content=CONTENTS)
    def name(self, content):
        reply = name(self.kernel, content)
        if content in self.there:
            assert isinstance(reply, p.Appended), reply
            self.named.setdefault(content, set()).add(reply.seq)
        else:
            assert reply.code == "artifact.not_found"

    @rule(content=CONTENTS, by=PEOPLE)
    def release(self, content, by):
        reply = self.kernel.ask_artifact(ReleaseArtifact(name_of(content)), by=by)
        if content not in self.there:
            assert reply.code == "artifact.not_found"
            return
        assert isinstance(reply, p.Done)
        holders = self.puts.get(content, set())
        holders.clear() if by == "operator" else holders.discard(by)

    @rule(data=st.data())
    def redact(self, data):
        choices = sorted(seq for seqs in self.named.values() for seq in seqs)
        if choices:
            seq = data.draw(st.sampled_from(choices))
            assert isinstance(self.kernel.ask(p.Redact(seq, "it has to go", "operator")), p.Done)
            for seqs in self.named.values():
                seqs.discard(seq)

    @rule(content=CONTENTS)
    def read(self, content):
        found = read(self.kernel, content)
        assert found == content if content in self.there else found.code == "artifact.not_found"

    @rule(dry_run=st.booleans())
    def collect(self, dry_run):
        loose = self.there - self.held()
        done = collect(self.kernel, dry_run=dry_run).values
        assert set(done["hashes"]) == {name_of(content) for content in loose}
        assert (done["removed"], done["held"], done["young"]) == (len(loose), len(self.held()), 0)
        if loose and not dry_run:
            assert set(records(self.kernel)[-1].payload["hashes"]) == set(done["hashes"])
        if not dry_run:
            self.there = self.held()
            self.puts = {one: by for one, by in self.puts.items() if one in self.there}

    @rule()
    def collect_what_is_old(self):
        done = collect(self.kernel, LONG_S).values
        assert (done["removed"], done["young"]) == (0, len(self.there - self.held()))

    @rule(kill=st.booleans())
    def restart(self, kill):
        if kill:
            self.kernel.kill_service()
        else:
            assert self.kernel.stop_service() == 0
            self.kernel.channel.close()
        self.kernel.start()

    @invariant()
    def the_folder_is_the_model(self):
        assert kept(self.kernel) == sorted(map(name_of, self.there))

    @invariant()
    def the_log_adds_up_to_the_model(self):
        self.kernel.head()
        held = scan_holdings(self.kernel.chain_dir).hashes()
        assert held == {name_of(content) for content in self.held()}


def test_the_store_is_what_the_log_adds_up_to():
    run_state_machine_as_test(
        Model,
        settings=settings(
            max_examples=5,
            stateful_step_count=20,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            database=None,
        ),
    )


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_store_is_what_the_log_adds_up_to_over_long_lives():
    run_state_machine_as_test(
        Model,
        settings=settings(
            max_examples=25,
            stateful_step_count=60,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            database=None,
        ),
    )


# --- killed in the middle ---------------------------------------------------------------------------------------------


def kill_here():
    os.kill(os.getpid(), signal.SIGKILL)


def before_the_note():
    PendingRemoval.announce = lambda *_: kill_here()


def after_the_note():
    real = PendingRemoval.announce

    def announce(self, note):
        real(self, note)
        kill_here()

    PendingRemoval.announce = announce


def after_the_record():
    PendingRemoval.carry_out = lambda *_: kill_here()


def in_the_middle_of_the_removal():
    def remove(self, digests, before_ns, real=ArtifactStore.remove):
        real(self, list(digests)[:1], before_ns)
        kill_here()

    ArtifactStore.remove = remove


def after_the_removal():
    def remove(self, digests, before_ns, real=ArtifactStore.remove):
        real(self, digests, before_ns)
        kill_here()

    ArtifactStore.remove = remove


@pytest.mark.parametrize(
    ("where", "done"),
    [
        (before_the_note, False),
        (after_the_note, False),
        (after_the_record, True),
        (in_the_middle_of_the_removal, True),
        (after_the_removal, True),
    ],
)
def test_a_collection_that_was_killed_is_finished_at_the_next_start_if_it_is_on_the_log(kernel, where, done):
    kernel.start(before=where)
    loose, held = [b"loose %d" % number for number in range(3)], b"held"
    for content in (*loose, held):
        put(kernel, content)
    for content in loose:
        kernel.ask_artifact(ReleaseArtifact(name_of(content)))
    kernel.post_artifact(CollectArtifacts(0.0), by="operator")
    assert kernel.service.wait() == -signal.SIGKILL
    kernel.drain()
    kernel.channel.close()
    kernel.start()
    announced = [record for record in records(kernel) if record.kind == "artifact.gc"]
    assert len(announced) == done
    if done:
        assert set(announced[0].payload["hashes"]) == set(map(name_of, loose)), "before the first file went"
        assert kept(kernel) == [name_of(held)]
    else:
        assert kept(kernel) == sorted(map(name_of, (*loose, held)))
        assert collect(kernel).values["removed"] == 3
    assert not os.path.exists(f"{folder(kernel)}/removal")
    assert read(kernel, held) == held
    assert kernel.stop_service() == 0
    report = chain.verify(kernel.chain_dir)
    assert report.valid, report.errors


def test_what_was_put_again_after_a_removal_was_announced_stays(kernel):
    """Between kill and restart somebody puts the file again, as weaver would."""
    kernel.start(before=after_the_record)
    put(kernel, b"again")
    put(kernel, b"gone")
    for content in (b"again", b"gone"):
        kernel.ask_artifact(ReleaseArtifact(name_of(content)))
    kernel.post_artifact(CollectArtifacts(0.0), by="operator")
    assert kernel.service.wait() == -signal.SIGKILL
    kernel.channel.close()
    ArtifactStore(folder(kernel)).put(b"again", TEXT)
    kernel.start()
    assert kept(kernel) == [name_of(b"again")]


def test_what_was_named_again_after_a_removal_failed_stays(kernel):
    def fail():
        from weftos.errors import ArtifactStorageFailed

        def remove(self, digests, before_ns):
            raise ArtifactStorageFailed("the disk fails for this test")

        ArtifactStore.remove = remove

    kernel.start(before=fail)
    put(kernel, b"named")
    put(kernel, b"loose")
    for content in (b"named", b"loose"):
        kernel.ask_artifact(ReleaseArtifact(name_of(content)))
    assert collect(kernel).code == "artifact.storage"
    assert kept(kernel) == sorted((name_of(b"named"), name_of(b"loose")))
    assert isinstance(name(kernel, b"named"), p.Appended), "it is there, so it can be named"
    kernel.kill_service()
    kernel.start()
    assert kept(kernel) == [name_of(b"named")]


def test_a_put_that_was_killed_before_its_record_leaves_what_nothing_holds(kernel):
    def die_before_the_record():
        def record(self, kind, *_):
            kill_here()

        ArtifactDesk._record = record

    kernel.start(before=die_before_the_record)
    with sealed(b"content") as fds:
        kernel.post_artifact(StoreArtifact(TEXT), fds)
    assert kernel.service.wait() == -signal.SIGKILL
    kernel.channel.close()
    kernel.start()
    assert kept(kernel) == [name_of(b"content")]
    assert records(kernel) == []
    assert collect(kernel, LONG_S).values["young"] == 1
    assert collect(kernel).values["hashes"] == [name_of(b"content")]
    assert kept(kernel) == []


@pytest.mark.parametrize("damage", [b"", b"no json", b'{"id":1}', b"x" * 4096])
def test_a_note_that_makes_no_sense_keeps_nobody_from_starting(kernel, damage):
    kernel.start()
    put(kernel, b"content")
    kernel.kill_service()
    Path(folder(kernel), "removal").write_bytes(damage)
    assert isinstance(kernel.start(), p.ServiceReady)
    assert kept(kernel) == [name_of(b"content")]
    assert not os.path.exists(f"{folder(kernel)}/removal")


# --- a collection and everybody else ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("where", "dry_run"), [("look", False), ("look", True), ("announce", False)])
def test_what_is_named_or_put_while_a_collection_is_under_way_stays(kernel, where, dry_run):
    gate_in, gate_out = os.pipe()

    def wait():
        owner, method = (ArtifactDesk, "_look") if where == "look" else (PendingRemoval, "announce")
        real = getattr(owner, method)

        def waiting(self, *args):
            found = real(self, *args)
            os.read(gate_in, 1)
            return found

        setattr(owner, method, waiting)

    kernel.start(before=wait)
    for content in (b"named", b"put", b"loose"):
        put(kernel, content)
        kernel.ask_artifact(ReleaseArtifact(name_of(content)))
    serial = kernel.post_artifact(CollectArtifacts(0.0, dry_run), by="operator")
    deadline = time.monotonic() + 20
    while where == "announce" and not os.path.exists(f"{folder(kernel)}/removal"):
        assert time.monotonic() < deadline
        kernel.head()
    assert isinstance(name(kernel, b"named"), p.Appended)
    if not dry_run:
        assert isinstance(put(kernel, b"put"), p.Done)
    assert collect(kernel).code == "kernel.wrong_state", "one at a time"
    os.write(gate_out, b"!")
    done = kernel.result(serial).values
    going = {name_of(b"loose")} | ({name_of(b"put")} if dry_run else set())
    assert set(done["hashes"]) == going
    assert kept(kernel) == sorted(map(name_of, (b"named", b"put", *((b"loose",) if dry_run else ()))))
    os.close(gate_in)
    os.close(gate_out)


def test_a_put_without_its_record_yet_is_too_young_for_any_collection(kernel):
    gate_in, gate_out = os.pipe()

    def wait_when_stored():
        real = ArtifactDesk._take_in

        def take_in(self, *args):
            found = real(self, *args)
            os.read(gate_in, 1)
            return found

        ArtifactDesk._take_in = take_in

    kernel.start(before=wait_when_stored)
    with sealed(b"content") as fds:
        serial = kernel.post_artifact(StoreArtifact(TEXT), fds)
    deadline = time.monotonic() + 20
    while not kept(kernel):
        assert time.monotonic() < deadline
        kernel.head()
    done = collect(kernel).values
    assert (done["removed"], done["young"]) == (0, 1)
    os.write(gate_out, b"!")
    assert isinstance(kernel.result(serial), p.Done)
    assert kept(kernel) == [name_of(b"content")]
    os.close(gate_in)
    os.close(gate_out)


def test_what_is_going_can_be_named_no_more(kernel):
    gate_in, gate_out = os.pipe()

    def wait_before_the_removal():
        real = PendingRemoval.carry_out

        def carry_out(self, *args):
            os.read(gate_in, 1)
            return real(self, *args)

        PendingRemoval.carry_out = carry_out

    kernel.start(before=wait_before_the_removal)
    put(kernel, b"going")
    kernel.ask_artifact(ReleaseArtifact(name_of(b"going")))
    serial = kernel.post_artifact(CollectArtifacts(0.0), by="operator")
    deadline = time.monotonic() + 20
    while not any(record.kind == "artifact.gc" for record in records(kernel)):
        assert time.monotonic() < deadline
        kernel.head()
    assert kept(kernel) == [name_of(b"going")]
    assert name(kernel, b"going").code == "artifact.not_found"
    os.write(gate_out, b"!")
    assert kernel.result(serial).values["removed"] == 1
    assert name(kernel, b"going").code == "artifact.not_found"
    assert isinstance(put(kernel, b"going"), p.Done)
    assert isinstance(name(kernel, b"going"), p.Appended)
    os.close(gate_in)
    os.close(gate_out)


def test_the_service_ends_in_order_while_a_put_is_under_way(running):
    with sealed(bytes(50_000_000)) as fds:
        serial = running.post_artifact(StoreArtifact(TEXT), fds)
    assert running.stop_service() == 0
    running.drain()
    reply = running.replies[serial]
    stored = [record for record in records(running) if record.kind == "artifact.put"]
    assert isinstance(reply, p.Done) == bool(stored)
    if isinstance(reply, p.Failed):
        assert reply.code == "service.unavailable"
    assert [one for one in os.listdir(folder(running)) if one.endswith(".tmp")] == []


def test_others_are_served_while_a_large_artifact_is_stored(running):
    client = running.agent(1).client()
    content = bytes(200_000_000)
    with sealed(content) as fds:
        serial = running.post_artifact(StoreArtifact(TEXT), fds)
    before = 0
    while serial not in running.replies:
        client.append("app.meanwhile", {"n": before})
        before += 1
        running.drain()
    assert before > 5
    assert running.replies[serial].values["size"] == len(content)


# --- references -------------------------------------------------------------------------------------------------------


def test_what_is_no_reference_is_refused(running):
    for reference in (
        None, 7, "text", [], {}, {"hash": "0" * 64}, {"hash": "../../etc/passwd", "size": 1, "content_type": TEXT},
        {"hash": "0" * 64, "size": "1", "content_type": TEXT}, {"hash": "0" * 64, "size": -1, "content_type": TEXT},
        {"hash": "0" * 64, "size": 1, "content_type": "no type"},
        {"hash": "0" * 64, "size": 1, "content_type": TEXT, "more": 1},
        {"hash": "A" * 64, "size": 1, "content_type": TEXT},
    ):  # fmt: skip
        reply = running.ask(p.Append("app.named", {"artifact": reference}))
        assert reply.code == "chain.append_refused", reference
        batch = p.AppendBatch([p.Event("app.n", {}), p.Event("app.n", {"artifact": reference})])
        assert running.ask(batch).code == "chain.append_refused", reference
    assert not records(running, "app."), "all or none"


def test_a_reference_must_agree_with_the_artifact(running):
    put(running, b"content")
    assert name(running, b"content", size=6).code == "chain.append_refused"
    assert name(running, b"other").code == "artifact.not_found"
    assert isinstance(name(running, b"content"), p.Appended)
    deep = {"details": {"artifact": {"hash": "no reference"}}}
    assert isinstance(running.ask(p.Append("app.deep", deep)), p.Appended), "only the payload's own key counts"


# --- damage -----------------------------------------------------------------------------------------------------------


def spoil(kernel, content):
    path = Path(folder(kernel), name_of(content)[:2], name_of(content))
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("how", ["open", "stat", "put"])
def test_damage_is_on_the_log_before_the_file_is_set_aside(running, how):
    put(running, b"content")
    path = spoil(running, b"content")
    if how == "open":
        assert read(running, b"content").code == "artifact.corrupted"
    elif how == "stat":
        assert running.ask_artifact(StatArtifact(name_of(b"content"), True)).code == "artifact.corrupted"
    else:
        assert isinstance(put(running, b"content"), p.Done)
        assert read(running, b"content") == b"content"
    damaged = [record for record in records(running) if record.kind == "artifact.damaged"]
    assert len(damaged) == 1
    assert damaged[0].payload["hash"] == damaged[0].subject == name_of(b"content")
    assert damaged[0].payload["file"] == str(path.relative_to(folder(running)))
    evidence = [one for one in os.listdir(path.parent) if ".damaged-" in one]
    assert len(evidence) == 1
    assert (path.parent / evidence[0]).read_bytes().endswith(b"conten\x75")


def test_damage_is_not_set_aside_by_a_service_that_was_killed_before_it_said_so(kernel):
    def die_instead_of_recording():
        ArtifactDesk._record_damage = lambda *_: kill_here()

    kernel.start(before=die_instead_of_recording)
    put(kernel, b"content")
    path = spoil(kernel, b"content")
    kernel.post_artifact(OpenArtifact(name_of(b"content")))
    assert kernel.service.wait() == -signal.SIGKILL
    assert path.exists()
    kernel.channel.close()
    kernel.start()
    assert read(kernel, b"content").code == "artifact.corrupted"
    assert not path.exists()


# --- limits and mistakes ----------------------------------------------------------------------------------------------


def test_the_quota_of_the_store_is_an_error_of_its_own(kernel):
    kernel.settings = {"artifacts_bytes": 100_000}
    kernel.start()
    assert isinstance(put(kernel, bytes(50_000)), p.Done)
    reply = put(kernel, bytes(60_000))
    assert reply.code == "artifact.quota"
    assert "100000" in reply.message
    assert isinstance(put(kernel, bytes(50_000)), p.Done), "it is there already"
    assert isinstance(put(kernel, b"small"), p.Done)
    kernel.ask_artifact(ReleaseArtifact(name_of(bytes(50_000))))
    assert collect(kernel).values["freed_bytes"] > 50_000
    assert isinstance(put(kernel, bytes(60_000)), p.Done), "there is room again"


def test_a_full_disk_is_an_error_of_its_own_and_stops_nothing_else(kernel):
    def small_files():
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))

    kernel.start(before=small_files)
    reply = put(kernel, bytes(400_000))
    assert reply.code == "artifact.storage"
    assert isinstance(put(kernel, b"small"), p.Done)
    assert kernel.head()["state"] == "ok"
    assert kept(kernel) == [name_of(b"small")]


def test_mistakes_have_codes(running):
    for request, code in (
        (StoreArtifact("no type"), "rpc.invalid"),
        (StoreArtifact(TEXT), "rpc.invalid"),
        (StoreArtifact(TEXT, "no hash"), "rpc.invalid"),
        (StoreArtifact(TEXT, "0" * 64), "artifact.not_found"),
        (OpenArtifact("../../keys/key"), "rpc.invalid"),
        (OpenArtifact("0" * 64), "artifact.not_found"),
        (StatArtifact("0" * 63), "rpc.invalid"),
        (StatArtifact("0" * 64, True), "artifact.not_found"),
        (ListArtifacts("x"), "rpc.invalid"),
        (ReleaseArtifact(""), "rpc.invalid"),
        (ReleaseArtifact("0" * 64), "artifact.not_found"),
        (CollectArtifacts(-1.0), "rpc.invalid"),
        (CollectArtifacts(float("nan")), "rpc.invalid"),
        (CollectArtifacts(float("inf")), "rpc.invalid"),
    ):
        assert running.ask_artifact(request).code == code, request
    assert records(running) == []


def test_agents_cannot_ask_about_artifacts_by_their_ring(running):
    client = running.agent(1).client()
    for request in (ReleaseArtifact("0" * 64), CollectArtifacts(0.0)):
        pending = client.submit(request)
        with pytest.raises(Exception, match=r"decode|no request"):
            pending.result(20)
    for kind in ("artifact.put", "artifact.release", "artifact.gc", "artifact.damaged"):
        with pytest.raises(Exception, match="app"):
            client.append(kind, {"hash": "0" * 64, "hashes": ["0" * 64], "by": "operator"})
    assert records(running) == []


def test_a_file_that_weaver_put_is_checked_before_the_log_says_so(running):
    ref = ArtifactStore(folder(running)).put(io.BytesIO(b"from weaver"), "text/x-own")
    reply = running.ask_artifact(StoreArtifact("text/x-mine", ref.hash), by="operator")
    assert (reply.values["size"], reply.values["content_type"]) == (11, "text/x-mine")
    spoil(running, b"from weaver")
    assert running.ask_artifact(StoreArtifact(TEXT, ref.hash)).code == "artifact.not_found"
    assert [record.kind for record in records(running)] == ["artifact.put", "artifact.damaged"]


def test_the_list_comes_in_parts(running):
    contents = [b"%d" % number for number in range(25)]
    for content in contents:
        put(running, content, content_type="text/plain; " + "a" * 140 + "=b")
    found, after = [], ""
    while True:
        values = running.ask_artifact(ListArtifacts(after, 10)).values
        found += [row["hash"] for row in values["artifacts"]]
        if values["complete"]:
            break
        assert len(values["artifacts"]) == 10
        after = found[-1]
    assert found == sorted(map(name_of, contents))
    assert len(running.ask_artifact(ListArtifacts("", 10**6)).values["artifacts"]) == 25


def test_many_artifacts_go_in_several_records(kernel):
    def few_at_once():
        from weftos import limits

        limits.ARTIFACT_GC_HASHES = 4

    kernel.start(before=few_at_once)
    for number in range(10):
        put(kernel, b"%d" % number)
        kernel.ask_artifact(ReleaseArtifact(name_of(b"%d" % number)))
    done = collect(kernel).values
    assert (done["removed"], len(done["hashes"])) == (10, 4)
    assert [len(r.payload["hashes"]) for r in records(kernel) if r.kind == "artifact.gc"] == [4, 4, 2]
    assert kept(kernel) == []
