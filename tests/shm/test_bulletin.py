"""A page that only its writer can write, read whole by everybody else."""

from __future__ import annotations

import faulthandler
import mmap
import os
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weftos.errors import SegmentInvalid
from weftos.shm import Bulletin, BulletinReader


@pytest.fixture
def page():
    made = Bulletin(8192)
    yield made
    made.close()


@pytest.fixture
def reader(page):
    made = BulletinReader(os.dup(page.fd))
    yield made
    made.close()


@given(contents=st.lists(st.binary(max_size=2000), min_size=1, max_size=8))
def test_a_reader_has_the_newest_content(contents):
    page = Bulletin(4096)
    reader = BulletinReader(os.dup(page.fd))
    for epoch, data in enumerate(contents, 1):
        page.publish(epoch * 3, data)
        assert (reader.epoch, reader.read()) == (epoch * 3, (epoch * 3, data))
    reader.close()
    page.close()


def test_nobody_else_can_write(page, reader):
    page.publish(1, b"mine")
    with pytest.raises(PermissionError):
        os.pwrite(page.fd, b"yours", 64)
    with pytest.raises(PermissionError):
        mmap.mmap(page.fd, 8192, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
    with pytest.raises(PermissionError):
        os.ftruncate(page.fd, 0)
    again = os.open(f"/proc/self/fd/{page.fd}", os.O_RDWR)
    try:
        with pytest.raises(PermissionError):
            os.write(again, b"yours")
    finally:
        os.close(again)
    with pytest.raises(TypeError):
        reader.words[1] = 7
    assert reader.read() == (1, b"mine")


def test_a_fork_does_not_inherit_the_writers_mapping(page):
    """A child that touched it would end by SIGSEGV, and so could not write."""
    page.publish(1, b"mine")
    child = os.fork()
    if child == 0:
        faulthandler.disable()
        page.publish(2, b"yours")
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status)
    assert page.epoch == 1


def test_what_is_half_written_is_not_read(page, reader):
    page.publish(1, b"whole")
    page._words[2] = 2  # as if its writer had died behind the first store
    with pytest.raises(SegmentInvalid, match="half written"):
        reader.read()


def test_contents_are_never_mixed(page, reader):
    contents = [bytes([n]) * (100 + 7 * n) for n in range(256)]
    stop = threading.Event()

    def write():
        epoch = 0
        while not stop.is_set():
            epoch += 1
            page.publish(epoch, contents[epoch % 256])

    writer = threading.Thread(target=write)
    writer.start()
    try:
        while page.epoch == 0:
            pass
        seen = [reader.read() for _ in range(3000)]
    finally:
        stop.set()
        writer.join()
    assert all(data == contents[epoch % 256] for epoch, data in seen)
    assert [epoch for epoch, _ in seen] == sorted(epoch for epoch, _ in seen)


@pytest.mark.parametrize("size", [0, 32, 4096])
def test_other_memory_is_refused(size):
    fd = os.memfd_create("other")
    os.ftruncate(fd, size)
    with pytest.raises(SegmentInvalid):
        BulletinReader(fd)
