"""Asking agents in which window a message lies.

Only the two ends of a ring know its messages; the kernel never sees them. So it passes the question on, to the reader
first, and the answer back. It believes nothing of it: whoever asked checks it against the window on the log.
"""

from __future__ import annotations

import asyncio
import itertools

from weftos import limits
from weftos.agent import frames as f
from weftos.errors import InvalidRequest, ProofInvalid, WeftTimeout
from weftos.kernel.core import Agent, Core
from weftos.rpc import stream_types as s

__all__ = ["MessageProofs"]


class MessageProofs:
    """Questions to agents, and their answers.

    Args:
        core: shared state.
    """

    def __init__(self, core: Core) -> None:
        self._core = core
        self._serials = itertools.count(1)
        self._waiting: dict[tuple[int, int], asyncio.Future[f.LeafFrame]] = {}

    async def find(self, params: s.ProveParams) -> s.MessageLeaf:
        """Find the window of a message.

        Raises:
            InvalidRequest: that is no id of a message.
            ProofInvalid: neither end knows the message, or its windows have no Merkle root.
            WeftTimeout: the one who might know did not answer.
        """
        ring, position = _parse(params.message_id)
        ends = self._core.channels.ends(ring)
        if ends is None:
            raise InvalidRequest(
                f"ring {ring:x} joins no two agents of this boot; take the id as `message.id` gives it, RING-POSITION"
            )
        asked: list[str] = []
        late: WeftTimeout | None = None
        for side, pid in (("consumer", ends[1]), ("producer", ends[0])):
            agent = self._core.agents.get(pid)
            if params.side not in ("", side) or agent is None or agent.link is None:
                continue
            asked.append(f"agent {pid}")
            try:
                answer = await self._ask(agent, ring, side, position)
            except WeftTimeout as error:
                late = error
                continue
            found = _leaf(params.message_id, answer, pid, ring, side)
            if found is not None:
                return found
        if late is not None:
            raise late
        who = " and ".join(asked) or "nobody: its agents have ended"
        raise ProofInvalid(
            f"message {params.message_id} is not in a window that can be proved any more (asked: {who}). Agents keep "
            'the newest messages of windows with a Merkle root: set [ipc] windows = "messages" or proof_topics'
        )

    async def _ask(self, agent: Agent, ring: int, side: str, position: int) -> f.LeafFrame:
        serial = next(self._serials)
        future: asyncio.Future[f.LeafFrame] = asyncio.get_running_loop().create_future()
        self._waiting[agent.pid, serial] = future
        agent.signal_frame(f.FindLeaf(serial, ring, side, position))
        try:
            return await asyncio.wait_for(future, limits.PROOF_TIMEOUT_S)
        except TimeoutError:
            raise WeftTimeout(
                f"agent {agent.pid} did not answer within {limits.PROOF_TIMEOUT_S:g} s; it answers when it waits for a "
                "message, so ask again"
            ) from None
        finally:
            del self._waiting[agent.pid, serial]

    def answered(self, agent: Agent, frame: f.LeafFrame) -> None:
        """Take an answer; one that nobody waits for is dropped."""
        future = self._waiting.get((agent.pid, frame.serial))
        if future is not None and not future.done():
            future.set_result(frame)


def _parse(message_id: str) -> tuple[int, int]:
    ring, dash, position = message_id.partition("-")
    try:
        if dash and ring.isalnum() and position.isalnum():
            return int(ring, 16), int(position, 16)
    except ValueError:
        pass  # said below
    raise InvalidRequest(f"{message_id!r} is no id of a message: ring and position in hex, such as 1f-a80")


def _leaf(message_id: str, answer: f.LeafFrame, pid: int, ring: int, side: str) -> s.MessageLeaf | None:
    match answer.label:
        case [int(), str()]:
            topic, publisher = "", 0
        case [str(topic), int(publisher)]:
            side = "consumer"
        case _:
            return None
    return s.MessageLeaf(
        message_id=message_id,
        pid=pid,
        incarnation=answer.incarnation,
        ring=ring,
        side=side,
        topic=topic,
        publisher=publisher,
        start=answer.start,
        size=answer.size,
        index=answer.index,
        leaf=answer.leaf,
        path=answer.path,
        data=answer.data,
    )
