"""Governance as the service keeps it: what is in force, who waits for an approval, which permits can still be used.

Why it is as it is: all of it is a sum over records that this process writes. The index of the log holds their payloads,
so the sum is there again after any crash without reading the log, and after its beginning was pruned. A log without a
constitution gets one, once; from then on only what the branches sign changes it. At each opening the sum is compared
with what was in force here before, and what does not follow from that is refused.

Guaranteed: a change counts when its record is taken, and not before; a permit is used up on the disk before anybody is
told that it was good. Not guaranteed: that somebody decides.
Single-threaded: the thread of the loop.
"""

from __future__ import annotations

import logging
import os
import secrets
import time
from collections.abc import Callable
from typing import Any, Final

from blake3 import blake3

from weftos import limits
from weftos.chain import Ack, NewEvent
from weftos.chain.index.index_facts import APPROVAL_MARKS, GOVERNANCE_SOURCE, STANDING_MARKS
from weftos.chain.index.log_index import Mark
from weftos.errors import ConstitutionDrift, GovernanceDenied, InvalidRequest, WrongState
from weftos.governance.approvals import Approvals, Request
from weftos.governance.cedar import CedarGate, read_policies
from weftos.governance.composite import CompositeGate
from weftos.governance.constitution import GENESIS_KIND, SUPERSEDE_KIND, Genesis, Supersede
from weftos.governance.gate import CapabilityGate, GateBackend, Subject
from weftos.governance.permits import Permission, token_of
from weftos.governance.standing import ENVIRONMENT_KIND, POLICIES_KIND, GovernanceGate, Standing
from weftos.service.branch_keys import Pin, branch_publics, open_secret
from weftos.service.clients import Caller
from weftos.service.journal import Journal
from weftos.service.ledgers import EVENT_BITS

__all__ = ["Governance"]

log = logging.getLogger(__name__)

_PERMIT_KEY: Final = "permit.key"
_NS: Final = 1_000_000_000


class Governance:
    """See the head of this file. Opening it makes what is missing: keys, the first constitution, cut-off permits.

    Args:
        journal: the open log.
        keys_dir: folder of the keys.
        boot_id: of the kernel, 16 bytes.
        cedar: file with policies in Cedar, which are asked as well; none if it is not there.
        wall: tells the time, nanoseconds since 1970 UTC.

    Attributes:
        standing: what is in force.
        approvals: requests and permits.
        boot_id: of the kernel, 16 bytes.
        genesis_seq: number of the record by which the constitution began.
        subjects: agents as the kernel introduced them, by pid as text.
        gate: decides, by all backends.

    Raises:
        ConstitutionDrift: the log adds up to other rules than were in force here.
        ConfigError, ChainError: a key or the log cannot be used.
    """

    def __init__(
        self,
        journal: Journal,
        keys_dir: str,
        boot_id: bytes,
        cedar: str = "",
        wall: Callable[[], int] = time.time_ns,
    ) -> None:
        self._journal = journal
        self._keys_dir = keys_dir
        self._wall = wall
        self.boot_id = boot_id
        self.standing = Standing()
        self.approvals = Approvals()
        self.genesis_seq = -1
        self._notices: list[tuple[int, int]] = []
        self._looked = 0.0
        self.key = open_secret(os.path.join(keys_dir, _PERMIT_KEY), "the key of permits")
        self._seq = journal.head_seq
        hashes = self._restore_standing()
        self._compare(hashes)
        self._restore_approvals()
        if self.standing.constitution is None:
            genesis = Genesis(keys=branch_publics(keys_dir))
            self.genesis_seq = self.put(GENESIS_KIND, genesis.to_payload()).seq
            journal.sync()
            log.info("the constitution begins with record %d", self.genesis_seq)
        for request in self.approvals.unminted():
            self._mint(request, limits.PERMIT_S)
        self._pin()
        self.subjects: dict[str, Subject] = {}
        known = self.subjects.get
        self.gate = CompositeGate(CapabilityGate(known), GovernanceGate(self.standing, known), *self._others(cedar))

    def _others(self, path: str) -> list[GateBackend]:
        """Return the backend of the policies in a file, if it is there; the log says when they change."""
        text = read_policies(path)
        found = b"" if text is None else blake3(text.encode()).digest()
        backends: list[GateBackend] = [] if text is None else [CedarGate(text, self.subjects.get)]
        if found != self.standing.policies:
            told = {"backend": "cedar", "hash": found or None, "bytes": len((text or "").encode())}
            self.put(POLICIES_KIND, told)
            self._journal.sync()
        return backends

    # --- opening ------------------------------------------------------------------------------------------------------

    def _restore_standing(self) -> dict[int, bytes]:
        """Add up what is in force; returns the hash of the constitution by version."""
        hashes: dict[int, bytes] = {}
        for mark in reversed(list(self._journal.ledgers.index.marks(STANDING_MARKS))):
            try:
                self.standing.take(mark.name, mark.value)
            except (InvalidRequest, GovernanceDenied) as error:
                raise ConstitutionDrift(
                    f"record {mark.seq} ({mark.name}) does not follow from the constitution before it: {error}. "
                    "`weaver chain verify` tells whether the log is intact; without the index it is read anew"
                ) from error
            if mark.name == GENESIS_KIND:
                self.genesis_seq = mark.seq
            if self.standing.constitution is not None:
                hashes[self.standing.constitution.version] = self.standing.hash
        return hashes

    def _compare(self, hashes: dict[int, bytes]) -> None:
        pin = Pin.read(self._keys_dir)
        if pin is None or pin.log_id != self._journal.log_id.hex():
            return
        found = hashes.get(pin.version)
        if found is None or found.hex() != pin.hash:
            has = "another one" if found is not None else "none" if not hashes else f"only version {max(hashes)}"
            raise ConstitutionDrift(
                f"version {pin.version} of the constitution was in force here ({pin.hash[:16]}…), and the log has "
                f"{has}. Put the log back that belongs to this instance; `weaver chain verify` tells what became of it"
            )

    def _restore_approvals(self) -> None:
        oldest = self._wall() - int((limits.APPROVAL_S + limits.PERMIT_MAX_S + limits.APPROVAL_KEPT_S) * _NS)
        marks: list[Mark] = []
        for mark in self._journal.ledgers.index.marks(APPROVAL_MARKS):
            if mark.value.get("expires_ns", oldest) < oldest:
                break  # whatever came before can give nothing any more
            marks.append(mark)
        for mark in reversed(marks):
            try:
                self.approvals.take(mark.name, mark.value, mark.seq)
            except InvalidRequest as error:
                log.error("record %d is not counted among the approvals: %s", mark.seq, error)

    def _pin(self) -> None:
        constitution = self.standing.constitution
        assert constitution is not None, "it has begun"
        Pin(self._journal.log_id.hex(), constitution.version, self.standing.hash.hex()).write(self._keys_dir)

    # --- records ------------------------------------------------------------------------------------------------------

    def put(
        self,
        kind: str,
        payload: dict[str, Any],
        *,
        place: tuple[Caller, int, int] | None = None,
        subject: str | None = None,
        cause: int | None = None,
        permit: str | None = None,
    ) -> Ack:
        """Take a record of governance, and count it.

        Args:
            kind: of it.
            payload: of it.
            place: caller, position of the request, and which event of the request it is; so it is written once.
            subject: whom it is about.
            cause: number of the record that led to it.
            permit: under which it happens, for the record's header.

        Raises:
            AppendRefused: it is not acceptable.
            StorageFailed: the log has failed.
        """
        producer, position = None, None
        if place is not None:
            caller, request, index = place
            producer, position = caller.producer, request << EVENT_BITS | index
        event = NewEvent(GOVERNANCE_SOURCE, kind, payload, subject, cause, producer, position, permit)
        ack = self._journal.ledgers.put(event)
        if ack.seq > self._seq:
            self._seq = ack.seq
            self.standing.take(kind, payload)
            self.approvals.take(kind, payload, ack.seq)
        return ack

    def now_ns(self) -> int:
        """Return the time, nanoseconds since 1970 UTC."""
        return self._wall()

    # --- what is in force ---------------------------------------------------------------------------------------------

    def supersede(self, change: Supersede, place: tuple[Caller, int, int]) -> dict[str, Any]:
        """Change the constitution; on the disk when this returns.

        Raises:
            GovernanceDenied: it does not follow on what is in force, or is not signed by all who must agree.
            InvalidRequest: there can be no such change.
            StorageFailed: the log has failed.
        """
        self.standing.after(change)
        ack = self.put(SUPERSEDE_KIND, change.to_payload(), place=place)
        self._journal.sync()
        self._pin()
        assert self.standing.constitution is not None, "it was superseded"
        return {"record": ack.seq, "version": self.standing.constitution.version, "hash": self.standing.hash.hex()}

    def switch(self, environment: dict[str, Any], act: dict[str, Any], place: tuple[Caller, int, int]) -> int:
        """Choose an environment; on the disk when this returns.

        Args:
            environment: as plain values.
            act: who and why.
            place: of the request.

        Returns:
            The number of the record.

        Raises:
            InvalidRequest: there can be no such environment.
            StorageFailed: the log has failed.
        """
        self.standing.environment_from(environment)
        ack = self.put(ENVIRONMENT_KIND, {"environment": environment} | act, place=place)
        self._journal.sync()
        return ack.seq

    # --- approvals ----------------------------------------------------------------------------------------------------

    def decidable(self, number: int, by: str) -> Request:
        """Return a request that this person may decide about.

        Raises:
            InvalidRequest: there is none with this number.
            WrongState: it is decided.
            GovernanceDenied: it is the person's own.
        """
        request = self.approvals.requests.get(number)
        if request is None:
            raise InvalidRequest(f"there is no request {number}; `weaver gate pending` lists those that wait")
        if request.state != "pending":
            raise WrongState(f"request {number} is {request.state}; it cannot be decided again")
        if by in (f"agent:{request.binding.pid}", request.binding.agent_id):
            raise GovernanceDenied(f"request {number} is decided by somebody else than who asks")
        return request

    def approve(
        self,
        request: Request,
        agent: Subject | None,
        valid_secs: float,
        act: dict[str, Any],
        place: tuple[Caller, int, int],
    ) -> Permission:
        """Approve a request and make its permit; both are on the disk when this returns.

        Args:
            request: as ``decidable`` gave it.
            agent: with the pid of who asks, as it is now.
            valid_secs: of the permit, in seconds.
            act: who and why.
            place: of the request to approve.

        Raises:
            WrongState: what was asked for is no more, so a permit could not be used.
            StorageFailed: the log has failed.
        """
        binding = request.binding
        same = agent is not None and (agent.agent_id, agent.incarnation) == (binding.agent_id, binding.incarnation)
        if binding.boot_id != self.boot_id or not same:
            raise WrongState(f"the life of agent {binding.agent_id} that asked has ended; it must ask again")
        if binding.constitution != self.standing.hash:
            raise WrongState("the rules have changed since this was asked; the agent must ask again")
        if self._wall() >= request.expires_ns:
            raise WrongState(f"request {request.id} has expired")
        subject = f"agent:{binding.pid}"
        # One request for both, so that the second is found again if a crash came between.
        self.put("gate.approve", {"request": request.id} | act, place=place, subject=subject, cause=request.id)
        permit = self._mint(request, valid_secs, (place[0], place[1], place[2] + 1))
        self._journal.sync()
        self._notices.append((binding.pid, request.id))
        return permit

    def _mint(self, request: Request, valid_secs: float, place: tuple[Caller, int, int] | None = None) -> Permission:
        binding = request.binding
        payload = {
            "id": secrets.token_bytes(16),
            "request": request.id,
            **{name: getattr(binding, name) for name in type(binding).__struct_fields__},
            "expires_ns": self._wall() + int(valid_secs * _NS),
        }
        self.put("permit.mint", payload, place=place, subject=f"agent:{binding.pid}", cause=request.decided)
        return self.approvals.permits[request.permit]

    def refuse(self, request: Request, act: dict[str, Any], place: tuple[Caller, int, int]) -> int:
        """Refuse a request; on the disk when this returns. Returns the number of the record."""
        subject = f"agent:{request.binding.pid}"
        ack = self.put("gate.refuse", {"request": request.id} | act, place=place, subject=subject, cause=request.id)
        self._journal.sync()
        self._notices.append((request.binding.pid, request.id))
        return ack.seq

    def token(self, permit: Permission) -> bytes:
        """Return the token of a permit."""
        return token_of(self.key, permit)

    def turn(self, now: float) -> list[tuple[int, int]]:
        """Let requests expire, and return who is to be woken: pid, and number of the request that was decided.

        Args:
            now: monotonic time, in seconds.
        """
        if now - self._looked >= limits.SERVICE_SWEEP_S and self._journal.failed is None:
            self._looked = now
            wall = self._wall()
            for request in self.approvals.waiting():
                if wall >= request.expires_ns:
                    subject = f"agent:{request.binding.pid}"
                    self.put("gate.expire", {"request": request.id}, subject=subject, cause=request.id)
                    self._notices.append((request.binding.pid, request.id))
            self.approvals.forget(wall - int(limits.APPROVAL_KEPT_S * _NS))
        notices, self._notices = self._notices, []
        return notices
