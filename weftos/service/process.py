"""The service process from its first line to its exit code.

    kernel ══ control socket ══▶ ┌─────────────────┐ ══▶ chain directory (this process is its only writer)
    agents ══ request rings ═══▶ │ service process │ ══▶ signing keys   (and their only holder)
           ◀═ reply rings ══════ └─────────────────┘

Why it is as it is: what must be shared and slow to fake lives in one process of its own, so that neither the kernel nor
an agent can lose or forge it by crashing or by being taken over. It is supervised like an agent. When the kernel dies
it does not die with it at once: it writes down what was accepted first.

Guaranteed: exit code 0 means that everything answered is on disk and the head is signed. A chain that contradicts
itself is left as it was found, and reported with file and offset. Not guaranteed: that it starts; the kernel is told
why not.
"""

from __future__ import annotations

import gc
import logging
import os
import signal
import socket
import sys
import time
from dataclasses import dataclass, field
from typing import Final

from weftos import limits
from weftos.chain.retention.policy import RetentionPolicy
from weftos.errors import (
    ChainCorrupted,
    ChannelClosed,
    ProtocolError,
    StorageFailed,
    TileProcessLost,
    WeftError,
    WeftTimeout,
)
from weftos.ipc.frames import FrameChannel, close_all
from weftos.service import protocol as p
from weftos.service.artifact_desk import ArtifactDesk
from weftos.service.cognition import Cognition
from weftos.service.credential_desk import VaultSettings
from weftos.service.ecc_quota import Room
from weftos.service.governance import Governance
from weftos.service.handlers import refusal
from weftos.service.journal import Journal
from weftos.service.ledgers import LedgerSettings
from weftos.service.loop import CONTROL_SLOT, ServiceLoop
from weftos.service.tile_process import TileProcess
from weftos.service.tree_changes import trust_ourselves
from weftos.shm import Doorbell, Mailbox, MailboxPeer, Segment, sweep

__all__ = ["ServiceBoot", "run_service"]

log = logging.getLogger(__name__)

#: Allocations between two runs of the collector. Requests make no cycles, so it only looks for what handlers may leave.
_GC_THRESHOLD: Final = 50_000
#: How long a thread computes before it gives way, in seconds. The loop gives up the interpreter with every call that
#: touches the disk, some twenty times a round, and would wait Python's own 5 ms each time for a thread that computes.
_SWITCH_S: Final = 0.000_2
#: From the end of the kernel's socket to a new parent, in seconds, at most; it takes microseconds.
_ORPHANED_WITHIN_S: Final = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceBoot:
    """What the kernel gives to a service process at its fork.

    Attributes:
        control: the service's end of the control socket.
        chain_dir: directory of the log; made if it is missing.
        keys_dir: directory of the signing key; made if it is missing.
        boot_id: 16 bytes that name this boot of the kernel.
        mailbox_fd: the service's mailbox page; stays the same over restarts of the service.
        bell_name: its doorbell.
        semaphore_prefix: prefix of all semaphores of this instance, for the last one to sweep.
        segment_bytes: size at which a file of the log is closed and the next one begun; the chain's default if
            ``None``.
        artifacts_dir: directory of the artifact store; made if it is missing.
        artifacts_bytes: size of the artifact store; 0 is unlimited.
        retention: which segments are archived and pruned; none if ``None``.
        cedar_policies: file with policies in Cedar; it need not exist.
        vault: where credentials are kept.
        ecc_dir: directory of memory; made when there is something to keep. Beside the log if empty.
        ecc_room: how much memory may take.
    """

    control: socket.socket
    chain_dir: str
    keys_dir: str
    known_logs: str
    boot_id: bytes
    mailbox_fd: int
    bell_name: str
    semaphore_prefix: str
    segment_bytes: int = limits.CHAIN_SEGMENT_BYTES
    witness_sockets: tuple[str, ...] = ()
    known_witnesses: str = ""
    ledgers: LedgerSettings = field(default_factory=LedgerSettings)
    artifacts_dir: str = ""
    artifacts_bytes: int = limits.ARTIFACT_STORE_BYTES
    retention: RetentionPolicy | None = None
    cedar_policies: str = ""
    vault: VaultSettings = field(default_factory=VaultSettings)
    ecc_dir: str = ""
    ecc_room: Room = field(default_factory=Room)


def run_service(boot: ServiceBoot) -> int:
    """Be the service process. Called once, in a freshly forked child; takes over its signals.

    Returns:
        The exit code: 0 after an orderly end; 1 if the log could not be written to the end, or the process of the tiles
        was lost; 5 for a damaged chain, or the ``exit_code`` of whatever else kept it from starting.
    """
    # The kernel's event loop may have left its own; here that number will soon name another file.
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGPIPE, signal.SIGXFSZ):
        # A full disk or a gone peer must come back as an error that can be answered, not as a death.
        signal.signal(number, signal.SIG_IGN)
    stopping: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _frame: stopping.append(number))
    channel: FrameChannel[p.ServiceFrame] = FrameChannel(boot.control, p.ServiceFrame)
    try:
        bell = Doorbell.open(boot.bell_name)
        segment = Segment.attach(boot.mailbox_fd)
        mailbox = Mailbox(segment, bell, spin_s=limits.SERVICE_IDLE_SPIN_S)
        journal = Journal.open(
            boot.chain_dir,
            boot.keys_dir,
            boot.known_logs,
            boot.boot_id,
            boot.segment_bytes,
            boot.witness_sockets,
            boot.known_witnesses,
            boot.ledgers,
            boot.retention,
        )
        trust_ourselves(journal)
        journal.move_tiles(TileProcess)
        journal.keep_credentials(boot.vault)
        governance = Governance(journal, boot.keys_dir, boot.boot_id, boot.cedar_policies)
        # A thread that has done something wakes the loop as the kernel does.
        wake = MailboxPeer(segment, bell).notifier(CONTROL_SLOT)
        artifacts = ArtifactDesk(
            boot.artifacts_dir or f"{boot.chain_dir}.artifacts",
            journal,
            boot.artifacts_bytes,
            wake,
            refusal,
        )
        cognition = Cognition(boot.ecc_dir or f"{boot.chain_dir}.ecc", journal, wake, boot.ecc_room)
    except WeftError as error:
        return _refuse_to_start(channel, error)
    log.info("the log in %s is open", boot.chain_dir)
    # At once, not at the end: the names of a new kernel, which may come while we still write, must stay.
    parent = os.getppid()
    sweeping = lambda: _sweep_if_orphaned(parent, boot.semaphore_prefix)  # noqa: E731 - one argument of many
    loop = ServiceLoop(channel, mailbox, journal, artifacts, governance, cognition, sweeping)

    def on_term(_number: int, _frame: object) -> None:
        loop.stop_asked = True

    signal.signal(signal.SIGTERM, on_term)
    loop.stop_asked = bool(stopping)
    try:
        channel.send_wait(p.ServiceReady(loop.head()))
    except (ChannelClosed, WeftTimeout):
        loop.orphaned()
    sys.setswitchinterval(_SWITCH_S)
    gc.collect()
    gc.freeze()
    gc.set_threshold(_GC_THRESHOLD, 20, 20)
    try:
        loop.run()
    except TileProcessLost as error:
        log.error("%s", error)
        return error.exit_code
    return _end(loop, channel, journal, cognition, bell)


def _sweep_if_orphaned(parent: int, prefix: str) -> None:
    """Remove the instance's semaphores, if the kernel is dead and not merely out of reach.

    The system closes a dying process's sockets just before its children get a new parent; that moment is waited for.
    """
    deadline = time.monotonic() + _ORPHANED_WITHIN_S
    while os.getppid() == parent:
        if time.monotonic() >= deadline:
            return
        time.sleep(0.005)
    names = sweep(prefix)
    log.info("%d semaphores of the dead kernel were removed", len(names))


def _refuse_to_start(channel: FrameChannel[p.ServiceFrame], error: WeftError) -> int:
    text = str(error)
    if isinstance(error, ChainCorrupted) and error.path and error.path not in text:
        text = f"{text} ({error.path}, offset {error.offset})"
    log.error("the service process cannot start: %s", text)
    try:
        channel.send_wait(p.ServiceBootFailed(error.code, text))
    except (ChannelClosed, WeftTimeout):
        return error.exit_code  # nobody is left to be told; the code still says it
    return error.exit_code


def _end(
    loop: ServiceLoop, channel: FrameChannel[p.ServiceFrame], journal: Journal, cognition: Cognition, bell: Doorbell
) -> int:
    """Write, sign, close."""
    code = 0
    loop.end_artifacts()
    try:
        cognition.close()
    except StorageFailed as error:
        code = error.exit_code
    try:
        journal.close()
    except StorageFailed as error:
        code = error.exit_code
    log.info("the log is closed; exit status %d", code)
    # The order to stop and the kernel's death may come together: the death signal is one such order.
    if _has_ended(channel):
        loop.orphaned()
    loop.close()
    bell.close()
    return code


def _has_ended(channel: FrameChannel[p.ServiceFrame]) -> bool:
    while True:
        try:
            received = channel.recv()
        except ChannelClosed:
            return True
        except ProtocolError:
            continue
        if received is None:
            return False
        close_all(received[1])
