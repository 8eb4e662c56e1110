"""``weaver chain seal``: seals that even whoever steals all keys of this machine cannot make for the past."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from weftos.cli import formats as f
from weftos.cli.chain_keys import origin_of_log
from weftos.cli.output import Cell, Panel, emit_json, note, show
from weftos.cli.session import call, instance, json_option
from weftos.errors import ConfigError, InvalidRequest, KernelNotRunning, ServiceUnavailable, StorageFailed
from weftos.rpc import chain_types as ct
from weftos.rpc import types as t

if TYPE_CHECKING:
    from weftos.chain.signing.checkpoint import Checkpoint
    from weftos.chain.verification.verify_seals import SealCheck

__all__ = ["seal", "seal_check", "seal_key_option", "seal_pairs"]

#: Of ``weaver chain verify``.
seal_key_option = click.option(
    "--seal-key",
    "seal_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="File with the first sealing key, as `weaver chain seal init` gave it: check the seals too.",
)


@click.group()
def seal() -> None:
    """Seal the log with a key that changes and forgets.

    Every seal covers the log so far and is made with a key that is destroyed right after. Whoever has the first key,
    and he alone, can check all of them. Example: `weaver chain seal init -o /media/stick/seal.key`, and a year later
    `weaver chain verify --seal-key /media/stick/seal.key`.
    """


@seal.command()
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the first key to a new file, on a medium that you take away; otherwise it is printed.",
)
@json_option
def init(output: Path | None, as_json: bool) -> None:
    """Make the sealing key of the log, and hand its first key over, this once.

    Keep the first key away from this machine: it is not stored here and cannot be shown again. A running kernel begins
    to seal within a second or two, any other when it boots.
    """
    from weftos.chain.signing.checkpoint import log_id_of
    from weftos.chain.statements.seal_keys import format_seal_key, write_seal_key
    from weftos.chain.statements.seals import SealState
    from weftos.disk.secret_file import RealSecretFiles

    home = instance()
    log_id = log_id_of(origin_of_log(home.chain))
    if os.path.lexists(home.seal_state):
        raise ConfigError(
            f"{home.seal_state} exists: the log has a sealing key. Only if its first key is lost remove the file and "
            "run this again; seals made so far can then be checked by nobody"
        )
    if output is not None and home.root.resolve() in output.resolve().parents:
        raise InvalidRequest(f"{output} lies beside the log that it is to protect; choose a medium that you take away")
    target = _new_file(output) if output is not None else -1
    try:
        _, key = SealState.create(RealSecretFiles(), str(home.seal_state), log_id)
        if output is not None:
            try:
                write_seal_key(target, log_id, key)
            except StorageFailed:
                home.seal_state.unlink(missing_ok=True)
                raise
    except BaseException:
        if output is not None:
            output.unlink(missing_ok=True)
        raise
    finally:
        if target >= 0:
            os.close(target)
    line = format_seal_key(log_id, key)
    if as_json:
        shown = {"key": line} if output is None else {"file": str(output)}
        emit_json({"state": str(home.seal_state), **shown})
    elif output is None:
        click.echo(line)
        note("keep this line away from this machine; it is stored nowhere and cannot be shown again")
    else:
        note(f"the first sealing key is in {output}; take it away from this machine")


def _new_file(path: Path) -> int:
    try:
        return os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StorageFailed(f"{path} cannot be made: {error.strerror}; name a file that does not exist yet") from error


@seal.command()
@json_option
def status(as_json: bool) -> None:
    """Show whether the log is sealed, and how far; works without a kernel."""
    found = _status()
    if as_json:
        emit_json(found)
        return
    on: Cell = ("on", "good") if found.on else ("off", "warn")
    pairs: list[tuple[str, Cell]] = [("Seals", on), ("Newest", _newest(found))]
    if found.problem:
        pairs.append(("Problem", (found.problem, "bad")))
    show(Panel("Seals", pairs))


def _status() -> ct.SealInfo:
    try:
        result: ct.ChainStatus = call("chain.status", t.NoParams())
    except (KernelNotRunning, ServiceUnavailable) as error:
        if isinstance(error, ServiceUnavailable):
            note(f"{error}; shown from the files")
        return _from_state()
    return result.seals or ct.SealInfo(on=False)


def _from_state() -> ct.SealInfo:
    """What the state file says; the newest seal may not be on the log yet."""
    from weftos.chain.statements.seals import newest_seal

    path = instance().seal_state
    if not os.path.lexists(path):
        return ct.SealInfo(on=False)
    last = newest_seal(str(path))
    return ct.SealInfo(on=True, epoch=last.epoch if last else 0, sealed=last.end if last else 0)


def seal_pairs(result: ct.ChainStatus) -> list[tuple[str, Cell]]:
    """The rows of ``weaver chain status`` about the seals."""
    found = result.seals
    if found is None:
        return []
    if found.problem:
        return [("Seals", (found.problem, "bad"))]
    return [("Seals", _newest(found) if found.on else "off")]


def _newest(found: ct.SealInfo) -> str:
    return f"{f.count(found.sealed, 'record')}, epoch {found.epoch}" if found.epoch else "none yet"


def seal_check(home: Path, key_file: Path, *, own: bool, since: Checkpoint | None) -> SealCheck:
    """Return with what the seals of a log are checked.

    Args:
        home: directory of the log.
        key_file: of the first keys.
        own: it is the instance's own log, so that its state tells how many seals there must be.
        since: a checkpoint from which the log is to be verified; then not all seals are read.

    Raises:
        ConfigError: the file holds no keys of this log, or the state is not to be trusted.
        InvalidRequest: not all of the log is verified.
    """
    from weftos.chain.signing.checkpoint import log_id_of
    from weftos.chain.statements.seal_keys import read_seal_keys
    from weftos.chain.statements.seals import newest_seal
    from weftos.chain.verification.verify_seals import SealCheck

    if since is not None:
        raise InvalidRequest("seals are over all of the log: leave --since out, or --seal-key")
    keys = read_seal_keys(key_file, log_id_of(origin_of_log(home)))
    path = instance().seal_state
    return SealCheck(keys, newest_seal(str(path)) if own and os.path.lexists(path) else None)
