"""Logging: levels per module from one line of text, and one whole line per record on a descriptor.

Why it is as it is: several processes write into one file, and a process may be killed at any instant. So a record is
one ``write`` of one line without a buffer in between: nothing is lost with the process, and lines of different
processes do not mix in a file opened for appending. Line breaks and control characters inside a message are shown
escaped, so text that came from an agent cannot pretend to be a record of the kernel.

Guaranteed: a record that was logged before a ``kill -9`` is in the file. Logging never raises and never ends a process:
lines that cannot be written (disk full) are counted, and the count is told by the next line that can be.
Not guaranteed: that the file survives a power failure, and order between processes finer than the clock.

Modules log with the standard library: ``log = logging.getLogger(__name__)``, ``log.info("%d rings", count)``,
``log.log(TRACE, …)``.
"""

from __future__ import annotations

import difflib
import logging
import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from weftos.errors import ConfigError

__all__ = [
    "OFF",
    "PLAIN",
    "TRACE",
    "VARIABLE",
    "LogSpec",
    "check",
    "lost_lines",
    "parse_spec",
    "reset_after_fork",
    "setup",
]

#: The environment variable that wins over the configuration.
VARIABLE: Final = "WEFTOS_LOG"
#: Below DEBUG: each message, each wake-up.
TRACE: Final = 5
#: Above everything: nothing is logged.
OFF: Final = logging.CRITICAL + 10

_LEVELS: Final = {
    "off": OFF,
    "error": logging.ERROR,
    "warn": logging.WARNING,
    "warning": logging.WARNING,
    "info": logging.INFO,
    "debug": logging.DEBUG,
    "trace": TRACE,
}
_SHOWN: Final = {logging.CRITICAL: "FATAL", logging.WARNING: "WARN", TRACE: "TRACE"}
_ACCEPTED: Final = "off, error, warn, info, debug, trace"
_MODULE: Final = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*")
#: C0 and C1 controls, and the Unicode characters that a terminal or a log reader takes for a line end.
_CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")


@dataclass(frozen=True, slots=True)
class LogSpec:
    """Which records are wanted.

    Attributes:
        default: lowest level of all modules that are not named, as in ``logging``.
        modules: module name to its lowest level; it holds for what lies below that module too, unless named itself.
    """

    default: int
    modules: Mapping[str, int]


#: INFO and above of everything.
PLAIN: Final = LogSpec(logging.INFO, {})


def parse_spec(text: str, *, base: LogSpec = PLAIN, origin: str = VARIABLE) -> LogSpec:
    """Read ``weftos.ipc=trace,info``: levels separated by commas, each of one module or, without a module, of the rest.

    The manner is that of Rust's ``RUST_LOG``, with two differences: what is not named stays as ``base`` has it instead
    of going silent, and a lone word must be a level, so that a misspelt one is an error and not a module nobody has.
    Later entries win over earlier ones; empty ones are skipped.

    Args:
        text: the specification.
        base: what holds where the text does not say.
        origin: where the text stands, for the message of an error.

    Raises:
        ConfigError: a part of it is no level, or no module name.
    """
    rest, modules = base.default, dict(base.modules)
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        module, separator, word = (piece.strip() for piece in part.rpartition("="))
        level = _level(word, part, origin)
        if not separator:
            rest = level
        elif _MODULE.fullmatch(module):
            modules[module] = level
        else:
            raise ConfigError(f"{origin}: {module!r} in {part!r} is no module name; write for example weftos.ipc=debug")
    return LogSpec(rest, modules)


def _level(word: str, part: str, origin: str) -> int:
    level = _LEVELS.get(word.lower())
    if level is None:
        close = difflib.get_close_matches(word.lower(), _LEVELS, 1)
        hint = f"; did you mean {close[0]}?" if close else ";"
        raise ConfigError(f"{origin}: {word!r} in {part!r} is no log level{hint} there are {_ACCEPTED}")
    return level


class _Line(logging.Formatter):
    """``2026-01-31T12:00:00.123456Z INFO  weftos.kernel.boot[4711] message``, always one line."""

    def format(self, record: logging.LogRecord) -> str:
        seconds, fraction = divmod(record.created, 1)
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
        level = _SHOWN.get(record.levelno, record.levelname)
        text = record.getMessage()
        if record.exc_info and not record.exc_text:
            record.exc_text = self.formatException(record.exc_info)
        for more in (record.exc_text, record.stack_info):
            if more:
                text = f"{text}\n{more}"
        line = f"{stamp}.{int(fraction * 1e6):06d}Z {level:<5} {record.name}[{record.process}] {text}"
        return _CONTROL.sub(_escaped, line)


def _escaped(match: re.Match[str]) -> str:
    return match.group().encode("unicode_escape").decode("ascii")


class _Descriptor(logging.Handler):
    """Writes each record with one ``write``; owns no descriptor and closes none.

    Attributes:
        fd: where lines go.
        lost: lines that could not be written since the last one that could.
    """

    def __init__(self, fd: int) -> None:
        super().__init__()
        self.fd = fd
        self.lost = 0
        self._torn = False
        self.setFormatter(_Line())

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record; count it if that fails."""
        try:
            text = self.format(record)
        except Exception as error:  # a message whose arguments do not fit it is a bug, but no reason to end a kernel
            text = _line(record.levelno, record.name, f"{record.msg!r} cannot be formatted: {type(error).__name__}")
        if self.lost:
            notice = _line(logging.WARNING, __name__, f"{self.lost} lines before this one could not be written")
            text = f"{notice}\n{text}"
        data = f"{text}\n".encode("utf-8", "backslashreplace")
        if self._torn:
            data = b"\n" + data
        size = len(data)
        try:
            while data:
                data = data[os.write(self.fd, data) :]
        except OSError:
            # There is nowhere to say it now; the next line that can be written does.
            self.lost += 1
            self._torn = self._torn or len(data) < size
        else:
            self.lost, self._torn = 0, False

    def move(self, fd: int) -> None:
        """Write to another descriptor from now on, with a clean slate."""
        self.fd, self.lost, self._torn = fd, 0, False


def _line(level: int, name: str, text: str) -> str:
    return _Line().format(logging.LogRecord(name, level, "", 0, text, None, None))


_handler: _Descriptor | None = None
_named: set[str] = set()


def check(spec: str = "info", *, environ: Mapping[str, str] | None = None) -> LogSpec:
    """Say what ``setup`` would put in force, without doing so.

    Args:
        spec: the specification of the configuration file.
        environ: environment to look in; that of the process by default.

    Raises:
        ConfigError: a specification is malformed.
    """
    configured = parse_spec(spec, origin="log.level")
    return parse_spec((os.environ if environ is None else environ).get(VARIABLE, ""), base=configured)


def setup(spec: str = "info", *, fd: int = 2, environ: Mapping[str, str] | None = None) -> LogSpec:
    """Log to a descriptor from now on, at the levels that ``WEFTOS_LOG`` or else ``spec`` asks for.

    May be called again, when the configuration was read anew: the earlier levels are forgotten.

    Args:
        spec: the specification of the configuration file; what ``WEFTOS_LOG`` does not name stays as it says.
        fd: where lines go; standard error by default. It stays the caller's.
        environ: environment to look in; that of the process by default.

    Returns:
        What is in force.

    Raises:
        ConfigError: a specification is malformed; nothing has changed then.
    """
    global _handler  # noqa: PLW0603 -- the logging of a process is one thing, as in the standard library
    wanted = check(spec, environ=environ)
    logging.addLevelName(TRACE, "TRACE")
    root = logging.getLogger()
    if _handler is None:
        _handler = _Descriptor(fd)
    elif _handler.fd != fd:
        _handler.move(fd)
    if _handler not in root.handlers:
        root.addHandler(_handler)
    for module in _named:
        logging.getLogger(module).setLevel(logging.NOTSET)
    _named.clear()
    root.setLevel(wanted.default)
    for module, level in wanted.modules.items():
        logging.getLogger(module).setLevel(level)
        _named.add(module)
    return wanted


def reset_after_fork(fd: int = 2) -> None:
    """In a forked child: log to the child's own descriptor, at the levels of its parent, whose log is not touched.

    The standard library has renewed the locks by then, and there is no buffer that could be written twice.

    Args:
        fd: where the child's lines go.
    """
    if _handler is not None:
        _handler.move(fd)


def lost_lines() -> int:
    """Lines that could not be written since the last one that could."""
    return 0 if _handler is None else _handler.lost
