"""What every command needs: the instance it is about, a connection to its kernel, and the options that many share.

Commands never open a socket themselves. Waiting is bounded everywhere: a call that makes the kernel wait (for an agent
to start, to stop, to reply) gets that time plus a margin, and no more.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from weftos import limits

if TYPE_CHECKING:
    from weftos.auth.tokens import Token
    from weftos.home import Home
    from weftos.rpc.client import RpcClient

__all__ = ["PID", "call", "connect", "instance", "json_option"]

F = TypeVar("F", bound=Callable[..., Any])

#: ``--json``: one JSON value on standard output instead of text for people.
json_option: Final = click.option("--json", "as_json", is_flag=True, help="Answer with one JSON value.")


def instance() -> Home:
    """The instance of this call: ``--home`` or ``WEFTOS_HOME``, else the nearest ``.weftos``, else ``~/.weftos``.

    Raises:
        ConfigError: the place cannot be an instance.
    """
    from weftos.home import find_home

    return find_home()


@contextmanager
def connect(timeout: float = limits.RPC_TIMEOUT_S, token: Token | None = None) -> Iterator[RpcClient]:
    """A client of this instance's kernel. The connection is opened by the first call.

    ``WEFTOS_SOCKET`` names the socket of an instance of another user, ``WEFTOS_TOKEN_FILE`` a file with a token to use.

    Args:
        timeout: seconds for each call.
        token: to use instead of that in the file.

    Raises:
        TokenRefused: the file holds no token, or may be read by others.
    """
    from weftos.rpc.client import RpcClient

    home = instance()
    shared = os.environ.get("WEFTOS_SOCKET")
    if token is None and (path := os.environ.get("WEFTOS_TOKEN_FILE")):
        from weftos.rpc.login import token_from_file

        token = token_from_file(path)
    # Tab completion asks outside of any command.
    context = click.get_current_context(silent=True)
    trace = _trace if context is not None and context.find_root().params.get("verbose") else None
    place = shared or home.socket
    with RpcClient(place, timeout, home=home.root, on_call=trace, token=token, shared=bool(shared)) as client:
        yield client


def call(method: str, params: Any = None, *, waits: float = 0.0) -> Any:
    """Ask the kernel one thing.

    Args:
        method: a name in the table of methods.
        params: its params struct.
        waits: seconds that the kernel itself may wait for an agent before it answers.

    Returns:
        The result, decoded to the type in the table.

    Raises:
        KernelNotRunning: no kernel runs.
        WeftError: what the kernel answered.
    """
    timeout = max(limits.RPC_TIMEOUT_S, waits + limits.RPC_MARGIN_S) if waits else limits.RPC_TIMEOUT_S
    with connect(timeout) as client:
        return client.call(method, params)


def _trace(method: str, seconds: float) -> None:
    click.echo(f"{method} took {seconds * 1e3:.1f} ms", err=True)


if TYPE_CHECKING:
    _IntType = click.ParamType[int]
else:
    # Not generic at run time in every version of click that we accept.
    _IntType = click.ParamType


class _PidType(_IntType):
    """Kernel pid of an agent; the shell completes those that live."""

    name = "pid"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Parse a pid."""
        if isinstance(value, int):
            return value
        if not (isinstance(value, str) and value.isascii() and value.isdecimal() and 0 < int(value[:20]) <= 2**53):
            self.fail(f"{value!r} is no pid: agents are numbered from 1", param, ctx)
        return int(value)

    def shell_complete(
        self,
        ctx: click.Context,
        param: click.Parameter,  # noqa: ARG002 - click's signature
        incomplete: str,
    ) -> list[click.shell_completion.CompletionItem]:
        """Offer the living agents; nothing when the kernel cannot be asked at once."""
        from click.shell_completion import CompletionItem

        from weftos.errors import WeftError

        # Completion parses the line but runs no callback, so --home has not taken effect.
        if home := ctx.find_root().params.get("home"):
            os.environ["WEFTOS_HOME"] = os.path.abspath(home)
        try:
            with connect(limits.COMPLETION_TIMEOUT_S) as client:
                rows = client.call("agent.list")
        except WeftError:
            return []
        return [CompletionItem(str(row.pid), help=row.name) for row in rows if str(row.pid).startswith(incomplete)]


PID: Final = _PidType()
