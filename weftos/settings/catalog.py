"""Every setting by ``section.key``: its type, its default, what it accepts, and when a change of it holds.

Why it is as it is: the schema in ``weftos.config`` says what a file may hold, but not what the kernel does with a
change while it runs. That is here, by section; a test compares the two, so that a new section cannot be forgotten.

Guaranteed: every key of the schema is a setting, and nothing else is. What looks like a place or a value for a secret
is refused: configuration is read, shown and recorded in the clear.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from typing import Any, Final, Literal, TypeAlias

import msgspec
from msgspec import inspect as form

from weftos.config import Config
from weftos.errors import InvalidRequest

__all__ = ["EFFECTS", "SETTINGS", "Effect", "Setting", "refuse_secret", "setting", "typed", "value_of"]

Effect: TypeAlias = Literal["now", "new-agents", "next-start"]

#: When a change holds: of a whole section, and of single keys where it is otherwise.
EFFECTS: Final[dict[str, Effect]] = {
    "kernel": "now",
    "limits": "new-agents",
    "supervisor": "new-agents",
    "chain": "next-start",
    "chain.durability": "new-agents",
    "artifacts": "next-start",
    "artifacts.grace_secs": "now",
    "ipc": "new-agents",
    "access": "now",
    "access.socket": "next-start",
    "access.vault_key": "next-start",
    "sandbox": "next-start",
    "sandbox.require_own_user": "new-agents",
    "sandbox.cpu_weight": "new-agents",
    "sandbox.cpu_percent": "new-agents",
    "memory": "new-agents",
    "memory.agent_bytes": "next-start",
    "memory.store_bytes": "next-start",
    "log": "now",
}
#: Words in the name of a key that would hold a secret, and beginnings of values that are one.
_SECRET_NAME: Final = re.compile(r"(^|[._-])(secret|password|passwd|passphrase|token|api_?key|private_?key)s?($|[._-])")
_SECRET_VALUE: Final = re.compile(
    r"weftos-token-|-----BEGIN [A-Z ]*PRIVATE KEY|sk-[A-Za-z0-9]{16}|gh[pousr]_[A-Za-z0-9]{20}"
)
_SECRETS_ARE_ELSEWHERE: Final = (
    "configuration is recorded and shown in the clear; keep it with `weaver auth credential add NAME`, encrypted"
)


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """One setting.

    Attributes:
        key: section and name.
        default: without a file.
        effect: when a change holds.
        accepts: what it takes, for people.
        is_text: whether its value is always text.
        secret: whether its type is marked as that of a secret.
    """

    key: str
    default: Any
    effect: Effect
    accepts: str
    is_text: bool
    secret: bool = False


def _collect(schema: type[msgspec.Struct]) -> dict[str, Setting]:
    found = {}
    for section in _fields(schema):
        inner = section.type
        assert isinstance(inner, form.StructType)
        for field in inner.fields:
            key = f"{section.name}.{field.name}"
            kind, secret = _unmarked(field.type)
            found[key] = Setting(
                key=key,
                default=_default(field),
                effect=EFFECTS.get(key) or EFFECTS[section.name],
                accepts=_words(kind),
                is_text=isinstance(kind, form.StrType)
                or (isinstance(kind, form.LiteralType) and all(isinstance(one, str) for one in kind.values)),
                secret=secret,
            )
    return found


def _fields(schema: type[msgspec.Struct]) -> tuple[form.Field, ...]:
    info = form.type_info(schema)
    assert isinstance(info, form.StructType)
    return info.fields


def _default(field: form.Field) -> Any:
    return field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()


def _unmarked(kind: form.Type) -> tuple[form.Type, bool]:
    """A type without what is said about it, and whether that is that it holds a secret."""
    if isinstance(kind, form.Metadata):
        return kind.type, bool((kind.extra or {}).get("secret"))
    return kind, False


def _words(kind: form.Type) -> str:
    match kind:
        case form.Metadata():
            return _words(kind.type)
        case form.BoolType():
            return "true or false"
        case form.IntType():
            return "a whole number" + _range(kind)
        case form.FloatType():
            return "a number" + _range(kind)
        case form.StrType():
            return "text"
        case form.LiteralType():
            return " or ".join(f'"{one}"' for one in kind.values)
        case form.ListType():
            return f"a list, each {_words(kind.item_type)}"
        case form.UnionType():
            return " or ".join(_words(one) for one in kind.types)
    raise AssertionError(f"a setting of type {kind}")


def _range(kind: form.IntType | form.FloatType) -> str:
    low = f" from {kind.ge}" if kind.ge is not None else f" above {kind.gt}" if kind.gt is not None else ""
    return low + (f" to {kind.le}" if kind.le is not None else "")


#: Every setting by key, in the order of the schema.
SETTINGS: Final[dict[str, Setting]] = _collect(Config)


def setting(key: str) -> Setting:
    """Return a setting.

    Raises:
        InvalidRequest: there is none of this name, or it is one for a secret.
    """
    found = SETTINGS.get(key)
    if found is not None and not found.secret:
        return found
    if found is not None or _SECRET_NAME.search(key[:200].lower()):
        raise InvalidRequest(f"{key!r:.80} is no setting: {_SECRETS_ARE_ELSEWHERE}")
    close = difflib.get_close_matches(key[:200], SETTINGS, 1)
    hint = f"did you mean {close[0]}?" if close else "`weaver config list` shows those there are"
    raise InvalidRequest(f"there is no setting {key!r:.80}; {hint}")


def refuse_secret(value: Any) -> None:
    """Refuse a value that is a secret by its looks.

    Raises:
        InvalidRequest: saying where it belongs, and not what it is.
    """
    if isinstance(value, list):
        for one in value:
            refuse_secret(one)
    elif isinstance(value, str) and _SECRET_VALUE.search(value):
        raise InvalidRequest(f"this value looks like a secret: {_SECRETS_ARE_ELSEWHERE}")


def value_of(config: Config, key: str) -> Any:
    """Return the value of a setting in a configuration."""
    section, _, name = key.partition(".")
    return getattr(getattr(config, section), name)


def typed(key: str, text: str) -> Any:
    """Read a value from the command line: as in the file, and text also without quotes.

    Args:
        key: of a setting.
        text: what was typed.

    Raises:
        InvalidRequest: there is no such setting.
    """
    known = setting(key)
    try:
        value = tomllib.loads(f"value = {text}")
    except (tomllib.TOMLDecodeError, RecursionError):
        return text
    found = value.get("value") if value.keys() == {"value"} else text
    return text if known.is_text and not isinstance(found, str) else found
