"""Empty and small logs, each closed when its test has ended."""

from __future__ import annotations

import os

import pytest
from logs_for_tests import note, open_log

from weftos import chain


@pytest.fixture
def home(tmp_path):
    before = set(os.listdir("/proc/self/fd"))
    yield tmp_path / "chain"
    assert set(os.listdir("/proc/self/fd")) == before


@pytest.fixture
def small(home):
    """A log of genesis and eight notes in one segment."""
    with open_log(home) as writer:
        for number in range(8):
            writer.append(note(number, producer="ring-1", position=number))
    return home


@pytest.fixture
def signer(tmp_path):
    return chain.Signer.open(tmp_path / "keys")


@pytest.fixture
def archive(tmp_path):
    return str(tmp_path / "archive")
