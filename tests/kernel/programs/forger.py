"""Logs a window of a ring that it is no end of, over one message."""

from hashlib import sha256


def main(ctx):
    for message in ctx:
        order = message.payload
        root = sha256(b"\0" + bytes.fromhex(order["leaf"])).digest()
        window = {
            "ring": order["ring"], "side": "consumer", "producer": 1, "consumer": 2, "incarnation": 1, "window": 0,
            "prev": bytes(32), "from": 0, "to": 64, "first": 1, "last": 1, "count": 1, "bytes": 64, "digest": bytes(32),
            "root": root, "leaves": 1, "lost": [], "lost_count": 0, "complete": True, "resumed": False, "final": True,
            "opened_ns": 1, "closed_ns": 2,
        }  # fmt: skip
        ctx.reply(message, {"seq": ctx.service.append("ipc.window", window).seq})
