"""Reading a folder in which someone has put whatever a file system can hold."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from weftos.ecc.passages.cutting import cut
from weftos.ecc.passages.folder import LeftOut, Source, read_folder
from weftos.errors import PassageRefused
from weftos.limits import PASSAGE_FILE_BYTES


def test_hostile_folder(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "loop").symlink_to(tmp_path)
    (tmp_path / "sub" / "z.md").write_text("# Z\n")
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "config").write_text("no")
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfmarked\r\n")
    (tmp_path / "b.bin").write_bytes(b"a\0b")
    (tmp_path / "c.txt").write_bytes(b"\xff\xfeodd")
    (tmp_path / "d.link").symlink_to("/etc/passwd")
    os.mkfifo(tmp_path / "e.pipe")
    with (tmp_path / "f.log").open("wb") as stream:
        stream.truncate(PASSAGE_FILE_BYTES + 1)
    (tmp_path / "f.SVG").write_text("<svg/>")
    odd = os.fsdecode(b"g\xff.md")
    (tmp_path / odd).write_text("odd name")
    found = list(read_folder(tmp_path))
    assert found == [
        Source("a.txt", "marked\r\n"), LeftOut("b.bin", "binary"), LeftOut("c.txt", "encoding"),
        LeftOut("d.link", "link"),
        LeftOut("e.pipe", "special"), LeftOut("f.SVG", "picture"), LeftOut("f.log", "large"),
        Source(odd, "odd name"), LeftOut("sub/loop", "link"),
        Source("sub/z.md", "# Z\n"),
    ]  # fmt: skip
    assert [cut(one.file, one.text).lines for one in found if isinstance(one, Source)] == [1, 1, 1]


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_what_may_not_be_read(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x")
    (tmp_path / "a").chmod(0)
    (tmp_path / "b").mkdir(mode=0)
    assert list(read_folder(tmp_path)) == [LeftOut("a", "unreadable"), LeftOut("b", "unreadable")]
    (tmp_path / "b").chmod(0o700)


def test_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for path in (tmp_path / "none", tmp_path / "file"):
        with pytest.raises(PassageRefused):
            list(read_folder(path))
