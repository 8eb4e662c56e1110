"""Archiving and pruning in the service: looked for now and then, done beside the loop, a step at a time.

    look ─▶ prepare ─▶ announce ─▶ (checkpoint) ─▶ finish ─▶ look …
     thread   thread     loop                       thread

Why it is as it is: reading, packing and syncing a segment takes seconds, in which the loop serves thousands of appends;
so the loop only ever does the middle, and sees from its own turns how far the thread is. There is one step at a time.

Guaranteed: nothing is pruned that the resource tree would be rebuilt from, nor before the index of the log has it on
the disk, nor anything that no checkpoint covers (and enough witnesses have cosigned, if there are any). What goes wrong
here stops neither the log nor the service: it is said, and tried again later. An erasure does not wait for a step, nor
a step outrun an erasure: see ``settle``.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any, Final, Literal, TypeAlias

import msgspec

from weftos import chain, limits
from weftos.chain.folder.closed import Closed
from weftos.chain.retention.archiving import Archiving
from weftos.chain.retention.policy import Plan, RetentionPolicy, plan, to_archive
from weftos.chain.retention.pruning import Pruning
from weftos.chain.retention.steps import Step, Stopped
from weftos.errors import ChainError, InvalidRequest, StorageFailed, WeftError
from weftos.service.beside import Beside

__all__ = ["Retention"]

log = logging.getLogger(__name__)

Phase: TypeAlias = Literal["idle", "looking", "preparing", "announced", "finishing"]
_ARCHIVE: Final = "archive"
_PRUNE: Final = "prune"
#: Segments that are pruned although others wait to be archived.
_MANY: Final = 8


class _Job(msgspec.Struct):
    """What somebody asked for.

    Attributes:
        action: ``archive`` or ``prune``.
        until: number of the last segment that was closed when it was asked for.
        policy: rules to prune by.
    """

    action: str
    until: int
    policy: RetentionPolicy


class Retention:
    """See the head of this file.

    Args:
        writer: of the log.
        policy: the configured rules.
        covered: gives the number of records that may be archived and pruned as far as checkpoints go.
        keep_tree: puts a snapshot of the resource tree on the disk and the log.
        tree_seq: gives the number of the record from which on the tree's records are needed.
        keep_index: brings the index of the log onto the disk, complete up to that number of records; raises if it
            cannot.
    """

    def __init__(
        self,
        writer: chain.ChainWriter,
        policy: RetentionPolicy,
        covered: Callable[[], int],
        keep_tree: Callable[[], None],
        tree_seq: Callable[[], int],
        keep_index: Callable[[int], None],
    ) -> None:
        self._writer = writer
        self._policy = policy
        self._covered = covered
        self._keep_tree = keep_tree
        self._tree_seq = tree_seq
        self._keep_index = keep_index
        self._beside = Beside("retention")
        self._phase: Phase = "idle"
        self._step: Step | None = None
        self._announced = -1
        self._job: _Job | None = None
        self._looked_for: _Job | None = None
        self._next_look = time.monotonic()
        self._archived = self._pruned = 0
        self._failure = ""

    # --- asked for ------------------------------------------------------------------------------------------------

    def request(self, action: str, rules: dict[str, Any], *, dry_run: bool) -> dict[str, Any]:
        """Archive or prune what can be, beginning now; or only say what that would be.

        Args:
            action: ``archive`` or ``prune``.
            rules: fields of the policy that differ from the configured ones.
            dry_run: change nothing.

        Returns:
            The segments, what keeps the next one, and whether it was begun.

        Raises:
            InvalidRequest: there is no such action, a rule is malformed, or another one is under way.
            ChainError: the log cannot be read, or there is no archive.
        """
        policy = self._policy
        if rules:
            # Whoever names a rule means that one; the configured ones would keep what he wants to go.
            base = RetentionPolicy(archive=self._policy.archive, archive_dir=self._policy.archive_dir)
            try:
                policy = msgspec.convert(msgspec.structs.asdict(base) | rules, RetentionPolicy)
            except msgspec.ValidationError as error:
                raise InvalidRequest(f"these are no rules: {error}") from error
        if action not in (_ARCHIVE, _PRUNE):
            raise InvalidRequest(f"a log is not asked to {action!r}")
        found = self._plan_archive() if action == _ARCHIVE else self._plan_prune(policy, self._writer.head.seq + 1)
        begin = bool(found.segments) and not dry_run
        if begin:
            if self._job is not None:
                raise InvalidRequest(f"the service is asked to {self._job.action} already; `weaver chain segments`")
            self._job = _Job(action, found.segments[-1].number, policy)
            self._next_look, self._failure = time.monotonic(), ""
        return {
            "segments": [
                {"number": one.number, "first_seq": one.first_seq, "records": one.next_seq - one.first_seq,
                 "bytes": one.size_bytes}
                for one in found.segments
            ],
            "why_not": found.why_not,
            "begun": begin,
        }  # fmt: skip

    def status(self) -> dict[str, Any]:
        """Return what is going on, as plain values."""
        return {
            "state": self._doing(),
            "job": self._job.action if self._job is not None else "",
            "archived": self._archived,
            "pruned": self._pruned,
            "failure": self._failure,
            "rules": msgspec.structs.asdict(self._policy),
        }

    def _doing(self) -> str:
        if isinstance(self._step, Pruning):
            return "pruning"
        if isinstance(self._step, Archiving):
            return "archiving"
        return "looking" if self._job is not None else "idle"

    # --- the loop's turns -----------------------------------------------------------------------------------------

    def is_due(self) -> bool:
        """Whether ``turn`` has something to do. Cheap."""
        if self._beside.busy:
            return self._beside.is_done()
        if self._phase == "announced":
            return self._is_covered() and time.monotonic() >= self._next_look
        return self._is_wanted() and time.monotonic() >= self._next_look

    def _is_wanted(self) -> bool:
        return self._job is not None or self._policy.archive is True or self._policy.prunes

    def turn(self) -> None:
        """Go one phase further.

        Raises:
            StorageFailed: the log has failed.
        """
        try:
            self._go_on()
        except StorageFailed:
            raise
        except (OSError, WeftError) as error:
            self._has_failed(error)

    def _go_on(self) -> None:
        phase, step = self._phase, self._step
        if phase == "idle":
            self._look()
        elif phase == "looking":
            self._phase = "idle"
            self._choose(self._beside.collect())
        elif phase == "preparing":
            assert step is not None, "it is being prepared"
            self._beside.collect()
            self._announced = step.announce().seq
            self._phase = "announced"
        if self._phase == "announced" and self._is_covered():
            assert self._step is not None, "it was announced"
            self._phase = "finishing"
            self._beside.start(self._step.finish)
        elif phase == "finishing":
            assert step is not None, "it is being finished"
            self._beside.collect()
            step.end()
            self._count(step)
            self._phase, self._step = "idle", None
            self._next_look = time.monotonic()

    def _is_covered(self) -> bool:
        assert self._step is not None, "it was announced"
        if not self._step.needs_checkpoint:
            return True
        checkpoints = self._writer.checkpoints
        return checkpoints is not None and checkpoints.size > self._announced

    def _count(self, step: Step) -> None:
        self._failure = ""
        if isinstance(step, Pruning):
            self._pruned += len(step.segments)
            log.info("%d segments were pruned; the log begins with record %d", len(step.segments), step.size)
        elif isinstance(step, Archiving):
            self._archived += 1
            log.info("segment %d was archived in %s", step.segment.number, self._writer.archive)
        job = self._job
        if job is not None and (
            (job.action == _PRUNE and isinstance(step, Pruning))
            or (job.action == _ARCHIVE and isinstance(step, Archiving) and step.segment.number >= job.until)
        ):
            self._job = None

    def _look(self) -> None:
        """Have the thread look what there is to do. It is told what only this thread may know."""
        self._next_look = time.monotonic() + limits.SERVICE_RETAIN_S
        self._phase, self._looked_for = "looking", self._job
        covered, job, policy = self._covered(), self._job, self._policy
        directory, archive = self._writer.directory, self._writer.archive
        # A snapshot of the tree is made before anything goes, so the tree does not stand in the way yet.
        keep_from = self._writer.head.seq + 1

        def look() -> tuple[Plan, Plan]:
            wants = policy.archive is True or (job is not None and job.action == _ARCHIVE)
            todo = to_archive(directory, archive, covered) if wants and archive else Plan([])
            if job is not None and job.action == _ARCHIVE and policy.archive is not True:
                todo = Plan([one for one in todo.segments if one.number <= job.until], todo.why_not)
            rules = job.policy if job is not None and job.action == _PRUNE else policy
            return todo, plan(directory, rules, archive, covered, time.time_ns(), keep_from)

        self._beside.start(look)

    def _choose(self, found: tuple[Plan, Plan]) -> None:
        """Begin with the next step, if there is one."""
        todo, gone = found
        job = self._job
        if job is not self._looked_for:
            self._next_look = time.monotonic()  # it was asked for while the thread looked for something else
            return
        prune_now = job is not None and job.action == _PRUNE
        # Archiving comes first, so that one record speaks of many segments; but it must not put pruning off for ever.
        enough = _bytes(gone.segments) >= limits.CHAIN_PRUNE_LEAST_BYTES
        if gone.segments and (prune_now or (enough and (not todo.segments or len(gone.segments) >= _MANY))):
            if self._tree_seq() < gone.segments[-1].next_seq:
                self._keep_tree()
            self._keep_index(gone.segments[-1].next_seq)
            self._prepare(Pruning(self._writer, gone.segments, archived=self._rules().archive is not False))
        elif todo.segments:
            self._prepare(Archiving(self._writer, todo.segments[0]))
        elif job is not None:
            self._job = None  # nothing is left of what was asked for

    def _rules(self) -> RetentionPolicy:
        job = self._job
        return job.policy if job is not None and job.action == _PRUNE else self._policy

    def _prepare(self, step: Step) -> None:
        self._step, self._phase = step, "preparing"
        self._beside.start(step.prepare)

    def _has_failed(self, error: OSError | WeftError) -> None:
        """Say it, and try again later. A pruning that was announced will be finished, now or by the next opening."""
        if str(error) != self._failure:
            log.error("the log could not be archived or pruned: %s", error)
        self._failure = str(error)
        self._job = None
        if self._phase == "finishing" and isinstance(self._step, Pruning):
            self._phase = "announced"  # and to be finished
        else:
            self._give_up()
        self._next_look = time.monotonic() + limits.SERVICE_RETAIN_RETRY_S

    def _give_up(self) -> None:
        step, self._step, self._phase = self._step, None, "idle"
        if step is not None:
            try:
                step.give_up()
            except OSError as error:
                log.warning("a leftover in the archive was not removed: %s", error)

    # --- making way -----------------------------------------------------------------------------------------------

    def settle(self) -> None:
        """Let nothing be under way: break off what can be, and wait for the rest.

        Raises:
            StorageFailed: the log has failed.
        """
        while self._beside.busy:
            if self._phase == "preparing" and self._step is not None:
                self._step.stopping.ask()
                try:
                    self._beside.collect()
                except Stopped:
                    pass
                except (OSError, WeftError) as error:
                    log.warning("a step that was broken off: %s", error)
                self._give_up()
                self._next_look = time.monotonic()
            else:
                self._wait()

    def _wait(self) -> None:
        """Wait for the thread, and take note of what it did; errors as for ``turn``."""
        try:
            if self._phase == "looking":
                self._phase = "idle"
                self._beside.collect()
                self._next_look = time.monotonic()
            else:
                self._go_on()
        except StorageFailed:
            raise
        except (OSError, WeftError) as error:
            self._has_failed(error)

    def end(self) -> None:
        """End the thread. What is announced and not finished is finished by the next opening."""
        self._beside.close()

    def _plan_archive(self) -> Plan:
        if not self._writer.archive:
            raise ChainError("this log has no archive; [chain] archive_dir says where it is to be")
        return to_archive(self._writer.directory, self._writer.archive, self._covered())

    def _plan_prune(self, policy: RetentionPolicy, keep_from: int) -> Plan:
        writer = self._writer
        return plan(writer.directory, policy, writer.archive, self._covered(), time.time_ns(), keep_from)


def _bytes(segments: list[Closed]) -> int:
    return sum(one.size_bytes for one in segments)
