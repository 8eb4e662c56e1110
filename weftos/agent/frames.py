"""Frames between the kernel and an agent, on the control socketpair.

The socketpair carries what is rare: grants with their descriptors, lifecycle, topics, log lines. Messages travel in
rings. Each frame is one SOCK_SEQPACKET datagram: a MessagePack array with an integer tag, and descriptors beside it.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import msgspec

from weftos.governance.capability import AgentCapabilities, ResourceLimits, SandboxPolicy
from weftos.sandbox.measure import Measure

# --- agent to kernel --------------------------------------------------------------------------------------------------


class Ready(msgspec.Struct, array_like=True, tag=1):
    """The program is loaded; ``main`` is about to be called. ``isolation`` lists what was really applied
    (``rlimit:memory``, …).
    """

    program: str
    isolation: list[str] = []


class Confined(msgspec.Struct, array_like=True, tag=28):
    """What of the sandbox is in force, before the program is loaded. ``lacking`` keeps the agent from starting.

    Beside it may come a descriptor of ``/proc/self/smaps_rollup``. ``unheard`` says why the kernel is not shown calls
    that are refused; ``tried_at`` is the system's coarse clock when the trying was over, in seconds since 1970.
    """

    measures: list[Measure]
    lacking: list[str] = []
    unheard: str = ""
    tried_at: float = 0.0


class Listening(msgspec.Struct, array_like=True, tag=33):
    """Beside it comes the listener of the filter: what is refused from here on waits for the kernel's answer."""


class Note(msgspec.Struct, array_like=True, tag=2):
    """Why the process is about to end: kind of exception (``MemoryError``), its text, its traceback. Sent before
    exiting non-zero.
    """

    kind: str
    message: str
    traceback: str = ""


class OpenChannel(msgspec.Struct, array_like=True, tag=3):
    """Ask for a channel to one agent (``pid``), or to the owner of a service (``service``). ``size`` is the first
    message's, in bytes.
    """

    pid: int | None = None
    service: str | None = None
    size: int = 0


class GrowChannel(msgspec.Struct, array_like=True, tag=12):
    """Ask for a larger ring to ``pid``: a message of ``size`` bytes does not fit into a record of the present one.

    What the ring may carry stays the same. The old ring is closed to the sender and read out before the new one.
    """

    pid: int
    size: int


class OpenTopic(msgspec.Struct, array_like=True, tag=4):
    """Ask to publish to a topic; channels to its subscribers follow, now and whenever somebody subscribes."""

    topic: str


class Subscribe(msgspec.Struct, array_like=True, tag=5):
    """Subscribe to a topic, or with ``on`` false end the subscription."""

    topic: str
    on: bool = True


class BroadcastPeers(msgspec.Struct, array_like=True, tag=6):
    """Ask for a channel to every live agent."""


class SpawnChild(msgspec.Struct, array_like=True, tag=7):
    """Ask for a child agent; same fields as the RPC method ``agent.spawn``. Absent capabilities and limits are the
    parent's; ``sandbox`` replaces what the capabilities have of it.
    """

    program: str
    args: list[str] = []
    name: str | None = None
    env: dict[str, str] = {}
    limits: dict[str, int] = {}
    capabilities: AgentCapabilities | None = None
    restart: str = "on-failure"
    role: str = ""
    sandbox: SandboxPolicy | None = None


class StopProcess(msgspec.Struct, array_like=True, tag=8):
    """Ask to stop an agent: itself, or a descendant."""

    pid: int
    force: bool = False


class RegisterService(msgspec.Struct, array_like=True, tag=9):
    """Offer a service under a name, or with ``on`` false withdraw it."""

    name: str
    methods: list[str] = []
    on: bool = True


class Monitor(msgspec.Struct, array_like=True, tag=10):
    """Be told when an agent ends (``link`` false), or end with it (``link`` true)."""

    pid: int
    link: bool = False


class Describe(msgspec.Struct, array_like=True, tag=11):
    """Ask for a few facts about an agent (state, incarnation, name)."""

    pid: int


class PutArtifact(msgspec.Struct, array_like=True, tag=13):
    """Store what the descriptor beside this frame holds: memory sealed against any change, see ``artifacts.sealed``."""

    content_type: str


class GetArtifact(msgspec.Struct, array_like=True, tag=14):
    """Ask for an artifact; its file comes as a descriptor beside the answer, open for reading."""

    hash: str


class ReleaseArtifact(msgspec.Struct, array_like=True, tag=15):
    """Say that this agent, which put an artifact, needs it no more."""

    hash: str


class RequestCapability(msgspec.Struct, array_like=True, tag=31):
    """Ask for rights, as ``governance.rights`` writes them; somebody else decides."""

    rights: list[str]
    reason: str


AgentRequestBody: TypeAlias = (
    OpenChannel
    | GrowChannel
    | OpenTopic
    | Subscribe
    | BroadcastPeers
    | SpawnChild
    | StopProcess
    | RegisterService
    | Monitor
    | Describe
    | PutArtifact
    | GetArtifact
    | ReleaseArtifact
    | RequestCapability
)


class AgentRequest(msgspec.Struct, array_like=True, tag=20):
    """A request that the kernel answers with ``Answer`` of the same serial.

    ``permit`` is the token of a permit, if a person had to approve what is asked for.
    """

    serial: int
    body: AgentRequestBody
    permit: bytes = b""


class Kick(msgspec.Struct, array_like=True, tag=21):
    """The ring to the kernel holds a message."""


class LogLine(msgspec.Struct, array_like=True, tag=22):
    """A line for the kernel's log, from ``ctx.log``."""

    level: str
    text: str


class DeadLetterReport(msgspec.Struct, array_like=True, tag=23):
    """A message could not be delivered from this side (full ring of a subscriber, for example)."""

    target: int
    reason: str
    payload_type: str
    preview: str


class RingReport(msgspec.Struct, array_like=True, tag=24):
    """A ring is broken or its sender broke its grant; this side has detached it."""

    ring_id: int
    code: str
    message: str


class PongFrame(msgspec.Struct, array_like=True, tag=25):
    """Answer to the signal Ping."""


class LeafFrame(msgspec.Struct, array_like=True, tag=26):
    """Answer to ``FindLeaf`` of the same serial: a message in a window that was sent to the log.

    ``label`` is (ring, side) or (topic, publisher), empty if the message is not known here (any more). ``start`` is
    where the window begins, ``size`` the leaves of the tree that ``path`` (lowest first) leads to from leaf number
    ``index``.
    ``data`` is what was hashed, empty if it is not kept.
    """

    serial: int
    label: list[int | str] = []
    incarnation: int = 0
    start: int = 0
    size: int = 0
    index: int = 0
    leaf: bytes = b""
    path: list[bytes] = []
    data: bytes = b""


class Refused(msgspec.Struct, array_like=True, tag=32):
    """The agent's own client refused an action, because the page of rights says no; for the log.

    ``target`` is the pid or the topic that it was about, if it was about one.
    """

    action: str
    target: int | str | None = None


FromAgent: TypeAlias = (
    Ready
    | Confined
    | Listening
    | Note
    | AgentRequest
    | Kick
    | LogLine
    | DeadLetterReport
    | RingReport
    | PongFrame
    | LeafFrame
    | Refused
)

# --- kernel to agent --------------------------------------------------------------------------------------------------


class Offer(msgspec.Struct, array_like=True, tag=1):
    """An incoming ring (one descriptor), or a change of what it may carry (``slot`` known already: no descriptor).

    ``direct``, ``broadcast`` and ``topics`` are what the kernel granted; the receiver drops and reports anything else.
    ``bell`` is the sender's doorbell, rung when the sender waits for room.
    """

    slot: int
    ring_id: int
    pid: int
    incarnation: int
    bell: str
    direct: bool
    broadcast: bool
    topics: list[str]
    #: A ring from the same sender that this one replaces, and that is to be read out first.
    after: int = 0


class Revoke(msgspec.Struct, array_like=True, tag=2):
    """A ring is closed, incoming or outgoing: because of a revocation or because the peer ended for good."""

    ring_id: int
    code: str
    reason: str


class ChannelGrant(msgspec.Struct, array_like=True, tag=3):
    """An outgoing ring: two descriptors (the ring, the receiver's mailbox) and the name of the receiver's doorbell."""

    pid: int
    ring_id: int
    slot: int
    bell: str


class Member(msgspec.Struct, array_like=True, tag=4):
    """A subscriber of a topic this agent publishes to joined or left. A join of a peer without channel carries its
    grant first. That pid 0 left says that the agent does not publish there any more, unless it asks again.
    """

    topic: str
    pid: int
    on: bool


class Answer(msgspec.Struct, array_like=True, tag=5):
    """Answer to an ``AgentRequest``: ``code`` empty and ``values`` filled, or an error. ``fds`` follow a ``grant``."""

    serial: int
    code: str = ""
    message: str = ""
    values: dict[str, Any] = {}
    grant: ChannelGrant | None = None


class SignalFrame(msgspec.Struct, array_like=True, tag=6):
    """A kernel signal (name of ``KernelSignal``) with its data."""

    signal: str
    data: dict[str, Any] = {}


class FindLeaf(msgspec.Struct, array_like=True, tag=7):
    """Commit to every open window, and say in which one the message at ``position`` of a ring lies."""

    serial: int
    ring_id: int
    side: str
    position: int


ToAgent: TypeAlias = Offer | Revoke | ChannelGrant | Member | Answer | SignalFrame | FindLeaf


class SpawnSpec(msgspec.Struct, frozen=True, kw_only=True):
    """Everything needed to run an agent, now and again after a crash. Kept by the kernel under the agent's pid."""

    program: str
    args: tuple[str, ...] = ()
    name: str
    env: dict[str, str] = {}
    limits: ResourceLimits = ResourceLimits()
    capabilities: AgentCapabilities = AgentCapabilities()
    restart: str = "on-failure"
    parent: int = 0
    role: str = ""
    start_timeout_s: float = 30.0
    stop_timeout_s: float = 5.0
