"""Attacks 18 to 20 and 22: processes are killed, the disk is full, events are submitted again. All of it for real.

The numbers are those of docs/attacks.md. A child process writes a signed log and tells through a pipe what it was
promised; it is killed, or the system refuses its writes; what was promised must be there, once, and verify.
"""

from __future__ import annotations

import os
import signal
import struct
import subprocess
import sys

import pytest
from forged_logs import BOOT, Target, note, open_log

from weftos import chain
from weftos.errors import AppendRefused, IdempotencyConflict, StorageFailed

EVENTS = 10_000
ENTRY = struct.Struct("<QQ32s")
#: Appends numbered events and tells each number, place and hash once it is promised. With ``die_at`` it kills itself
#: before that call of the file system within a checkpoint; with ``room`` no file may become larger than so many bytes.
PROGRAM = """
import os, resource, signal, struct, sys
from weftos import chain
from weftos.errors import IdempotencyConflict, StorageFailed
home, keys, boot, first, last, group, every, die_at, room = sys.argv[1:]
first, last, group, every, die_at, room = map(int, (first, last, group, every, die_at, room))
class Deadly(chain.RealFiles):
    calls, armed = 0, False
for name in ("make_dir", "create", "write", "sync_data", "sync_file", "sync_dir", "truncate", "rename", "unlink"):
    def step(self, *arguments, real=getattr(chain.RealFiles, name)):
        self.calls += self.armed
        if self.armed and self.calls == die_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(self, *arguments)
    setattr(Deadly, name, step)
signer = chain.Signer.open(keys)
fs = Deadly()
writer = chain.ChainWriter.open(home, boot_id=bytes.fromhex(boot), fs=fs, signer=signer, segment_bytes=256 * 1024)
if room:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))
try:
    for start in range(first, last, group):
        numbers = range(start, min(start + group, last))
        events = [chain.NewEvent("a", "app.note", {"n": n}, producer="p", position=n) for n in numbers]
        acks = writer.append_many(events)
        writer.commit()
        os.write(1, b"".join(struct.pack("<QQ32s", n, a.seq, a.hash) for n, a in zip(numbers, acks)))
        if every and (start // group) % every == every - 1:
            fs.armed = True
            writer.checkpoint()
            fs.armed = False
except StorageFailed as error:
    print(error.code, error, file=sys.stderr)
    try:
        writer.append(chain.NewEvent("a", "app.note", {"n": -1}))
    except StorageFailed:
        writer.abandon()
        sys.exit(28)
    sys.exit(1)
writer.close()
"""


def run(folder, *, first=0, last=EVENTS, group=50, every=0, die_at=0, room=0, kill_after=None):
    """Run the program; return its status, its words, and what it was promised by number."""
    arguments = [folder / "chain", folder / "keys", BOOT.hex(), first, last, group, every, die_at, room]
    child = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert child.stdout is not None
    data = b""
    while piece := os.read(child.stdout.fileno(), 65536):
        data += piece
        if kill_after is not None and len(data) >= kill_after * ENTRY.size:
            os.kill(child.pid, signal.SIGKILL)
            kill_after = None
    _, words = child.communicate()
    whole = data[: len(data) // ENTRY.size * ENTRY.size]
    return child.returncode, words.decode(), {n: (seq, digest) for n, seq, digest in ENTRY.iter_unpack(whole)}


def check(folder, promised):
    """All that was promised is there once; the log opens and verifies. Return its target."""
    target = Target(folder / "chain", folder / "keys")
    target.open().close()
    found: dict[int, tuple[int, bytes]] = {}
    for record in chain.read(target.home):
        if record.kind == "app.note":
            assert record.payload["n"] not in found
            found[record.payload["n"]] = (record.seq, record.hash)
    assert promised.items() <= found.items()
    assert list(found) == list(range(len(found))), "and nothing is missing in between"
    report = target.report()
    assert (report.valid, report.errors) == (True, [])
    assert report.signed_size == report.records
    return target


@pytest.mark.parametrize("after", [1, 4_000, 9_000])
def test_attack_18_killed_during_a_load_of_ten_thousand_appends(tmp_path, after):
    status, _, promised = run(tmp_path, kill_after=after, every=7)
    assert status == -signal.SIGKILL
    assert after <= len(promised) < EVENTS
    check(tmp_path, promised)
    first = max(promised) + 1
    status, _, rest = run(tmp_path, first=first)
    assert status == 0
    check(tmp_path, promised | rest)
    assert len(promised | rest) == EVENTS


def test_attack_19_killed_at_each_call_of_a_checkpoint(tmp_path):
    survived = False
    for die_at in range(1, 40):
        folder = tmp_path / str(die_at)
        folder.mkdir()
        status, _, promised = run(folder, last=300, group=100, every=3, die_at=die_at)
        assert len(promised) == 300, "the records themselves were promised before"
        survived = status == 0
        if survived:
            break
        assert status == -signal.SIGKILL
        check(folder, promised)
    assert survived
    assert die_at > 15, "a checkpoint takes some calls: tiles, note, mark, folders"


def test_attack_20_no_room_for_the_log(tmp_path):
    status, words, promised = run(tmp_path, room=100_000)
    assert status == 28, words
    assert words.startswith("chain.storage "), words
    assert 0 < len(promised) < EVENTS
    target = check(tmp_path, promised)
    assert target.weaver_verify() == (0, [])
    status, _, rest = run(tmp_path, first=max(promised) + 1, last=max(promised) + 500)
    assert status == 0, "with room again it goes on"
    check(tmp_path, promised | rest)


def test_attack_20_no_room_for_a_checkpoint(tmp_path):
    """The log itself has room, a tile has not."""
    target = Target.build(tmp_path, notes=3)

    class Full(chain.RealFiles):
        def write(self, fd, data):
            if os.readlink(f"/proc/self/fd/{fd}").endswith(".tmp"):
                raise OSError(28, "No space left on device")
            return super().write(fd, data)

    writer = target.open(fs=Full())
    ack = writer.append(note(3))
    writer.commit()
    with pytest.raises(StorageFailed, match="No space") as caught:
        writer.checkpoint()
    assert (caught.value.code, caught.value.exit_code) == ("chain.storage", 1)
    with pytest.raises(StorageFailed):
        writer.append(note(4))
    writer.abandon()
    with target.open() as writer:
        assert writer.head.seq == ack.seq
    assert target.report().valid


def test_attack_22_submitted_again_after_a_restart(tmp_path):
    _, _, promised = run(tmp_path, last=2_000)
    target = Target(tmp_path / "chain", tmp_path / "keys")
    with open_log(target.home, signer=target.signer) as writer:
        before = writer.head.seq
        for n in (0, 1_000, 1_999):
            ack = writer.append(chain.NewEvent("a", "app.note", {"n": n}, producer="p", position=n))
            assert (ack.seq, ack.hash) == promised[n], "the first acknowledgement again"
        with pytest.raises(IdempotencyConflict) as caught:
            writer.append(chain.NewEvent("a", "app.note", {"other": "content"}, producer="p", position=5))
        assert (caught.value.code, caught.value.seq) == ("chain.conflict", promised[5][0])
        assert writer.head.seq == before
        assert writer.statistics().duplicates == 3
    assert check(tmp_path, promised).report().records == before + 1


def test_attack_22_what_was_forgotten_is_refused_and_never_doubled(tmp_path):
    with open_log(tmp_path / "chain") as writer:
        for n in range(10):
            writer.append(note(n, producer="p", position=n))
        writer.forget_before("p", 8)
        with pytest.raises(AppendRefused) as caught:
            writer.append(note(3, producer="p", position=3))
        assert caught.value.code == "chain.append_refused"
        assert writer.append(note(9, producer="p", position=9)).seq == 10
        assert writer.head.seq == 10
