"""``weaver ipc prove``, and ``weaver chain check`` for what it makes: that one message belongs to a window."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from weftos import limits
from weftos.cli import formats as f
from weftos.cli.output import Cell, Panel, emit_json, note, show, write_file
from weftos.cli.session import call, instance, json_option
from weftos.errors import ChainError, ProofInvalid
from weftos.rpc import chain_types as ct
from weftos.rpc import stream_types as s
from weftos.rpc import types as t

if TYPE_CHECKING:
    from weftos.chain import Checks, Record
    from weftos.chain.verification.window_proof import WindowMember

__all__ = ["check_message", "prove", "streams_text"]

#: Newest records that are searched at first; ten times as many each time, until both are found or the log is read.
_SEARCH_FIRST: Final = 2000
#: A window that an agent sends is on the log after this many seconds at the latest.
_WINDOW_S: Final = 10.0


@click.command()
@click.argument("message_id")
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    required=True,
    help="Where to write the proof.",
)
@click.option(
    "-m",
    "--message",
    "message_file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where to write the message as it was hashed, if the agent still keeps it. The proof does not hold it.",
)
@click.option(
    "--side",
    type=click.Choice(["consumer", "producer"]),
    help="Whose window: the reader's or the writer's. Without it the reader is asked first.",
)
@json_option
def prove(message_id: str, output: Path, message_file: Path | None, side: str | None, as_json: bool) -> None:
    """Make a proof that a message belongs to a window of its stream.

    MESSAGE_ID is what `message.id` says in an agent, for example 1f-a80. The windows of its ring or topic must have
    Merkle roots ([ipc] windows = "messages", or proof_topics), and its agents must live: they keep the newest messages
    in memory. The proof holds a hash of the message, the window and the kernel's grant, each proved against a signed
    checkpoint, and verifies on any machine:

      weaver ipc prove 1f-a80 -o proof.txt -m message.bin

      weaver chain check proof.txt --message message.bin --key keys.txt
    """
    from weftos.chain.verification.proof_file import make_proof
    from weftos.chain.verification.window_proof import WindowProof, check_window_proof
    from weftos.cli.chain_keys import keys_of_origin, origin_of

    params = s.ProveParams(message_id=message_id, side=side or "")  # type: ignore[arg-type]  # click checked it
    leaf: s.MessageLeaf = call("ipc.prove", params, waits=2 * limits.PROOF_TIMEOUT_S)
    if message_file is not None and not leaf.data:
        raise ProofInvalid(
            f"agent {leaf.pid} keeps only the hash of message {message_id}; leave --message out, the proof is for "
            "whoever has it"
        )
    home = instance()
    window, grant = _records(home.chain, leaf)
    made: ct.CheckpointResult = call("chain.checkpoint", t.NoParams())
    assert made.size > max(window, grant), "both are on the log, and the checkpoint is of all of it"
    proof = WindowProof(
        leaf.leaf, leaf.index, leaf.size, leaf.path, make_proof(home.chain, window), make_proof(home.chain, grant)
    )
    # What an agent says is worth nothing until it has been checked.
    origin = origin_of(proof.window.checkpoint)
    member = check_window_proof(proof, keys_of_origin(origin, None), origin, leaf.data or None)
    if leaf.data and not leaf.topic and not leaf.data.startswith(_position(message_id)):
        raise ProofInvalid(f"agent {leaf.pid} answered with another message than {message_id}")
    write_file(output, proof.encode())
    if message_file is not None:
        write_file(message_file, leaf.data)
    if as_json:
        result = _plain(member, leaf.index) | {"message_id": message_id, "proof": str(output)}
        emit_json(result | {"message": str(message_file) if message_file is not None else None})
    else:
        note(f"the proof that message {message_id} is in the window of record {window} is in {output}")


def _position(message_id: str) -> bytes:
    """What the leaf of a ring's message begins with."""
    return int(message_id.partition("-")[2], 16).to_bytes(8, "little")


def _records(directory: Path, leaf: s.MessageLeaf) -> tuple[int, int]:
    """Return the numbers of the window's record and of the grant's; the window may still be on its way."""
    deadline = time.monotonic() + _WINDOW_S
    while True:
        window, grant = _search(directory, leaf)
        if window is not None and grant is not None:
            return window, grant
        if time.monotonic() >= deadline:
            missing = "the window" if window is None else "the grant of its ring"
            raise ChainError(
                f"{missing} of message {leaf.message_id} is not on the log; agent {leaf.pid} said it was sent. "
                "`weaver chain verify` shows what is wrong with the stream"
            )
        time.sleep(limits.FOLLOW_INTERVAL_S)


def _search(directory: Path, leaf: s.MessageLeaf) -> tuple[int | None, int | None]:
    from weftos import chain

    count = _SEARCH_FIRST
    while True:
        records = chain.tail(directory, count)
        boot = records[-1].header.boot_id if records else b""
        present = [one for one in reversed(records) if one.header.boot_id == boot and not one.withheld]
        window = next((one.seq for one in present if _is_window(one, leaf)), None)
        grant = next((one.seq for one in present if _is_grant(one, leaf)), None)
        whole = len(records) < count or len(present) < len(records)
        if (window is not None and grant is not None) or whole:
            return window, grant
        count *= 10


def _is_window(record: Record, leaf: s.MessageLeaf) -> bool:
    if record.source != f"agent:{leaf.pid}" or record.kind != ("ipc.topic_window" if leaf.topic else "ipc.window"):
        return False
    wanted: dict[str, Any] = {"side": leaf.side, "incarnation": leaf.incarnation, "leaves": leaf.size}
    if leaf.topic:
        wanted |= {"topic": leaf.topic, "publisher": leaf.publisher, "first": leaf.start}
    else:
        wanted |= {"ring": leaf.ring, "from": leaf.start}
    payload = record.payload
    return all(payload.get(name) == value for name, value in wanted.items())


def _is_grant(record: Record, leaf: s.MessageLeaf) -> bool:
    if record.source != "kernel" or record.kind != "ipc.grant":
        return False
    payload = record.payload
    return payload.get("ring") == leaf.ring and (not leaf.topic or leaf.topic in payload.get("topics", ()))


def check_message(data: bytes, message_file: Path | None, key_file: Path | None, as_json: bool) -> None:
    """Verify what ``prove`` made, and show it."""
    from weftos.chain.verification.window_proof import check_window_proof, parse_window_proof
    from weftos.cli.chain_keys import keys_of_origin, origin_of

    proof = parse_window_proof(data)
    origin = origin_of(proof.window.checkpoint)
    try:
        message = message_file.read_bytes() if message_file is not None else None
    except OSError as error:
        raise ChainError(f"{message_file} cannot be read: {error.strerror}") from error
    member = check_window_proof(proof, keys_of_origin(origin, key_file), origin, message)
    plain = _plain(member, proof.index) | {"origin": origin, "size": member.checkpoint.size}
    if as_json:
        emit_json({"valid": True, "leaf": proof.leaf.hex()} | plain)
        return
    stream = f"topic {plain['topic']} of agent {plain['publisher']}" if plain["topic"] else f"ring {plain['ring']}"
    about: Cell = ("given, and the one", "good") if member.has_message else "not given; only its hash is shown"
    pairs: list[tuple[str, Cell]] = [
        ("Result", ("VALID", "good")),
        ("Log", origin),
        ("Message", about),
        ("Hash", proof.leaf.hex()),
        ("Stream", stream),
        ("Said by", f"{plain['source']}, its {plain['side']}"),
        ("Window", f"{f.number(plain['window'])}, message {f.number(proof.index + 1)} of {f.number(proof.size)}"),
        ("Record", f"{plain['record']} of {f.number(member.checkpoint.size)}"),
        ("Closed", f.stamp(plain["closed"])),
    ]
    show(Panel("Proof of a message", pairs))


def streams_text(checks: Checks) -> Cell:
    """What a verification says of streams, in one line."""
    ends = [(checks.streams_closed, "closed"), (checks.streams_cut, "cut"), (checks.streams_silent, "silent")]
    said = [f"{f.number(count)} {word}" for count, word in ends if count]
    if checks.messages_lost:
        said.append(f"{f.count(checks.messages_lost, 'message')} lost ({checks.messages_unexplained} unexplained)")
    if checks.windows_foreign:
        said.append(f"{f.count(checks.windows_foreign, 'window')} by others ignored")
    text = ", ".join([f"{f.count(checks.streams_total, 'end')} of streams", *said])
    return (text, "warn") if checks.streams_silent or checks.messages_unexplained else text


def _plain(member: WindowMember, index: int) -> dict[str, Any]:
    payload = member.payload
    closed = payload.get("closed_ns")
    return {
        "record": member.window.seq,
        "grant": member.grant.seq,
        "source": member.window.source,
        "side": payload.get("side"),
        "ring": payload.get("ring"),
        "topic": payload.get("topic"),
        "publisher": payload.get("publisher"),
        "window": payload.get("window"),
        "index": index,
        "leaves": payload.get("leaves"),
        "has_message": member.has_message,
        "closed": closed / 1e9 if isinstance(closed, int) else 0.0,
    }
