"""Lines in the format of ``b3sum``: digest, two blanks, name; one with newline or backslash is escaped and marked.

``b3sum --check`` reads its file as UTF-8 and gives up on all of it at the first name that is not, so such a name has no
line; whoever writes the file says which were left out.
"""

from __future__ import annotations

__all__ = ["digest_line"]


def digest_line(digest: bytes, path: bytes) -> bytes | None:
    r"""Return one line, ending in a newline, or ``None`` for a name that is not UTF-8.

    When the name has a backslash or a newline, these become ``\\`` and ``\n``, and the line begins with a backslash. A
    carriage return stays as it is: b3sum 1.2 (Debian 12) refuses it escaped and reads it plain.

    Args:
        digest: 32 bytes.
        path: the file's name, any bytes.
    """
    try:
        path.decode()
    except UnicodeDecodeError:
        return None
    escaped = path.replace(b"\\", b"\\\\").replace(b"\n", b"\\n")
    mark = b"\\" if escaped != path else b""
    return mark + digest.hex().encode() + b"  " + escaped + b"\n"
