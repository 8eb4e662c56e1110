"""A backend for policies in Cedar, for who has some already; needs the package ``cedarpy`` (extra ``cedar``).

    permit(principal, action in [Action::"ipc.send", Action::"agent.spawn"], resource);
    forbid(principal == Agent::"echo.1", action == Action::"tool.fs.remove", resource)
        when { context has path && context.path like "/srv/*" };

Why it is as it is: Cedar denies what nothing permits, and asking it takes some hundred microseconds. So policies are
parsed once, answers are remembered by agent, action and facts, and it stands beside the other backends: it can only
take away. What it cannot evaluate is denied.

Guaranteed: ``check`` neither raises nor waits; an error in a policy is a denial. Figures with a fraction reach the
policies as text, because Cedar has none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from weftos.errors import ConfigError
from weftos.governance.gate import KERNEL_ID, Deny, GateDecision, Permit, Subject

__all__ = ["CedarGate", "read_policies"]

#: Largest file of policies, in bytes.
_FILE_BYTES: Final = 1024 * 1024

#: Answers that are remembered; forgotten all at once.
_KEPT: Final = 8192
_RESOURCE: Final = {"type": "Kernel", "id": "weftos"}
_encode: Final = msgspec.msgpack.Encoder(order="deterministic").encode


class CedarGate:
    """Decides by Cedar policies.

    Args:
        policies: their text.
        lookup: gives the subject for an agent id, or ``None``; policies speak of ``Agent::"NAME.PID"``.

    Raises:
        ConfigError: the package is missing, or the text holds no policies.
    """

    def __init__(self, policies: str, lookup: Callable[[str], Subject | None]) -> None:
        try:
            import cedarpy
        except ImportError as error:
            raise ConfigError("Cedar policies need the package cedarpy: pip install 'weftos[cedar]'") from error
        try:
            self._policies = cedarpy.PolicySet.from_str(policies)
            self._entities = cedarpy.Entities.from_json_str("[]")
        except ValueError as error:
            raise ConfigError(f"the Cedar policies cannot be read: {error}") from error
        self._ask = cedarpy.is_authorized
        self._lookup = lookup
        self._known: dict[tuple[str, str, bytes], GateDecision] = {}

    def check(self, agent_id: str, action: str, context: Mapping[str, Any]) -> GateDecision:
        """Decide one action; see ``GateBackend.check``."""
        if agent_id == KERNEL_ID:
            return Permit("kernel")
        subject = self._lookup(agent_id)
        if subject is None:
            return Deny(f"agent {agent_id} is unknown to the gate")
        try:
            key = (subject.agent_id, action, _encode(dict(context)))
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            return Deny(f"Cedar cannot be asked: {error}")
        known = self._known.get(key)
        if known is None:
            if len(self._known) >= _KEPT:
                self._known.clear()
            known = self._known[key] = self._evaluate(subject.agent_id, action, context)
        return known

    def _evaluate(self, name: str, action: str, context: Mapping[str, Any]) -> GateDecision:
        try:
            request = {
                "principal": {"type": "Agent", "id": name},
                "action": {"type": "Action", "id": action},
                "resource": _RESOURCE,
                "context": {key: _plain(value) for key, value in context.items()},
            }
            found = self._ask(request, self._policies, self._entities)
        except (TypeError, ValueError, RecursionError) as error:
            return Deny(f"Cedar cannot decide: {str(error)[:200]}")
        errors = found.diagnostics.errors
        if errors:
            return Deny(f"a Cedar policy fails: {str(errors[0])[:200]}")
        by = ", ".join(found.diagnostics.reasons[:3])
        if found.allowed:
            return Permit(f"Cedar: {by}")
        return Deny(f"Cedar: {by} forbids it" if by else "Cedar: no policy permits it")


def read_policies(path: str) -> str | None:
    """Read a file of policies; ``None`` if there is none.

    Raises:
        ConfigError: it cannot be read, is too large, or is no text.
    """
    if not path:
        return None
    try:
        with open(path, "rb") as file:
            data = file.read(_FILE_BYTES + 1)
        if len(data) > _FILE_BYTES:
            raise ConfigError(f"{path} is larger than {_FILE_BYTES} bytes")
        return data.decode()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the policies in {path} cannot be read: {error}") from error


def _plain(value: Any) -> Any:
    """Give a fact the form that Cedar knows: text, whole numbers, truth, lists and maps of them."""
    if type(value) in (str, int, bool):
        return value
    if isinstance(value, list):
        return [_plain(one) for one in value]
    if isinstance(value, dict):
        return {str(key): _plain(one) for key, one in value.items()}
    if type(value) is float:
        return repr(value)
    if isinstance(value, bytes):
        return value.hex()
    return "null" if value is None else str(value)
