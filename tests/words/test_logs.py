"""Logging: specifications, lines, and what happens to them over forks, kills and full disks."""

from __future__ import annotations

import logging
import os
import re
import resource
import signal
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weftos import logs
from weftos.errors import ConfigError
from weftos.logs import OFF, TRACE, LogSpec, parse_spec

LINE = re.compile(
    r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z (TRACE|DEBUG|INFO |WARN |ERROR|FATAL) ([\w.]+)\[(\d+)\] (.*)"
)
LEVELS = {
    "off": OFF,
    "error": logging.ERROR,
    "warn": logging.WARNING,
    "info": logging.INFO,
    "debug": logging.DEBUG,
    "trace": TRACE,
}


@pytest.fixture
def pipe() -> Iterator[tuple[Callable[[], list[str]], int]]:
    """What was logged so far, line by line, and where to log."""
    reader, writer = os.pipe()
    os.set_blocking(reader, False)

    def read() -> list[str]:
        try:
            return os.read(reader, 1 << 16).decode().splitlines()
        except BlockingIOError:
            return []

    yield read, writer
    os.close(reader)
    os.close(writer)


@pytest.fixture(autouse=True)
def untouched() -> Iterator[None]:
    """Logging of the test run itself is as it was before."""
    root = logging.getLogger()
    level, before = root.level, set(root.handlers)
    yield
    logs.setup("info", environ={})
    for handler in set(root.handlers) - before:
        if type(handler).__module__ == logs.__name__:
            root.removeHandler(handler)
    root.setLevel(level)


def setup(writer: int, spec: str = "info", variable: str = "") -> LogSpec:
    return logs.setup(spec, fd=writer, environ={"WEFTOS_LOG": variable})


# --- specifications ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "default", "modules"),
    [
        ("", logging.INFO, {}),
        (" , ,", logging.INFO, {}),
        ("debug", logging.DEBUG, {}),
        ("WARNING", logging.WARNING, {}),
        ("weftos.ipc=trace,info", logging.INFO, {"weftos.ipc": TRACE}),
        ("info, weftos.ipc = trace ", logging.INFO, {"weftos.ipc": TRACE}),
        ("off,weftos=error", OFF, {"weftos": logging.ERROR}),
        ("error,warn,a=info,a=debug", logging.WARNING, {"a": logging.DEBUG}),
    ],
)
def test_a_specification(text: str, default: int, modules: dict[str, int]) -> None:
    assert parse_spec(text) == LogSpec(default, modules)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("inof", "WEFTOS_LOG: 'inof' in 'inof' is no log level; did you mean info? there are off, error"),
        ("weftos.ipc", "'weftos.ipc' in 'weftos.ipc' is no log level; there are off"),
        ("weftos.ipc=", "'' in 'weftos.ipc=' is no log level"),
        ("=info", "'' in '=info' is no module name"),
        ("a b=info", "'a b' in 'a b=info' is no module name"),
        ("a=b=info", "'a=b' in 'a=b=info' is no module name"),
        ("weftos::ipc=info", "is no module name; write for example weftos.ipc=debug"),
        (".a=info", "is no module name"),
        ("info;debug", "is no log level"),
    ],
)
def test_a_malformed_specification_is_refused_with_its_part(text: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_spec(text)
    assert said in str(caught.value)


@given(st.text(max_size=40))
def test_any_text_is_a_specification_or_refused(text: str) -> None:
    try:
        spec = parse_spec(text)
    except ConfigError:
        return
    assert {spec.default, *spec.modules.values()} <= set(LEVELS.values())


@given(
    st.dictionaries(st.from_regex(r"[a-z]{1,5}(\.[a-z]{1,5}){0,2}", fullmatch=True), st.sampled_from(sorted(LEVELS))),
    st.sampled_from(sorted(LEVELS)),
)
def test_what_is_written_is_read(modules: dict[str, str], rest: str) -> None:
    text = ",".join([*(f"{module}={level}" for module, level in modules.items()), rest])
    assert parse_spec(text) == LogSpec(LEVELS[rest], {module: LEVELS[level] for module, level in modules.items()})


# --- levels in force --------------------------------------------------------------------------------------------------


def test_levels_hold_for_a_module_and_what_lies_below(pipe) -> None:
    read, writer = pipe
    setup(writer, "warn,weftos.t=trace,weftos.t.quiet=off")
    logging.getLogger("weftos.t.below").log(TRACE, "one")
    logging.getLogger("weftos.t").debug("two")
    logging.getLogger("weftos.t.quiet").critical("no")
    logging.getLogger("weftos.tother").info("no")
    logging.getLogger("another.library").warning("three")
    assert [LINE.fullmatch(line).groups()[1::2] for line in read()] == [
        ("weftos.t.below", "one"),
        ("weftos.t", "two"),
        ("another.library", "three"),
    ]


def test_the_variable_wins_and_the_rest_stays(pipe) -> None:
    _, writer = pipe
    spec = setup(writer, "warn,weftos.a=debug,weftos.b=debug", "weftos.a=error")
    assert spec == LogSpec(logging.WARNING, {"weftos.a": logging.ERROR, "weftos.b": logging.DEBUG})


def test_a_second_setup_forgets_the_first(pipe) -> None:
    read, writer = pipe
    setup(writer, "weftos.t=trace")
    setup(writer, "info")
    logging.getLogger("weftos.t").debug("no")
    logging.getLogger("weftos.t").info("once")
    assert [line.rpartition(" ")[2] for line in read()] == ["once"]


@pytest.mark.parametrize(("spec", "variable"), [("nonsense", ""), ("info", "weftos.ipc=loud")])
def test_a_refused_setup_changes_nothing(pipe, spec: str, variable: str) -> None:
    read, writer = pipe
    setup(writer, "weftos.t=debug")
    with pytest.raises(ConfigError, match="WEFTOS_LOG" if variable else r"log\.level"):
        setup(2, spec, variable)
    logging.getLogger("weftos.t").debug("still")
    assert len(read()) == 1


# --- lines ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("level", "shown"), [(TRACE, "TRACE"), (logging.WARNING, "WARN "), (logging.CRITICAL, "FATAL")]
)
def test_a_line_has_time_level_module_and_process(pipe, level: int, shown: str) -> None:
    read, writer = pipe
    setup(writer, "trace")
    logging.getLogger("weftos.t").log(level, "%d of %s", 3, "four")
    (line,) = read()
    assert LINE.fullmatch(line).groups() == (shown, "weftos.t", str(os.getpid()), "3 of four")


@given(text=st.text(max_size=50))
def test_whatever_is_logged_is_one_printable_line(text: str) -> None:
    reader, writer = os.pipe()
    try:
        setup(writer)
        logging.getLogger("weftos.t").info("%s|", text)
        data = os.read(reader, 1 << 16).decode()
    finally:
        setup(2)
        os.close(reader)
        os.close(writer)
    assert data.endswith("|\n")
    assert len(data.splitlines()) == 1
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029]", data)


def test_a_traceback_stays_on_the_line_of_its_message(pipe) -> None:
    read, writer = pipe
    setup(writer)
    try:
        raise ValueError("first\nsecond")
    except ValueError:
        logging.getLogger("weftos.t").exception("it broke")
    (line,) = read()
    assert r"it broke\nTraceback" in line
    assert line.endswith(r"ValueError: first\nsecond")


def test_a_message_that_does_not_fit_its_arguments_is_logged_all_the_same(pipe, monkeypatch) -> None:
    read, writer = pipe
    # Alone: the handlers of pytest raise on purpose.
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    setup(writer)
    logging.getLogger("weftos.t").info("%d", "x")
    (line,) = read()
    assert line.endswith("'%d' cannot be formatted: TypeError")


# --- processes and failures -------------------------------------------------------------------------------------------


def test_what_was_logged_before_a_kill_is_there(pipe) -> None:
    read, writer = pipe
    setup(writer)
    child = os.fork()
    if child == 0:
        logging.getLogger("weftos.t").info("last words")
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    (line,) = read()
    assert LINE.fullmatch(line).groups()[2:] == (str(child), "last words")


def test_a_child_logs_to_its_own_descriptor(pipe) -> None:
    read, writer = pipe
    setup(writer, "debug")
    own_reader, own_writer = os.pipe()
    child = os.fork()
    if child == 0:
        logs.reset_after_fork(own_writer)
        logging.getLogger("weftos.t").debug("from the child")
        os._exit(0)
    os.close(own_writer)
    os.waitpid(child, 0)
    assert b"from the child" in os.read(own_reader, 4096)
    os.close(own_reader)
    assert read() == []
    logging.getLogger("weftos.t").debug("from the parent")
    assert len(read()) == 1


def test_lines_of_many_processes_do_not_mix(tmp_path) -> None:
    fd = os.open(tmp_path / "log", os.O_CREAT | os.O_APPEND | os.O_RDWR)
    setup(fd)
    children = []
    for number in range(4):
        child = os.fork()
        if child == 0:
            for count in range(200):
                logging.getLogger("weftos.t").info("%s %d", "abcd"[number] * 1000, count)
            os._exit(0)
        children.append(child)
    for child in children:
        os.waitpid(child, 0)
    os.close(fd)
    lines = (tmp_path / "log").read_text().splitlines()
    assert len(lines) == 800
    for line in lines:
        word = LINE.fullmatch(line).group(4).split()[0]
        assert len(word) == 1000
        assert len(set(word)) == 1


def test_a_closed_log_ends_nothing_and_is_told_later(pipe) -> None:
    read, writer = pipe
    gone = os.dup(writer)
    setup(gone)
    os.close(gone)
    log = logging.getLogger("weftos.t")
    log.info("lost")
    log.info("lost as well")
    assert logs.lost_lines() == 2
    os.dup2(writer, gone)
    try:
        log.info("found")
    finally:
        os.close(gone)
    first, second = read()
    assert first.endswith("2 lines before this one could not be written")
    assert second.endswith("found")
    assert logs.lost_lines() == 0


def test_a_line_torn_by_a_full_disk_does_not_spoil_the_next(tmp_path) -> None:
    path = tmp_path / "log"
    fd = os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    log = logging.getLogger("weftos.t")
    try:
        setup(fd)
        # A limit on the file's size ends writes as a full disk does: the first part goes in, then comes an error.
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
        log.info("x" * 200)
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        log.info("after")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
        os.close(fd)
    torn, notice, after = path.read_text().splitlines()
    assert len(torn) == 100
    assert notice.endswith("1 lines before this one could not be written")
    assert after.endswith("after")
