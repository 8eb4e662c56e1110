"""From the files of a store to its state, and back into the manifest.

Guaranteed: what is read is what was there when the last ``sync`` returned, or later, or there is an error and no file
was changed but for what a crash had left over.
"""

from __future__ import annotations

import os
import re
from typing import Final

from weftos.disk.files import Files
from weftos.ecc.vectors.collection import Collection
from weftos.ecc.vectors.digests import SUM_BYTES, ContentSum
from weftos.ecc.vectors.journals import Journals, journal_number
from weftos.ecc.vectors.ledger import Ledger
from weftos.ecc.vectors.manifest import MANIFEST, CollectionState, Manifest, read_manifest, write_manifest
from weftos.ecc.vectors.segment import Segment
from weftos.ecc.vectors.state import State
from weftos.errors import JournalFailed, VectorsDamaged

__all__ = ["SEGMENT_NAME", "Opened", "open_folder", "write_checkpoint"]

SEGMENT_NAME: Final = re.compile(r"segment-[0-9a-f]{24}")


class Opened:
    """A store that was read.

    Attributes:
        state: collections and ledger.
        journals: of the store.
        generation: of the manifest.
    """

    def __init__(self, state: State, journals: Journals, generation: int) -> None:
        self.state, self.journals, self.generation = state, journals, generation


def open_folder(fs: Files, folder: str) -> Opened:
    """Read a store, or make one where there is none.

    Raises:
        JournalDamaged: a file is missing, altered or another's.
        OSError: a call failed.
    """
    if not os.path.isdir(folder):
        fs.make_dir(folder)
        fs.sync_dir(os.path.dirname(os.path.abspath(folder)))
    if not os.path.lexists(os.path.join(folder, MANIFEST)):
        _make(fs, folder)
    manifest = read_manifest(folder)
    collections: list[Collection] = []
    try:
        for one in manifest.collections:
            read = _collection(folder, one, manifest.first_journal)
            collections.append(read)  # one by one, so that those before are closed when this one is damaged
        state = State(Ledger(fs, folder, manifest.ledger), collections, manifest.first_journal)
        journals = Journals(fs, folder, manifest.first_journal, fresh=manifest.generation == 1, apply=state.replay)
        if journals.next_op not in (-1, state.ledger.last_op + 1) or (journals.next_op == -1 and journals.count > 1):
            journals.close()
            raise VectorsDamaged(
                f"{folder}: the journals end before mutation {state.ledger.last_op} of the manifest; restore them"
            )
    except BaseException:
        for collection in collections:
            collection.close()
        raise
    state.journal = journals.current
    journals.begin(state.ledger.last_op + 1)
    _remove_leftovers(fs, folder, state, journals)
    return Opened(state, journals, manifest.generation)


def write_checkpoint(fs: Files, folder: str, opened: Opened) -> None:
    """Write what is known into the manifest, and remove the files that it does not need any more.

    Raises:
        JournalFailed: it did not work. What was synced is kept; open the store again.
    """
    state, journals = opened.state, opened.journals
    journals.sync()
    needed = [table.journal for collection in state.by_uid.values() for table in collection.tables() if table.live]
    first = min([journals.current, *needed])
    try:
        ledger = state.ledger.save()
        states = [collection.state(ledger.ops) for collection in state.by_uid.values()]
        write_manifest(fs, folder, Manifest(opened.generation + 1, first, ledger, states))
        opened.generation += 1
        journals.drop_before(first)
        for path in [os.path.join(folder, file) for file in state.dropped]:
            if os.path.lexists(path):
                fs.unlink(path)
        state.dropped = []
    except OSError as error:
        journals.fail(error)
        raise JournalFailed(f"{folder}: {error.strerror}; free the disk and open the store again") from error


def _make(fs: Files, folder: str) -> None:
    """Begin an empty store."""
    for name in os.listdir(folder):
        if journal_number(name) is not None or SEGMENT_NAME.fullmatch(name):
            raise VectorsDamaged(f"{folder}: the manifest is missing, but {name} is there; restore it from a copy")
    write_manifest(fs, folder, Manifest(1, 1, Ledger(fs, folder).save(), []))


def _collection(folder: str, kept: CollectionState, journal: int) -> Collection:
    if len(kept.content) != SUM_BYTES:
        raise VectorsDamaged(f"{folder}: the manifest has no sum of the content of {kept.spec.name!r}")
    collection = Collection(kept.uid, kept.spec, journal)
    collection.content = ContentSum(kept.content)
    collection.sealed_through = kept.sealed_through
    collection.upserts, collection.deletes = kept.upserts, kept.deletes
    collection.generation = kept.generation
    try:
        for one in kept.segments:
            collection.segments.append(load_segment(folder, one.file, one.digest, collection))
            collection.segments[-1].kill_bits(one.dead)
    except BaseException:
        collection.close()
        raise
    return collection


def load_segment(folder: str, file: str, digest: bytes, collection: Collection) -> Segment:
    """Read a segment of a collection.

    Raises:
        VectorsDamaged: it is missing, altered or another's.
    """
    segment = Segment.load(os.path.join(folder, file), digest)
    head, spec = segment.head, collection.spec
    if (head.uid, head.dimension, head.metric, head.file) != (collection.uid, spec.dimension, spec.metric, file):
        segment.close()
        raise VectorsDamaged(f"{folder}: {file} is a segment of another collection; restore it from a copy")
    return segment


def _remove_leftovers(fs: Files, folder: str, state: State, journals: Journals) -> None:
    """Remove what a crash left: old journals, segments that were not adopted, temporary files."""
    known = {segment.head.file for one in state.by_uid.values() for segment in one.segments} | set(state.dropped)
    for name in os.listdir(folder):
        number = journal_number(name)
        stem = name.removesuffix(".tmp")
        segment = SEGMENT_NAME.fullmatch(stem) is not None
        temporary = stem != name and (segment or stem == MANIFEST or journal_number(stem) is not None)
        if temporary or (segment and name not in known) or (number is not None and number < journals.first):
            fs.unlink(os.path.join(folder, name))
