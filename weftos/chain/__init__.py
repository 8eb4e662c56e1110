"""The append-only, tamper-evident log: one writer, any number of readers, and a verifier that needs the files alone.

A pure library: no process, no socket, no ring. The service process owns the writer; everybody may read and verify.
"""

from weftos.chain.folder.reader import read, tail
from weftos.chain.records.record import Ack, Head, Header, NewEvent, Record
from weftos.chain.signing.log_signer import Signer
from weftos.chain.signing.rotation import PublicKeys
from weftos.chain.verification.report import Checks, Problem, VerifyReport
from weftos.chain.verification.verify import verify
from weftos.chain.writing.statistics import ChainStatistics
from weftos.chain.writing.writer import ChainWriter
from weftos.disk.clock import Clock, SystemClock
from weftos.disk.files import Files, RealFiles

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
