"""Pages of a kernel's log over its control socket, for a replica; see ``weftos.chain.copies.replica``."""

from __future__ import annotations

from weftos.chain.folder.pages import Page, RawRecord
from weftos.rpc import chain_types as t
from weftos.rpc.client import RpcClient

__all__ = ["KernelSource"]


class KernelSource:
    """Asks a kernel.

    Args:
        client: of its control socket.
    """

    def __init__(self, client: RpcClient) -> None:
        self._client = client

    def page(self, seq: int, max_records: int, max_bytes: int) -> Page:
        """Return a page; see ``replica.Source``.

        Raises:
            WeftError: what the kernel answered.
        """
        params = t.PageParams(seq=seq, max_records=max_records, max_bytes=max_bytes)
        found = self._client.call("chain.tail-from", params, t.PageResult)
        return Page(found.first_seq, [RawRecord(one.header, one.salted) for one in found.records], found.note)
