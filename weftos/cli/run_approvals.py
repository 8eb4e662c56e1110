"""``weaver run approvals-demo``: an agent asks, a person approves, it happens once, and the permit can be proved.

The work is done by two agents, see ``workers/approvals.py``. Here is what happens around them: a folder to lose, an
environment in which a person may decide, the approval if it is to be given here, and the proof.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from weftos import limits
from weftos.cli.agent_job import kernel_for_job
from weftos.cli.output import emit_json, note, write_line
from weftos.cli.session import instance, json_option

if TYPE_CHECKING:
    from weftos.rpc.client import RpcClient

__all__ = ["approvals_demo"]

_ENVIRONMENT: Final = "approvals-demo"
#: Deletions have a magnitude of 0.76: large here, and within what a person may allow.
_FIELDS: Final = {"risk_threshold": 0.5, "max_effect_magnitude": 1.0, "human_approval_required": True}
#: Between two looks at the request, in seconds.
_LOOK_S: Final = 0.1
_START_S: Final = 60.0
#: For the agents to do it twice after the decision, in seconds.
_ACT_S: Final = 40.0


@click.command("approvals-demo")
@click.argument("path", required=False, type=click.Path(path_type=Path))
@click.option("--approve", is_flag=True, help="Approve it here, instead of waiting for another terminal.")
@click.option(
    "--wait",
    "wait_s",
    type=click.FloatRange(1, 86_400),
    default=600.0,
    show_default=True,
    help="For a person, seconds.",
)
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="Keep the proof of the permit.")
@json_option
def approvals_demo(path: Path | None, approve: bool, wait_s: float, output: Path | None, as_json: bool) -> None:
    """Let an agent ask for the deletion of a folder, which a person approves; it happens once.

    PATH is a folder that is to be deleted. Without it, one is made for the purpose. The request is approved in another
    terminal (`weaver gate pending`, `weaver gate approve NUMBER`), or here with --approve. Then the agent tries to use
    the permit a second time, and the permit's record is proved from the log as `weaver chain prove` and `chain check`
    do. For as long as it takes an environment is in force in which a person may decide. Ends with status 4 if the
    request is refused, 3 if nobody decides.

    \b
    weaver run approvals-demo --approve
    """  # noqa: D301 -- click's mark is the backspace itself
    with (
        _folder(path) as folder,
        kernel_for_job() as client,
        _environment(client),
        _agents(client, folder, wait_s) as asker,
    ):
        request = _request(client, asker)
        if not as_json:
            write_line(f"Agent {asker} wants to delete {folder}: request {request} waits for a person.")
            write_line(f"  weaver gate approve {request} --reason …      or      weaver gate deny {request}")
        if approve:
            client.call("gate.approve", {"request": request, "reason": "approved by the demonstration"})
        _decided(client, request, wait_s)
        told: dict[str, Any] = client.call(
            "agent.send", {"pid": asker, "message": "what came of it?", "timeout_secs": _ACT_S}, timeout=_ACT_S + 5
        ).reply
        if "error" in told:
            from weftos.errors import error_for_code

            raise error_for_code(told["error"], told["text"])
        summary = _summary(client, folder, request, told, output)
    if as_json:
        emit_json(summary)
        return
    write_line(f"Approved by {summary['by']}; permit {summary['permit']} (record {summary['permit_record']}).")
    write_line(f"Deleted: {summary['deleted']}; the intent is record {summary['intent']}.")
    write_line(f"A second time: {summary['again']}")
    write_line(f"Proof of the permit: valid, record {summary['permit_record']} of {summary['proof_size']}.")


@contextmanager
def _folder(path: Path | None) -> Iterator[str]:
    """The folder to lose, without links; one that was made for it goes in any case.

    Raises:
        InvalidRequest: it is none, or too much to lose.
    """
    from weftos.errors import InvalidRequest

    if path is None:
        made = Path(tempfile.mkdtemp(prefix="approvals-demo-"))
        (made / "note.txt").write_text("to be deleted, if somebody approves\n", encoding="utf-8")
        try:
            yield str(made)
        finally:
            shutil.rmtree(made, ignore_errors=True)
        return
    if path.is_symlink() or not path.is_dir():
        raise InvalidRequest(f"{path} is no folder")
    found = path.resolve()
    if found in (Path("/"), Path.home().resolve()) or instance().root.resolve().is_relative_to(found):
        raise InvalidRequest(f"{found} is too much to lose in a demonstration")
    yield str(found)


@contextmanager
def _environment(client: RpcClient) -> Iterator[None]:
    """Have an environment in which a person decides about deletions; the one before comes back."""
    from weftos_workers.approvals import ACTION  # type: ignore[import-not-found]

    asked = client.call("governance.simulate", {"action": ACTION})
    if asked.rows[0].now.decision == "defer":
        yield
        return
    before = client.call("governance.show").environment.name
    client.call("env.switch", {"name": _ENVIRONMENT, "fields": _FIELDS, "reason": "a demonstration of approvals"})
    try:
        yield
    finally:
        client.call("env.switch", {"name": before, "reason": "the demonstration has ended"})


@contextmanager
def _agents(client: RpcClient, folder: str, wait_s: float) -> Iterator[int]:
    """The two agents, as long as the body runs; gives the pid of the one that asks."""
    from weftos.errors import AgentExited

    pids: list[int] = []

    def spawn(function: str, name: str, args: list[str], profile: str) -> int:
        params = {
            "program": f"weftos_workers.approvals:{function}",
            "name": name,
            "args": args,
            "restart": "never",
            "sandbox": {"profile": profile},
        }
        pids.append(client.call("agent.spawn", params, timeout=_START_S).pid)
        return pids[-1]

    try:
        # Who removes is the operator's, and does it anywhere; who asks can touch nothing itself.
        remover = spawn("remover", "folder-remover", [], "trusted")
        yield spawn("asker", "folder-asker", [folder, str(remover), str(wait_s)], "standard")
    finally:
        for pid in pids:
            with suppress(AgentExited):
                client.call("kernel.kill-process", {"pid": pid})


def _request(client: RpcClient, asker: int) -> int:
    """Number of the request that the agent makes.

    Raises:
        WeftTimeout: it makes none.
    """
    from weftos.errors import WeftTimeout

    deadline = time.monotonic() + limits.SERVICE_TIMEOUT_S
    while time.monotonic() < deadline:
        for row in _rows(client, every=False):
            if row.pid == asker and row.alive:
                return int(row.request)
        time.sleep(_LOOK_S)
    raise WeftTimeout(f"agent {asker} did not ask within {limits.SERVICE_TIMEOUT_S:g} s; `weaver agent logs {asker}`")


def _decided(client: RpcClient, request: int, wait_s: float) -> None:
    """Wait until somebody has decided; the agent waits no longer either."""
    deadline = time.monotonic() + wait_s
    while time.monotonic() < deadline:
        if all(row.request != request for row in _rows(client, every=False)):
            return
        time.sleep(_LOOK_S)
    note("nobody decided in time")


def _rows(client: RpcClient, *, every: bool) -> Iterator[Any]:
    after = -1
    while True:
        page = client.call("gate.pending", {"all": every, "after": after})
        yield from page.requests
        if not page.more:
            return
        after = page.requests[-1].request


def _summary(client: RpcClient, folder: str, request: int, told: dict[str, Any], output: Path | None) -> dict[str, Any]:
    """Prove the record of the permit, and say what happened."""
    from weftos.chain.verification.proof_file import check_proof, make_proof, parse_proof
    from weftos.cli.chain_keys import keys_of_origin, origin_of
    from weftos.cli.output import write_file
    from weftos.errors import ProofInvalid

    row = next(one for one in _rows(client, every=True) if one.request == request)
    client.call("chain.checkpoint")
    data = make_proof(instance().chain, told["permit_record"], "").encode()
    proof = parse_proof(data)
    origin = origin_of(proof.checkpoint)
    record, checkpoint = check_proof(proof, keys_of_origin(origin, None), origin)
    if record.kind != "permit.mint" or record.payload["id"].hex() != row.permit:
        raise ProofInvalid(f"record {record.seq} is not the permit {row.permit}")
    if output is not None:
        write_file(output, data)
    return {
        "folder": folder,
        "request": request,
        "by": row.by,
        "reason": row.reason,
        "permit": row.permit,
        "permit_record": record.seq,
        "used_record": row.used_record,
        "intent": told["intent"],
        "deleted": not os.path.lexists(folder),
        "again": told["again"],
        "proof_size": checkpoint.size,
        "proof_root": checkpoint.root.hex(),
    }
