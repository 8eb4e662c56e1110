"""Two agents for `weaver run approvals-demo`: one wants a folder deleted, the other deletes folders, for permits only.

    asker ── may I? ──▶ gate ── a person approves ──▶ permit ─▶ asker ── path, token ──▶ remover ── token ──▶ service
                                                                                            └─ deletes it, once

Neither trusts the other: the remover has no say in what is approved, and the asker's word deletes nothing.
"""

from __future__ import annotations

import os
import shutil
from typing import Any, Final

from weftos import limits
from weftos.agent.context import Context
from weftos.errors import InvalidRequest, WeftError

__all__ = ["ACTION", "asker", "remover"]

ACTION: Final = "tool.fs.remove"


def remover(ctx: Context) -> None:
    """Delete folders for whoever shows a permit for it."""
    for message in ctx:
        try:
            ctx.reply(message, _remove(ctx, message.sender, message.payload))
        except WeftError as error:
            ctx.fail(message, error.code, str(error))
        except OSError as error:
            ctx.fail(message, InvalidRequest.code, f"the folder was not deleted: {error}")


def _remove(ctx: Context, asker_pid: int, order: Any) -> dict[str, Any]:
    if not isinstance(order, dict) or type(order.get("path")) is not str or type(order.get("token")) is not bytes:
        raise InvalidRequest("an order is a map of path and token")
    path = order["path"]
    with ctx.service.effect(ACTION, {"path": path}, order["token"], of=asker_pid) as intent:
        if os.path.islink(path):
            raise InvalidRequest(f"{path} is a link; what was approved is a folder")
        shutil.rmtree(path)
    return {"intent": intent}


def asker(ctx: Context) -> None:
    """Ask for the deletion of a folder, wait for a person, have it done, try it again, and tell whoever asks.

    Arguments: the folder, the pid of the remover, how long to wait for a person in seconds.
    """
    path, executor, wait_s = ctx.args[0], int(ctx.args[1]), float(ctx.args[2])
    try:
        told = _ask(ctx, path, executor, wait_s)
    except WeftError as error:
        told = {"error": error.code, "text": str(error)}
    for message in ctx:
        ctx.reply(message, told)


def _ask(ctx: Context, path: str, executor: int, wait_s: float) -> dict[str, Any]:
    held = ctx.service.require(ACTION, {"path": path}, wait_s=wait_s, executor=executor)
    if not held.token:
        raise InvalidRequest(f"the rules permit {ACTION} without a person; choose a stricter environment")
    order = {"path": path, "token": held.token}
    done = ctx.call(executor, order, timeout=limits.SERVICE_TIMEOUT_S)
    try:
        ctx.call(executor, order, timeout=limits.SERVICE_TIMEOUT_S)
    except WeftError as error:
        again = f"{error.code}: {error}"
    else:
        again = ""
    return {"request": held.request, "permit_record": held.record, "intent": done["intent"], "again": again}
