"""From the name of a program to its ``main``.

Three forms: a built-in name (``echo``), ``module:function``, or the path of a Python file that defines ``main``. The
kernel only checks the form; the code is imported in the agent's own process, under its limits, and nowhere else.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgspec

from weftos.errors import SpawnFailed

__all__ = ["BUILT_IN", "ProgramRef", "load", "parse_program", "preload"]

#: Built-in programs; each is ``main`` of the module of that name in ``weftos_workers``.
BUILT_IN: Final = ("crasher", "echo", "inventory", "memory", "spinner", "worker")

_MODULE: Final = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")


class ProgramRef(msgspec.Struct, frozen=True):
    """Where a program is: a file, or a module, and the name of its function."""

    function: str
    module: str | None = None
    path: str | None = None


def parse_program(text: str, directory: str | None = None) -> ProgramRef:
    """Check the form of a program's name.

    Args:
        text: what the user wrote.
        directory: folder that a relative path starts from.

    Raises:
        SpawnFailed: it is none of the three forms, or the file does not exist.
    """
    if text in BUILT_IN:
        return ProgramRef(function="main", module=f"weftos_workers.{text}")
    if text.endswith(".py") or "/" in text:
        path = Path(directory or ".", text).absolute()
        if not path.is_file():
            raise SpawnFailed(f"there is no program file {path}")
        return ProgramRef(function="main", path=str(path))
    if _MODULE.fullmatch(text):
        module, function = text.split(":")
        return ProgramRef(function=function, module=module)
    raise SpawnFailed(
        f"unknown agent program {text!r}: use a built-in name ({', '.join(BUILT_IN)}), module:function, "
        "or the path of a .py file"
    )


def preload() -> None:
    """Do once, before the first fork, what every agent would do again: import what the smallest built-in ones need."""
    for name in ("echo", "worker"):
        importlib.import_module(f"weftos_workers.{name}")


def load(program: ProgramRef) -> Callable[[Any], Any]:
    """Import a program and return its function. Runs in the agent's process.

    Raises:
        SpawnFailed: the module or file cannot be imported, or has no such function.
    """
    try:
        if program.path is not None:
            spec = importlib.util.spec_from_file_location("weftos_agent_program", program.path)
            if spec is None or spec.loader is None:
                raise SpawnFailed(f"{program.path} is not a Python file")
            module = importlib.util.module_from_spec(spec)
            sys.modules[spec.name] = module
            sys.path.insert(0, str(Path(program.path).parent))
            spec.loader.exec_module(module)
        else:
            assert program.module is not None
            module = importlib.import_module(program.module)
    except SpawnFailed:
        raise
    except (Exception, SystemExit) as error:
        where = program.path or program.module
        raise SpawnFailed(f"cannot load {where}: {type(error).__name__}: {error}") from error
    function = getattr(module, program.function, None)
    if not callable(function):
        raise SpawnFailed(f"{program.path or program.module} defines no function {program.function}(ctx)")
    return function  # type: ignore[no-any-return]
