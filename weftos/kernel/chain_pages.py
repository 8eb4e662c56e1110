"""Pages of raw records for the control socket, gathered from the service process in as many answers as it takes."""

from __future__ import annotations

from weftos.chain.folder.pages import Page, RawRecord
from weftos.kernel.service_host import ServiceHost
from weftos.rpc import chain_types as t
from weftos.service.paging import one_page

__all__ = ["raw_page"]


async def raw_page(service: ServiceHost, params: t.PageParams) -> t.PageResult:
    """Return records from a number on: as many as were asked for, or as there are.

    Raises:
        WeftError: what the service answered.
    """
    records: list[RawRecord] = []
    room, note = params.max_bytes, b""
    while len(records) < params.max_records and (room > 0 or not records):
        page = await _page(service, params.seq + len(records), params.max_records - len(records), max(room, 1))
        size = sum(len(one.header) + len(one.salted) for one in page.records)
        if not page.records or (records and size > room):
            note = page.note or note
            break
        records += page.records
        room -= size
        note = page.note or note
    shown = [t.PageRecord(header=one.header, salted=one.salted) for one in records]
    return t.PageResult(first_seq=params.seq, records=shown, note=note)


async def _page(service: ServiceHost, seq: int, max_records: int, max_bytes: int) -> Page:
    asking = one_page(seq, max_records, max_bytes)
    request = next(asking)
    while True:
        try:
            request = asking.send(await service.ask(request))
        except StopIteration as done:
            page: Page = done.value
            return page
