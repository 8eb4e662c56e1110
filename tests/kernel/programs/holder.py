"""An agent that asks for credentials, has a child ask, and knocks at the control socket."""

import contextlib
import os
import select
import socket


def knock(path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(10)
        connection.connect(path)
        # Whoever is refused is told so and cut off, perhaps before this is sent; what was said can still be read.
        with contextlib.suppress(BrokenPipeError):
            connection.sendall(b'{"jsonrpc":"2.0","id":1,"method":"kernel.status"}\n')
        return connection.recv(65536).decode()


def knock_as_orphan(path):
    """From a grandchild whose parent is gone, in a session of its own: nobody's child but the kernel's."""
    reader, writer = os.pipe()
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            try:
                with contextlib.suppress(ProcessLookupError):  # it has ended, and is taken away
                    select.select([os.pidfd_open(os.getsid(0))], [], [])
                os.write(writer, knock(path).encode())
            finally:
                os._exit(0)
        os._exit(0)
    os.close(writer)
    os.wait()
    with os.fdopen(reader, "rb") as file:
        return file.read().decode()


def main(ctx):
    if ctx.args:
        # The child that another one spawned: asks for the credential of its parent's name.
        try:
            ctx.send(ctx.parent, ctx.credentials.get(ctx.args[0]))
        except Exception as error:
            ctx.send(ctx.parent, {"error": getattr(error, "code", type(error).__name__), "text": str(error)})
        return
    for message in ctx:
        payload = message.payload
        try:
            match payload:
                case {"get": name}:
                    answer = len(ctx.credentials.get(name))
                case {"digest": name}:
                    import hashlib

                    answer = hashlib.sha256(ctx.credentials.get(name)).hexdigest()
                case {"child": name, "called": called}:
                    ctx.spawn(__file__, [name], name=called, restart="never")
                    answer = ctx.recv(10).payload
                case {"knock": path}:
                    answer = knock(path)
                case {"orphan": path}:
                    answer = knock_as_orphan(path)
        except Exception as error:
            answer = {"error": getattr(error, "code", type(error).__name__), "text": str(error)}
        ctx.reply(message, answer)
