"""An agent that does what the message says and answers with what came of it."""

import os
import signal
from dataclasses import dataclass
from typing import Any

import numpy as np

from weftos.agent import frames as f
from weftos.errors import BudgetExhausted
from weftos.service import protocol as p


@dataclass
class Turn:
    """One message to act on, and the plain ones that came before it."""

    ctx: Any
    message: Any
    payload: dict
    seen: list

    def __getitem__(self, key):
        return self.payload[key]

    def get(self, key, default=None):
        return self.payload.get(key, default)


class Crash(BaseException):
    pass


def main(ctx):
    seen = []
    for message in ctx:
        payload = message.payload
        if not isinstance(payload, dict) or "do" not in payload:
            seen.append(
                {
                    "type": message.type,
                    "sender": message.sender,
                    "payload": payload.tolist() if isinstance(payload, np.ndarray) else str(payload),
                    "target": str(message.target),
                    "id": message.id,
                    "redelivered": message.redelivered,
                }
            )
            continue
        try:
            answer = ACTIONS[payload["do"]](Turn(ctx, message, payload, seen))
        except Exception as error:
            answer = {"error": getattr(error, "code", type(error).__name__), "text": str(error)}
        ctx.reply(message, answer)


def done(_result):
    """Answer that it was done, whatever came of it."""
    return True


def send_big(turn):
    turn.ctx.send(turn["to"], "x" * turn["n"], timeout=20)
    return True


def flood(turn):
    for _ in range(turn["n"]):
        turn.ctx.send(turn["to"], 1, timeout=0)
    return turn["n"]


def crash(turn):
    raise Crash(turn["text"])


def fork(turn):
    for _ in range(turn["n"]):
        if os.fork() == 0:
            signal.pause()
    return True


def orphan(_turn):
    if os.fork() == 0:
        os.setsid()
        if os.fork():
            os._exit(0)
        print("orphan", os.getpid(), flush=True)
        signal.pause()
    return True


def spin(_turn):
    while True:
        pass


def ask_raw(turn):
    """Ask the kernel without looking at the page of rights first."""
    bodies = {
        "channel": f.OpenChannel(pid=turn["pid"]),
        "topic": f.OpenTopic("t"),
        "subscribe": f.Subscribe("t"),
        "broadcast": f.BroadcastPeers(),
        "spawn": f.SpawnChild("echo"),
        "artifact": f.GetArtifact("0" * 64),
    }
    runtime = turn.ctx._runtime
    runtime.rights.require_for = lambda _body: None
    return done(runtime.request(bodies[turn["body"]]))


OPEN = {}


def reserve(turn):
    try:
        made = turn.ctx.budget.reserve(turn.get("action", ""), args=turn.get("args"), **turn.get("amounts", {}))
    except BudgetExhausted as error:
        return {"stop": error.dimension, "rule": error.rule_pid, "remaining": error.remaining, "text": str(error)}
    OPEN[made.number] = made
    return made.number


HELD = {}


def held_permit(held):
    """Keep a permit, and answer what can travel as JSON."""
    HELD[held.request] = held
    return [held.request, held.record, held.token.hex()]


def under(turn):
    """Do something under a permit that was kept."""
    with turn.ctx.under(HELD[turn["request"]]):
        return ACTIONS[turn.payload["then"]["do"]](Turn(turn.ctx, turn.message, turn.payload["then"], turn.seen))


ACTIONS = {
    # what it has seen
    "seen": lambda turn: list(turn.seen),
    "clear": lambda turn: done(turn.seen.clear()),
    "who": lambda turn: [turn.ctx.pid, turn.ctx.incarnation, turn.message.redelivered],
    # messages
    "send": lambda turn: done(turn.ctx.send(turn["to"], turn["payload"])),
    "send_at": lambda turn: turn.ctx.send(turn["to"], turn["payload"]),
    "send_array": lambda turn: done(turn.ctx.send(turn["to"], np.arange(turn["n"], dtype=np.float64))),
    "send_big": send_big,
    "flood": flood,
    "call": lambda turn: turn.ctx.call(turn["to"], turn["payload"], timeout=turn.get("timeout", 5)),
    "publish": lambda turn: turn.ctx.publish(turn["topic"], turn["payload"]),
    "publish_big": lambda turn: turn.ctx.publish(turn["topic"], "x" * turn["n"]),
    "subscribe": lambda turn: done(turn.ctx.subscribe(turn["topic"])),
    "unsubscribe": lambda turn: done(turn.ctx.unsubscribe(turn["topic"])),
    "broadcast": lambda turn: turn.ctx.broadcast(turn["payload"]),
    # processes
    "serve": lambda turn: done(turn.ctx.register_service(turn["name"], ["ask"])),
    "spawn": lambda turn: turn.ctx.spawn(
        turn["program"], turn.get("args", ()), limits=turn.get("limits"), restart="never"
    ),
    "stop": lambda turn: done(turn.ctx.stop(turn["pid"])),
    "monitor": lambda turn: done(turn.ctx.monitor(turn["pid"])),
    # the resource tree
    "look": lambda turn: getattr(turn.ctx.resources, turn["question"])(
        turn.get("path", "/"), certificates=[bytes.fromhex(one) for one in turn.get("certificates", [])]
    ),
    # the log and the gate
    "append": lambda turn: [turn.ctx.service.append(turn["kind"], {"n": n}).seq for n in range(turn["n"])],
    # JSON has no bytes, so hashes come as hex digits under other names.
    "append_this": lambda turn: (
        turn.ctx.service.append(
            turn["kind"], turn["payload"] | {name: bytes.fromhex(text) for name, text in turn.get("hashes", {}).items()}
        ).seq
    ),
    "levels": lambda turn: [turn.ctx.service.append("app.level", {}, **how).durable for how in turn["how"]],
    "gate": lambda turn: type(turn.ctx.service.gate(turn["action"], turn.get("context", {}))).__name__,
    # what it may do
    "allows": lambda turn: turn.ctx.capabilities.allows(turn["action"], turn.get("target")),
    "epoch": lambda turn: turn.ctx.capabilities.epoch,
    "require_right": lambda turn: done(turn.ctx.capabilities.require(turn["action"], turn.get("target"))),
    "ask_for": lambda turn: turn.ctx.request_capability(turn["rights"], turn["reason"]),
    "ask_raw": lambda turn: ask_raw(turn),
    "spawn_role": lambda turn: turn.ctx.spawn(turn["program"], role=turn["role"], restart="never"),
    "get_artifact": lambda turn: turn.ctx.artifacts.get(turn["hash"]).decode(),
    # budgets: reservations stay open under their number, until they are settled or this process ends
    "reserve": lambda turn: reserve(turn),
    "settle": lambda turn: OPEN.pop(turn["number"]).settle(),
    "used": lambda turn: done(OPEN[turn["number"]].used(**turn["amounts"])),
    "settle_foreign": lambda turn: turn.ctx.service.submit(p.BudgetSettle(turn["number"])).result().values,
    "set_budget": lambda turn: done(
        turn.ctx.service.submit(
            p.BudgetSet(turn.ctx.pid, {"tokens": turn["tokens"]}, None, None, None, "operator", "")
        ).result()
    ),
    "budget": lambda turn: turn.ctx.budget.show(),
    "require": lambda turn: held_permit(
        turn.ctx.service.require(turn["action"], turn.get("context", {}), wait_s=turn.get("wait_s", 0.0))
    ),
    "under": under,
    "artifact": lambda turn: getattr(turn.ctx.artifacts, turn["how"])(*turn["args"]) is None,
    "put_artifact": lambda turn: turn.ctx.artifacts.put(turn["text"].encode()).hash,
    # how to end, and what not to do
    "exit": lambda turn: os._exit(turn["code"]),
    "raise": crash,
    "signal": lambda turn: done(os.kill(os.getpid(), getattr(signal, turn["name"]))),
    "allocate": lambda turn: len(bytearray(turn["bytes"])),
    "fork": fork,
    "orphan": orphan,
    "spin": spin,
}
