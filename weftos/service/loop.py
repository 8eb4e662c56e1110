"""The loop of the service process: take a share from every ring, carry it out, write once, answer, commit.

    wait ─▶ kernel's frames ─▶ a share of each ready ring ─▶ write ─▶ quick answers ─▶ sync ─▶ the rest ─▶ commit
      ▲                                                                                                     │
      └─────────────────────────────────────────────────────────────────────────────────────────────────────┘

Why it is as it is: syncing costs a thousand appends, so all that have gathered share one. A share per ring, because an
agent that floods must only slow itself. Commit comes last, because a ring's position is what a successor starts from:
whatever happens before it, the request is read again and found in the log.

The disk of the memory is waited for by a thread: who wrote there is parked, with all its answers and what it asks
further, while others are served; see ``parked`` and ``ecc_disk``.

Guaranteed: an answer to a durable append leaves after its sync; every other answer leaves after the write. No ring is
left waiting while another is served twice. The end of the kernel is seen within ``limits.SERVICE_LOOK_S`` and one
round. Not guaranteed: that answers of different rings keep any order.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

import msgspec

from weftos import limits
from weftos.errors import (
    ChannelClosed,
    MessageTooLarge,
    ProtocolError,
    RingFull,
    ServiceUnavailable,
    StorageFailed,
    WeftError,
)
from weftos.governance.gate import Subject
from weftos.ipc.frames import FrameChannel, FrameOutbox, close_all
from weftos.service import protocol as p
from weftos.service.artifact_desk import ArtifactDesk
from weftos.service.clients import Caller, Client
from weftos.service.cognition import Cognition
from weftos.service.ecc_desk import begin_search
from weftos.service.ecc_protocol import Remembered, SearchMemory
from weftos.service.ecc_searches import Search, answer_searches
from weftos.service.governance import Governance
from weftos.service.handlers import Desk, answer, refusal, waits_for_disk, without_storage
from weftos.service.journal import Journal
from weftos.service.parked import Parked, Waiting
from weftos.service.runs import answer_run, is_plain
from weftos.shm import Mailbox

__all__ = ["CONTROL_SLOT", "ServiceLoop"]

log = logging.getLogger(__name__)

#: The ready byte of the control socket in the service's own mailbox.
CONTROL_SLOT: Final = 0
#: Pause while the kernel's socket is full, in seconds: it becomes writable without a wake-up.
_OUTBOX_PAUSE_S: Final = 0.002
#: Stands in for the answer to a search until all searches of a round are made.
_UNDER_WAY: Final = p.Failed(ServiceUnavailable.code, "the search was not made")
_NOT_DECODED: Final = (msgspec.MsgspecError, TypeError, ValueError, RecursionError, OverflowError)


class ServiceLoop:
    """Serves the kernel and its agents until told to stop.

    Args:
        channel: the control socket.
        mailbox: the service's own.
        journal: the open log.
        artifacts: serves what the kernel asks about artifacts.
        governance: what is in force, and who waits for an approval.
        cognition: memory.
        on_orphaned: called once, at the moment when the kernel is found gone.

    Attributes:
        stop_asked: set it (from a signal handler) to end as after ``StopService``.
        kernel_gone: the control socket has ended.
    """

    def __init__(
        self,
        channel: FrameChannel[p.ServiceFrame],
        mailbox: Mailbox,
        journal: Journal,
        artifacts: ArtifactDesk,
        governance: Governance,
        cognition: Cognition,
        on_orphaned: Callable[[], object],
    ) -> None:
        self._channel = channel
        self._on_orphaned = on_orphaned
        self._outbox = FrameOutbox(channel)
        self._mailbox = mailbox
        self._journal = journal
        self._artifacts = artifacts
        self._subjects = governance.subjects
        self._clients: dict[int, Client] = {}
        self._slots: dict[int, Client] = {}
        #: Clients whose ring may hold something; in the order in which their turn comes.
        self._ready: dict[Client, None] = {}
        self._kernel_replies: list[tuple[int, p.Reply]] = []
        self._governance = governance
        self._cognition = cognition
        self._parked = Parked(cognition.is_synced)
        self._desk = Desk(journal, governance.gate, self.head, self._subjects.get, artifacts, governance, cognition)
        #: Searches of this round that may be made, and where their answers belong.
        self._searches: list[tuple[Client, int, Search]] = []
        self._kernel = Caller(
            "0", "kernel", "kernel", kernel=True, reply_bytes=limits.CONTROL_FRAME_BYTES, scope="kernel:"
        )
        self._decode = msgspec.msgpack.Decoder(p.Request).decode
        self._encode = msgspec.msgpack.Encoder().encode
        self._started = time.monotonic()
        self._looked = self._swept = self._signed = self._chores_at = self._started
        self._requests = self._rejected = self._dropped = self._detached = self._rounds = 0
        self.stop_asked = False
        self.kernel_gone = False

    # --- the loop -----------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Serve until told to stop or the kernel is gone; then serve what lies in the rings, and return."""
        drain_until: float | None = None
        while True:
            now = time.monotonic()
            control = self._look_for_work(now)
            busy = control and self._serve_control(now)
            asked = bool(self._ready or self._kernel_replies)
            if asked:
                self._round(now)
            # Behind the answers: while those who got them have not asked the next thing yet.
            if control or not asked or now >= self._chores_at:
                self._do_chores(now)
            if self._journal.unsynced_since is not None and now - self._journal.unsynced_since >= limits.SERVICE_SYNC_S:
                self._try(self._journal.sync)
            self._flush_outbox()
            if self.stop_asked or self.kernel_gone:
                if drain_until is None:
                    drain_until = now + limits.SERVICE_DRAIN_S
                    self._sweep(now)
                    self._looked = float("-inf")
                elif now >= drain_until or not (self._ready or self._parked or busy):
                    return
                continue
            if now - self._signed >= limits.SERVICE_SIGN_S:
                self._signed = now
                self._try(self._journal.checkpoint)
            if not self._ready:
                self._mailbox.beat()
                self._mailbox.wait(_OUTBOX_PAUSE_S if len(self._outbox) else self._patience())

    def _do_chores(self, now: float) -> None:
        """Go on with what threads have done and what is due. A thread that is done marks the control socket's slot."""
        self._chores_at = now + limits.SERVICE_CHORES_S
        self._serve_artifacts()
        self._serve_approvals(now)
        self._try(partial(self._cognition.turn, now))
        for one in self._parked.take():
            self._give(one.client, one.failed, now)
            self._mark(one.client)
        self._try(self._journal.retain)

    def orphaned(self) -> None:
        """Note that the kernel is gone."""
        if not self.kernel_gone:
            self.kernel_gone = True
            log.warning("the kernel is gone; what lies in the rings is served")
            self._on_orphaned()

    def end_artifacts(self) -> None:
        """End what is under way about artifacts, while the log can still be written."""
        self._artifacts.close()
        self._serve_artifacts()

    def close(self) -> None:
        """Give up all clients and the control socket."""
        for client in {*self._clients.values(), *self._ready, *self._parked.clear()}:
            client.close()
        self._clients.clear()
        self._ready.clear()
        self._flush_outbox()
        self._outbox.clear()
        self._channel.close()

    def _patience(self) -> float:
        now = time.monotonic()
        since, tick = self._journal.unsynced_since, self._cognition.wake_at
        due = now + limits.SERVICE_LOOK_S
        if since is not None:
            due = min(due, since + limits.SERVICE_SYNC_S)
        if tick is not None:
            due = min(due, tick)
        return max(0.0, due - now)

    def _look_for_work(self, now: float) -> bool:
        """Note which rings are ready; returns whether the control socket is marked, or it is time to look at it."""
        control = now - self._looked >= limits.SERVICE_LOOK_S
        next_ready, slots, ready = self._mailbox.next_ready, self._slots, self._ready
        # Bounded: a sender that sets its byte without end must not keep us here.
        for _ in range(limits.MAILBOX_SLOTS):
            slot = next_ready()
            if slot is None:
                break
            if slot == CONTROL_SLOT:
                control = True
            elif slot in slots and not slots[slot].parked:
                ready[slots[slot]] = None
        if now - self._swept >= limits.SERVICE_SWEEP_S:
            self._sweep(now)
        return control

    def _sweep(self, now: float) -> None:
        """Look at every ring once: a sender may have died between its message and its ready byte."""
        self._swept = now
        for client in self._clients.values():
            self._mark(client)

    def _mark(self, client: Client) -> None:
        """Note that a ring may hold something; of one that is parked that is done when its wait is over."""
        if not (client.parked or client.closed):
            self._ready[client] = None

    # --- agents -------------------------------------------------------------------------------------------------------

    def _round(self, now: float) -> None:
        """Serve one share of every ready ring, and what the kernel asked, with one write and at most one sync."""
        served: list[Client] = []
        budget = limits.SERVICE_ROUND_REQUESTS
        for client in list(self._ready):
            if budget <= 0:
                break
            # Whoever is served goes to the end of the queue, if it comes back at all.
            del self._ready[client]
            try:
                quota = client.quota
                taken = client.take(quota)
            except WeftError as error:
                self._give_up(client, error)
                continue
            if len(taken) == quota:
                self._ready[client] = None
            if taken:
                served.append(client)
                budget -= len(taken)
                self._carry_out(client, taken)
            elif client.leaving:
                client.close()
        self._rounds += 1
        if self._searches:
            self._search()
        self._try(self._journal.write)
        failed = self._journal.failed
        for client in served:
            if client.early > 0:
                self._deliver(client, client.replies[: client.early], failed, now)
        if self._journal.sync_wanted:
            self._try(self._journal.sync)
            failed = self._journal.failed
        number = self._cognition.sync()
        for client in served:
            if client.remembers and not client.closed and not self._cognition.is_synced(number):
                self._ready.pop(client, None)
                self._parked.add(Waiting(client, number, failed))
            else:
                self._give(client, failed, now)
        self._answer_kernel(failed, number)

    def _give(self, client: Client, failed: str | None, now: float) -> None:
        """Deliver the answers that waited for the disk, or all, and commit what they are about."""
        self._deliver(client, client.replies if client.early < 0 else client.replies[client.early :], failed, now)
        self._finish(client)

    def _carry_out(self, client: Client, taken: list[tuple[int, Any]]) -> None:
        desk, caller, replies = self._desk, client.caller, client.replies
        run: list[tuple[int, p.Append]] = []
        for position, item in taken:
            request = self._request(item)
            if is_plain(request):
                run.append((position, request))
                continue
            if run:
                replies += zip([place for place, _ in run], answer_run(desk, caller, run), strict=True)
                run = []
            if type(request) is SearchMemory:
                replies.append((position, self._begin_search(client, position, request)))
                continue
            failed = type(request) is p.Failed
            replies.append((position, request if failed else answer(desk, caller, position, request)))
        if run:
            replies += zip([place for place, _ in run], answer_run(desk, caller, run), strict=True)
        waiting = (at for at, (_, reply) in enumerate(replies) if waits_for_disk(reply))
        client.early = next(waiting, -1)
        client.remembers = client.early >= 0 and any(type(reply) is Remembered for _, reply in replies)
        client.requests += len(taken)
        self._requests += len(taken)

    def _begin_search(self, client: Client, position: int, request: SearchMemory) -> p.Reply:
        """Put a search to the others of this round; returns what stands in for its answer, or a refusal."""
        try:
            search = begin_search(self._desk, client.caller, position, request)
        except WeftError as error:
            self._desk.refused += 1
            return refusal(error)
        self._searches.append((client, len(client.replies), search))
        return _UNDER_WAY

    def _search(self) -> None:
        """Make the searches of this round, and let those who had long ones take fewer at a time from here on."""
        searches, self._searches = self._searches, []
        began = time.monotonic()
        replies = answer_searches(self._cognition, [search for _, _, search in searches])
        each = (time.monotonic() - began) / len(searches)
        for (client, place, _), reply in zip(searches, replies, strict=True):
            client.replies[place] = client.replies[place][0], reply
            client.quota = min(limits.SERVICE_RING_QUOTA, max(1, int(limits.ECC_ROUND_S / each)))

    def _request(self, item: Any) -> Any:
        """Return a request, or the refusal of what is none."""
        if type(item) is not bytes:
            return self._reject(ProtocolError("a request is bytes"))
        if len(item) > limits.SERVICE_REQUEST_BYTES:
            text = f"a request of {len(item)} bytes; {limits.SERVICE_REQUEST_BYTES} are allowed"
            return self._reject(MessageTooLarge(text))
        try:
            return self._decode(item)
        except _NOT_DECODED as error:
            return self._reject(ProtocolError(f"a request does not decode: {error}"))

    def _reject(self, error: WeftError) -> p.Failed:
        self._rejected += 1
        return refusal(error)

    def _deliver(self, client: Client, replies: list[tuple[int, p.Reply]], failed: str | None, now: float) -> None:
        if not replies or client.closed:
            return
        encode, frame = self._encode, p.ReplyFrame
        if failed is not None or self._cognition.failed is not None:
            gone = self._cognition.failed
            replies = [(position, without_storage(reply, failed, gone)) for position, reply in replies]
        try:
            lost = client.deliver([encode(frame(position, reply)) for position, reply in replies])
        except WeftError as error:
            self._give_up(client, error)
            return
        if lost:
            self._dropped += lost
            if now - client.reported_at >= limits.SERVICE_REPORT_S and not client.leaving:
                client.reported_at = now
                text = f"agent {client.pid} does not read its reply ring: {client.dropped} answers were dropped"
                self._tell_kernel(p.ClientReport(client.pid, RingFull.code, text, detached=False))

    def _finish(self, client: Client) -> None:
        """Commit what was served; what lies before is never read again, so its names can be forgotten."""
        last = client.replies[-1][0] if client.replies else None
        client.replies = []
        if client.closed:
            return
        try:
            client.commit()
        except WeftError as error:
            self._give_up(client, error)
            return
        if last is not None:
            self._journal.forget(client.caller, last)
        if client.leaving:
            self._mark(client)

    def _give_up(self, client: Client, error: WeftError) -> None:
        """Detach a ring that is broken or in the hands of a liar. The gate still knows the agent."""
        self._detached += 1
        self._ready.pop(client, None)
        if self._clients.get(client.pid) is client:
            del self._clients[client.pid]
            if self._slots.get(client.slot) is client:
                del self._slots[client.slot]
            self._tell_kernel(p.ClientReport(client.pid, error.code, str(error)))
        client.close()

    # --- the kernel ---------------------------------------------------------------------------------------------------

    def _serve_control(self, now: float) -> bool:
        if len(self._outbox):
            # As long as our answers wait, its further requests wait in the socket. Its end shows when we send.
            self._looked = float("-inf")
            return False
        self._looked = now
        for _ in range(limits.SERVICE_KERNEL_QUOTA):
            try:
                received = self._channel.recv()
            except ChannelClosed:
                self.orphaned()
                return False
            except ProtocolError as error:
                self._rejected += 1
                self._tell_kernel(p.ClientReport(0, error.code, str(error), detached=False))
                continue
            if received is None:
                return False
            frame, fds = received
            if isinstance(frame, p.AttachClient):
                self._attach(frame, fds)
                continue
            if isinstance(frame, p.ArtifactFrame):
                self._requests += 1
                self._artifacts.begin(frame, fds)
                continue
            close_all(fds)
            match frame:
                case p.DetachClient(pid):
                    self._detach(pid)
                case p.KernelRequest():
                    self._serve_kernel(frame)
                case p.StopService():
                    self.stop_asked = True
                    return False
        self._mailbox.mark(CONTROL_SLOT)
        return True

    def _serve_kernel(self, frame: p.KernelRequest) -> None:
        self._requests += 1
        self._kernel.source = frame.source
        self._kernel_replies.append((frame.serial, answer(self._desk, self._kernel, frame.serial, frame.request)))

    def _serve_artifacts(self) -> None:
        self._artifacts.turn()
        for serial, reply, fds in self._artifacts.take_replies():
            self._tell_kernel(p.KernelReply(serial, reply), fds)
            close_all(fds)

    def _serve_approvals(self, now: float) -> None:
        """Wake the agents about whose requests somebody, or the clock, has decided."""
        try:
            notices = self._governance.turn(now)
        except StorageFailed:
            return  # the journal remembers, and every answer says so
        for pid, number in notices:
            client = self._clients.get(pid)
            if client is not None:
                self._deliver(client, [(p.NOTICE, p.Noticed(number))], self._journal.failed, now)

    def _answer_kernel(self, failed: str | None, number: int) -> None:
        replies, self._kernel_replies = self._kernel_replies, []
        if any(type(reply) is Remembered for _, reply in replies) and not self._cognition.is_synced(number):
            self._cognition.sync_now()
        for serial, reply in replies:
            final = without_storage(reply, failed, self._cognition.failed)
            try:
                self._tell_kernel(p.KernelReply(serial, final))
            except MessageTooLarge as error:
                self._tell_kernel(p.KernelReply(serial, refusal(error)))
        if replies:
            self._journal.forget(self._kernel, replies[-1][0] - limits.SERVICE_KERNEL_WINDOW)

    def _attach(self, frame: p.AttachClient, fds: list[int]) -> None:
        self._subjects[str(frame.pid)] = Subject(
            frame.pid,
            frame.agent_id,
            frame.incarnation,
            frame.capabilities,
            frame.parent,
            frame.scope or frame.agent_id,
        )
        known = self._clients.get(frame.pid)
        if known is not None and known.ring_id == frame.ring_id:
            close_all(fds)
            self._mark(known)
            return
        if known is not None:
            self._release(known)
        try:
            client = Client(frame, fds)
        except WeftError as error:
            self._detached += 1
            self._tell_kernel(p.ClientReport(frame.pid, error.code, str(error)))
            return
        self._clients[frame.pid] = self._slots[frame.slot] = client
        # What was put before we came left no ready byte behind, or its byte went to our predecessor.
        self._ready[client] = None

    def _detach(self, pid: int) -> None:
        self._subjects.pop(str(pid), None)
        client = self._clients.pop(pid, None)
        if client is not None:
            log.debug("agent %d leaves after %d requests", pid, client.requests)
            self._release(client)

    def _release(self, client: Client) -> None:
        """Serve what the ring still holds, then close it."""
        client.leaving = True
        if self._slots.get(client.slot) is client:
            del self._slots[client.slot]
        self._mark(client)

    def _tell_kernel(self, frame: msgspec.Struct, fds: Sequence[int] = ()) -> None:
        if self.kernel_gone:
            return
        try:
            self._outbox.post(frame, fds)
        except ChannelClosed:
            self.orphaned()

    def _flush_outbox(self) -> None:
        try:
            self._outbox.flush()
        except ChannelClosed:
            self.orphaned()

    # --- state --------------------------------------------------------------------------------------------------------

    def _try(self, act: Callable[[], None]) -> None:
        """Do something to the log. A failure is remembered by the journal, and shows in every answer from here on."""
        try:
            act()
        except StorageFailed:
            assert self._journal.failed is not None, "the journal remembers"

    def head(self) -> dict[str, Any]:
        """Return the state of chain and service, as plain values; see ``protocol.Head``."""
        waits = self._mailbox.statistics()
        return self._journal.head() | {
            "clients": len(self._clients),
            "requests_total": self._requests,
            "rejected": self._rejected + self._desk.refused,
            "dropped_replies": self._dropped,
            "detached": self._detached,
            "rounds": self._rounds,
            "sleeps": waits.sleeps,
            "uptime_seconds": time.monotonic() - self._started,
        }
