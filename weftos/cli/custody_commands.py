"""``weaver custody``: a signed statement of what this instance holds, for somebody elsewhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import BinaryIO, Final

import click

from weftos.cli import formats as f
from weftos.cli.chain_options import pinned_keys_option
from weftos.cli.output import Cell, Panel, emit_json, note, show, write_file
from weftos.cli.session import call, json_option
from weftos.errors import AttestationInvalid
from weftos.rpc import chain_types as ct
from weftos.rpc import types as t

__all__ = ["custody"]

_MOST_BYTES: Final = 64 * 1024
_BYTES: Final = ("device_id", "head_hash", "signature")


@click.group()
def custody() -> None:
    """Attest what this instance holds, for others."""


@custody.command()
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="Write the attestation to a file."
)
@json_option
def attest(output: Path | None, as_json: bool) -> None:
    """Make an attestation, signed with the log's key and recorded on the log.

    It names the device by its public key, the size, head and Merkle root of the log, and the root hash of the resource
    tree. `weaver custody check` verifies it elsewhere.
    """
    made: ct.AttestResult = call("custody.attest", t.NoParams())
    data = {"origin": made.origin, **made.attestation}
    if output is not None:
        write_file(output, json.dumps(data, indent=2) + "\n")
        note(f"the attestation is in {output}")
    if as_json:
        emit_json(made)
    else:
        _show("Custody attestation", data)


@custody.command()
@click.argument("attestation", type=click.File("rb"))
@pinned_keys_option
@json_option
def check(attestation: BinaryIO, key_file: Path | None, as_json: bool) -> None:
    """Verify an attestation that `weaver custody attest` wrote; exit status 5 when it is not genuine."""
    from weftos.chain.statements.custody import Attestation, verify_attestation
    from weftos.cli.chain_keys import keys_of_origin

    try:
        data = json.loads(attestation.read(_MOST_BYTES))
        origin = str(data.pop("origin"))
        payload = data | {name: bytes.fromhex(data[name]) for name in _BYTES}
        payload["roots"] = {str(name): bytes.fromhex(root) for name, root in data["roots"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise AttestationInvalid(f"this is no attestation: {error}") from error
    found = Attestation.from_payload(payload)
    verify_attestation(found, keys_of_origin(origin, key_file).ed25519)
    if as_json:
        emit_json({"valid": True, "origin": origin} | data)
    else:
        _show("Custody attestation: VALID", {"origin": origin, **data})


def _show(title: str, data: dict[str, object]) -> None:
    roots = data["roots"]
    assert isinstance(roots, dict), "it was read from an attestation"
    when = data["t_ns"]
    assert isinstance(when, int), "likewise"
    pairs: list[tuple[str, Cell]] = [
        ("Log", str(data["origin"])),
        ("Device", str(data["device_id"])),
        ("Records", str(data["size"])),
        ("Head", str(data["head_hash"])),
        *((f"Root of {name}", str(root)) for name, root in roots.items()),
        ("Time", f.stamp(when / 1e9)),
    ]
    show(Panel(title, pairs))
