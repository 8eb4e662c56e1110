"""Parameters and results of the methods about the configuration."""

from __future__ import annotations

from typing import Any

import msgspec

__all__ = ["ConfigChanged", "ConfigKeyParams", "ConfigSetParams", "SettingInfo"]


class ConfigKeyParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which setting.

    Attributes:
        key: section and name, such as `limits.memory_bytes`.
    """

    key: str


class ConfigSetParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A setting and its value.

    Attributes:
        key: section and name.
        value: as in the file; null brings the default back.
    """

    key: str
    value: Any


class SettingInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A setting.

    Attributes:
        key: section and name.
        value: that the kernel holds.
        default: without a file.
        explicit: whether the file sets it.
        effect: when a change holds: `now`, `new-agents` or `next-start`.
        accepts: what it takes, for people.
        waiting: value in the file that holds from the next start on, if it is another one.
    """

    key: str
    value: Any
    default: Any
    explicit: bool
    effect: str
    accepts: str
    waiting: Any = None


class ConfigChanged(msgspec.Struct, frozen=True, kw_only=True):
    """A change of a setting.

    Attributes:
        key: section and name.
        old: value in the file before; null is the default.
        new: value in the file now.
        effect: when it holds: `now`, `new-agents` or `next-start`.
        record: number of the record of the log that says that it is done.
    """

    key: str
    old: Any
    new: Any
    effect: str
    record: int
