"""An agent that does with artifacts what the message says, decently or not, and answers with what came of it."""

import fcntl
import io
import os
import tempfile

from weftos.agent import frames as f
from weftos.artifacts import ArtifactRef
from weftos.artifacts.form import ref_from


def main(ctx):
    for message in ctx:
        turn = message.payload
        try:
            answer = ACTIONS[turn["do"]](ctx, turn)
        except Exception as error:
            answer = {"error": getattr(error, "code", type(error).__name__), "text": str(error)}
        ctx.reply(message, answer)


def put(ctx, turn):
    content = turn["content"].encode() if "content" in turn else bytes(turn["size"])
    source = io.BytesIO(content) if turn.get("stream") else content
    return plain(ctx.artifacts.put(source, turn.get("type", "text/plain")))


def get(ctx, turn):
    return ctx.artifacts.get(turn["hash"]).decode()


def sizes(ctx, turn):
    with ctx.artifacts.open(turn["hash"]) as stream:
        return [stream.size, stream.content_type, sum(len(block) for block in stream)]


def release(ctx, turn):
    ctx.artifacts.release(turn["hash"])
    return True


def append(ctx, turn):
    ref = ArtifactRef(turn["hash"], turn["size"], "text/plain")
    return ctx.service.append("app.result", {"n": 1}, artifact=ref).seq


def append_raw(ctx, turn):
    return ctx.service.append("app.result", {"artifact": turn["artifact"]}).seq


def batch(ctx, turn):
    from weftos.service.protocol import Event

    events = [Event("app.result", {"n": 0}), Event("app.result", {"artifact": turn["artifact"]})]
    return ctx.service.append_batch(events).seq


def hand(ctx, turn):
    """Hand over a descriptor that is not what it should be."""
    fds = DESCRIPTORS[turn["what"]]()
    try:
        answer, received = ctx._runtime.request(f.PutArtifact("text/plain"), 20, fds)
        assert not received
        return answer.values
    finally:
        for fd in fds:
            os.close(fd)


def memory(seals, *, flags=os.MFD_ALLOW_SEALING, size=5000):
    fd = os.memfd_create("hostile", os.MFD_CLOEXEC | flags)
    os.ftruncate(fd, size)
    if seals:
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
    return fd


ALL = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK


def fifo():
    folder = tempfile.mkdtemp()
    path = os.path.join(folder, "fifo")
    os.mkfifo(path)
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    os.unlink(path)
    os.rmdir(folder)
    return [fd]


def pipe():
    reading, writing = os.pipe()
    os.close(writing)
    return [reading]


def file():
    fd, path = tempfile.mkstemp()
    os.write(fd, b"x" * 100)
    os.unlink(path)
    return [fd]


def write_only():
    fd = memory(ALL - fcntl.F_SEAL_WRITE)
    writing = os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_CLOEXEC)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)
    os.close(fd)
    return [writing]


DESCRIPTORS = {
    "nothing": list,
    "two": lambda: [memory(ALL), memory(ALL)],
    "unsealed": lambda: [memory(0)],
    "unsealable": lambda: [memory(0, flags=0)],
    "may shrink": lambda: [memory(fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW)],
    "may grow": lambda: [memory(fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SHRINK)],
    "writable": lambda: [memory(fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK)],
    "a file": file,
    "a fifo": fifo,
    "a pipe": pipe,
    "a device": lambda: [os.open("/dev/zero", os.O_RDONLY | os.O_CLOEXEC)],
    "a terminal's maker": lambda: [os.open("/dev/ptmx", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)],
    "a folder": lambda: [os.open("/", os.O_RDONLY | os.O_CLOEXEC)],
    "a path": lambda: [os.open("/dev/zero", os.O_PATH | os.O_CLOEXEC)],
    "write only": write_only,
    "too large": lambda: [memory(ALL, size=2 * 1024**3)],
    "good": lambda: [memory(ALL)],
}


def leave(ctx, turn):
    """Begin puts and do not wait for them."""
    for _ in range(turn["n"]):
        fd = memory(ALL, size=turn["size"])
        ctx._runtime.begin_request(f.PutArtifact("text/plain"), (fd,))
        os.close(fd)
    return True


def answers(ctx, turn):
    """Begin puts at once, and wait for all."""
    serials = []
    for _ in range(turn["n"]):
        fd = memory(ALL, size=turn["size"])
        serials.append(ctx._runtime.begin_request(f.PutArtifact("text/plain"), (fd,)))
        os.close(fd)
    while not all(ctx._runtime.answer(serial) for serial in serials):
        ctx._runtime.pump(1)
    codes = [ctx._runtime.answer(serial)[0].code for serial in serials]
    for serial in serials:
        ctx._runtime.end_request(serial)
    return codes


def plain(ref):
    found = {"hash": ref.hash, "size": ref.size, "content_type": ref.content_type}
    assert ref_from(found) == ref
    return found


ACTIONS = {
    "put": put,
    "get": get,
    "sizes": sizes,
    "release": release,
    "append": append,
    "append_raw": append_raw,
    "batch": batch,
    "hand": hand,
    "leave": leave,
    "answers": answers,
    "fds": lambda ctx, turn: len(os.listdir("/proc/self/fd")),
}
