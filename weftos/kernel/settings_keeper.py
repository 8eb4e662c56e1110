"""Settings of the running kernel: changed in the file, on the log and in force, one whole change at a time.

    config.set on the log ─▶ file replaced ─▶ config.done on the log ─▶ in force
                              └ it cannot be: config.undone

Why it is as it is: a kill can come between any two of these steps. What is announced and not done is looked up in the
file at the next start: there the change is whole or absent, and the log is told which. The file stays the operator's:
it can be edited by hand at any time, and what was edited is on the log when it is read.

Guaranteed: no value is in the file by ``set`` that the log does not announce; a change that does not fit the whole
configuration changes nothing. Not guaranteed: when a hand stopped editing; the log has the moment of reading.
"""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from weftos import config as schema
from weftos.auth import places
from weftos.config import Config
from weftos.disk.files import RealFiles, write_all
from weftos.errors import ConfigError, StorageFailed, WeftError
from weftos.kernel.service_host import ServiceHost
from weftos.service import access_protocol as q
from weftos.service import tree_protocol as p
from weftos.settings.catalog import refuse_secret, setting, value_of
from weftos.settings.toml_edit import edit

__all__ = ["Changed", "SettingsKeeper", "replace_config"]

#: Who made a change that was found in the file.
_BY_HAND: Final = "file"


class Changed:
    """What ``set`` did: values before and after, when it holds, and the record that says so (-1: nothing to do)."""

    def __init__(self, old: Any, new: Any, effect: str, record: int) -> None:
        self.old, self.new, self.effect, self.record = old, new, effect, record


class SettingsKeeper:
    """The configuration file, what the log knows of it, and what is in force.

    Args:
        path: of the file; it need not exist.
        booted: the configuration that the kernel started with.
        changing: held while the log and the kernel differ.
        put_in_force: takes a configuration that was checked.
    """

    def __init__(
        self, path: Path, booted: Config, changing: asyncio.Lock, put_in_force: Callable[[Config], None]
    ) -> None:
        self.path = path
        self.booted = booted
        self.present = booted
        #: What the file sets, as the log has it.
        self.known: dict[str, Any] = {}
        self._changing = changing
        self._put_in_force = put_in_force
        self._service: ServiceHost | None = None

    async def begin(self, service: ServiceHost) -> list[str]:
        """Compare the file with the log, and put on the log what is not there.

        Returns:
            Sentences about what was found.

        Raises:
            WeftError: the file cannot be read, or the log not written.
        """
        async with self._changing:
            self._service = service
            found = schema.explicit(schema.read(self.path), str(self.path))
            values = (await service.done(p.AskTree("inspect", str(places.SETTINGS))))["metadata"]
            pending = values.pop(places.PENDING, None)
            self.known = {key: value for key, value in values.items() if value is not None}
            said = [await self._settle(pending, found)] if pending else []
            return said + await self._note_edits(found)

    async def set(self, key: str, value: Any, by: str) -> Changed:
        """Change a setting.

        Args:
            key: section and name.
            value: ``None`` takes it out of the file.
            by: who wants it.

        Raises:
            InvalidRequest: there is no such setting, or the value looks like a secret.
            ConfigError: the configuration would not be valid; or the file is not, or must be edited by hand.
            StorageFailed: the file cannot be written; nothing has changed.
            WeftError: the log cannot be written. If that is so after the file was, the next start tells the log.
        """
        known = setting(key)
        refuse_secret(value)
        async with self._changing:
            await self._settle_leftover()
            text = schema.read(self.path)
            schema.parse(text, str(self.path))
            found = schema.explicit(text, str(self.path))
            changed = edit(text, key, value)
            config = _checked(changed, self.path, key, known.accepts)
            new = schema.explicit(changed, str(self.path)).get(key)
            old = found.get(key)
            await self._note_edits(found)
            if changed == text:
                return Changed(old, new, known.effect, -1)
            change = {"key": key, "old": old, "new": new, "by": by}
            await self._note("config.set", change, {places.PENDING: change})
            try:
                replace_config(self.path, changed)
            except OSError as error:
                reason = f"{self.path} cannot be written: {error.strerror}"
                await self._note("config.undone", change | {"reason": reason}, {places.PENDING: None})
                raise StorageFailed(f"{reason}; the setting is as before") from error
            record = await self._done(change, known.effect)
            self._use(config)
            return Changed(old, new, known.effect, record)

    async def reload(self) -> None:
        """Read the file again; one that is not valid changes nothing.

        Raises:
            ConfigError: it is not valid.
            WeftError: the log cannot be written; what the file says is in force all the same.
        """
        async with self._changing:
            text = schema.read(self.path)
            config = schema.parse(text, str(self.path))
            self._use(config)
            await self._settle_leftover()
            await self._note_edits(schema.explicit(text, str(self.path)))

    async def reload_or_why_not(self) -> str | None:
        """As ``reload``; returns a sentence about what went wrong."""
        try:
            await self.reload()
        except ConfigError as error:
            return f"the configuration was not reloaded: {error}"
        except WeftError as error:
            return f"what was edited in the configuration is not on the log: {error}"
        return None

    def value(self, key: str) -> tuple[Any, Any]:
        """Return the value that the kernel holds, and the one that waits for the next start (``None`` if none)."""
        known = setting(key)
        present = value_of(self.present, key)
        if known.effect != "next-start":
            return present, None
        held = value_of(self.booted, key)
        return held, present if present != held else None

    def _use(self, config: Config) -> None:
        self._put_in_force(config)
        self.present = config

    async def _settle_leftover(self) -> None:
        """Settle a change that the service's death left open while this kernel ran."""
        assert self._service is not None
        values = (await self._service.done(p.AskTree("inspect", str(places.SETTINGS))))["metadata"]
        if (pending := values.get(places.PENDING)) is not None:
            await self._settle(pending, schema.explicit(schema.read(self.path), str(self.path)))

    async def _settle(self, change: dict[str, Any], found: dict[str, Any]) -> str:
        """Tell the log what became of a change that was announced: the file has it, or not."""
        key = change["key"]
        # The kill can have come before the name of the new file was on the disk.
        _sync_folder(self.path)
        if found.get(key) == change["new"]:
            await self._done(change, setting(key).effect)
            return f"the change of {key} by {change['by']}, which was cut short, is done"
        reason = "the kernel was ended before the file was changed"
        await self._note("config.undone", change | {"reason": reason}, {places.PENDING: None})
        return f"the change of {key} by {change['by']}, which was cut short, is undone"

    async def _note_edits(self, found: dict[str, Any]) -> list[str]:
        """Put on the log what the file says otherwise than the log."""
        said = []
        for key in sorted(self.known.keys() | found.keys()):
            old, new = self.known.get(key), found.get(key)
            if old == new and type(old) is type(new):
                continue
            await self._note("config.edited", {"key": key, "old": old, "new": new, "by": _BY_HAND}, {key: new})
            self._learn(key, new)
            said.append(f"{key} was edited by hand")
        return said

    async def _done(self, change: dict[str, Any], effect: str) -> int:
        key, new = change["key"], change["new"]
        record = await self._note("config.done", change | {"effect": effect}, {key: new, places.PENDING: None})
        self._learn(key, new)
        return record

    def _learn(self, key: str, value: Any) -> None:
        if value is None:
            self.known.pop(key, None)
        else:
            self.known[key] = value

    async def _note(self, kind: str, payload: dict[str, Any], values: dict[str, Any]) -> int:
        assert self._service is not None
        delta = places.settings_written(values)
        told = await self._service.done(q.NoteChange(kind, payload, delta.log_kind, delta.to_payload()))
        return int(told["record"])


def _checked(text: str, path: Path, key: str, accepts: str) -> Config:
    try:
        return schema.parse(text, str(path))
    except ConfigError as error:
        raise ConfigError(f"{error}; {key} accepts {accepts}. Nothing was changed") from error


def replace_config(path: Path, text: str) -> None:
    """Put a file in the place of another: after a crash there is the old one or the new one. Its mode stays.

    Raises:
        OSError: a call failed; the old file is there.
    """
    fs, target = RealFiles(), os.path.realpath(path)
    temporary = f"{target}.tmp"
    if os.path.lexists(temporary):
        fs.unlink(temporary)  # left over by a crash
    fd = fs.create(temporary)
    try:
        if os.path.exists(target):
            os.fchmod(fd, stat.S_IMODE(os.stat(target).st_mode))
        write_all(fs, fd, text.encode())
        fs.sync_file(fd)
    except OSError:
        fs.unlink(temporary)
        raise
    finally:
        fs.close(fd)
    fs.rename(temporary, target)
    fs.sync_dir(os.path.dirname(target))


def _sync_folder(path: Path) -> None:
    folder = os.path.dirname(os.path.realpath(path))
    try:
        RealFiles().sync_dir(folder)
    except OSError as error:
        raise StorageFailed(f"{folder} cannot be brought onto the disk: {error.strerror}") from error
