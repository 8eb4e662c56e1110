"""Every limit, default and time-out of WeftOS in one place, each with its unit and the reason for its value.

Names end in their unit. ``0`` means "unlimited" wherever a limit may be configured; nowhere does it mean "nothing
allowed".
"""

from __future__ import annotations

from typing import Final

# --- messages ---------------------------------------------------------------------------------------------------------

#: Largest message that a ring path accepts, fragmented or not. Above this, pass a reference instead: a receiver must
#: hold it whole.
MAX_MESSAGE_BYTES: Final = 256 * 1024 * 1024
#: Capacity of a ring made for small messages. 256 KiB holds about 3000 messages of 64 bytes, and stays within the L2
#: cache.
DEFAULT_RING_BYTES: Final = 256 * 1024
#: Largest ring that a grant gives, however large the first message is.
MAX_RING_BYTES: Final = 64 * 1024 * 1024
#: Smallest ring: below a page of data the header outweighs the content.
MIN_RING_BYTES: Final = 4096
#: Largest ring that a grant gives by itself: 8 messages of 2 MiB.
MAX_GRANT_RING_BYTES: Final = 16 * 1024 * 1024
#: Largest segment: the largest ring with its overhang and header. tmpfs would let one call take all memory of the
#: machine.
MAX_SEGMENT_BYTES: Final = 96 * 1024 * 1024 + 4096
#: A grant sizes the ring to hold this many messages of the size of the first one, so that producer and consumer
#: overlap.
RING_MESSAGES_HINT: Final = 16
#: Capacity of the ring from the kernel to an agent: operator messages, few and small.
KERNEL_RING_BYTES: Final = 128 * 1024
#: Capacity of an agent's request ring to the service, and of the reply ring.
SERVICE_RING_BYTES: Final = 256 * 1024
#: Largest record of the reply ring: what came in one request, such as a document, goes back in one answer. Three of
#: them fit at once, also while an eighth of the ring is not yet given back.
SERVICE_REPLY_RECORD_BYTES: Final = 66 * 1024
#: Deliveries of one message before it goes to the dead letters with the exit record of its reader.
MAX_DELIVERIES: Final = 3
#: Dead letters kept, by count and by bytes; the oldest go first and are counted.
DEAD_LETTERS_MAX: Final = 10_000
DEAD_LETTERS_BYTES: Final = 64 * 1024 * 1024
#: Default deadline of a call (request and reply) between agents, in seconds.
CALL_TIMEOUT_S: Final = 30.0
#: Default patience of ``send`` with a full ring, in seconds: long enough for a busy reader, short enough to notice a
#: stuck one.
SEND_TIMEOUT_S: Final = 10.0

# --- rings and mailboxes ----------------------------------------------------------------------------------------------

#: An audit window closes at the first record boundary after this many bytes of the stream (a quarter of the ring if
#: that is less).
AUDIT_WINDOW_BYTES: Final = 1024 * 1024
#: Longest uninterrupted sleep on a doorbell, in seconds: the bound on a lost wake-up where no fence is in force.
WAIT_SLICE_S: Final = 0.05
#: The same where a fence is in force: a wake-up cannot be lost then, and 200 idle agents should cost nothing.
WAIT_SLICE_FENCED_S: Final = 1.0
#: Longest spin before sleeping, in seconds: about what waking an idle virtual CPU costs (40 microseconds), so spinning
#: at most doubles it.
SPIN_S: Final = 50e-6
#: After this many fruitless spins in a row a waiter sleeps at once, and spins again only every SPIN_PROBE-th time to
#: see if it pays.
SPIN_PATIENCE: Final = 8
SPIN_PROBE: Final = 16
#: A yield that takes longer than this, in seconds, gave the CPU to somebody who has work for a while: a waiter that
#: sleeps is then served before one that yields. It spins again after ever more waits, up to this many.
SPIN_CROWDED_S: Final = 400e-6
SPIN_PROBE_MAX: Final = 512
#: First and longest pause, in seconds, of a waiter that has no doorbell, and how many pauses it makes of each length
#: before it doubles:
#: a peer that is at work answers within the first few, and a ring of 256 KiB drains in a tenth of a millisecond.
POLL_FIRST_S: Final = 10e-6
POLL_LONGEST_S: Final = 2e-3
POLL_STEADY: Final = 16
#: Times a message in fragments is begun again because its reader was replaced, before the sender gives up.
FRAGMENT_RESTARTS: Final = 3
#: Dimensions of an array in a message; what numpy itself allowed for decades.
ARRAY_MAX_DIMS: Final = 32
#: Bytes that describe an array's element type, and fields of a record type.
ARRAY_DTYPE_BYTES: Final = 8192
ARRAY_FIELDS: Final = 256
#: Closed windows of a ring at which a writer that never reads is told to fetch them.
AUDIT_NUDGE: Final = 16
#: Closed audit windows that wait for their owner; older ones are dropped and counted.
AUDIT_WINDOWS_KEPT: Final = 4096
#: Lost messages that a window of a stream lists one by one; of further ones it tells the number.
WINDOW_LOST_LISTED: Final = 64
#: Default of ``[ipc] window_secs``: how often an agent says how far its streams have come, in seconds. What is silent
#: for longer is found by it; 200 idle agents add 3 records a second.
WINDOW_SECS: Final = 60.0
#: A stream counts as silent when it said nothing for so many of these periods: agents that compute are late at times.
WINDOW_SILENT_PERIODS: Final = 3
#: Messages of a topic's window; a subscriber that takes 100 000 messages a second appends 24 records a second.
TOPIC_WINDOW_MESSAGES: Final = 4096
#: Windows that wait in an agent for room in the ring to the service, and their bytes in one request.
WINDOWS_WAITING: Final = 4096
WINDOWS_REQUEST_BYTES: Final = 32 * 1024
#: Streams in one heartbeat: with the longest names it stays below the payload of a record.
HEARTBEAT_STREAMS: Final = 50
#: Memory of an agent for leaves of closed windows, if windows have Merkle roots: some 30 000 messages of 64 bytes.
PROOF_KEEP_BYTES: Final = 8 * 1024 * 1024
#: Larger messages are kept by their hash alone, in bytes: with its proof it must fit into a frame to the kernel.
PROOF_MESSAGE_BYTES: Final = 48 * 1024
#: Patience of the kernel with an agent that is asked for a proof, in seconds.
PROOF_TIMEOUT_S: Final = 5.0
#: Rings of a boot whose ends the kernel remembers after they were closed, to know whom to ask for a proof.
RINGS_REMEMBERED: Final = 10_000
#: READY bytes of a mailbox: what a page holds behind its words. Slot 0 is the kernel's.
MAILBOX_SLOTS: Final = 3072

# --- control channel --------------------------------------------------------------------------------------------------

#: Largest frame on the socketpair between the kernel and a child (SOCK_SEQPACKET; the default socket buffer is 208
#: KiB).
CONTROL_FRAME_BYTES: Final = 64 * 1024
#: Descriptors in one control frame; Linux allows 253.
CONTROL_MAX_FDS: Final = 16
#: Frames that wait in a process for room on a control socket. More means that the other end has not read for seconds.
CONTROL_OUTBOX_FRAMES: Final = 4096
#: Deadline of a request from an agent to the kernel, in seconds.
CONTROL_TIMEOUT_S: Final = 15.0

# --- control socket (JSON-RPC) ----------------------------------------------------------------------------------------

#: Longest line accepted on the control socket.
RPC_LINE_BYTES: Final = 1024 * 1024
#: Longest answer that a client takes: a full table with payloads fits, a runaway server does not fill the client's
#: memory.
RPC_REPLY_BYTES: Final = 64 * 1024 * 1024
#: Deadline of an ordinary request from ``weaver``, in seconds.
RPC_TIMEOUT_S: Final = 30.0
#: Connections served at once; a further one is refused with a clear error.
RPC_MAX_CONNECTIONS: Final = 128
#: Added to what the kernel itself may wait for an agent before ``weaver`` gives up on the answer, in seconds.
RPC_MARGIN_S: Final = 5.0
#: Patience of tab completion with the kernel, in seconds: a shell that hesitates longer feels broken.
COMPLETION_TIMEOUT_S: Final = 0.5
#: Pause between two questions of a command that follows a log, in seconds: at once to the eye, nothing to the kernel.
FOLLOW_INTERVAL_S: Final = 0.25
#: Pause between two pictures of a command that watches, in seconds.
WATCH_INTERVAL_S: Final = 1.0
#: From ``weaver kernel start`` to a kernel that answers, in seconds; reading a long chain takes part of it.
KERNEL_START_TIMEOUT_S: Final = 60.0
#: From ``weaver kernel stop`` to the end of the kernel, in seconds: the agents' grace, the service's last sync, and
#: room.
KERNEL_STOP_TIMEOUT_S: Final = 20.0
#: How long ``agent send`` waits for the agent's reply, in seconds.
AGENT_SEND_TIMEOUT_S: Final = 5.0

# --- service process --------------------------------------------------------------------------------------------------

#: Requests taken from one agent's ring in one round: large enough to fill a group commit, small enough that an agent
#: which
#: floods costs each of the others about a millisecond per round.
SERVICE_RING_QUOTA: Final = 128
#: Requests taken from all rings in one round, after which answers go out: bounds the wait of the first for the last.
SERVICE_ROUND_REQUESTS: Final = 4096
#: Frames taken from the kernel in one round; the kernel sends few, and its answers must fit the socket's buffer.
SERVICE_KERNEL_QUOTA: Final = 64
#: Largest request that the service decodes: a record of its ring. What is larger is refused, so no agent can make the
#: service hold more than its ring.
SERVICE_REQUEST_BYTES: Final = 64 * 1024
#: Events in one batch request. Their numbers share 16 bits of the idempotency position with the request's own.
SERVICE_BATCH_EVENTS: Final = 4096
#: Requests of one agent without an answer. Their answers must find room in the reply ring, at about 100 bytes each.
SERVICE_IN_FLIGHT: Final = 1024
#: Events that were accepted without the wish to be durable reach the disk after this time at the latest, in seconds.
SERVICE_SYNC_S: Final = 0.05
#: A sync of the log that takes longer is logged as slow, in seconds: an ordinary disk needs a few milliseconds, and all
#: durable appends and gate decisions wait for it.
SERVICE_SLOW_SYNC_S: Final = 0.25
#: How often the service looks for the kernel's end and for rings whose wake-up was lost, in seconds.
SERVICE_LOOK_S: Final = 0.05
SERVICE_SWEEP_S: Final = 1.0
#: How often a checkpoint of the log is made while it grows, in seconds: what a truncation can hide at most.
SERVICE_SIGN_S: Final = 1.0
#: Between two looks of the service for segments to be archived or pruned, in seconds; and after something went wrong.
SERVICE_RETAIN_S: Final = 2.0
SERVICE_RETAIN_RETRY_S: Final = 30.0
#: After the order to stop, or the kernel's end, requests that lie in the rings are served for this long, in seconds.
SERVICE_DRAIN_S: Final = 2.0
#: How long a new service process waits for the one of a dead kernel to let go of the log, in seconds: its drain time, a
#: slow sync, and some.
SERVICE_LOCK_S: Final = 10.0
#: Bytes of a gate question's context that are written to the log with the decision; a larger one is left out.
GATE_CONTEXT_BYTES: Final = 2048
#: How long a request for approval waits for a person, in seconds: he may be at lunch, but not on holiday.
APPROVAL_S: Final = 4 * 3600.0
#: Validity of a permit from the approval on, in seconds: the agent waits for it, and the world that the person saw
#: should still be there. At most ``PERMIT_MAX_S``, if he says so.
PERMIT_S: Final = 600.0
PERMIT_MAX_S: Final = 24 * 3600.0
#: Ended requests and permits are remembered for this long, in seconds, for whoever asks what became of them.
APPROVAL_KEPT_S: Final = 24 * 3600.0
#: Requests for approval of one agent that wait at once, and of all: a person reads them.
APPROVALS_PER_AGENT: Final = 32
APPROVALS_WAITING: Final = 1000
#: How often an agent that waits for an approval asks, in seconds; it is woken as well, which may get lost.
APPROVAL_LOOK_S: Final = 1.0
#: Rows in one answer about rules or requests: with their texts they must fit into a frame.
GOVERNANCE_ROWS: Final = 20
#: At most one report per agent about dropped replies in this time, in seconds.
SERVICE_REPORT_S: Final = 1.0
#: Answers remembered for requests that the kernel may repeat after a restart of the service, by serial number.
SERVICE_KERNEL_WINDOW: Final = 65536
#: Deadline of a request from an agent to the service, in seconds; a restart of the service fits into it many times.
SERVICE_TIMEOUT_S: Final = 15.0
#: Deadline of a question to the gate, in seconds. After it the answer counts as no.
GATE_TIMEOUT_S: Final = 5.0
#: Records in the answer to a tail request, whatever was asked for.
SERVICE_TAIL_RECORDS: Final = 1000

# --- processes --------------------------------------------------------------------------------------------------------

#: Live agents. The table of ended ones is separate and bounded by EXITED_HISTORY_MAX.
MAX_PROCESSES: Final = 1024
#: Exit records of ended agents that ``ps`` and ``inspect`` still show.
EXITED_HISTORY_MAX: Final = 512
#: From fork to the ready handshake, in seconds; importing a heavy program on a busy machine takes seconds.
START_TIMEOUT_S: Final = 30.0
#: From SIGTERM to SIGKILL, in seconds.
STOP_TIMEOUT_S: Final = 5.0
#: Grace for all agents together at shutdown, in seconds.
SHUTDOWN_TIMEOUT_S: Final = 5.0
#: Restarts allowed in a window before an agent is quarantined (Erlang/OTP's intensity and period).
RESTART_MAX: Final = 5
RESTART_WINDOW_S: Final = 60.0
#: First delay before a restart; doubles up to the cap; a run longer than RESTART_STABLE_S resets it.
RESTART_BACKOFF_S: Final = 0.1
RESTART_BACKOFF_MAX_S: Final = 30.0
RESTART_STABLE_S: Final = 60.0
#: The service process has a budget of its own: without it the gate is shut, so it is tried longer and sooner. One that
#: dies at once each time is given up after half a minute.
SERVICE_RESTART_MAX: Final = 30
SERVICE_RESTART_BACKOFF_MAX_S: Final = 1.0
#: How often the kernel looks after the health of its services, in seconds.
HEALTH_INTERVAL_S: Final = 30.0
#: Largest whole number in the configuration: what a signed 64-bit field of the system's limits holds.
CONFIG_MAX: Final = 2**63 - 1
#: How often usage is sampled from /proc, in seconds.
SAMPLE_INTERVAL_S: Final = 1.0
#: Share of a limit at which a warning is sent, once per crossing.
LIMIT_WARNING_RATIO: Final = 0.8

#: Users for agents: ids that systemd's list of ranges calls unused, between those of containers and the half that
#: signed numbers cannot hold.
AGENT_UID_FIRST: Final = 0x7000_0000
AGENT_UID_LAST: Final = 0x7FFD_FFFF
#: How many of them one instance takes: as many as a system of 16-bit users had in all; the range has 4094 such parts.
AGENT_USERS: Final = 65_536
#: So many are set aside at a time, on the disk: a boot loses at most as many, and few agents wait for a sync.
AGENT_USERS_AHEAD: Final = 256
#: Share of the processor of an agent's control group, as the system's scheduler weighs groups (cgroup v2, cpu.weight).
CPU_WEIGHT: Final = 100
#: Period of cpu.max, in microseconds: the system's default.
CPU_PERIOD_US: Final = 100_000

#: Characters of what is kept of each part of a sandbox: a path of usual length with the reason around it.
MEASURE_CHARS: Final = 500

# --- what the system refuses to agents --------------------------------------------------------------------------------

#: Kinds of refusals that are told apart in one life of an agent; the agent chooses their names. Each costs one record.
REFUSAL_KINDS_MAX: Final = 64
#: How often what was refused again is put on the log, in seconds, for each agent.
REFUSALS_SUM_S: Final = 3.0
#: Refused calls that the kernel answers for one agent without a pause; then it is kept waiting.
REFUSALS_BURST: Final = 128
#: Refused calls per second that the kernel answers after that, all agents that are kept waiting together. With
#: those, floods cost the kernel some 4 % of a processor, whoever makes them (``python -m weftos.bench gate``).
REFUSALS_PER_S: Final = 640
#: Of those, how many in one turn of the kernel's loop for one agent.
REFUSALS_PER_TURN: Final = 16
#: What a record says of a refused path, in characters: a sum over all kinds fits a frame to the service.
REFUSAL_ABOUT_CHARS: Final = 200
#: Messages of the system's audit taken in one turn of the kernel's loop.
AUDIT_PER_TURN: Final = 64
#: How long the system may take to tell whether its audit is on, in seconds; it takes less than a millisecond.
AUDIT_ANSWER_S: Final = 1.0
#: Denials kept until the system has told whose they are, and ended agents to whom late ones can still belong.
AUDIT_WAITING_MAX: Final = 256

# --- default limits of an agent ---------------------------------------------------------------------------------------

MEMORY_BYTES: Final = 256 * 1024 * 1024
#: CPU seconds over the life of one incarnation; unlimited by default, because long-lived agents are the normal case.
CPU_SECONDS: Final = 0
DESCRIPTORS: Final = 256
#: Processes in an agent's own session, itself included.
PROCESSES: Final = 32
#: Messages over the life of an agent; unlimited by default, for the reason given for CPU_SECONDS.
MESSAGES: Final = 0
#: Largest file an agent may write.
FILE_BYTES: Final = 1024 * 1024 * 1024
#: What an agent may keep in its scratch folder, in bytes.
SCRATCH_BYTES: Final = 1024 * 1024 * 1024
#: Entries of scratch folders that one sample looks at, for each agent: a hostile tree must not hold up the kernel.
SCRATCH_ENTRIES: Final = 1000
#: Memory of an inventory's recorder, which holds every entry until the end: some ten million files.
INVENTORY_MEMORY_BYTES: Final = 8 * 1024 * 1024 * 1024
#: Memory of the keeper of `weaver run memory`, which holds the outline of a folder until it is linked (about a kilobyte
#: for each passage), and of a reader: the largest file with the vectors of its passages, and what it knows of words.
MEMORY_KEEPER_BYTES: Final = 8 * 1024 * 1024 * 1024
MEMORY_READER_BYTES: Final = 1024 * 1024 * 1024

# --- chain ------------------------------------------------------------------------------------------------------------

#: Size at which a segment file is closed and the next begun: scanned in under a second, and few files for a large log.
CHAIN_SEGMENT_BYTES: Final = 64 * 1024 * 1024
#: Smallest size that may be configured: room for a header, the largest record and some more.
CHAIN_SEGMENT_MIN_BYTES: Final = 4096
#: Largest encoded payload of a record; what is larger belongs into a file, with its hash in the log.
CHAIN_PAYLOAD_BYTES: Final = 64 * 1024
#: Containers in containers of a payload. Deeper nesting is a mistake or an attack on whoever prints it.
CHAIN_PAYLOAD_DEPTH: Final = 32
#: Longest names in a record's header, in bytes of UTF-8. Together they keep a header below CHAIN_HEADER_BYTES.
CHAIN_SOURCE_BYTES: Final = 128
CHAIN_KIND_BYTES: Final = 64
CHAIN_SUBJECT_BYTES: Final = 1024
CHAIN_PRODUCER_BYTES: Final = 128
CHAIN_PERMIT_BYTES: Final = 128
#: Longest key under which an agent appends, in bytes of UTF-8: an order number, a digest in hex. With the scope in
#: front of it, which is at most CHAIN_KEY_SCOPE_BYTES, it fits a producer's name.
CHAIN_KEY_BYTES: Final = 64
CHAIN_KEY_SCOPE_BYTES: Final = 56
#: Longest header part that a reader accepts: the sum of the above and of the fixed fields (about 230 bytes), rounded
#: up.
CHAIN_HEADER_BYTES: Final = 2048
#: Records taken but not yet written are handed to the system at this size, so that they cannot fill the memory.
CHAIN_BUFFER_BYTES: Final = 1024 * 1024
#: What is on its way to the process that writes the tiles: some thousand records, and as much as Linux lets a pipe of
#: anybody's hold.
TILE_PIPE_BYTES: Final = 1024 * 1024
#: Positions remembered per producer, to recognise what is submitted again: four times what a request ring can hold.
CHAIN_PRODUCER_WINDOW: Final = 65_536
#: Positions remembered in all, about 300 bytes each; beyond it the fullest producer loses the older half of its own.
CHAIN_INDEX_ENTRIES: Final = 262_144
#: Producers remembered at once: one per ring to the service. Beyond it the one that was quiet for longest is dropped.
CHAIN_PRODUCERS: Final = 16_384
#: Newest bytes of the log that are checked in full when it is opened: one to two seconds per 64 MiB, on a busy machine
#: several, and within the START_TIMEOUT_S all the same; as many records as the index takes. Of older segments only the
#: headers are checked. ``verify`` checks everything.
CHAIN_OPEN_SCAN_BYTES: Final = 128 * 1024 * 1024
#: Records behind the newest checkpoint that call for one when a log is opened: a tenth of a second of reading.
CHAIN_OPEN_TAIL: Final = 10_000
#: Bytes that a reader takes from a file at once: large enough that the calls do not count, small enough for the cache.
CHAIN_READ_BYTES: Final = 1024 * 1024
#: Records and bytes of a page that somebody who copies the log gets at once, at most; the largest record fits.
CHAIN_PAGE_RECORDS: Final = 4096
CHAIN_PAGE_BYTES: Final = 1024 * 1024
#: Largest segment that is archived or read from an archive, unpacked: a small file must not fill a disk.
CHAIN_ARCHIVE_BYTES: Final = 4 * 1024 * 1024 * 1024
#: Grants of rings kept of what was pruned, so that audit windows of rings that are still open can be compared: the
#: newest of the current boot, some 400 bytes each.
CHAIN_KEPT_GRANTS: Final = 1024
#: Least that the service prunes at once: a record about it has 5 kB, and must not make the log grow by itself.
CHAIN_PRUNE_LEAST_BYTES: Final = 64 * 1024
#: Largest file of what was kept of the pruned segments: room for the grants, for 1000 changes of keys (11 kB each) and
#: for a line about each of a million segments.
CHAIN_KEPT_BYTES: Final = 64 * 1024 * 1024
#: Findings kept in the report of a verification; further ones are counted only.
CHAIN_VERIFY_ERRORS: Final = 1000
#: Audit windows held for pairing during a verification, about 300 bytes each; beyond it the oldest are given up.
CHAIN_VERIFY_WINDOWS: Final = 1_000_000
#: Derivations whose story is checked by a verification, about 600 bytes each; with more it is left out.
CHAIN_VERIFY_LINEAGE: Final = 1_000_000
#: Ranges on which both ends agreed that are remembered to find a third, late contradiction; about 300 bytes each.
CHAIN_VERIFY_PAIRED: Final = 100_000
#: Silent streams that a verification names; of further ones it tells the number.
CHAIN_VERIFY_SILENT: Final = 20
#: Largest signed note that is read, in bytes: the limit of Go's reference reader, room for 100 post-quantum signatures.
NOTE_BYTES: Final = 1_000_000
#: Signatures in one note: each costs a verification, so a stranger must not choose the number. Witnesses are a dozen.
NOTE_SIGNATURES: Final = 100
#: Largest file of pinned public keys, in bytes: some thousand logs with a pair of keys each (2.8 kB).
KEY_PINS_BYTES: Final = 4 * 1024 * 1024
#: Patience with another process that changes the same key folder or file, in seconds: a change takes a few fsyncs.
KEY_LOCK_WAIT_S: Final = 10.0
#: Between two attempts to get that lock, in seconds: there is no lock with a deadline, and a change takes milliseconds.
KEY_LOCK_POLL_S: Final = 0.01

#: Missing epochs that a verification of seals steps over, one second of hashing; a larger gap is no gap but nonsense.
CHAIN_SEAL_GAP_EPOCHS: Final = 100_000
#: Between two seals, in seconds, unless the configuration says otherwise: what a thief of the sealing key can rewrite
#: unnoticed. A quarter of an hour is what journald takes; a seal costs some syncs in a thread and one record.
SEAL_INTERVAL_S: Final = 900.0
#: New records that call for a seal before its time.
SEAL_RECORDS: Final = 100_000
#: Names in a lineage event and in a custody attestation, and a lineage event's description, in bytes of UTF-8.
CHAIN_NAME_BYTES: Final = 256
CHAIN_DESCRIPTION_BYTES: Final = 4096
#: Content roots in one custody attestation; with their names they fit into the payload of a record.
CHAIN_CUSTODY_ROOTS: Final = 128

# --- witnesses --------------------------------------------------------------------------------------------------------

#: Hashes in a consistency proof: one per bit of a size below 2^63, as in C2SP's tlog-witness.
WITNESS_PROOF_HASHES: Final = 63
#: Largest checkpoint a witness reads, in bytes: ten times one with both signatures of the log (4.7 kB).
WITNESS_NOTE_BYTES: Final = 64 * 1024
#: Largest request: the checkpoint, a full proof (2.9 kB), or the changes of keys below, with some room.
WITNESS_REQUEST_BYTES: Final = 160 * 1024
#: Changes of keys in one request, 15 kB each as text; a log that has changed more often sends them in several.
WITNESS_ROTATIONS: Final = 8
#: Largest answer: two notes of the size above in base64, with some room.
WITNESS_ANSWER_BYTES: Final = 256 * 1024
#: Logs that one witness remembers; each is a file of up to 100 kB. A witness of this machine sees one or a few.
WITNESS_LOGS: Final = 64
#: Split views of one log that are kept; one is proof enough, the others tell how often.
WITNESS_EVIDENCE: Final = 16
#: Clients served at once; further ones wait in the listening queue.
WITNESS_CLIENTS: Final = 32
WITNESS_BACKLOG: Final = 32
#: A client that has not sent a whole request, or not taken the answer, in this time is cut off, in seconds. Requests
#: are written at once; this is for a client that was stopped in the middle, or means harm.
WITNESS_CLIENT_S: Final = 5.0
#: Default patience of a client with a witness, in seconds: an answer takes two fsyncs, on a busy disk a second or more.
WITNESS_TIMEOUT_S: Final = 10.0
#: Patience of the service with a witness, in seconds: when the log is opened, and for a cosignature, which nobody waits
#: for but the next checkpoint.
WITNESS_START_S: Final = 3.0
WITNESS_SIGN_S: Final = 5.0
#: Between two attempts to get into a full listening queue, in seconds: nothing tells when there is room in it.
WITNESS_RETRY_S: Final = 0.01
#: Where the system does not report a parent's death, it is looked for this often, in seconds.
WITNESS_PARENT_POLL_S: Final = 1.0

# --- resource tree ----------------------------------------------------------------------------------------------------

#: Longest path, in bytes: what the subject of a record takes.
TREE_PATH_BYTES: Final = 1024
#: Longest segment of a path, in bytes: a file name's limit on Linux, so that a tree can be shown as folders.
TREE_SEGMENT_BYTES: Final = 255
#: Segments of a path. Each costs a hash per change and a look-up per decision.
TREE_DEPTH: Final = 32
#: Nodes of one tree, about 1 kB each: an error before the memory is gone.
TREE_NODES: Final = 1_000_000
#: Longest names of kinds, roles and actions that a user chose, in bytes.
TREE_NAME_BYTES: Final = 64
#: Longest name of a principal or an identifier of a policy, in bytes of UTF-8.
TREE_PRINCIPAL_BYTES: Final = 256
#: Metadata of one node: keys, bytes of a key, bytes of one encoded value, and bytes of all together. With path and kind
#: they fit into the payload of a record (CHAIN_PAYLOAD_BYTES).
TREE_METADATA_KEYS: Final = 256
TREE_METADATA_KEY_BYTES: Final = 128
TREE_METADATA_VALUE_BYTES: Final = 16 * 1024
TREE_METADATA_BYTES: Final = 48 * 1024
#: Containers in containers of a metadata value; four below the limit of a payload, which holds it.
TREE_METADATA_DEPTH: Final = 28
#: Policies on one node; all of them are looked at for a decision.
TREE_POLICIES: Final = 256
#: Decisions remembered, about 500 bytes each; the one that was not asked for the longest goes first.
TREE_ACL_CACHE: Final = 4096
#: Nodes in one answer about the tree; its rows must fit into a frame.
TREE_ROWS: Final = 2000
#: Largest snapshot that is read, in bytes. It is held in memory as a whole.
TREE_SNAPSHOT_BYTES: Final = 1024 * 1024 * 1024
#: Certificates in a chain of delegations: each costs a verification (0.1 ms), so a stranger must not choose how many.
DELEGATION_DEPTH: Final = 8
#: Actions in one certificate.
DELEGATION_ACTIONS: Final = 64
#: Largest encoded certificate, in bytes: the longest path, all actions and the fixed fields, with some room.
DELEGATION_BYTES: Final = 8192
#: Longest life of a certificate, in nanoseconds: one year. Whoever forgets to revoke is limited by it.
DELEGATION_LIFE_NS: Final = 366 * 24 * 3600 * 1_000_000_000

# --- artifacts --------------------------------------------------------------------------------------------------------

#: All artifacts of one store together, header included. A runaway producer should meet a clear error before the log on
#: the same disk meets a full one. 0 is unlimited.
ARTIFACT_STORE_BYTES: Final = 16 * 1024 * 1024 * 1024
#: Bytes read, hashed and written at once: large enough that calls do not count, and all the memory that a put takes.
ARTIFACT_CHUNK_BYTES: Final = 1024 * 1024
#: Longest content type; what RFC 6838 recommends for each half of a name, and a short parameter.
ARTIFACT_TYPE_BYTES: Final = 160
#: The store's size is counted anew after this time, in seconds, because other processes may put artifacts as well.
ARTIFACT_RECOUNT_S: Final = 5.0
#: Default age below which an artifact is kept although nothing refers to it, in seconds: between the put and the record
#: in the log that names it there may be a slow agent.
ARTIFACT_GRACE_S: Final = 3600.0
#: What one agent may have put and not released, by default; 0 is unlimited. A sixteenth of the store.
ARTIFACT_AGENT_BYTES: Final = 1024 * 1024 * 1024
#: Each artifact counts at least this much of an agent's share, in bytes: a block of the disk, and a bound on their
#: number.
ARTIFACT_BLOCK_BYTES: Final = 4096
#: Largest artifact that a process puts through the kernel, in bytes: it lies in memory until it is stored.
ARTIFACT_PUT_BYTES: Final = 1024 * 1024 * 1024
#: Puts and reads of one agent under way; each holds a descriptor in the kernel.
ARTIFACT_IN_FLIGHT: Final = 4
#: Threads of the service that hash and store: hashing and writing let go of the interpreter, so two keep both busy.
ARTIFACT_THREADS: Final = 2
#: Deadline of a put or a read through the kernel, in seconds: the largest artifact on a slow disk, twice.
ARTIFACT_TIMEOUT_S: Final = 120.0
#: Deadline of a collection, in seconds: it reads the whole log, a million records in about ten seconds.
ARTIFACT_COLLECT_TIMEOUT_S: Final = 600.0
#: Largest content in a request or answer of the control socket, in bytes: in base64 it fits a line (RPC_LINE_BYTES).
ARTIFACT_INLINE_BYTES: Final = 512 * 1024
#: Hashes in one ``artifact.gc`` record, 66 bytes each: within CHAIN_PAYLOAD_BYTES, and within a frame.
ARTIFACT_GC_HASHES: Final = 500
#: Rows in one answer that lists artifacts, up to 300 bytes each: they must fit into a frame.
ARTIFACT_ROWS: Final = 150
#: Times a scan of the log is begun again because a segment was written anew under it (a redaction).
ARTIFACT_SCANS: Final = 3

# --- access, credentials and configuration ---------------------------------------------------------------------------

#: Living tokens of one instance, some 200 bytes each in the kernel's memory.
AUTH_TOKENS: Final = 1000
#: Longest life of a token, in seconds: one year. Whoever forgets to revoke is limited by it.
AUTH_TOKEN_LIFE_S: Final = 366 * 86_400
#: Challenges of one connection that were given and not answered; the oldest is forgotten.
AUTH_CHALLENGES: Final = 4
#: Logins of one connection that may fail before it is closed: a signature costs the kernel 0.1 ms.
AUTH_LOGIN_FAILURES: Final = 5
#: Credentials of one instance; each is a file and a node of the tree.
AUTH_CREDENTIALS: Final = 1000
#: Largest secret, in bytes: a chain of certificates with its key fits.
AUTH_SECRET_BYTES: Final = 16 * 1024
#: Methods and agents in the scope of one token, and agents in that of one credential.
AUTH_SCOPE_NAMES: Final = 100
#: Refusals of one kind (who, which method) share a record for so long, in seconds: the first is recorded at once, the
#: others by their number, so that a stranger cannot fill the log.
ACCESS_DENY_S: Final = 1.0
#: Kinds of refusals that are counted at once; beyond, they are counted together.
ACCESS_DENY_KINDS: Final = 256
#: Largest configuration file, in bytes.
CONFIG_FILE_BYTES: Final = 256 * 1024

# --- copies of arrays -------------------------------------------------------------------------------------------------

#: Arrays of at least this size are copied into memory that is kept for the next; below, fresh memory is cheap.
SHELF_FROM_BYTES: Final = 128 * 1024
#: Memory kept so, per process, at most.
SHELF_BYTES: Final = 16 * 1024 * 1024

# --- capabilities and budgets -----------------------------------------------------------------------------------------

#: Entries of one list of tools, services or paths, and characters of an entry: a list is read by people.
RIGHTS_LIST_MAX: Final = 64
RIGHTS_NAME_CHARS: Final = 100
RIGHTS_PATH_CHARS: Final = 1024
#: All capabilities of one agent, encoded, in bytes: they fit its page of rights, and with it a frame of any socket.
RIGHTS_BYTES: Final = 12 * 1024
#: The page of rights of one agent, in bytes.
RIGHTS_PAGE_BYTES: Final = 16 * 1024
#: Longest wait of a reader for a page that is being written, in seconds: its writer may have to wait for a processor.
RIGHTS_READ_S: Final = 1.0
#: Rights named in one change, and characters of the reason for it.
RIGHTS_PER_CHANGE: Final = 32
RIGHTS_REASON_CHARS: Final = 500
#: Answers about rights that an agent's client keeps until its rights change.
RIGHTS_REMEMBERED: Final = 4096
#: Live children that the role of a supervisor and that of a service allow.
AGENCY_SUPERVISOR_CHILDREN: Final = 64
AGENCY_SERVICE_CHILDREN: Final = 16
#: Largest figure of a budget: what fits any language's integers, a cost in millionths included.
BUDGET_AMOUNT_MAX: Final = 1 << 53
#: Reservations that one agent may have open: enough for a program that does many things at once.
BUDGET_OPEN_MAX: Final = 256
#: The same action with the same arguments this often within so many seconds is a loop, unless a budget says otherwise.
BUDGET_LOOP_REPEATS: Final = 16
BUDGET_LOOP_WINDOW_S: Final = 60
#: Largest number of repeats that a loop guard may be set to, for their times are kept.
BUDGET_LOOP_REPEATS_MAX: Final = 1024
#: Different actions of one agent whose times the loop guard keeps; the oldest go first.
BUDGET_LOOP_ACTIONS: Final = 256
#: How long who asks the service one thing looks for the answer before sleeping, in seconds: the service decides and
#: writes within 60 microseconds, and to be woken takes as long again.
SERVICE_SPIN_S: Final = 200e-6
#: Likewise of who asks the memory: a search of a graph takes up to half a millisecond.
SERVICE_SEARCH_SPIN_S: Final = 1e-3
#: And of who asks it for many vectors at once.
SERVICE_BATCH_SPIN_S: Final = 4e-3
#: How long the service looks for requests before sleeping, in seconds. Longer than others: an agent that got an answer
#: needs about as long until it asks the next thing, and each of them would have to wake the service.
SERVICE_IDLE_SPIN_S: Final = 200e-6
#: How often the service looks after what nobody waits for in this round, while requests keep coming, in seconds.
SERVICE_CHORES_S: Final = 1e-3
#: Bytes of an answer around its content, and characters of the text of a refusal: both must fit a record of any ring.
SERVICE_ANSWER_HEAD_BYTES: Final = 256
SERVICE_REFUSAL_CHARS: Final = 800
#: Characters of the name of an action, and bytes of the hash of its arguments.
BUDGET_ACTION_CHARS: Final = 100
BUDGET_ARGS_HASH_BYTES: Final = 16

# --- cognitive layer --------------------------------------------------------------------------------------------------

#: Content of one record of a journal, in bytes: a batch of a million edges; what is larger is nonsense.
ECC_JOURNAL_RECORD_BYTES: Final = 64 * 1024 * 1024
#: Longest time between a change of memory and the record that vouches for it, in seconds: each costs a sync of the log.
ECC_COMMIT_S: Final = 0.25
#: Bytes that the spaces of one agent, with those of the agents below it, may take in memory and on the disk each, and
#: all spaces together; configurable. What is searched is held in the memory of the service.
ECC_AGENT_BYTES: Final = 1024 * 1024 * 1024
ECC_STORE_BYTES: Final = 8 * 1024 * 1024 * 1024
#: Collections that one agent, with those below it, may make.
ECC_AGENT_SPACES: Final = 64
#: Bytes that an entry, a node and an edge take beside their texts and vectors: about what their columns do.
ECC_ENTRY_BYTES: Final = 128
ECC_NODE_BYTES: Final = 400
ECC_EDGE_BYTES: Final = 64
#: How long sizes that were added up are relied on, in seconds; what is written meanwhile is added.
ECC_SIZES_S: Final = 0.25
#: Characters of the name of a memory space.
ECC_SPACE_CHARS: Final = 160
#: Vectors of one search, entries that it returns for each, and candidates that a graph is searched for.
ECC_SEARCH_VECTORS: Final = 256
ECC_SEARCH_K: Final = 1000
ECC_SEARCH_EF: Final = 4096
#: What the searches of one agent may take of a round, in seconds: everybody else waits meanwhile.
ECC_ROUND_S: Final = 0.005
#: Size of a graph's journal at which a snapshot takes its place, in bytes: a start reads half a second at most.
ECC_GRAPH_JOURNAL_BYTES: Final = 64 * 1024 * 1024
#: Nodes that one answer about a graph may hold.
ECC_WALK_NODES: Final = 1000
#: Cross-references, or impulses, of one request.
ECC_REFS: Final = 256
#: Ids, or rows of values, that one page may hold; it ends sooner where the answer is full.
ECC_PAGE_IDS: Final = 4096
#: How far the builder of segments stands back behind everybody else; see nice(2).
ECC_BUILDER_NICE: Final = 5
#: A journal of a store is cut when it has this many bytes, and this many times those of the snapshot: so that the
#: snapshots of a store of any size cost about as much as its journal.
ECC_JOURNAL_CUT_BYTES: Final = 8 * 1024 * 1024
ECC_JOURNAL_CUT_RATIO: Final = 2
#: Changes of a store that make one record of its journal, in bytes; more become several.
ECC_CHANGES_BYTES: Final = 4 * 1024 * 1024
#: How far the clock of another node may be ahead, in milliseconds: NTP keeps clocks within some tens; a minute is a
#: clock that was never set.
HLC_DRIFT_MS: Final = 60_000
#: Cross-references of one store: about a kilobyte each in memory, with their indexes.
CROSSREFS: Final = 4_000_000
#: Impulses that wait in one queue, and their bytes: some minutes of a busy node; beyond that nobody works them off.
IMPULSES: Final = 100_000
IMPULSES_BYTES: Final = 64 * 1024 * 1024
#: Bytes that an impulse counts beside its payload: about what its fields have on the disk.
IMPULSE_OVERHEAD_BYTES: Final = 96
#: Payload of one impulse, in bytes of JSON, and how deep it nests: it says what happened, content is an artifact.
IMPULSE_PAYLOAD_BYTES: Final = 64 * 1024
IMPULSE_PAYLOAD_DEPTH: Final = 32
#: Milliseconds until an impulse that was handed out and not done is handed out again: a hundred ticks of 50 ms.
IMPULSE_LEASE_MS: Final = 5_000
#: How often an impulse is handed out before it is dead: what kills its consumer kills it this often at most.
IMPULSE_ATTEMPTS: Final = 5
#: Dead impulses that are kept for a look.
IMPULSES_DEAD: Final = 1_000
#: Milliseconds in which the strength of an impulse halves, and the strength below which it expires: an impulse of full
#: strength waits for about an hour and a half.
IMPULSE_HALF_LIFE_MS: Final = 10 * 60 * 1000
IMPULSE_FLOOR: Final = 0.002
#: Milliseconds between cognitive ticks at the start, at least and at most, and the share of them that a tick may take:
#: twenty ticks a second are quick for a person; a thousand leave no time for anything else on two cores.
TICK_INTERVAL_MS: Final = 50.0
TICK_MIN_MS: Final = 1.0
TICK_MAX_MS: Final = 1_000.0
TICK_BUDGET_RATIO: Final = 0.3
#: Seconds of ticks that one adaptation of the interval looks at.
TICK_WINDOW_S: Final = 30.0
#: Impulses that one tick works off at most, those that are embedded in one call, and neighbours that each is linked to.
TICK_IMPULSES: Final = 64
TICK_CHUNK: Final = 16
TICK_NEIGHBOURS: Final = 5
#: Cosine from which two impulses correlate, and below which they are not linked at all.
TICK_CORRELATION: Final = 0.7
TICK_LINK_FLOOR: Final = 0.3
#: Milliseconds that ticks do nothing after one that failed; doubled for each in a row, up to the second figure. Without
#: it a log that is away for a minute would use up the attempts of every impulse.
TICK_RETRY_MS: Final = 100
TICK_RETRY_MAX_MS: Final = 30_000
#: What a calibration measures: vectors in the index, numbers in a vector, runs, and runs before them that do not count.
CALIBRATION_SIZES: Final = (1_000, 10_000)
CALIBRATION_DIMENSIONS: Final = 384
CALIBRATION_RUNS: Final = 100
CALIBRATION_WARM_UP: Final = 10
#: Most vectors that one calibration takes: 384 numbers each make 1.5 GB.
CALIBRATION_VECTORS: Final = 1_000_000
#: Links of a node, candidates and results of a search in the index that is measured.
CALIBRATION_HNSW_LINKS: Final = 16
CALIBRATION_HNSW_SEARCH: Final = 64
CALIBRATION_NEIGHBOURS: Final = 10
#: Nodes of the graph whose spectrum is measured.
CALIBRATION_SPECTRAL_NODES: Final = 1_000
#: Seconds after which the index stops growing, so that a busy machine does not wait for it.
CALIBRATION_TIME_S: Final = 2.0
#: Largest file of a calibration that is read, in bytes.
CALIBRATION_FILE_BYTES: Final = 64 * 1024
#: Nodes and edges of one causal graph: some hundred bytes each in memory; 32-bit positions hold them.
CAUSAL_NODES: Final = 16_000_000
CAUSAL_EDGES: Final = 64_000_000
#: Longest label of a node, in bytes of UTF-8.
CAUSAL_LABEL_BYTES: Final = 1024
#: Edges added since the adjacency was laid out that call for laying it out anew; beyond, a quarter of all edges.
CAUSAL_DELTA_EDGES: Final = 65_536
#: Largest component whose spectrum is computed exactly, in nodes: a dense matrix of 2 MB, some 50 ms.
CAUSAL_DENSE_NODES: Final = 500

# --- embeddings and passages ------------------------------------------------------------------------------------------

#: Texts in one call of an embedding provider, and characters of one text: a passage has a few thousand.
EMBED_BATCH: Final = 4096
EMBED_TEXT_CHARS: Final = 64 * 1024
#: Words whose features a provider keeps, in entries; when full, all are dropped and made again as they come.
EMBED_WORDS_REMEMBERED: Final = 100_000
#: Characters of one word that become features; the rest of a longer one is noise (keys, base64).
EMBED_WORD_CHARS: Final = 40
#: Dimensions of a provider unless it is told otherwise, and those that it may be set to.
EMBED_DIMENSION: Final = 512
EMBED_DIMENSION_MIN: Final = 16
EMBED_DIMENSION_MAX: Final = 4096
#: Texts in one request to a server of embeddings: the usual servers take 32 to 2048.
EMBED_HTTP_BATCH: Final = 64
EMBED_HTTP_BATCH_MAX: Final = 2048
#: Time for one request and its answer as a whole, in seconds; the most that may be set.
EMBED_HTTP_SECS: Final = 30.0
EMBED_HTTP_SECS_MAX: Final = 600.0
#: Times that one request is sent; the wait after the first, doubled after each; the longest wait, also when the server
#: asks for one (Retry-After), in seconds.
EMBED_HTTP_TRIES: Final = 4
EMBED_HTTP_TRIES_MAX: Final = 10
EMBED_HTTP_WAIT_SECS: Final = 0.5
EMBED_HTTP_WAIT_MAX_SECS: Final = 30.0
#: Bytes of an answer for one number of a vector (a double takes up to 24 in JSON, with blanks), and besides.
EMBED_HTTP_NUMBER_BYTES: Final = 40
EMBED_HTTP_EXTRA_BYTES: Final = 64 * 1024
#: Largest key of a server, in bytes.
EMBED_HTTP_KEY_BYTES: Final = 4096
#: Characters of a server's own words that go into an error.
EMBED_HTTP_WORDS: Final = 200
#: Windows of one model that are computed at once: 32 of 256 tokens take some 100 MB.
EMBED_LOCAL_WINDOWS: Final = 32
#: Largest file of a model that is loaded, in bytes, and largest of its small ones (settings, tokenizer).
EMBED_LOCAL_MODEL_BYTES: Final = 4 * 1024**3
EMBED_LOCAL_FILE_BYTES: Final = 64 * 1024 * 1024
#: Largest document that is cut into passages, in bytes, and files of one folder.
PASSAGE_FILE_BYTES: Final = 4 * 1024 * 1024
PASSAGE_FILES: Final = 1_000_000
#: Lines and characters of one passage: about what a person reads as one answer. A single longer line stays whole up to
#: the second figure, beyond that it is skipped and counted.
PASSAGE_LINES: Final = 40
PASSAGE_CHARS: Final = 2400
PASSAGE_LINE_CHARS: Final = 32 * 1024
#: How deep headings or definitions may nest; what lies deeper belongs to the last one counted.
PASSAGE_DEPTH: Final = 16

# --- vectors --------------------------------------------------------------------------------------------------------

#: Conditions and values in one filter over the metadata of vectors: each condition is one pass over all slots, and they
#: nest no deeper than this, which the interpreter's stack has to bear.
VECTOR_FILTER_TERMS: Final = 256
#: Collections in one store, and numbers in one vector: each collection has a delta that every pass looks at.
VECTOR_COLLECTIONS: Final = 1024
VECTOR_DIMENSION_MAX: Final = 4096
#: Bytes of an entry's id in UTF-8, of its metadata as MessagePack, of its document.
VECTOR_ID_BYTES: Final = 256
VECTOR_METADATA_BYTES: Final = 16 * 1024
VECTOR_DOCUMENT_BYTES: Final = 256 * 1024
#: Entries and bytes of one batch, which is one record of the journal.
VECTOR_BATCH_ENTRIES: Final = 16_384
VECTOR_BATCH_BYTES: Final = 32 * 1024 * 1024
#: Queries of one search, results of one query, and the list of candidates of a graph (ef).
VECTOR_QUERIES: Final = 4096
VECTOR_RESULTS: Final = 1024
VECTOR_EF_MAX: Final = 4096
#: Largest length of a vector that is not normalised: the square of twice of it still fits 32 bits of floating point.
VECTOR_LENGTH_MAX: Final = 1e18
#: Rows of a delta that call for sealing it, for every search scans them.
VECTOR_DELTA_ROWS: Final = 8192
#: Bytes of metadata and documents in a delta that call for sealing it, for they are in memory until then.
VECTOR_DELTA_BYTES: Final = 64 * 1024 * 1024
#: Bytes of all journals after which deltas are sealed, however small, so that a start need not read more.
VECTOR_JOURNAL_BYTES: Final = 256 * 1024 * 1024
#: Rows from which a segment has a graph; fewer are scanned as fast.
VECTOR_GRAPH_ROWS: Final = 4096
#: Links of a row in the graph (twice as many in its lowest level), and candidates while it is built.
VECTOR_GRAPH_LINKS: Final = 16
#: Likewise for inner products, by which the nearest of a row is not the row: with fewer links some rows are reached by
#: no walk, and recall stays below 0.95 however long it looks.
VECTOR_GRAPH_LINKS_INNER: Final = 32
#: A segment that will soon be merged is built with fewer, which is faster.
VECTOR_GRAPH_BUILD_EF: Final = 64
VECTOR_GRAPH_BUILD_EF_SMALL: Final = 40
VECTOR_GRAPH_SMALL_ROWS: Final = 262_144
#: What the length of the list of candidates is found by: queries, lengths tried, and the recall at ten that is
#: enough, a little above what is promised.
VECTOR_CALIBRATION_QUERIES: Final = 200
VECTOR_CALIBRATION_EFS: Final = (16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)
VECTOR_CALIBRATION_RECALL: Final = 0.97
#: Recall that is promised; a collection that has less is shown as such.
VECTOR_RECALL: Final = 0.95
#: How many times longer the list is made than was found: rows of the segment are easier queries than others.
VECTOR_CALIBRATION_MARGIN: Final = 2
#: Rows that are scanned in about the time in which a graph looks at one candidate, an estimate: where fewer match,
#: they are scanned.
VECTOR_SCAN_PER_CANDIDATE: Final = 32
#: Segments of about one size that are merged into one of the next, and how many times larger that is.
VECTOR_FANOUT: Final = 8
#: Rows of a segment that is merged with no other any more: building it takes minutes and its memory twice.
VECTOR_SEGMENT_ROWS: Final = 4_000_000
#: Share of dead rows from which a segment is built anew.
VECTOR_DEAD_SHARE: Final = 0.3
#: How long a collection must not have been changed before its segments are merged as far as it pays, in seconds.
VECTOR_QUIET_S: Final = 30.0
#: Rows of a delta that are worth a segment once the collection is quiet.
VECTOR_QUIET_ROWS: Final = 1024
#: The largest segment of a quiet collection is built again when all else has at least one row for so many of its.
VECTOR_REBUILD_SHARE: Final = 8
