"""The key of a witness: made once, kept, refused where it should be; and never lost or doubled by a failing call."""

from __future__ import annotations

import os

import pytest
from logs_of_witnesses import Crash, FailingFiles

from weftos.disk.secret_file import RealSecretFiles
from weftos.errors import ChainError, ConfigError
from weftos.witness.keys import KEY_NAME, open_key


class FailingSecretFiles(FailingFiles, RealSecretFiles):
    def link(self, source, target):
        return self._do(RealSecretFiles.link, self, source, target)


def test_it_is_made_once_and_private(tmp_path):
    key = open_key(str(tmp_path / "k"), "witness/one").verifier
    assert open_key(str(tmp_path / "k"), "witness/one").verifier == key
    assert os.listdir(tmp_path / "k") == [KEY_NAME]
    assert (tmp_path / "k" / KEY_NAME).stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "k").stat().st_mode & 0o777 == 0o700
    with pytest.raises(ConfigError, match="another witness"):
        open_key(str(tmp_path / "k"), "witness/two")
    with pytest.raises(ConfigError, match="cannot name"):
        open_key(str(tmp_path / "k"), "witness one")


@pytest.mark.parametrize("content", [b"", b"x" * 60, b"weftos/witness.key/v1\n" + b"s" * 31])
def test_another_content_is_refused(tmp_path, content):
    open_key(str(tmp_path / "k"), "w")
    (tmp_path / "k" / KEY_NAME).write_bytes(content)
    with pytest.raises(ConfigError):
        open_key(str(tmp_path / "k"), "w")


def test_what_others_may_read_is_refused(tmp_path):
    open_key(str(tmp_path / "k"), "w")
    (tmp_path / "k" / KEY_NAME).chmod(0o640)
    with pytest.raises(ConfigError, match="chmod 600"):
        open_key(str(tmp_path / "k"), "w")
    (tmp_path / "k" / KEY_NAME).chmod(0o600)
    (tmp_path / "k").chmod(0o750)
    with pytest.raises(ConfigError, match="chmod 700"):
        open_key(str(tmp_path / "k"), "w")


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("what", [None, Crash()])
def test_each_call_fails_once(tmp_path, what, after):
    """A key that was once handed out is the one that is found ever after."""
    for at in range(30):
        folder, files = str(tmp_path / f"k{at}"), FailingSecretFiles()
        files.arm(at, what, after=after)
        try:
            first = open_key(folder, "w", fs=files).verifier
        except (Crash, ChainError):
            first = None
        files.arm()
        found = open_key(folder, "w", fs=files).verifier
        assert first in (None, found)
        assert os.listdir(folder) == [KEY_NAME]
        if first is not None and at > files.calls:
            break
    assert first is not None
