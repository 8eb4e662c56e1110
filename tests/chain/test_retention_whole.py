"""What adds up a whole log, and what it says when the beginning of the log was pruned: never a silent hole."""

from __future__ import annotations

import pytest
from logs_for_tests import note, open_log

from weftos import chain, limits
from weftos.artifacts.holding import REFERENCE
from weftos.chain.copies.restore import restore
from weftos.chain.folder.pages import FileSource, Pages
from weftos.chain.folder.reader import list_segments, read_whole
from weftos.chain.index.log_index import LogIndex
from weftos.chain.retention.policy import RetentionPolicy, archive_segments, plan, prune_segments, to_archive
from weftos.chain.statements.lineage import LINEAGE_KIND, Derivation
from weftos.chain.statements.seals import SEAL_KIND, SealState
from weftos.chain.verification.verify_seals import SealCheck
from weftos.disk.secret_file import RealSecretFiles
from weftos.errors import ChainError, RecordPruned
from weftos.service.artifact_scan import held_hashes, scan_holdings

HASH = "ab" * 32
POLICY = RetentionPolicy(keep_segments=4)


@pytest.fixture
def opened(home, signer, archive):
    def make(**settings):
        return open_log(home, signer=signer, segment_bytes=limits.CHAIN_SEGMENT_MIN_BYTES, archive=archive, **settings)

    return make


def grow(writer, count=150):
    for number in range(count):
        writer.append(note(number))
    writer.checkpoint()


def prune(writer):
    """Archive and prune; return the number of the oldest record that is left."""
    writer.checkpoint()
    archive_segments(writer, to_archive(writer.directory, writer.archive, writer.checkpoints.size).segments)
    writer.checkpoint()
    todo = plan(writer.directory, POLICY, writer.archive, writer.checkpoints.size, 0, None).segments
    assert todo, "something goes"
    prune_segments(writer, todo, archived=True)
    return list_segments(writer.directory).first_seq


def warnings(report):
    return [one.code for one in report.warnings]


def test_what_a_pruned_record_holds_is_not_taken_for_loose(home, opened, archive, tmp_path):
    with opened() as writer:
        named = writer.append(chain.NewEvent("agent:1", "app.made", {REFERENCE: {"hash": HASH, "size": 1}})).seq
        grow(writer)
        assert HASH in scan_holdings(home).hashes()
        assert prune(writer) > named
        size = writer.head.seq + 1
    with pytest.raises(RecordPruned, match="were pruned"):
        held_hashes(str(home), size, lambda: False)
    with pytest.raises(RecordPruned, match="weaver chain restore"):
        scan_holdings(home)
    restore(str(home), archive, str(tmp_path / "whole"))
    assert HASH in scan_holdings(tmp_path / "whole").hashes()


def test_who_needs_the_whole_log_is_told_that_it_is_not(home, opened):
    with opened() as writer:
        grow(writer)
        assert [one.seq for one in read_whole(home)] == list(range(writer.head.seq + 1))
        prune(writer)
    with pytest.raises(RecordPruned, match="first record on"):
        next(read_whole(home))


def keyed(number):
    return chain.NewEvent("agent:1", "app.order", {"n": number}, position=number, key=f"orders#{number}")


def test_a_key_in_a_pruned_record_is_known_or_nothing_is(home, opened, tmp_path):
    folder = str(tmp_path / "index")
    with opened() as writer:
        first = writer.append(keyed(1)).seq
        grow(writer)
        index = LogIndex.open(folder, str(home), writer.log_id, writer.head.seq + 1)
        early = writer.head.seq + 1
        assert index.secure() == early
        grow(writer)
        assert prune(writer) > first
        log_id, size = writer.log_id, writer.head.seq + 1
        index.close()
        # What was kept is on the disk, and the rest is read from the log; but only if nothing lies between.
        if early < list_segments(str(home)).first_seq:
            with pytest.raises(RecordPruned, match="cannot be made again"):
                LogIndex.open(folder, str(home), log_id, size)
    (tmp_path / "index" / "log.db").unlink()
    with pytest.raises(RecordPruned, match="it is not there"):
        LogIndex.open(folder, str(home), log_id, size)
    assert not (tmp_path / "index" / "log.db").exists(), "none that lacks keys is left behind"


def test_an_index_that_was_complete_outlives_the_records(home, opened, tmp_path):
    folder = str(tmp_path / "index")
    with opened() as writer:
        first = writer.append(keyed(1)).seq
        grow(writer)
        index = LogIndex.open(folder, str(home), writer.log_id, writer.head.seq + 1)
        assert index.secure() == writer.head.seq + 1
        index.close()
        assert prune(writer) > first
        again = writer.append(keyed(2)).seq
        writer.commit()
        index = LogIndex.open(folder, str(home), writer.log_id, writer.head.seq + 1)
    try:
        assert index.rebuilt == ""
        found = index.find_key(keyed(1))
        assert (found.seq, found.same) == (first, True)
        assert index.find_key(keyed(2)).seq == again
    finally:
        index.close()
    # Damage is not a reason to begin anew with fewer keys.
    (tmp_path / "index" / "log.db").write_bytes(b"no database" * 100)
    with pytest.raises(RecordPruned, match="cannot be used"):
        LogIndex.open(folder, str(home), writer.log_id, writer.head.seq + 1)
    assert (tmp_path / "index" / "log.db").read_bytes().startswith(b"no database")


def seal(writer, state, root=None):
    made = writer.checkpoint()
    payload = state.seal(0, made.size, root or made.root).to_payload()
    return writer.append(chain.NewEvent("chain", SEAL_KIND, payload)).seq


def test_seals_of_a_pruned_log(home, opened, archive, signer, tmp_path):
    with opened() as writer:
        state, key = SealState.create(RealSecretFiles(), str(tmp_path / "seal.state"), writer.log_id)
        for _ in range(3):
            grow(writer, 60)
            seal(writer, state)
        first = prune(writer)
        seal(writer, state)
        grow(writer, 5)
    check = SealCheck([key])
    report = chain.verify(home, keys=signer.public, seals=check)
    assert (report.valid, report.errors, report.checks.seals, report.first_seq) == (True, [], True, first)
    assert "seals_unchecked" in warnings(report)
    assert 0 < report.seals.seals < 4
    whole = chain.verify(home, keys=signer.public, seals=check, archive=archive)
    assert (whole.errors, whole.seals.seals, warnings(whole)) == ([], 4, [])
    other = SealState.create(RealSecretFiles(), str(tmp_path / "other.state"), bytes(16))[1]
    assert "seal_invalid" in [one.code for one in chain.verify(home, seals=SealCheck([other])).errors]
    # What is sealed is compared with the tree over the pruned records too.
    with opened() as writer:
        seal(writer, state, bytes(32))
    assert [one.code for one in chain.verify(home, seals=check).errors] == ["seal_root"]


def test_seals_that_are_all_pruned_are_not_missing(home, opened, signer, tmp_path):
    with opened() as writer:
        state, key = SealState.create(RealSecretFiles(), str(tmp_path / "seal.state"), writer.log_id)
        grow(writer, 20)
        at = seal(writer, state)
        grow(writer, 200)
        assert prune(writer) > at
    report = chain.verify(home, keys=signer.public, seals=SealCheck([key]))
    assert (report.valid, report.errors, report.checks.seals) == (True, [], None)
    assert "seals_unchecked" in warnings(report)


def derived(child, parent=None):
    step = Derivation(child, b"c" * 32, parent, None if parent is None else b"c" * 32, "user")
    return chain.NewEvent("agent:1", LINEAGE_KIND, step.to_payload(), child)


def test_a_lineage_whose_beginning_was_pruned_is_not_called_wrong(home, opened, archive, signer):
    with opened() as writer:
        writer.append(derived("a"))
        grow(writer)
        prune(writer)
        writer.append(derived("b", "a"))
        writer.checkpoint()
    report = chain.verify(home, keys=signer.public)
    assert (report.valid, report.errors, report.checks.lineage) == (True, [], None)
    assert "lineage_unchecked" in warnings(report)
    whole = chain.verify(home, keys=signer.public, archive=archive)
    assert (whole.errors, whole.checks.lineage) == ([], True)
    assert "lineage_unchecked" not in warnings(whole)


def test_a_page_below_the_border_is_refused(home, opened, signer):
    with opened() as writer:
        grow(writer)
        first = prune(writer)
        covered = writer.checkpoints.size
    pages = Pages(str(home))
    for seq in (0, 1, first - 1):
        with pytest.raises(RecordPruned, match=f"begins with record {first}"):
            pages.read(seq, 10, 4096, covered)
        with pytest.raises(RecordPruned):
            FileSource(home).page(seq, 10, 4096)
    assert pages.read(first, 3, 4096, covered)
    assert issubclass(RecordPruned, ChainError)
