"""``weaver chain``: the tamper-evident log.

Status and records come from the running kernel, or from the files when none runs. Verification always reads the files:
it must not have to trust the process that wrote them.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final

import click

from weftos.cli import formats as f
from weftos.cli.chain_bridges import bridge
from weftos.cli.chain_files import rows_from_files, status_from_files, verify_files
from weftos.cli.chain_kinds import kinds
from weftos.cli.chain_lineage import lineage
from weftos.cli.chain_options import directory_option, pinned_keys_option
from weftos.cli.chain_reading import export, tail
from weftos.cli.chain_retention import archive, archive_folder, archive_option, prune, restore, segments
from weftos.cli.chain_seals import seal, seal_check, seal_key_option, seal_pairs
from weftos.cli.output import Cell, Panel, Table, emit_json, note, show, tone, write_file
from weftos.cli.session import call, instance, json_option
from weftos.cli.window_proofs import check_message, streams_text
from weftos.errors import ChainCorrupted, ConfigError, KernelNotRunning, ServiceUnavailable
from weftos.rpc import chain_types as ct
from weftos.rpc import types as t

if TYPE_CHECKING:
    from weftos.chain import Problem, VerifyReport

__all__ = ["chain"]

#: Findings listed for a person; a log cut in the middle can have one for each record.
_LISTED: Final = 20
#: A proof is smaller; more is not read.
_PROOF_BYTES: Final = 4 * 1024 * 1024


@click.group()
def chain() -> None:
    """Read and verify the tamper-evident log."""


@chain.command()
@directory_option
@json_option
def status(directory: Path | None, as_json: bool) -> None:
    """Show the state of the log; works without a kernel."""
    result = status_from_files(directory) if directory else _status()
    if as_json:
        emit_json(result)
        return
    pairs: list[tuple[str, Cell]] = [
        ("State", tone(result.state)),
        ("Records", f.number(result.records)),
        ("Head", f"{result.head_seq}  {result.head_hash}"),
        ("Segments", f"{f.number(result.segments)} ({f.size(result.bytes)})"),
        ("Directory", result.dir),
    ]
    if result.failure:
        pairs.append(("Failure", (result.failure, "bad")))
    if result.last_sync_seconds is not None:
        pairs.append(("Last sync", f.seconds(result.last_sync_seconds)))
    if result.appends_total is not None and result.durable_groups is not None:
        mean = f", {result.mean_group:.1f} records each" if result.mean_group else ""
        syncs = f.count(result.durable_groups, "sync")
        pairs.append(("Since start", f"{f.count(result.appends_total, 'append')}, {syncs}{mean}"))
    if result.checkpoint_size is not None:
        cosigned = f", {f.number(result.cosigned_size or 0)} with enough witnesses" if result.witnesses else ""
        pairs.append(("Checkpoint", f"{f.count(result.checkpoint_size, 'record')}{cosigned}"))
    pairs += seal_pairs(result)
    if result.os_pid is not None:
        pairs.append(("Service", f"process {result.os_pid}, up {f.age(result.uptime_secs or 0)}"))
    show(Panel("Chain", pairs))


def _status() -> ct.ChainStatus:
    try:
        result: ct.ChainStatus = call("chain.status", t.NoParams())
    except KernelNotRunning:
        return status_from_files(instance().chain)
    except ServiceUnavailable as error:
        note(f"{error}; shown from the files")
        return status_from_files(instance().chain)
    return result


@chain.command()
@click.option(
    "-n",
    "--count",
    type=click.IntRange(0, 100_000),
    default=20,
    show_default=True,
    help="Newest records to show; 0 is all.",
)
@directory_option
@json_option
def local(count: int, directory: Path | None, as_json: bool) -> None:
    """Show the newest records, oldest first; works without a kernel."""
    rows = rows_from_files(directory, count) if directory else _rows(count)
    if as_json:
        emit_json(rows)
        return
    table = Table(("SEQ", "TIME", "SOURCE", "KIND", "SUBJECT", "HASH", "DETAIL"), right=("SEQ",), empty="no records")
    for row in rows:
        time = f.stamp(row.timestamp)
        table.rows.append(
            (str(row.sequence), time, row.source, row.kind, row.subject or "-", row.hash[:12], row.detail)
        )
    show(table)


def _rows(count: int) -> list[ct.ChainRow]:
    try:
        rows: list[ct.ChainRow] = call("chain.local", t.CountParams(count=count))
    except KernelNotRunning:
        return rows_from_files(instance().chain, count)
    except ServiceUnavailable as error:
        note(f"{error}; shown from the files")
        return rows_from_files(instance().chain, count)
    return rows


@chain.command()
@directory_option
@click.option(
    "--key",
    "key_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="File with the public keys of the log, as `weaver chain keys` prints them, from a place that its writer "
    "cannot change.",
)
@click.option(
    "--since",
    "since_file",
    metavar="CHECKPOINT",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="File with a checkpoint that was verified before, a copy of DIR/checkpoint: only what came after it is read.",
)
@seal_key_option
@archive_option
@json_option
@click.pass_context
def verify(
    ctx: click.Context,
    directory: Path | None,
    key_file: Path | None,
    since_file: Path | None,
    seal_file: Path | None,
    archive_dir: Path | None,
    as_json: bool,
) -> None:
    """Verify every record, every link, the Merkle root and the signatures, from the files alone.

    The exit status is 5 when the log is not intact. Without --key the signatures are checked with the keys that this
    instance has pinned for the log; of a log that it does not know, with those that the log itself names. These show
    that it was not changed by somebody without the keys, not who wrote it. The instance's own log is also held against
    what its witnesses remember, which finds out a log that was put back to an older state.

    With --seal-key the seals are checked too: who stole every key of this machine since cannot have rewritten what
    they cover.
    """
    from weftos.cli.chain_keys import keys_for, older_checkpoint

    home = directory or instance().chain
    keys = keys_for(home, key_file)
    since = older_checkpoint(home, since_file, keys) if since_file is not None else None
    seals = seal_check(home, seal_file, own=directory is None, since=since) if seal_file is not None else None
    show_progress = sys.stderr.isatty() and not as_json
    report = verify_files(home, keys, since=since, seals=seals, archive=archive_dir, show_progress=show_progress)
    if directory is None and report.valid:
        from weftos.cli.chain_witnesses import hold_against_witnesses

        for silent in hold_against_witnesses(report, home, keys):
            note(f"not compared with {silent}")
    if as_json:
        emit_json(report)
    else:
        _show_report(report)
    ctx.exit(0 if report.valid else ChainCorrupted.exit_code)


@chain.command()
@json_option
def witness(as_json: bool) -> None:
    """Show the witnesses: how much of the log each has signed for, and what keeps it from signing."""
    result: ct.ChainStatus = call("chain.status", t.NoParams())
    if as_json:
        emit_json(result.witnesses)
        return
    table = Table(("WITNESS", "SIGNED FOR", "PROBLEM"), right=("SIGNED FOR",), empty="no witnesses are configured")
    for one in result.witnesses:
        signed = f.number(one.size) if one.size >= 0 else "-"
        table.rows.append((one.name or "-", signed, (one.problem, "bad") if one.problem else "-"))
    show(table)


@chain.command()
@click.argument("seq", type=click.IntRange(min=0))
@directory_option
@archive_option
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where to write the proof; standard output if it is left out.",
)
def prove(seq: int, directory: Path | None, archive_dir: Path | None, output: Path | None) -> None:
    """Make a proof that record SEQ is in the log.

    The proof is one small file in the form of C2SP's tlog-proof. `weaver chain check` verifies it on any machine, with
    nothing but the log's public keys (`weaver chain keys`). A record that was pruned is taken from the archive.
    """
    from weftos.chain.verification.proof_file import make_proof

    folder = archive_folder(directory, archive_dir)
    data = make_proof(directory or instance().chain, seq, str(folder or "")).encode()
    if output is None:
        sys.stdout.buffer.write(data)
        return
    write_file(output, data)
    note(f"the proof for record {seq} is in {output}")


@chain.command()
@click.argument("proof", type=click.File("rb"))
@pinned_keys_option
@click.option(
    "--message",
    "message_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="With a proof of a message: the message itself, as `weaver ipc prove --message` wrote it.",
)
@json_option
def check(proof: BinaryIO, key_file: Path | None, message_file: Path | None, as_json: bool) -> None:
    """Verify a proof made by `weaver chain prove` or `weaver ipc prove`; the log itself is not needed.

    The exit status is 5 when it proves nothing.
    """
    from weftos.chain.verification.proof_file import check_proof, parse_proof
    from weftos.cli.chain_keys import keys_of_origin, origin_of

    data = proof.read(_PROOF_BYTES)
    if data.startswith(b"weftos/window-proof/"):
        check_message(data, message_file, key_file, as_json)
        return
    if message_file is not None:
        raise click.UsageError("--message goes with a proof that `weaver ipc prove` made; this one is of a record.")
    found = parse_proof(data)
    origin = origin_of(found.checkpoint)
    record, checkpoint = check_proof(found, keys_of_origin(origin, key_file), origin)
    if as_json:
        emit_json(
            {"valid": True, "origin": origin, "size": checkpoint.size, "root": checkpoint.root.hex()} | record.view()
        )
        return
    view = record.view()
    show(
        Panel(
            "Proof",
            [
                ("Result", ("VALID", "good")),
                ("Log", origin),
                ("Record", f"{record.seq} of {f.number(checkpoint.size)}"),
                ("Kind", record.kind),
                ("Source", record.source),
                ("Subject", record.subject or "-"),
                ("Payload", "withheld" if record.withheld else json.dumps(view["payload"], ensure_ascii=False)),
                ("Root", checkpoint.root.hex()),
            ],
        )
    )


@chain.command()
@directory_option
@json_option
def keys(directory: Path | None, as_json: bool) -> None:
    """Print the public keys that this instance has pinned for the log.

    Keep them where this machine cannot write, and give them to `chain verify --key` and `chain check --key`.
    """
    from weftos.cli.chain_keys import keys_for, origin_of_log

    home = directory or instance().chain
    origin = origin_of_log(home)
    found = keys_for(home, None)
    if found is None:
        raise ConfigError(f"no keys are pinned for {origin}: its kernel pins them when it boots")
    lines = [key.format() for key in found.verifier_keys(origin)]
    if as_json:
        emit_json({"origin": origin, "pair_id": found.pair_id, "keys": lines})
    else:
        click.echo("\n".join(lines))


@chain.command()
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="Write the signed note to a file."
)
@json_option
def checkpoint(output: Path | None, as_json: bool) -> None:
    """Sign how far the log has come, now, and show it.

    The note is in the form of C2SP's tlog-checkpoint. Kept elsewhere, it lets `weaver chain verify --since` find out a
    log that was put back or rewritten, and read only what is new.
    """
    made: ct.CheckpointResult = call("chain.checkpoint", t.NoParams())
    if output is not None:
        write_file(output, made.note)
    if as_json:
        emit_json(made)
        return
    pairs: list[tuple[str, Cell]] = [
        ("Log", made.origin),
        ("Records", f.number(made.size)),
        ("Merkle root", made.root),
        ("Signed by", made.pair_id),
        ("Witnesses", ("enough have signed it", "good") if made.cosigned else ("too few have signed it", "warn")),
    ]
    show(Panel("Checkpoint", pairs))


@chain.command("rotate-key")
@json_option
def rotate_key(as_json: bool) -> None:
    """Hand the log over to a new pair of keys.

    Old and new keys sign the change, which is put on the log; then the old secret is erased. Whoever pinned the old
    keys elsewhere can follow the change, and should pin the new ones (`weaver chain keys`).
    """
    changed: ct.RotateResult = call("chain.rotate-key", t.NoParams())
    if as_json:
        emit_json(changed)
    else:
        click.echo(
            f"the log was handed over from the keys {changed.old} to {changed.new}, at record {changed.size - 1}"
        )


@chain.command()
@click.argument("seq", type=click.IntRange(min=0))
@click.option("--reason", required=True, help="Why, in a sentence; it goes on the log.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
def redact(seq: int, reason: str, yes: bool, as_json: bool) -> None:
    """Take the payload of record SEQ away for good; the log still verifies.

    Number, time, kind, source and subject of the record stay, and a new record says that the payload went. This cannot
    be undone. Copies of the log elsewhere are not changed.
    """
    if not yes:
        click.confirm(f"Take the payload of record {seq} away for good?", abort=True, err=True)
    done: ct.RedactResult = call("chain.redact", ct.RedactParams(seq=seq, reason=reason))
    if as_json:
        emit_json(done)
    else:
        click.echo(f"the payload of record {done.seq} is gone; record {done.record} says so")


chain.add_command(tail)
chain.add_command(export)
for command in (kinds, seal, lineage, bridge, segments, archive, prune, restore):
    chain.add_command(command)


#: How a report's codes read for a person.
_SIGNATURES: Final[dict[str, Cell]] = {
    "good": ("good", "good"),
    "bad": ("BAD", "bad"),
    "absent": ("none: the log has no checkpoint", "warn"),
}
_ORIGINS: Final = {"given": " (key given)", "log": " (key named by the log itself)"}


def _show_report(report: VerifyReport) -> None:
    """Show the outcome, the checks that were made, and the first findings in order."""
    signature = _SIGNATURES.get(report.signature, report.signature)
    if report.signature == "good":
        signature = (f"good, up to record {report.signed_size - 1}{_ORIGINS.get(report.key_origin, '')}", "good")
    pairs: list[tuple[str, Cell]] = [
        ("Result", ("VALID", "good") if report.valid else ("INVALID", "bad")),
        ("Records", f"{f.number(report.records)} ({report.first_seq} to {report.last_seq})" if report.records else "0"),
        ("Head", report.head_hash or "-"),
        ("Merkle root", report.root or "-"),
        ("Log", report.log_id or "-"),
        ("Segments", f"{f.number(report.segments)} ({f.size(report.bytes)})"),
        ("Signature", signature),
        ("Signed by", report.signed_by or "-"),
        ("Rolled back", ("yes: it is shorter than was promised", "bad") if report.rolled_back else "no"),
        ("Checks", _checks_text(report)),
        ("Elapsed", f.seconds(report.elapsed_seconds)),
    ]
    if report.pruned:
        text = f"records 0 to {report.pruned - 1}: their content was not checked; --archive DIR does"
        pairs.insert(2, ("Pruned", (text, "warn")))
    if report.archived:
        pairs.insert(-5, ("Archive", f"{f.count(report.archived, 'segment')} read from it"))
    if report.seals is not None:
        seals = report.seals
        pairs.insert(-1, ("Seals", f"{f.count(seals.seals, 'seal')}, up to record {seals.sealed - 1}"))
    if report.checks.windows_total:
        checks = report.checks
        agreed = f.count(checks.windows_paired, "range")
        audit = f"{agreed} agreed on, {f.number(checks.windows_unpaired)} with one end only"
        pairs.insert(-1, ("Audit windows", audit))
    if report.checks.streams_total:
        pairs.insert(-1, ("Streams", streams_text(report.checks)))
    parts: list[Panel | Table] = [Panel("Chain verification", pairs)]
    parts += [
        _findings(title, findings)
        for title, findings in (("Errors", report.errors), ("Warnings", report.warnings))
        if findings
    ]
    show(*parts)
    if report.error_count > _LISTED:
        note(f"{f.number(report.error_count - _LISTED)} more errors; --json lists the first {len(report.errors)}")


def _checks_text(report: VerifyReport) -> Cell:
    """The checks that failed, or that all passed."""
    values = {name: getattr(report.checks, name) for name in report.checks.__struct_fields__}
    failed = [name.replace("_", " ") for name, value in values.items() if value is False]
    return (f"failed: {', '.join(failed)}", "bad") if failed else ("all passed", "good")


def _findings(title: str, findings: list[Problem]) -> Table:
    table = Table(("SEQ", "FILE", "OFFSET", "CODE", "DETAIL"), right=("SEQ", "OFFSET"), title=title)
    for finding in findings[:_LISTED]:
        seq = "-" if finding.seq < 0 else str(finding.seq)
        table.rows.append((seq, finding.file or "-", str(finding.offset), finding.code, finding.detail))
    return table
