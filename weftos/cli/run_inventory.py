"""``weaver run inventory``: the main job, from the command line to its answer.

Starts a kernel if none runs (and ends it again), starts the coordinator agent, asks it how far it is, shows that, and
ends with a table, one
JSON object, or a file of digests. All the work is done by agents; see ``workers/inventory.py``.
"""

from __future__ import annotations

import os
import secrets
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from weftos.cli import formats
from weftos.cli.session import instance, json_option

if TYPE_CHECKING:
    from collections.abc import Sequence

    from weftos.cli.output import Cell

__all__ = ["inventory"]

#: How often the coordinator is asked how far it is, in seconds.
_POLL_S: Final = 0.1
#: Names shown of each kind of change; ``--json`` has them all.
_SHOWN: Final = 20


@click.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.option(
    "--check", is_flag=True, help="Compare the folder with its last recorded inventory; exit 1 if it differs."
)
@click.option("--hashers", type=click.IntRange(1, 64), default=None, help="Hashing agents. Default: one for each CPU.")
@click.option("--digests", type=click.Path(path_type=Path), help="Write the digests in b3sum's format.")
@click.option("--exclude", multiple=True, metavar="GLOB", help="Leave out names or paths that match. May be repeated.")
@click.option("--no-progress", is_flag=True, help="No progress bar.")
@json_option
def inventory(
    path: Path,
    check: bool,
    hashers: int | None,
    digests: Path | None,
    exclude: tuple[str, ...],
    no_progress: bool,
    as_json: bool,
) -> None:
    """List and hash a folder, record it in the chain, or check it.

    One agent walks PATH, several hash its files (BLAKE3), one puts the result on the tamper-evident log. With --check
    the
    log is verified first; then the folder is compared with what was recorded: exit 0 if nothing differs, 1 if something
    does, 2 if nothing was recorded, 5 if the log was changed.
    """
    from weftos.errors import InvalidRequest

    if check and digests:
        raise click.UsageError("--digests writes what is recorded now; it does not go with --check")
    try:
        root = path.resolve(strict=True)
        os.listdir(root)
    except OSError as error:
        raise InvalidRequest(f"{path} cannot be read as a folder: {error.strerror}") from error
    job = _Job(root, path, check=check, hashers=hashers or os.cpu_count() or 1, exclude=list(exclude))
    if check:
        job.verify_chain()
    summary = job.run(show_progress=not no_progress and not as_json)
    if summary.get("missing"):
        raise InvalidRequest(f"no inventory of {root} is recorded; `weaver run inventory {path}` records one")
    if digests is not None:
        job.write_digests(digests, summary)
    if as_json:
        from weftos.cli.output import emit_json

        emit_json(summary)
    else:
        _show(summary, check=check)
    if check and any(summary["counts"].values()):
        raise SystemExit(1)


class _Job:
    """One run of the job."""

    def __init__(self, root: Path, given: Path, *, check: bool, hashers: int, exclude: list[str]) -> None:
        self.root = root
        self.given = given
        self.check = check
        self.hashers = hashers
        self.exclude = exclude
        self.home = instance()
        self.name = secrets.token_hex(6)

    def verify_chain(self) -> None:
        """Refuse to compare with a record that somebody may have changed.

        Raises:
            ChainCorrupted: the log is not intact.
        """
        from weftos import chain
        from weftos.errors import ChainCorrupted, InvalidRequest

        if not any(self.home.chain.glob("*.log")):
            raise InvalidRequest(f"nothing is recorded in {self.home.root}; run the inventory without --check first")
        report = chain.verify(str(self.home.chain))
        if not report.valid:
            first = report.errors[0]
            raise ChainCorrupted(f"the log is not intact, so there is nothing to compare with: {first.detail}")

    def run(self, *, show_progress: bool) -> dict[str, Any]:
        """Do the job on a kernel, which is started and ended here if none runs."""
        from weftos.errors import KernelNotRunning
        from weftos.rpc.client import RpcClient

        with RpcClient(self.home.socket, home=self.home.root) as client:
            try:
                client.call("ping")
                return self._on(client, show_progress=show_progress)
            except KernelNotRunning:
                pass
        return self._embedded(show_progress=show_progress)

    def _embedded(self, *, show_progress: bool) -> dict[str, Any]:
        from weftos.cli.kernel_life import stop_kernel
        from weftos.kernel.daemon import start_daemon
        from weftos.rpc.client import RpcClient

        start_daemon(self.home)
        try:
            with RpcClient(self.home.socket, home=self.home.root) as client:
                return self._on(client, show_progress=show_progress)
        finally:
            stop_kernel(15.0, force=True)

    def _on(self, client: Any, *, show_progress: bool) -> dict[str, Any]:
        import msgspec

        from weftos.rpc.client import RpcClient

        started = time.monotonic()
        args = [
            os.fsencode(self.root).hex(),
            self.name,
            "check" if self.check else "record",
            str(self.hashers),
            msgspec.json.encode(self.exclude).decode(),
        ]
        # Descriptors and memory as by default; processes of its own it has none.
        agent = client.call("agent.spawn", {"program": "inventory", "args": args, "restart": "never"}, timeout=120.0)
        try:
            status = self._await(client, agent.pid, show_progress=show_progress)
            elapsed = time.monotonic() - started
            agents = self._agents(client, agent.pid, status)
        finally:
            # On a connection of its own: Ctrl-C may have come between a question and its answer, and the old one would
            # answer that.
            with RpcClient(self.home.socket, home=self.home.root) as closing:
                closing.call("kernel.kill-process", {"pid": agent.pid})
        summary = status["summary"]
        if summary.get("missing"):
            return dict(summary)
        return {
            "root": _text(os.fsencode(self.root)),
            "check": self.check,
            **{
                name: summary[name]
                for name in ("files", "bytes", "links", "hard_links", "duplicates", "duplicate_bytes", "problems")
            },
            "errors": summary["errors"],
            "elapsed_secs": round(elapsed, 3),
            "bytes_per_sec": round(summary["bytes"] / elapsed, 1),
            "hashers": self.hashers,
            "agents": agents,
            "record": {
                "run": self.name,
                "first_seq": summary.get("first_seq"),
                "last_seq": summary.get("last_seq"),
                "root_digest": summary["root_digest"],
            },
            **{
                name: summary[name]
                for name in ("changed", "added", "removed", "unreadable", "counts", "against")
                if name in summary
            },
        }

    def _await(self, client: Any, pid: int, *, show_progress: bool) -> dict[str, Any]:
        """Ask the coordinator until it is done.

        Raises:
            ServiceError: the job failed, and why.
        """
        from weftos.cli.inventory_progress import progress
        from weftos.errors import ServiceError

        with progress(show_progress) as update:
            while True:
                status: dict[str, Any] = client.call(
                    "agent.send", {"pid": pid, "message": "status", "timeout_secs": 60.0}, timeout=90.0
                ).reply
                update(status["progress"])
                if status["state"] == "failed":
                    raise ServiceError(f"the inventory was not completed, and is not recorded: {status['error']}")
                if status["state"] == "done":
                    return status
                time.sleep(_POLL_S)

    def _agents(self, client: Any, coordinator: int, status: dict[str, Any]) -> list[dict[str, Any]]:
        """CPU time and restarts of the agents that did it."""
        roles = {coordinator: "coordinator"} | {int(pid): role for pid, role in status["agents"].items()}
        return [
            {
                "pid": row.pid,
                "name": row.name,
                "role": roles[row.pid],
                "cpu_seconds": row.cpu_seconds,
                "restarts": row.restarts,
            }
            for row in client.call("agent.list", {"all": True})
            if row.pid in roles
        ]

    def write_digests(self, target: Path, summary: dict[str, Any]) -> None:
        """Write the recorded digests as ``b3sum`` would print them for the same path."""
        from weftos import chain
        from weftos.cli.inventory_digests import digest_line
        from weftos.errors import StorageFailed

        record = summary["record"]
        prefix = os.fsencode(self.given)
        lines: list[bytes] = []
        left_out = 0
        for event in chain.read(str(self.home.chain), start=record["first_seq"], stop=record["last_seq"] + 1):
            if event.kind != "app.inventory.entries" or event.payload["run"] != self.name:
                continue
            for row in event.payload["entries"]:
                line = digest_line(row[4], os.path.join(prefix, row[0])) if row[4] else b""
                if line is None:
                    left_out += 1
                    click.echo(f"not in {target}, its name is not UTF-8: {_text(row[0])!r}", err=True)
                elif line:
                    lines.append(line)
        summary["digests_left_out"] = left_out
        try:
            lines.sort(key=_name_of)
            target.write_bytes(b"".join(lines))
        except OSError as error:
            raise StorageFailed(f"{target} cannot be written: {error.strerror}") from error


def _name_of(line: bytes) -> bytes:
    return line.lstrip(b"\\")[66:]


def _text(path: bytes) -> str:
    return path.decode("utf-8", "backslashreplace")


def _show(summary: dict[str, Any], *, check: bool) -> None:
    from weftos.cli.output import Table, show, write_line

    rows: list[Sequence[Cell]] = [
        ["Files", f"{summary['files']:,}"],
        ["Bytes", formats.size(summary["bytes"])],
        ["Links", f"{summary['links']:,} symbolic, {summary['hard_links']:,} hard"],
        ["Duplicates", f"{summary['duplicates']:,} ({formats.size(summary['duplicate_bytes'])})"],
        ["Problems", f"{summary['problems']:,}"],
        ["Time", formats.seconds(summary["elapsed_secs"])],
        ["Rate", f"{summary['bytes_per_sec'] / 1e6:.1f} MB/s"],
        ["Root digest", summary["record"]["root_digest"]],
    ]
    if not check:
        rows.append(["Records", f"{summary['record']['first_seq']} to {summary['record']['last_seq']}"])
    write_line(f"Inventory of {summary['root']}{' checked' if check else ''}:")
    show(Table(["", ""], rows))
    agents: list[Sequence[Cell]] = [
        [str(a["pid"]), a["name"], f"{a['cpu_seconds']:.2f} s", str(a["restarts"])] for a in summary["agents"]
    ]
    show(Table(["PID", "AGENT", "CPU", "RESTARTS"], agents))
    for path, status in summary["errors"][:_SHOWN]:
        write_line(f"  {status}: {path}")
    if not check:
        return
    for kind in ("changed", "added", "removed", "unreadable"):
        for path in summary[kind][:_SHOWN]:
            write_line(f"  {kind}: {path}")
        if summary["counts"][kind] > _SHOWN:
            write_line(f"  … and {summary['counts'][kind] - _SHOWN:,} more {kind}")
    total = sum(summary["counts"].values())
    write_line("Nothing differs from the record." if not total else f"{total:,} names differ from the record.")
