"""Segments: sealed, sized, passed by descriptor, and refused when they are not what they should be."""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import resource

import pytest

from weftos.errors import ResourceLimitExceeded, SegmentInvalid, SharedMemoryError, SharedMemoryExhausted
from weftos.shm import RingConsumer, RingProducer, Segment, create_mailbox, create_ring, segment


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_size_is_sealed_and_rounded_up() -> None:
    with Segment.create(5000) as made:
        assert made.size == 8192
        assert made.sealed
        for change in (4096, 16384):
            with pytest.raises(PermissionError):
                os.ftruncate(made.fd, change)
        with pytest.raises(PermissionError):
            fcntl.fcntl(made.fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)
        assert not os.get_inheritable(made.fd)
        assert os.fstat(made.fd).st_blocks * 512 >= made.size, "pages are there from the beginning"


def test_two_mappings_share_and_descriptors_are_returned() -> None:
    before = descriptors()
    with create_ring(4096) as first:
        with Segment.attach(first.dup_fd()) as second:
            RingProducer(first).put(b"hello")
            assert RingConsumer(second).get() == b"hello"
        with Segment.attach(first.dup_fd(), keep_fd=False) as third:
            with pytest.raises(SharedMemoryError):
                _ = third.fd
            assert RingConsumer(third).get() == b"hello"
    first.close()
    assert descriptors() == before


def unsealed(size: int, seals: int) -> int:
    fd = os.memfd_create("x", os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, size)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
    return fd


def test_what_is_no_segment_is_refused_and_closed() -> None:
    before = descriptors()
    reader, writer = os.pipe()
    os.close(writer)
    both = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW
    closed = os.dup(0)
    os.close(closed)
    for fd in (
        unsealed(8192, fcntl.F_SEAL_GROW),
        unsealed(8192, fcntl.F_SEAL_SHRINK),
        unsealed(8192, both | fcntl.F_SEAL_WRITE),
        unsealed(0, both),
        unsealed(5000, both),
        os.open("/dev/zero", os.O_RDWR),
        os.open(__file__, os.O_RDONLY),
        reader,
    ):
        with pytest.raises(SegmentInvalid):
            Segment.attach(fd)
    assert descriptors() == before
    with Segment.create(mmap.PAGESIZE) as blank, pytest.raises(SegmentInvalid):
        RingConsumer(blank)
    with create_mailbox() as page, pytest.raises(SegmentInvalid):
        RingProducer(page)


def test_running_out_is_typed(monkeypatch: pytest.MonkeyPatch) -> None:
    before = descriptors()
    with pytest.raises(ResourceLimitExceeded):
        Segment.create(1 << 40)

    def full(*_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(SharedMemoryExhausted, match="No space"):
        Segment.create(4096)
    monkeypatch.undo()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (before, hard))
    try:
        with pytest.raises(SharedMemoryExhausted):
            Segment.create(4096)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert descriptors() == before


def test_without_memfd_the_fallback_works_and_leaves_no_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segment, "_HAS_MEMFD", False)
    before = set(os.listdir("/dev/shm"))
    with create_ring(4096) as made:
        assert set(os.listdir("/dev/shm")) - before == set()
        assert not made.sealed
        with Segment.attach(made.dup_fd()) as other:
            RingProducer(made).put(b"hello")
            assert RingConsumer(other).get() == b"hello"


def test_close_with_a_living_view() -> None:
    made = Segment.create(4096)
    view = memoryview(made.map)[:10]
    made.close()
    assert bytes(view) == bytes(10)
