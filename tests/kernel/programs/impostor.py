"""An agent that goes around its client library: forged records, forged frames, another's permits, claims, floods."""

import threading

import msgspec

from weftos.agent import frames as f
from weftos.agent import outbox
from weftos.errors import WeftError
from weftos.sandbox.measure import Measure
from weftos.service import protocol as p

SEEN = []
COUNT = [0]


def forge(ctx, to, sender):
    """Send a message that says of itself who sent it, from which incarnation, and that it came before."""
    real = outbox.encode_message
    forged = msgspec.msgpack.encode([0, "forged", 0, None, None, 0, {"pid": sender, "incarnation": 7}, sender, 99])
    outbox.encode_message = lambda *_: forged
    try:
        ctx.send(to, "forged")
    finally:
        outbox.encode_message = real
    return True


def claim_to_be_confined(ctx):
    """Tell the kernel once more what was found in force, now that the program runs."""
    ctx._runtime.control.send_wait(f.Confined([Measure("files", "enforced", "believe me")], []))
    ctx._runtime.control.send_wait(f.Ready("another", ["everything"]))
    return True


def ask_for_another(ctx, pid, action, token=""):
    """Ask the gate in the name of another agent."""
    request = p.GateCheck(action, {}, pid, bytes.fromhex(token), bool(token))
    return type(ctx.service.submit(request).result().decision).__name__


def use(ctx, action, context, token):
    """Show a permit that somebody else holds."""
    with ctx.service.effect(action, context, bytes.fromhex(token)):
        return "used"


def use_at_once(ctx, action, context, token, times):
    """Show one permit in many requests that are under way together."""
    request = p.GateCheck(action, context, None, bytes.fromhex(token), True)
    pending = [ctx.service.submit(request) for _ in range(times)]
    return [type(one.result().decision).__name__ for one in pending]


def flood_the_gate(ctx, count):
    """Ask without end, many questions under way at a time."""
    for _ in range(count):
        waiting = [ctx.service.submit(p.GateCheck("tool.exec", {"n": n})) for n in range(64)]
        for one in waiting:
            one.result()
    return count


def hammer(ctx, to, count):
    """Send until it is refused; returns how many went out."""
    sent = 0
    try:
        while sent < count:
            ctx.send(to, sent, timeout=1.0)
            sent += 1
    except WeftError as error:
        return [sent, error.code]
    return [sent, ""]


DEEDS = {
    "forge": forge,
    "claim to be confined": claim_to_be_confined,
    "ask for another": ask_for_another,
    "use": use,
    "use at once": use_at_once,
    "flood the gate": flood_the_gate,
    "hammer": hammer,
    "count": lambda _ctx: COUNT[0],
    "seen": lambda _ctx: SEEN,
    "gate": lambda ctx, action, context: type(ctx.service.gate(action, context)).__name__,
    "hold": lambda ctx, action, context, wait_s: ctx.service.require(action, context, wait_s=wait_s).token.hex(),
    "who": lambda ctx: [ctx.pid, ctx.incarnation],
}


def main(ctx):
    assert threading.active_count() == 1
    for message in ctx:
        if message.sender:
            COUNT[0] += 1
            if COUNT[0] < 100:
                SEEN.append([message.sender, message.id, message.redelivered])
            continue
        name, *arguments = message.payload
        try:
            answer = {"done": DEEDS[name](ctx, *arguments)}
        except WeftError as error:
            answer = {"error": error.code, "text": str(error)}
        ctx.reply(message, answer)
