"""Segments archived and pruned: what stays provable, who copes, and the world ending at every call."""

from __future__ import annotations

import errno
import gzip
import hashlib
import os
import shutil
from pathlib import Path

import pytest
from blake3 import blake3
from dying_files import UnsyncedFiles
from logs_for_tests import Crash, FaultyDisk, Ticking, note, open_log

from weftos import chain, limits
from weftos.chain.copies.restore import restore
from weftos.chain.folder.locate import record_at
from weftos.chain.folder.reader import kept_records
from weftos.chain.retention.policy import (
    RetentionPolicy,
    archive_segments,
    plan,
    prune_segments,
    segment_rows,
    to_archive,
)
from weftos.chain.signing.checkpoint import Checkpoint, log_origin, parse_text
from weftos.chain.signing.note import parse_note
from weftos.chain.tiles.tile_tree import TileTree, root_at
from weftos.chain.verification.proof_file import check_proof, make_proof
from weftos.chain.writing.key_change import rotate_keys
from weftos.errors import (
    AppendRefused,
    ArchiveFailed,
    ChainCorrupted,
    ChainError,
    RecordPruned,
    StorageFailed,
)
from weftos.merkle.proofs import consistency_proof, verify_consistency

SMALL = limits.CHAIN_SEGMENT_MIN_BYTES
SECRET = "Quintus Fabius, born 1961"
POLICY = RetentionPolicy(keep_segments=4)


def opened(home, signer, archive, **settings):
    # Of what a loss of power takes only ``FaultyDisk`` knows here; nobody else has to wait for the disk.
    settings.setdefault("fs", UnsyncedFiles())
    return open_log(home, signer=signer, segment_bytes=SMALL, archive=archive, **settings)


def prune(writer, policy=POLICY, *, archived=True, keep_from=None):
    """Archive and prune all that may go; return how many segments went."""
    writer.checkpoint()
    if archived:
        archive_segments(writer, to_archive(writer.directory, writer.archive, writer.checkpoints.size).segments)
        writer.checkpoint()
    else:
        policy = RetentionPolicy(keep_segments=policy.keep_segments, archive=False)
    todo = plan(writer.directory, policy, writer.archive, writer.checkpoints.size, 0, keep_from).segments
    if todo:
        prune_segments(writer, todo, archived=archived)
    return len(todo)


def grant(source, ring):
    payload = {"ring": ring, "from": 1, "to": 2, "direct": True, "broadcast": False, "topics": []}
    return chain.NewEvent(source, "ipc.grant", payload | {"capacity_bytes": 65536})


def grow(writer, count=120):
    for number in range(count):
        writer.append(note(number))
    writer.checkpoint()


@pytest.fixture
def pruned(home, signer, archive):
    """A log of 600 notes, most of them pruned and archived; its public keys, and its records as they were."""
    with opened(home, signer, archive) as writer:
        grow(writer, 600)
        records = list(chain.read(home))
        assert prune(writer) > 40
        grow(writer, 20)
    return records


# --- what stays -------------------------------------------------------------------------------------------------------


def test_a_pruned_log_verifies_and_says_what_nobody_looked_at(home, signer, archive, pruned):
    first = next(iter(chain.read(home))).seq
    assert first > 400
    assert not (home / "00000001.log").exists()
    for keys in (signer.public, None):
        for workers in (1, 2):
            report = chain.verify(home, keys=keys, workers=workers)
            assert (report.valid, report.errors, report.pruned, report.first_seq) == (True, [], first, first)
            assert report.checks.pruned
            assert report.checks.root
            assert report.checks.archive is None
    whole = chain.verify(home, keys=signer.public, archive=archive, workers=2)
    assert (whole.valid, whole.errors, whole.pruned, whole.first_seq) == (True, [], 0, 0)
    assert (whole.records, whole.checks.archive, whole.root) == (whole.size, True, report.root)
    assert whole.archived == len(segment_rows(str(home), archive)) - report.segments


def test_every_pruned_record_can_be_proved_by_who_has_the_archive(home, signer, archive, pruned):
    origin = log_origin(pruned[0].header.log_id)
    for record in (*pruned[:3], *pruned[100:500:37], pruned[-1]):
        proof = make_proof(home, record.seq, archive)
        assert check_proof(proof, signer.public, origin)[0].hash == record.hash
    with pytest.raises(RecordPruned, match=r"archived to .*--archive"):
        make_proof(home, 5)
    with pytest.raises(RecordPruned, match="is not in /nowhere"):
        make_proof(home, 5, "/nowhere")


def test_the_tree_of_every_size_can_still_be_had_and_continued(home, signer, archive):
    roots = {}
    with opened(home, signer, archive) as writer:
        for size in range(40, 700, 61):
            grow(writer, size - writer.head.seq - 1)
            roots[writer.checkpoints.size] = writer.checkpoints.newest.root
        prune(writer)
        newest = writer.checkpoints.newest
    for size, root in roots.items():
        assert root_at(str(home), size, newest.size) == root
        nodes = TileTree(str(home), newest.size)
        verify_consistency(size, root, newest.size, newest.root, consistency_proof(size, newest.size, nodes.node))


def test_entries_of_pruned_records_are_gone_and_their_hashes_are_not(home, signer, archive, pruned):
    first = next(iter(chain.read(home))).seq
    assert not (home / "tile" / "entries" / "000").exists()
    assert (home / "tile" / "0" / "000").stat().st_size == 256 * 32
    held = b"".join(path.read_bytes() for path in home.rglob("*") if path.is_file())
    assert pruned[first // 256 * 256 - 1].header_bytes not in held


def test_records_that_are_needed_for_ever_are_kept(home, archive, tmp_path):
    keys = chain.Signer.open(tmp_path / "keys")
    first = keys.public
    with opened(home, keys, archive) as writer:
        grow(writer)
        rotate_keys(writer, keys)
        grow(writer)
        writer.append(grant("kernel", 3))
        writer.append(grant("agent:9", 4))
        grow(writer)
        assert prune(writer)
        rotate_keys(writer, keys)
        grow(writer)
        assert prune(writer)
        grow(writer)
        rotate_keys(writer, keys)
    kinds = [record.kind for record in kept_records(home)]
    assert kinds == ["genesis", "key.genesis", "key.rotate", "ipc.grant", "key.rotate"]
    for trusted in (first, keys.public, None):
        report = chain.verify(home, keys=trusted)
        assert (report.valid, report.errors, report.signed_by) == (True, [], keys.public.pair_id)
    # Signed by a pair that was handed over since: the changes on the log lead to the one in force.
    with opened(home, chain.Signer.open(keys.folder), archive) as writer:
        writer.append(note(1))


def test_windows_of_a_ring_that_is_still_open_are_compared(home, signer, archive):
    def window(side, agent, digest):
        payload = {"ring": 3, "side": side, "incarnation": 1, "window": 7, "prev": bytes(32), "from": 0, "to": 9,
                   "first": 0, "last": 1, "count": 1, "bytes": 9, "digest": digest * 32, "complete": True,
                   "final": False, "producer": 1, "consumer": 2, "lost": [], "lost_count": 0, "opened_ns": 1,
                   "closed_ns": 2, "resumed": False}  # fmt: skip
        return chain.NewEvent(f"agent:{agent}", "ipc.window", payload)

    with opened(home, signer, archive) as writer:
        writer.append(grant("kernel", 3))
        grow(writer)
        prune(writer)
        writer.append(window("producer", 1, b"a"))
        writer.append(window("consumer", 2, b"b"))
    report = chain.verify(home)
    assert {error.code for error in report.errors} == {"window_mismatch"}
    # Their numbers begin at 7, and whether others were there nobody can tell.
    assert "windows_unchecked" in [one.code for one in report.warnings]
    # A grant of an earlier boot is not kept for ever.
    with opened(home, signer, archive, boot_id=b"n" * 16) as writer:
        grow(writer)
        prune(writer)
    assert "ipc.grant" not in [record.kind for record in kept_records(home)]


def test_an_archived_segment_is_what_the_log_says(home, signer, archive, pruned):
    with opened(home, signer, archive) as writer:
        grow(writer)
        archive_segments(writer, to_archive(str(home), archive, writer.checkpoints.size).segments)
    said = [r.payload for r in pruned + list(chain.read(home)) if r.kind == "chain.archived"]
    assert len(said) > 3
    for payload in said:
        path = os.path.join(archive, f"{payload['segment']:08d}.log.gz")
        data = Path(path).read_bytes()
        assert (len(data), hashlib.sha256(data).digest()) == (payload["size"], payload["sha256"])
        assert blake3(data).digest() == payload["blake3"]
        content = gzip.decompress(data)
        assert (len(content), blake3(content).digest()) == (payload["content_size"], payload["content_blake3"])
    rows = segment_rows(str(home), archive)
    assert [row.name for row in rows] == [f"{n:08d}.log" for n in range(1, len(rows) + 1)]
    assert [row.first_seq for row in rows[1:]] == [row.first_seq + row.records for row in rows[:-1]]
    assert {row.state for row in rows} == {"pruned", "archived", "live"}
    assert rows[-1].open
    assert rows[0].state == "pruned"
    assert rows[0].archive


# --- who copes --------------------------------------------------------------------------------------------------------


def test_readers_say_where_the_log_begins(home, signer, archive, pruned):
    records = list(chain.read(home))
    first = records[0].seq
    assert [r.seq for r in records] == list(range(first, records[-1].seq + 1))
    assert [r.seq for r in chain.read(home, start=first)] == [r.seq for r in records]
    assert [r.seq for r in chain.tail(home, 100_000)] == [r.seq for r in records]
    for ask in (lambda: next(chain.read(home, start=first - 1)), lambda: record_at(home, first - 1)):
        with pytest.raises(RecordPruned, match=f"the log begins with record {first}"):
            ask()


def test_a_reader_that_is_overtaken_is_told(home, signer, archive):
    with opened(home, signer, archive) as writer:
        grow(writer, 300)
        slow = chain.read(home)
        assert next(slow).seq == 0
        prune(writer)
        with pytest.raises(RecordPruned):
            list(slow)


def test_the_log_goes_on_over_many_openings(home, signer, archive):
    for _ in range(4):
        with opened(home, signer, archive) as writer:
            assert writer.statistics().bytes == sum(path.stat().st_size for path in home.glob("*.log"))
            assert writer.statistics().segments == len(list(home.glob("*.log")))
            grow(writer, 150)
            assert prune(writer) > 5
            assert writer.statistics().bytes == sum(path.stat().st_size for path in home.glob("*.log"))
        assert chain.verify(home, keys=signer.public, archive=archive).valid
    assert len(list(home.glob("*.log"))) < 12


def test_what_was_submitted_before_is_still_known(home, signer, archive):
    with opened(home, signer, archive) as writer:
        acks = [writer.append(note(n, producer="p", position=n)) for n in range(200)]
        prune(writer)
        assert writer.append(note(0, producer="p", position=0)) == acks[0]
    with opened(home, signer, archive) as writer:
        # At the least the newest closed segment and the open one are looked through.
        assert writer.append(note(199, producer="p", position=199)) == acks[199]


def test_verifying_from_an_older_checkpoint(home, signer, archive):
    with opened(home, signer, archive) as writer:
        grow(writer, 50)
        old = writer.checkpoints.newest
        grow(writer, 400)
        middle = writer.checkpoints.newest
        prune(writer)
        grow(writer, 300)
        newer = writer.checkpoints.newest
        for _ in range(4):
            grow(writer, 77)  # so that the partial tiles of that checkpoint are gone
    for since in (old, middle, newer):
        report = chain.verify(home, keys=signer.public, since=since)
        assert (report.valid, report.errors, report.since) == (True, [], since.size)
        lie = Checkpoint(since.origin, since.size, b"x" * 32)
        assert not chain.verify(home, keys=signer.public, since=lie).valid
    with pytest.raises(ChainError, match="not from an older checkpoint"):
        chain.verify(home, since=old, archive=archive)


def test_tiles_that_are_lost_are_made_again_behind_what_was_pruned(home, signer, archive, pruned):
    first = next(iter(chain.read(home))).seq
    kept = TileTree(str(home), parse_text(parse_note((home / "checkpoint").read_bytes()).text).size).edge(first)
    full = [home / "tile" / "0" / f"{n:03d}" for n in range(first // 256)]
    for path in home.joinpath("tile").rglob("*"):
        if path.is_file() and str(path.relative_to(home)) not in kept and path not in full:
            path.unlink()
    with opened(home, signer, archive) as writer:
        grow(writer, 300)
    assert chain.verify(home, keys=signer.public, archive=archive).valid
    data = full[0].read_bytes()
    for bad in (bytes(32) + data[32:], None):
        full[0].unlink()
        if bad is not None:
            full[0].write_bytes(bad)
        report = chain.verify(home, keys=signer.public)
        assert [error.code for error in report.errors] == ["pruned_invalid"]
    full[0].write_bytes(data)
    (home / "tile" / "1" / "000.p" / str(first // 256)).unlink()
    assert not chain.verify(home, keys=signer.public).valid
    shutil.rmtree(home / "tile")
    with pytest.raises(ChainCorrupted, match="chain restore"), opened(home, signer, archive):
        pass


# --- what may go ------------------------------------------------------------------------------------------------------


def test_rules(home, signer, archive):
    clock = Ticking(step=10**9)
    with opened(home, signer, archive, clock=clock) as writer:
        for n in range(200):
            writer.append(note(n))
        writer.checkpoint()
        covered = writer.checkpoints.size

        def gone(now=clock.now, covered=covered, keep_from=None, **rules):
            return plan(str(home), RetentionPolicy(archive=False, **rules), "", covered, now, keep_from)

        closed = len(list(home.glob("*.log"))) - 1
        assert gone().segments == []
        assert "no rule" in gone().why_not
        assert len(gone(keep_segments=3).segments) == closed - 3
        assert len(gone(keep_bytes=1).segments) == closed - 1, "the newest closed one stays in any case"
        kept = gone(keep_bytes=20_000)
        left = sum(p.stat().st_size for p in sorted(home.glob("*.log"))[len(kept.segments) :])
        assert 20_000 <= left < 20_000 + 2 * SMALL
        assert "20000 bytes" in kept.why_not
        half = gone(keep_days=100 / 86_400).segments
        assert half
        assert clock.now - half[-1].end_ns >= 100 * 10**9
        # What any of the rules keeps stays.
        assert len(gone(keep_segments=3, keep_bytes=20_000).segments) == len(kept.segments)
        assert all(one.next_seq <= 77 for one in gone(keep_segments=1, covered=77).segments)
        assert "77 records" in gone(keep_segments=1, covered=77).why_not
        assert all(one.next_seq <= 55 for one in gone(keep_segments=1, keep_from=55).segments)
        assert "from 55 on" in gone(keep_segments=1, keep_from=55).why_not
        only = plan(str(home), RetentionPolicy(keep_segments=1), archive, covered, 0)
        assert (only.segments, only.why_not) == ([], "segment 00000001 is not archived")


def test_without_an_archive_if_somebody_says_so(home, signer):
    with opened(home, signer, "") as writer:
        grow(writer, 200)
        with pytest.raises(ArchiveFailed, match="archive_dir"):
            archive_segments(writer, to_archive(str(home), "", 10**6).segments[:1])
        assert prune(writer, archived=False) > 5
        with pytest.raises(RecordPruned, match="gone already"):
            writer.redact(5, "x", "operator")
    assert chain.verify(home, keys=signer.public).valid
    with pytest.raises(RecordPruned, match="archived nowhere"):
        record_at(home, 5)


def test_an_archive_of_another_log_is_left_alone(home, signer, archive, tmp_path):
    with opened(home, signer, archive) as writer:
        grow(writer)
        prune(writer)
    other = chain.Signer.open(tmp_path / "other-keys")
    with opened(tmp_path / "other", other, archive) as writer:
        grow(writer)
        with pytest.raises(ArchiveFailed, match="an archive of its own"):
            archive_segments(writer, to_archive(writer.directory, "", 10**6).segments[:1])
    assert chain.verify(home, keys=signer.public, archive=archive).valid


def test_a_full_archive_stops_nothing_else(home, signer, archive):
    class Full(chain.RealFiles):
        def write(self, fd, data):
            if os.readlink(f"/proc/self/fd/{fd}").startswith(archive):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return super().write(fd, data)

    with opened(home, signer, archive, fs=Full()) as writer:
        grow(writer)
        with pytest.raises(OSError, match="No space"):
            prune(writer)
        assert os.listdir(archive) == []
        grow(writer)
    assert chain.verify(home, keys=signer.public).valid


def test_an_archive_that_differs_keeps_the_segment(home, signer, archive):
    with opened(home, signer, archive) as writer:
        grow(writer)
        archive_segments(writer, to_archive(str(home), archive, writer.checkpoints.size).segments)
        for name in ("00000003.log.gz", "00000004.log.gz"):
            path = os.path.join(archive, name)
            content = gzip.decompress(Path(path).read_bytes())
            Path(path).write_bytes(gzip.compress(content.replace(b"app.note", b"app.vote")))
        with pytest.raises(ArchiveFailed, match="differs"):
            prune(writer)
        assert (home / "00000001.log").exists()
        assert not (home / "pruned.next").exists()
        os.unlink(os.path.join(archive, "00000003.log.gz"))
        os.unlink(os.path.join(archive, "00000004.log.gz"))
        assert prune(writer) > 3
    assert chain.verify(home, keys=signer.public, archive=archive).valid


def test_a_damaged_segment_is_not_pruned(home, signer, archive):
    with opened(home, signer, archive) as writer:
        grow(writer)
        path = home / "00000003.log"
        good = path.read_bytes()
        path.write_bytes(good.replace(b"app.note", b"app.vote", 1))
        with pytest.raises(ChainCorrupted, match=r"00000003\.log"):
            prune(writer)
        assert len(os.listdir(archive)) == 2
        path.write_bytes(good)
        assert prune(writer)


# --- erasing ----------------------------------------------------------------------------------------------------------


def plain_bytes(*folders):
    """All that can be read in these folders, packed or not."""
    found = b""
    for folder in folders:
        for path in folder.rglob("*"):
            if path.is_file():
                data = path.read_bytes()
                found += gzip.decompress(data) if path.suffix == ".gz" else data
    return found


@pytest.mark.parametrize("place", ["pruned", "here and archived"])
def test_a_payload_is_erased_in_the_archive_too(home, signer, archive, tmp_path, place):
    with opened(home, signer, archive) as writer:
        grow(writer, 30)
        seq = writer.append(chain.NewEvent("agent:7", "app.person", {"name": SECRET})).seq
        grow(writer)
        if place == "pruned":
            prune(writer)
        else:
            archive_segments(writer, to_archive(str(home), archive, writer.checkpoints.size).segments)
        assert SECRET.encode() in plain_bytes(tmp_path / "archive")
        writer.redact(seq, "asked to", "operator")
        with pytest.raises(AppendRefused, match="gone already"):
            writer.redact(seq, "again", "operator")
        grow(writer, 3)
    assert SECRET.encode() not in plain_bytes(home, tmp_path / "archive")
    report = chain.verify(home, keys=signer.public, archive=archive)
    assert (report.valid, report.errors, report.checks.withheld) == (True, [], 1)
    assert chain.verify(home, keys=signer.public).valid


@pytest.mark.parametrize("state", ["pruned", "here"])
def test_an_erasure_waits_for_an_archive_that_is_out_of_reach(home, signer, archive, state):
    with opened(home, signer, archive) as writer:
        grow(writer)
        archive_segments(writer, to_archive(str(home), archive, writer.checkpoints.size).segments)
        if state == "pruned":
            prune(writer)
        os.rename(archive, f"{archive}.away")
        before = writer.head.seq
        with pytest.raises(ArchiveFailed, match="make the archive reachable"):
            writer.redact(20, "asked to", "operator")
        assert writer.head.seq == before, "nothing was announced"
        os.rename(f"{archive}.away", archive)
        writer.redact(20, "asked to", "operator")
    assert chain.verify(home, keys=signer.public, archive=archive).checks.withheld == 1


# --- restoring --------------------------------------------------------------------------------------------------------


def test_a_restored_copy_is_the_whole_log(home, signer, archive, tmp_path, pruned):
    done = restore(home, archive, str(tmp_path / "copy"))
    copy = tmp_path / "copy"
    report = chain.verify(copy, keys=signer.public)
    assert (report.valid, report.errors, report.pruned, report.first_seq) == (True, [], 0, 0)
    assert (done.records, done.segments, done.archived > 40) == (report.records, report.segments, True)
    assert [r.hash for r in chain.read(copy)][: len(pruned)] == [r.hash for r in pruned]
    assert check_proof(make_proof(copy, 7), signer.public, log_origin(pruned[0].header.log_id))[0].seq == 7
    # It can take the place of the original, and be pruned again.
    shutil.rmtree(home)
    copy.rename(home)
    with opened(home, signer, archive) as writer:
        grow(writer)
        assert prune(writer) > 40
    assert chain.verify(home, keys=signer.public, archive=archive).valid


def test_nothing_is_restored_from_a_wrong_archive(home, signer, archive, tmp_path, pruned):
    copy = tmp_path / "copy"
    swapped = os.path.join(archive, "00000002.log.gz")
    good = Path(swapped).read_bytes()
    shutil.copy(os.path.join(archive, "00000003.log.gz"), swapped)
    with pytest.raises(ChainCorrupted, match="does not follow record"):
        restore(home, archive, str(copy))
    assert not copy.exists()
    os.unlink(swapped)
    with pytest.raises(ArchiveFailed, match="segment 00000002 is neither"):
        restore(home, archive, str(copy))
    Path(swapped).write_bytes(good)
    copy.mkdir()
    (copy / "mine").write_text("x")
    with pytest.raises(ArchiveFailed, match="not empty"):
        restore(home, archive, str(copy))
    assert (copy / "mine").exists()


# --- the world ends ---------------------------------------------------------------------------------------------------


def model(tmp_path):
    home = tmp_path / "model" / "chain"
    home.parent.mkdir()
    archive = str(tmp_path / "model" / "archive")
    with opened(home, chain.Signer.open(tmp_path / "model" / "keys"), archive) as writer:
        grow(writer, 25)
        seq = writer.append(chain.NewEvent("agent:7", "app.person", {"name": SECRET})).seq
        grow(writer, 105)
        assert prune(writer, RetentionPolicy(keep_segments=8)) > 4
        return seq


def copy_of(tmp_path, name):
    folder = tmp_path / name
    shutil.copytree(tmp_path / "model", folder)
    return folder / "chain", chain.Signer.open(folder / "keys"), str(folder / "archive")


def act(home, signer, archive, disk, act):
    """One life in which segments are archived, pruned, or a payload erased; left as the disk left it."""
    writer = opened(home, signer, archive, fs=disk)
    try:
        act(writer)
        writer.close()
    finally:
        writer.abandon()


def archiving(writer):
    grow(writer, 12)
    archive_segments(writer, to_archive(writer.directory, writer.archive, writer.checkpoints.size).segments[:1])


def pruning(writer):
    writer.commit()
    todo = plan(writer.directory, POLICY, writer.archive, writer.checkpoints.size, 0).segments[:3]
    if len(todo) == 3:
        prune_segments(writer, todo, archived=True)


def erasing(seq):
    return lambda writer: writer.redact(seq, "asked to", "operator")


@pytest.mark.parametrize("power", [*(pytest.param(one, marks=pytest.mark.slow) for one in (None, 0.0)), 0.5])
@pytest.mark.parametrize("what", [pytest.param("archiving", marks=pytest.mark.slow), "pruning", "erasing"])
def test_the_world_ends_at_each_call(tmp_path, what, power):
    seq = model(tmp_path)
    doing = {"archiving": archiving, "pruning": pruning, "erasing": erasing(seq)}[what]
    home, signer, archive = copy_of(tmp_path, "rehearsal")
    hashes = {r.seq: r.hash for r in chain.read(home)}
    disk = FaultyDisk()
    act(home, signer, archive, disk, doing)
    assert disk.calls > 15
    for at, call in enumerate(disk.names):
        name = f"{at}-{call}"
        home, signer, archive = copy_of(tmp_path, name)
        faulty = FaultyDisk(at, Crash())
        with pytest.raises(Crash):
            act(home, signer, archive, faulty, doing)
        faulty.shut()
        if power is not None:
            faulty.lose_power(power)
        before = chain.verify(home)
        again = chain.Signer.open(signer.folder)
        with opened(home, again, archive) as writer:
            announced = [r.payload["size"] for r in chain.read(home) if r.kind == "chain.pruned"]
            first = next(iter(chain.read(home))).seq
            assert announced[-1] == first, name
            assert not [one for one in os.listdir(home) if one.endswith((".tmp", ".next"))], name
            assert writer.statistics().bytes == sum(path.stat().st_size for path in home.glob("*.log"))
        report = chain.verify(home, keys=signer.public, archive=archive)
        assert (report.valid, report.errors) == (True, []), (name, before.errors)
        assert {r.seq: r.hash for r in chain.read(home) if r.seq in hashes}.items() <= hashes.items()
        said = [r for r in chain.read(home) if r.kind == "chain.redacted"]
        assert len(said) == report.checks.withheld, name
        if said:
            assert SECRET.encode() not in plain_bytes(home, home.parent / "archive"), name
        shutil.rmtree(home.parent)


@pytest.mark.parametrize("what", [pytest.param("archiving", marks=pytest.mark.slow), "pruning"])
def test_each_call_fails_once(tmp_path, what):
    model(tmp_path)
    doing = {"archiving": archiving, "pruning": pruning}[what]
    home, signer, archive = copy_of(tmp_path, "rehearsal")
    disk = FaultyDisk()
    act(home, signer, archive, disk, doing)
    for at, call in enumerate(disk.names):
        home, signer, archive = copy_of(tmp_path, f"{at}-{call}")
        with pytest.raises((StorageFailed, OSError), match="No space"):
            act(home, signer, archive, FaultyDisk(at, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))), doing)
        with opened(home, chain.Signer.open(signer.folder), archive) as writer:
            pruning(writer)
            grow(writer, 5)
        report = chain.verify(home, keys=signer.public, archive=archive)
        assert (report.valid, report.errors) == (True, []), (at, call)
        shutil.rmtree(home.parent)


def test_a_verification_between_announcement_and_removal(home, signer, archive, monkeypatch):
    """Whoever verifies in the middle of it sees the log before or after, and it is whole."""
    from weftos.chain.retention import pruning as module

    seen = []
    real = module._remove

    def look(fs, directory, listing):
        seen.append(chain.verify(home, keys=signer.public))
        real(fs, directory, listing)

    monkeypatch.setattr(module, "_remove", look)
    with opened(home, signer, archive) as writer:
        grow(writer)
        prune(writer)
    assert [(one.valid, one.pruned > 0, one.errors) for one in seen] == [(True, True, [])]


def test_a_copy_made_by_hand_is_not_forgotten_by_pruning_without_an_archive(home, signer, archive, tmp_path):
    with opened(home, signer, archive) as writer:
        seq = writer.append(chain.NewEvent("agent:7", "app.person", {"name": SECRET})).seq
        grow(writer)
        archive_segments(writer, to_archive(str(home), archive, writer.checkpoints.size).segments[:5])
        assert prune(writer, archived=False) > 5
        assert next(iter(chain.read(home))).seq < 100, "one act takes those that are alike"
        assert prune(writer, archived=False) > 1
        grow(writer, 1)
        writer.redact(seq, "asked to", "operator")
        with pytest.raises(RecordPruned, match="never archived"):
            writer.redact(80, "asked to", "operator")
    assert SECRET.encode() not in plain_bytes(home, tmp_path / "archive")
    assert chain.verify(home, keys=signer.public).valid


def test_an_erasure_for_which_the_archive_has_no_room_is_refused(home, signer, archive):
    class Full(chain.RealFiles):
        full = False

        def write(self, fd, data):
            if self.full and os.readlink(f"/proc/self/fd/{fd}").startswith(archive):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return super().write(fd, data)

    disk = Full()
    with opened(home, signer, archive, fs=disk) as writer:
        grow(writer)
        prune(writer)
        disk.full = True
        before = writer.head.seq
        with pytest.raises(ArchiveFailed, match=r"nothing is erased: .*No space"):
            writer.redact(20, "asked to", "operator")
        assert writer.head.seq == before
        disk.full = False
        writer.redact(20, "asked to", "operator")
    assert chain.verify(home, keys=signer.public, archive=archive).checks.withheld == 1
