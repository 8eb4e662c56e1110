"""The append-only, tamper-evident log: one writer, any number of readers, and a verifier that needs the files alone.

A pure library: no process, no socket, no ring. The service process owns the writer; everybody may read and verify.
"""

from weftos.chain.clock import Clock, SystemClock
from weftos.chain.files import Files, RealFiles
from weftos.chain.kinds import APP_PREFIX, KINDS
from weftos.chain.reader import read, tail
from weftos.chain.record import Ack, Header, NewEvent, Record
from weftos.chain.signing import Head, SignedHead, Signer, read_public_key
from weftos.chain.verify import Checks, Problem, VerifyReport, verify
from weftos.chain.writer import ChainStatistics, ChainWriter

__all__ = [
    "APP_PREFIX",
    "KINDS",
    "Ack",
    "ChainStatistics",
    "ChainWriter",
    "Checks",
    "Clock",
    "Files",
    "Head",
    "Header",
    "NewEvent",
    "Problem",
    "RealFiles",
    "Record",
    "SignedHead",
    "Signer",
    "SystemClock",
    "VerifyReport",
    "read",
    "read_public_key",
    "tail",
    "verify",
]
