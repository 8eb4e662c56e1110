"""Lines in the format of ``b3sum``: digest, two blanks, name; one with newline or backslash is escaped and marked."""

from __future__ import annotations

__all__ = ["digest_line"]


def digest_line(digest: bytes, path: bytes) -> bytes:
    r"""Return one line, ending in a newline.

    As the coreutils do: when the name has a backslash, newline or carriage return, these become ``\\``, ``\n`` and
        ``\r``, and
    the line begins with a backslash.

    Args:
        digest: 32 bytes.
        path: the file's name, any bytes.
    """
    escaped = path.replace(b"\\", b"\\\\").replace(b"\n", b"\\n").replace(b"\r", b"\\r")
    mark = b"\\" if escaped != path else b""
    return mark + digest.hex().encode() + b"  " + escaped + b"\n"
