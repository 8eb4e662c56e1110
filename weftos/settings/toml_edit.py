"""One value of a configuration file changed, and nothing else: comments, order and spelling stay.

Why it is as it is: people write reasons beside the values, and a program that writes the file anew would destroy them.
So a line is replaced, added or removed, and the result is read again: if it is not exactly the old content with this
one change, the edit is refused and the person asked to do it. There is no guess that could go wrong unnoticed.

Guaranteed: what ``edit`` returns parses to the values of the old text with the one change. Not guaranteed: that every
spelling of TOML can be edited; tables in one line and values over several lines are not.
"""

from __future__ import annotations

import copy
import json
import math
import re
import tomllib
from typing import Any, Final

from weftos.errors import ConfigError, InvalidRequest

__all__ = ["edit", "encode_value"]

_HEADER: Final = re.compile(r"\s*\[\s*([A-Za-z0-9_-]+)\s*\]\s*(#.*)?")
_ANY_HEADER: Final = re.compile(r"\s*\[")


def encode_value(value: Any) -> str:
    """Write a value as TOML.

    Raises:
        InvalidRequest: it is none that a setting can have.
    """
    match value:
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case float() if math.isfinite(value):
            text = repr(value)
            return text if "." in text or "e" in text else f"{text}.0"
        case str():
            # JSON's escapes are TOML's, but for the one control character that JSON leaves as it is.
            try:
                value.encode()
            except UnicodeEncodeError as error:
                raise InvalidRequest("a value holds half a surrogate pair, which no file can hold") from error
            return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
        case list():
            return "[" + ", ".join(encode_value(one) for one in value) + "]"
    raise InvalidRequest(f"a setting has no value of type {type(value).__name__}")


def edit(text: str, key: str, value: Any) -> str:
    """Change one setting.

    Args:
        text: of the file, valid TOML.
        key: section and name.
        value: ``None`` removes it from the file.

    Returns:
        The text of the changed file; the same text if nothing is to be changed.

    Raises:
        ConfigError: the file spells it in a way that must be edited by hand.
        InvalidRequest: no file can hold the value.
    """
    section, _, name = key.partition(".")
    before = tomllib.loads(text)
    if not isinstance(before.get(section, {}), dict):
        raise ConfigError(f"the file has a value {section} where a section is meant; edit it by hand")
    wanted = copy.deepcopy(before)
    if value is None:
        if name not in wanted.get(section, {}):
            return text
        del wanted[section][name]
    else:
        wanted.setdefault(section, {})[name] = value
    # Not splitlines: it also splits where TOML does not.
    lines = re.findall(r"[^\n]*\n|[^\n]+", text)
    _change(lines, section, name, None if value is None else f"{name} = {encode_value(value)}")
    changed = "".join(lines)
    try:
        found = tomllib.loads(changed)
    except tomllib.TOMLDecodeError:
        found = None
    if found is None or not _same(_without_empty(found), _without_empty(wanted)):
        raise ConfigError(f"the file spells {key} in a way that only a person should change; edit it by hand")
    return changed


def _change(lines: list[str], section: str, name: str, line: str | None) -> None:
    """Replace, add or remove a line, where the section and the key are written plainly."""
    headers = [_HEADER.fullmatch(one.rstrip("\r\n")) for one in lines]
    begin = next((at for at, found in enumerate(headers) if found is not None and found[1] == section), None)
    if begin is None:
        if line is not None:
            gap = "" if not lines else "\n" if lines[-1].endswith("\n") else "\n\n"
            lines.append(f"{gap}[{section}]\n{line}\n")
        return
    end = next((at for at in range(begin + 1, len(lines)) if _ANY_HEADER.match(lines[at])), len(lines))
    plain = re.compile(rf"""(\s*)(?:{re.escape(name)}|"{re.escape(name)}"|'{re.escape(name)}')\s*=""")
    for at in range(begin + 1, end):
        if (match := plain.match(lines[at])) is not None:
            if line is None:
                del lines[at]
            else:
                lines[at] = match[1] + line + _comment(lines[at]) + "\n"
            return
    if line is not None:
        if not lines[begin].endswith("\n"):
            lines[begin] += "\n"
        lines.insert(begin + 1, f"{line}\n")


def _comment(line: str) -> str:
    """The comment behind a value, with the space before it; nothing if there is none."""
    whole = line.rstrip("\r\n")
    at = whole.find("#")
    while at > 0:
        # The first "#" before which the line is complete begins the comment; those before are inside of text.
        try:
            tomllib.loads(whole[:at])
        except tomllib.TOMLDecodeError:
            at = whole.find("#", at + 1)
        else:
            return whole[len(whole[:at].rstrip()) :]
    return ""


def _without_empty(values: dict[str, Any]) -> dict[str, Any]:
    """A section without keys says the same as none."""
    return {name: one for name, one in values.items() if one != {}}


def _same(one: Any, other: Any) -> bool:
    """Equal in type as well: 1, 1.0 and true are three values."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_same(value, other[key]) for key, value in one.items())
    if isinstance(one, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return bool(one == other)
