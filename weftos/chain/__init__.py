"""The append-only, tamper-evident log: one writer, any number of readers, and a verifier that needs the files alone.

A pure library: no process, no socket, no ring. The service process owns the writer; everybody may read and verify.
"""

from weftos.chain.clock import Clock, SystemClock
from weftos.chain.files import Files, RealFiles
from weftos.chain.log_signer import Signer
from weftos.chain.reader import read, tail
from weftos.chain.record import Ack, Head, Header, NewEvent, Record
from weftos.chain.report import Checks, Problem, VerifyReport
from weftos.chain.rotation import PublicKeys
from weftos.chain.statistics import ChainStatistics
from weftos.chain.verify import verify
from weftos.chain.writer import ChainWriter

__all__ = [
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
    "PublicKeys",
    "RealFiles",
    "Record",
    "Signer",
    "SystemClock",
    "VerifyReport",
    "read",
    "tail",
    "verify",
]
