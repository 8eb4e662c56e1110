"""An agent that does what the message says and answers with what came of it."""

import os
import signal

import numpy as np


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
                    "redelivered": message.redelivered,
                }
            )
            continue
        try:
            answer = act(ctx, payload, seen, message)
        except Exception as error:
            answer = {"error": getattr(error, "code", type(error).__name__), "text": str(error)}
        ctx.reply(message, answer)


def act(ctx, payload, seen, message):
    what = payload["do"]
    if what == "seen":
        return list(seen)
    if what == "clear":
        seen.clear()
        return True
    if what == "who":
        return [ctx.pid, ctx.incarnation, message.redelivered]
    if what == "send":
        ctx.send(payload["to"], payload["payload"])
        return True
    if what == "send_array":
        ctx.send(payload["to"], np.arange(payload["n"], dtype=np.float64))
        return True
    if what == "send_big":
        ctx.send(payload["to"], "x" * payload["n"], timeout=20)
        return True
    if what == "flood":
        for _ in range(payload["n"]):
            ctx.send(payload["to"], 1, timeout=0)
        return payload["n"]
    if what == "call":
        return ctx.call(payload["to"], payload["payload"], timeout=payload.get("timeout", 5))
    if what == "publish":
        return ctx.publish(payload["topic"], payload["payload"])
    if what == "subscribe":
        ctx.subscribe(payload["topic"])
        return True
    if what == "unsubscribe":
        ctx.unsubscribe(payload["topic"])
        return True
    if what == "broadcast":
        return ctx.broadcast(payload["payload"])
    if what == "serve":
        ctx.register_service(payload["name"], ["ask"])
        return True
    if what == "spawn":
        return ctx.spawn(payload["program"], payload.get("args", ()), limits=payload.get("limits"), restart="never")
    if what == "stop":
        ctx.stop(payload["pid"])
        return True
    if what == "monitor":
        ctx.monitor(payload["pid"])
        return True
    if what == "append":
        acks = [ctx.service.append(payload["kind"], {"n": n}).seq for n in range(payload["n"])]
        return acks
    if what == "gate":
        return type(ctx.service.gate(payload["action"], payload.get("context", {}))).__name__
    if what == "exit":
        os._exit(payload["code"])
    if what == "raise":
        raise_now(payload["text"])
    if what == "signal":
        os.kill(os.getpid(), getattr(signal, payload["name"]))
        return True
    if what == "allocate":
        block = bytearray(payload["bytes"])
        return len(block)
    if what == "fork":
        for _ in range(payload["n"]):
            if os.fork() == 0:
                signal.pause()
        return True
    if what == "orphan":
        if os.fork() == 0:
            os.setsid()
            if os.fork():
                os._exit(0)
            print("orphan", os.getpid(), flush=True)
            signal.pause()
        return True
    if what == "spin":
        while True:
            pass
    raise ValueError(what)


class Crash(BaseException):
    pass


def raise_now(text):
    raise Crash(text)
