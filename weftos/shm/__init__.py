"""Shared memory: segments, rings, mailboxes, doorbells. The data plane, below whatever knows a message's meaning.

Laws of this room: no lock in shared memory; each word is written by one side; nothing read from a ring is trusted;
nothing is ever unpickled. The names below are the whole surface, so that a native core can stand in for the Python one.
The formats are in ``docs/formats/ring.md``.
"""

from weftos.shm.arrays import ArrayRecord, ArrayView
from weftos.shm.async_mailbox import AsyncMailbox
from weftos.shm.audit import Leaves, RingAudit, Verdict, Window, reconcile
from weftos.shm.bulletin import Bulletin, BulletinReader
from weftos.shm.consumer import ConsumerStatistics, Item, RingConsumer
from weftos.shm.doorbell import Doorbell, sweep
from weftos.shm.inspector import Redelivery, RingInspector, RingStatistics
from weftos.shm.layout import Geometry, create_ring, read_geometry
from weftos.shm.mailbox import Mailbox, MailboxPeer, MailboxStatistics, create_mailbox
from weftos.shm.producer import ProducerStatistics, RingProducer
from weftos.shm.segment import Segment
from weftos.shm.waiter import Waiter

__all__ = [
    "ArrayRecord",
    "ArrayView",
    "AsyncMailbox",
    "Bulletin",
    "BulletinReader",
    "ConsumerStatistics",
    "Doorbell",
    "Geometry",
    "Item",
    "Leaves",
    "Mailbox",
    "MailboxPeer",
    "MailboxStatistics",
    "ProducerStatistics",
    "Redelivery",
    "RingAudit",
    "RingConsumer",
    "RingInspector",
    "RingProducer",
    "RingStatistics",
    "Segment",
    "Verdict",
    "Waiter",
    "Window",
    "create_mailbox",
    "create_ring",
    "read_geometry",
    "reconcile",
    "sweep",
]
