"""Content handed over as sealed memory: what is accepted, and that nothing about it can change after that."""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import resource
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weftos import limits
from weftos.artifacts import ArtifactStore
from weftos.artifacts.sealed import SealedSource, make_sealed, sealed_size
from weftos.errors import ArtifactStorageFailed, InvalidRequest, MessageTooLarge

ALL = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


@given(st.lists(st.binary(max_size=300), max_size=5), st.integers(1, 400))
def test_what_was_sealed_is_read_as_it_was(blocks, step):
    fd = make_sealed(blocks)
    try:
        content = b"".join(blocks)
        assert sealed_size(fd) == len(content)
        os.lseek(fd, 7, os.SEEK_SET)
        for _ in range(2):
            source = SealedSource(fd, len(content))
            found = b""
            while piece := source.read(step):
                assert len(piece) <= step
                found += piece
            assert found == content
            assert source.read(step) == b""
    finally:
        os.close(fd)


def test_its_giver_can_change_it_no_more():
    fd = make_sealed((b"content",))
    try:
        for change in (
            lambda: os.pwrite(fd, b"other", 0),
            lambda: os.ftruncate(fd, 0),
            lambda: os.ftruncate(fd, 100),
            lambda: mmap.mmap(fd, 7, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE),
            lambda: fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE),
        ):
            with pytest.raises(OSError, match=r"not permitted|denied") as refused:
                change()
            assert refused.value.errno in (errno.EPERM, errno.EACCES)
    finally:
        os.close(fd)


def memory(seals, size=10):
    fd = os.memfd_create("test", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, size)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
    return fd


@pytest.mark.parametrize("missing", [fcntl.F_SEAL_SHRINK, fcntl.F_SEAL_GROW, fcntl.F_SEAL_WRITE, ALL])
def test_each_seal_is_needed(missing):
    fd = memory(ALL - missing)
    try:
        with pytest.raises(InvalidRequest, match="sealed"):
            sealed_size(fd)
    finally:
        os.close(fd)


def test_a_hole_takes_no_memory_and_reads_as_zeros(tmp_path):
    fd = memory(ALL, 3_000_000)
    try:
        ref = ArtifactStore(tmp_path / "a").put(SealedSource(fd, sealed_size(fd)), "text/plain")
        assert ArtifactStore(tmp_path / "a").get(ref.hash) == bytes(3_000_000)
    finally:
        os.close(fd)


def test_sizes_have_a_limit_on_both_sides(monkeypatch):
    fd = memory(ALL, 2000)
    try:
        monkeypatch.setattr(limits, "ARTIFACT_PUT_BYTES", 1999)
        with pytest.raises(MessageTooLarge) as refused:
            sealed_size(fd)
        assert (refused.value.size, refused.value.limit) == (2000, 1999)
    finally:
        os.close(fd)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(MessageTooLarge):
        make_sealed([bytes(1000), bytes(1000)])
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_descriptor_for_writing_is_refused_when_it_is_read():
    fd = os.memfd_create("test", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, 10)
    writing = os.open(f"/proc/self/fd/{fd}", os.O_WRONLY)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, ALL)
    os.close(fd)
    try:
        with pytest.raises(InvalidRequest, match="cannot be read"):
            SealedSource(writing, sealed_size(writing)).read(5)
    finally:
        os.close(writing)


def test_a_limit_of_the_process_is_an_error_that_says_so():
    program = (
        "import resource\n"
        "from weftos.artifacts.sealed import make_sealed\n"
        "from weftos.errors import ArtifactStorageFailed\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))\n"
        "try:\n"
        "    make_sealed((bytes(10_000),))\n"
        "except ArtifactStorageFailed as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert "File too large" in done.stdout, done.stderr
    assert issubclass(ArtifactStorageFailed, Exception)
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 5000
