"""``weaver chain bridge``: note what other logs have signed for, so that they cannot take it back unnoticed."""

from __future__ import annotations

import base64
import binascii
import sys
from pathlib import Path
from typing import BinaryIO, Final

import click

from weftos.cli import formats as f
from weftos.cli.output import Table, emit_json, note, show, write_file
from weftos.cli.session import call, instance, json_option
from weftos.errors import KernelNotRunning, ProofInvalid, ServiceUnavailable
from weftos.rpc import chain_types as ct
from weftos.rpc import types as t

__all__ = ["bridge"]

#: A checkpoint or a proof is smaller; more is not read.
_MOST_BYTES: Final = 48 * 1024


@click.group()
def bridge() -> None:
    """Note heads of foreign logs on this one.

    A head is a checkpoint that another instance signed (`weaver chain checkpoint -o FILE` there). Its keys must be
    pinned: add the lines of `weaver chain keys` there to the file known_logs here. Whoever shows another history later
    is found out, and both notes are kept. Example: `weaver chain bridge add peer.checkpoint --consistency peer.proof`.
    """


@bridge.command()
@click.argument("checkpoint", type=click.File("rb"))
@click.option(
    "--consistency",
    "proof",
    type=click.File("rb"),
    help="Proof that it continues the newest head noted here, as `weaver chain bridge prove` makes it there.",
)
@json_option
def add(checkpoint: BinaryIO, proof: BinaryIO | None, as_json: bool) -> None:
    """Note the head in a file; exit status 5 if it contradicts what was noted before.

    Without --consistency it must be signed and larger than the head before, and is noted as not proven.
    """
    data = checkpoint.read(_MOST_BYTES)
    hashes = [one.hex() for one in parse_proof(proof.read(_MOST_BYTES))] if proof is not None else None
    params = ct.BridgeParams(note=data.decode("utf-8", "replace"), proof=hashes)
    done: ct.BridgeHead = call("chain.bridge-add", params)
    if as_json:
        emit_json(done)
    else:
        shown = "shown to continue the head before" if done.proven else "not shown to continue an earlier head"
        click.echo(f"record {done.record} notes {f.count(done.size, 'record')} of {done.origin}, {shown}")


@bridge.command(name="list")
@json_option
def list_(as_json: bool) -> None:
    """Show the newest head of each foreign log; works without a kernel."""
    heads = _heads()
    if as_json:
        emit_json(heads)
        return
    table = Table(
        ("LOG", "RECORDS", "ROOT", "KEYS", "PROVEN", "RECORD"), right=("RECORDS", "RECORD"), empty="none noted"
    )
    for one in heads:
        proven = ("yes", "good") if one.proven else ("no", "warn")
        table.rows.append((one.origin, f.number(one.size), one.root[:16], one.pair_id, proven, str(one.record)))
    show(table)


def _heads() -> list[ct.BridgeHead]:
    try:
        heads: list[ct.BridgeHead] = call("chain.bridge-list", t.NoParams())
    except KernelNotRunning:
        return _from_files(instance().chain)
    except ServiceUnavailable as error:
        note(f"{error}; shown from the files")
        return _from_files(instance().chain)
    return heads


def _from_files(directory: Path) -> list[ct.BridgeHead]:
    from weftos.chain.folder.reader import read_whole
    from weftos.chain.statements.bridge import BRIDGE_KIND, Bridge

    found = {}
    for record in read_whole(directory):
        if record.kind == BRIDGE_KIND and record.source == "chain":
            head = Bridge.from_payload(record.payload)
            found[head.origin] = ct.BridgeHead(
                record=record.seq,
                origin=head.origin,
                size=head.size,
                root=head.root.hex(),
                proven=head.proof is not None,
                pair_id=head.pair_id,
            )
    return [found[origin] for origin in sorted(found)]


@bridge.command()
@click.argument("size", type=click.IntRange(min=1))
@click.option(
    "--dir", "directory", type=click.Path(file_okay=False, path_type=Path), help="Directory of another chain."
)
@click.option(
    "--checkpoint",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Checkpoint of this log to prove it for; the newest if it is left out.",
)
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="Where to write the proof.")
def prove(size: int, directory: Path | None, checkpoint: Path | None, output: Path | None) -> None:
    """Prove that a checkpoint of this log continues its first SIZE records, for whoever noted those."""
    home = directory or instance().chain
    text = "".join(f"{line}\n" for line in make_proof(home, size, checkpoint or home / "checkpoint"))
    if output is None:
        sys.stdout.write(text)
        return
    write_file(output, text)
    note(f"the proof from {size} records on is in {output}; it belongs to that checkpoint")


def make_proof(directory: Path, size: int, checkpoint: Path) -> list[str]:
    """Return the lines of a proof: ``old SIZE`` and a hash in base64 each, as a witness is asked.

    Args:
        directory: of the log.
        size: records that somebody noted.
        checkpoint: file with the newer head.

    Raises:
        ProofInvalid: the checkpoint covers less.
        ChainError: there is no checkpoint, or tiles are missing.
    """
    from weftos.chain.signing.checkpoint import parse_text
    from weftos.chain.signing.note import parse_note
    from weftos.chain.tiles.tile_tree import TileTree
    from weftos.errors import ChainError
    from weftos.merkle.proofs import consistency_proof

    try:
        head = parse_text(parse_note(checkpoint.read_bytes()).text)
        newest = parse_text(parse_note((directory / "checkpoint").read_bytes()).text)
    except OSError as error:
        raise ChainError(f"there is no checkpoint: {error.filename}: {error.strerror}") from error
    if head.size > newest.size or head.origin != newest.origin:
        raise ProofInvalid(f"{checkpoint} is no checkpoint of what the log in {directory} has signed so far")
    hashes = consistency_proof(size, head.size, TileTree(str(directory), newest.size).node)
    return [f"old {size}", *(base64.b64encode(one).decode() for one in hashes)]


def parse_proof(data: bytes) -> list[bytes]:
    """Read the hashes of a proof.

    Raises:
        ProofInvalid: it is none.
    """
    try:
        first, *lines = data.decode("ascii").splitlines()
        word, size = first.split()
        hashes = [base64.b64decode(line, validate=True) for line in lines if line]
    except (UnicodeDecodeError, ValueError, binascii.Error) as error:
        raise ProofInvalid(f"this is no proof of consistency: {error}") from error
    if word != "old" or not size.isdigit() or any(len(one) != 32 for one in hashes):
        raise ProofInvalid("a proof of consistency is a line `old SIZE` and lines of 32 bytes in base64")
    return hashes
