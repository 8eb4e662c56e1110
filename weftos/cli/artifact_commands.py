"""``weaver artifact``: content under its hash; put by way of the kernel, read from the store's folder."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

import click

from weftos import limits
from weftos.cli import formats as f
from weftos.cli.artifact_files import Watched, examined, guess_type, resolve, watched, write_out
from weftos.cli.output import Cell, Panel, Table, emit_json, note, show
from weftos.cli.session import call, instance, json_option
from weftos.errors import ArtifactCorrupted, ArtifactStorageFailed, ChainError
from weftos.rpc import artifact_types as t
from weftos.rpc import kernel_types as kt
from weftos.rpc.types import NoParams

if TYPE_CHECKING:
    from weftos.artifacts import ArtifactInfo, ArtifactRef
    from weftos.artifacts.holding import Holdings

__all__ = ["artifact"]

#: Hashes that a person is shown of a collection; --json has up to 500.
_SHOWN: Final = 20


@click.group()
def artifact() -> None:
    """Keep files under the hash of their content.

    What is too large for a message or a record is put here, and referred to by its hash. The log says who put it and
    which records name it; what nothing holds any more can be collected. A HASH may be shortened to its first digits.
    """


@artifact.command()
@click.argument("file", type=click.Path(allow_dash=True, path_type=str))
@click.option("--type", "content_type", metavar="TYPE", help="Such as text/plain. Default: what the name suggests.")
@json_option
def put(file: str, content_type: str | None, as_json: bool) -> None:
    """Store FILE, or standard input for -, and show the hash.

    \b
    weaver artifact put report.pdf
    tar c results | weaver artifact put - --type application/x-tar
    """  # noqa: D301 -- click's mark is the backspace itself
    kind = content_type or guess_type(file)
    state: kt.KernelStatus = call("kernel.status", NoParams())
    ref = _store(file, kind, state)
    params = t.ArtifactPutParams(content_type=kind, hash=ref.hash)
    result: t.ArtifactPutResult = call("artifact.put", params, waits=limits.ARTIFACT_COLLECT_TIMEOUT_S)
    if as_json:
        emit_json(result)
        return
    click.echo(result.hash)
    note(f"{f.size(result.size)}, {result.content_type}; record {result.record} says who put it")


def _store(file: str, kind: str, state: kt.KernelStatus) -> ArtifactRef:
    """Put content into the folder. Nothing holds it until the kernel has said so on the log."""
    from weftos.artifacts import ArtifactStore
    from weftos.artifacts.form import check_content_type
    from weftos.config import load

    check_content_type(kind)
    home = instance()
    config = load(Path(state.config) if state.config else home.config)
    store = ArtifactStore(home.artifacts, quota_bytes=config.artifacts.store_bytes)
    if file == "-":
        with watched("storing", None) as advance:
            return store.put(Watched(sys.stdin.buffer, advance), kind)
    with _opened(file) as source, watched("storing", os.fstat(source.fileno()).st_size) as advance:
        return store.put(Watched(source, advance), kind)


def _opened(file: str) -> IO[bytes]:
    try:
        return open(file, "rb")
    except OSError as error:
        raise ArtifactStorageFailed(f"{file} cannot be read: {error.strerror}") from error


@artifact.command()
@click.argument("hash_", metavar="HASH")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Write to a file instead of standard output.")
@json_option
def get(hash_: str, output: Path | None, as_json: bool) -> None:
    """Write the content of an artifact to standard output; works without a kernel.

    All of it is read and checked before the first byte is written.

    \b
    weaver artifact get 3a7bd3e2360a | tar t
    """  # noqa: D301 -- click's mark is the backspace itself
    from weftos.artifacts.looking import open_artifact

    if as_json and output is None:
        raise click.UsageError("--json tells what was written; say with --output FILE where the content goes")
    folder = instance().artifacts
    digest = resolve(folder, hash_)
    with examined(digest), open_artifact(folder, digest) as stream:
        text = stream.content_type.startswith("text/") or stream.content_type == "application/json"
        if output is None and not text and sys.stdout.isatty():
            raise click.UsageError(f"this is {stream.content_type}, and this a terminal: use --output FILE, or a pipe")
        write_out(stream, output)
        facts = {"hash": digest, "size": stream.size, "content_type": stream.content_type, "file": str(output)}
    if as_json:
        emit_json(facts)


@artifact.command("list")
@json_option
def list_(as_json: bool) -> None:
    """List the artifacts; works without a kernel."""
    from weftos.artifacts.looking import list_artifacts

    found = list(list_artifacts(instance().artifacts))
    if as_json:
        emit_json([_row(info) for info in found])
        return
    rows: list[Sequence[Cell]] = [
        [info.hash, f.size(info.size), f.stamp(info.stored_ns / 1e9), info.content_type or ("damaged", "bad")]
        for info in found
    ]
    show(Table(("HASH", "SIZE", "STORED", "TYPE"), rows, right=("SIZE",), empty="there are no artifacts"))


def _row(info: ArtifactInfo) -> dict[str, Any]:
    return {
        "hash": info.hash,
        "size": info.size,
        "content_type": info.content_type,
        "stored_at": info.stored_ns / 1e9,
    }


@artifact.command()
@click.argument("hash_", metavar="HASH")
@json_option
def stat(hash_: str, as_json: bool) -> None:
    """Show an artifact and what holds it; works without a kernel.

    Reads the whole log for that, which takes about ten seconds for a million records.
    """
    from weftos.artifacts import ArtifactInfo
    from weftos.artifacts.looking import open_file, set_aside_files

    home = instance()
    digest = resolve(home.artifacts, hash_)
    with examined(digest), open_file(home.artifacts, digest) as file:
        info = ArtifactInfo(digest, file.size, *file.header())
    held = _holdings(home.chain)
    puts = [{"by": by, "record": seq} for (by, _boot), seq in held.puts.get(digest, {}).items()]
    named = held.named.get(digest, [])
    aside = set_aside_files(home.artifacts, digest)
    if as_json:
        emit_json(_row(info) | {"put_by": puts, "named_by": named, "set_aside": aside})
        return
    pairs: list[tuple[str, Cell]] = [
        ("Size", f.size(info.size)),
        ("Type", info.content_type or "-"),
        ("Stored", f.stamp(info.stored_ns / 1e9)),
        ("Put by", ", ".join(f"{put['by']} (record {put['record']})" for put in puts) or "nobody who needs it"),
        ("Named by", _numbers(named)),
        *(("Set aside", path) for path in aside),
    ]
    show(Panel(info.hash, pairs))


def _holdings(directory: Path) -> Holdings:
    from weftos.artifacts.holding import Holdings
    from weftos.service.artifact_scan import scan_holdings

    try:
        return scan_holdings(directory)
    except ChainError as error:
        if directory.exists():
            raise
        note(f"nothing is known of what holds it: {error}")
        return Holdings()


def _numbers(records: list[int]) -> str:
    if not records:
        return "no record"
    more = f" and {f.number(len(records) - _SHOWN)} more" if len(records) > _SHOWN else ""
    return f"{f.count(len(records), 'record')}: {', '.join(map(str, records[:_SHOWN]))}{more}"


@artifact.command()
@click.argument("hashes", metavar="[HASH]...", nargs=-1)
@json_option
@click.pass_context
def verify(ctx: click.Context, hashes: tuple[str, ...], as_json: bool) -> None:
    """Read artifacts, all or some, and check that each is what its name says; works without a kernel.

    Without HASH it also looks for artifacts that the log says something holds and that are not there. With a kernel,
    what is damaged is put on the log and set aside; without one it stays as it is. Status 5 if anything is wrong.
    """
    from weftos.artifacts.looking import list_artifacts, open_artifact

    home = instance()
    folder = home.artifacts
    chosen = [resolve(folder, text) for text in hashes] or [info.hash for info in list_artifacts(folder)]
    damaged: list[dict[str, str]] = []
    with watched("checking", sum(_size(folder, digest) for digest in chosen)) as advance:
        for digest in chosen:
            try:
                with examined(digest), open_artifact(folder, digest) as stream:
                    advance(stream.size)
            except ArtifactCorrupted as error:
                damaged.append({"hash": digest, "problem": str(error)})
    missing = [] if hashes else _missing(folder, home.chain)
    if as_json:
        emit_json({"checked": len(chosen), "damaged": damaged, "missing": missing})
    else:
        for one in damaged:
            click.echo(one["problem"])
        for digest in missing:
            click.echo(f"the artifact {digest} is missing, and the log says that it is needed")
        click.echo(f"{f.count(len(chosen), 'artifact')} read, {len(damaged)} damaged, {len(missing)} missing")
    if damaged or missing:
        ctx.exit(ArtifactCorrupted.exit_code)


def _missing(folder: Path, chain: Path) -> list[str]:
    """Return what the log says is held, and is not there."""

    def gone(held: set[str]) -> set[str]:
        return {digest for digest in held if not (folder / digest[:2] / digest).exists()}

    missing = gone(_holdings(chain).hashes())
    # A file is there before the log says so, and goes only after. So what a collection has just taken is found out by
    # reading the log again.
    return sorted(gone(missing & _holdings(chain).hashes())) if missing else []


def _size(folder: Path, digest: str) -> int:
    try:
        return (folder / digest[:2] / digest).lstat().st_size
    except OSError:
        return 0  # for the bar only; the reading itself says what is wrong


@artifact.command()
@click.argument("hash_", metavar="HASH")
@json_option
def release(hash_: str, as_json: bool) -> None:
    """Say that nobody who put an artifact needs it any more.

    Records that name it still hold it; `weaver chain redact` takes their payload away. What nothing holds goes with
    `weaver artifact gc`.
    """
    digest = resolve(instance().artifacts, hash_)
    done: t.ArtifactReleased = call("artifact.release", t.ArtifactHashParams(hash=digest))
    if as_json:
        emit_json(done)
    else:
        click.echo(f"{done.hash} is released; record {done.record} says so")


@artifact.command()
@click.option("--dry-run", is_flag=True, help="Only show what would go.")
@click.option(
    "--older-than",
    metavar="SECONDS",
    type=click.FloatRange(0, 1e10),
    help="Keep what was put more recently. Default: artifacts.grace_secs of the configuration, an hour.",
)
@json_option
def gc(dry_run: bool, older_than: float | None, as_json: bool) -> None:
    """Remove artifacts that nothing holds any more.

    An artifact is held by whoever put it, until it is released, and by every record that names it, until the payload
    of that record is redacted. What goes is on the log before it goes.

    \b
    weaver artifact gc --dry-run --older-than 0
    """  # noqa: D301 -- click's mark is the backspace itself
    params = t.ArtifactGcParams(older_than_secs=older_than, dry_run=dry_run)
    done: t.ArtifactGcResult = call("artifact.gc", params, waits=limits.ARTIFACT_COLLECT_TIMEOUT_S)
    if as_json:
        emit_json(done)
        return
    for digest in done.hashes[:_SHOWN]:
        click.echo(digest)
    if done.removed > _SHOWN:
        click.echo(f"and {f.number(done.removed - _SHOWN)} more")
    verb = "would go" if dry_run else "removed"
    click.echo(
        f"{f.count(done.removed, 'artifact')} {verb} ({f.size(done.freed_bytes)}); "
        f"{f.number(done.held)} held, {f.number(done.young)} too young"
    )
