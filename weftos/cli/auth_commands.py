"""``weaver auth``: who asks, tokens for other users and programs, and credentials for agents."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any, Final

import click

from weftos.cli import formats as f
from weftos.cli.access_commands import seconds_of
from weftos.cli.output import Cell, Panel, Table, emit_json, note, show, write_line
from weftos.cli.secret_input import read_secret_text, refuse_arguments
from weftos.cli.session import call, connect, json_option
from weftos.errors import InvalidRequest, StorageFailed
from weftos.rpc import auth_types as u
from weftos.rpc import types as t

__all__ = ["auth"]

_TYPES: Final = ("api-key", "bearer-token", "password", "certificate", "other")
_reason: Final = click.option("--reason", required=True, help="Why; it goes on the log.")


@click.group()
def auth() -> None:
    """Who may use the kernel: tokens for users, credentials for agents.

    A token lets its holder use the control socket within a scope, until it expires or is revoked. A credential is a
    secret that the instance keeps encrypted, and gives to the agents that it names. Neither is ever on the log.
    """


@auth.command()
@json_option
def whoami(as_json: bool) -> None:
    """Show who you are to the kernel, and what you may do."""
    _show_who(call("auth.whoami", t.NoParams()), as_json=as_json)


def _show_who(who: u.WhoAmI, *, as_json: bool) -> None:
    if as_json:
        emit_json(who)
        return
    pairs: list[tuple[str, Cell]] = [
        ("User", f"{who.uid} ({who.user})"),
        ("Class", who.access),
        ("On the log as", who.by),
        *(_token_pairs(who.token) if who.token else []),
    ]
    show(Panel("You", pairs))


def _token_pairs(info: u.TokenInfo) -> list[tuple[str, Cell]]:
    return [
        ("Token", f"{info.name} ({info.id})"),
        ("Methods", ", ".join(([f"class {info.access}"] if info.access else []) + info.methods)),
        ("Agents", ", ".join(info.agents) or "all"),
        ("Users", ", ".join(map(str, info.uids)) or "all who may connect"),
        ("Expires", f.stamp(info.expires_at)),
    ]


# --- tokens -----------------------------------------------------------------------------------------------------------


@auth.group()
def token() -> None:
    """Tokens: rights for a while, for a user or a program, within a scope.

    The instance keeps only a hash. Put a token into a file of mode 0600 and name it with WEFTOS_TOKEN_FILE; every
    command then uses it. WEFTOS_SOCKET names the socket of an instance of another user.
    """


@token.command()
@click.argument("name")
@click.option("--access", type=click.Choice(["read", "operate", "admin"]), help="All methods up to this class.")
@click.option("--method", "methods", multiple=True, help="One further method, such as agent.send; several times.")
@click.option("--agent", "agents", multiple=True, help="Only methods about this agent, by name; several times.")
@click.option("--uid", "uids", type=click.IntRange(0), multiple=True, help="Only for this user; several times.")
@click.option("--for", "span", default="1d", show_default=True, help="For how long: 90s, 30m, 12h, 7d.")
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="New file for it, mode 0600.")
@json_option
def issue(
    name: str,
    access: str | None,
    methods: tuple[str, ...],
    agents: tuple[str, ...],
    uids: tuple[int, ...],
    span: str,
    output: Path | None,
    as_json: bool,
) -> None:
    """Make a token and let it count. It is shown once, here, and kept nowhere.

    \b
    weaver auth token issue ci --access read --for 30d -o ci.token
    weaver auth token issue bot --method agent.send --agent echo --uid 1001 -o bot.token
    """  # noqa: D301 -- click's mark is the backspace itself
    from weftos.auth.tokens import Token

    made = Token.make()
    params: dict[str, Any] = {
        "access": access or "",
        "methods": list(methods),
        "agents": list(agents),
        "uids": list(uids),
    }
    wanted = u.TokenIssueParams(fingerprint=made.fingerprint, name=name, valid_secs=seconds_of(span), **params)
    # The file first: a token that counts and that nobody has would be of no use.
    fd = _new_file(output) if output is not None else None
    try:
        info: u.TokenInfo = call("auth.token-issue", wanted)
        if fd is not None:
            os.write(fd, made.text().encode() + b"\n")
            os.fsync(fd)
    except BaseException:
        if output is not None:
            output.unlink(missing_ok=True)
        raise
    finally:
        if fd is not None:
            os.close(fd)
    if as_json:
        emit_json({"info": info, **({} if output else {"token": made.text()})})
        return
    if output is None:
        write_line(made.text())
    note(f"token {info.id} counts until {f.stamp(info.expires_at)}; `weaver auth token revoke {info.id}` ends it")


def _new_file(path: Path) -> int:
    try:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StorageFailed(f"{path} cannot be made: {error.strerror}; a token goes into a new file") from error


@token.command("list")
@json_option
def token_list(as_json: bool) -> None:
    """List the tokens that count; what they are is known to their holders alone."""
    found: list[u.TokenInfo] = call("auth.token-list", t.NoParams())
    if as_json:
        emit_json(found)
        return
    table = Table(("ID", "NAME", "GIVES", "AGENTS", "USERS", "EXPIRES", "ISSUED BY"), empty="no tokens")
    for one in found:
        gives = ", ".join(([f"class {one.access}"] if one.access else []) + one.methods)
        end: Cell = ("expired", "bad") if one.expired else f.stamp(one.expires_at)
        users = ", ".join(map(str, one.uids)) or "all"
        table.rows.append((one.id, one.name, gives, ", ".join(one.agents) or "all", users, end, one.issued_by))
    show(table)


@token.command()
@click.argument("which")
@_reason
@json_option
def revoke(which: str, reason: str, as_json: bool) -> None:
    """Let the token WHICH, by id or name, count no more, from this moment on.

    \b
    weaver auth token revoke 59c1aa0e71d0c3f2 --reason "the laptop is lost"
    """  # noqa: D301 -- click's mark is the backspace itself
    info: u.TokenInfo = call("auth.token-revoke", u.TokenRevokeParams(id=which, reason=reason))
    if as_json:
        emit_json(info)
    else:
        write_line(f"the token {info.name} ({info.id}) counts no more")


@token.command()
@refuse_arguments
@json_option
def verify(as_json: bool) -> None:
    """Log in with a token, read from standard input or asked for, and show what it gives.

    \b
    weaver auth token verify < ci.token
    """  # noqa: D301 -- click's mark is the backspace itself
    from weftos.auth.tokens import parse

    made = parse(read_secret_text("Token").decode("ascii", "replace").strip())
    with connect(token=made) as client:
        _show_who(client.call("auth.whoami"), as_json=as_json)


# --- credentials ------------------------------------------------------------------------------------------------------


@auth.group()
def credential() -> None:
    """Credentials: secrets for agents, encrypted on the disk, given out by name and only to those they name.

    An agent asks with ctx.credentials.get(NAME). Each use is on the log; the secret never is.
    """


@credential.command()
@click.argument("name")
@click.option("--type", "kind", type=click.Choice(_TYPES), default="other", show_default=True, help="What it is.")
@click.option("--agent", "agents", multiple=True, help="Who may have it, by name as spawned; several times.")
@refuse_arguments
@json_option
def add(name: str, kind: str, agents: tuple[str, ...], as_json: bool) -> None:
    """Keep a secret under NAME, read from standard input or asked for.

    \b
    weaver auth credential add mail-api --type api-key --agent mailer < key.txt
    """  # noqa: D301 -- click's mark is the backspace itself
    from weftos.auth.vault import check_name

    check_name(name)
    box = _sealed(name, kind, "add")
    params = u.CredentialAddParams(name=name, type=kind, agents=list(agents), box=box)
    _changed(call("auth.credential-add", params), "is kept", as_json=as_json)
    if not agents and not as_json:
        note("it names no agent, so nobody gets it")


@credential.command("list")
@json_option
def credential_list(as_json: bool) -> None:
    """List the credentials. Their secrets are shown to nobody."""
    found: list[u.CredentialInfo] = call("auth.credential-list", t.NoParams())
    if as_json:
        emit_json(found)
        return
    table = Table(("NAME", "TYPE", "VERSION", "AGENTS", "SINCE"), right=("VERSION",), empty="no credentials")
    for one in found:
        agents = ", ".join(one.agents) or "nobody"
        table.rows.append((one.name, one.type, str(one.version), agents, f.stamp(one.rotated_at)))
    show(table)


@credential.command()
@click.argument("name")
@refuse_arguments
@json_option
def rotate(name: str, as_json: bool) -> None:
    """Put another secret, read from standard input or asked for, under NAME; the old one is destroyed.

    \b
    weaver auth credential rotate mail-api < new-key.txt
    """  # noqa: D301 -- click's mark is the backspace itself
    known: list[u.CredentialInfo] = call("auth.credential-list", t.NoParams())
    kinds = {one.name: one.type for one in known}
    if name not in kinds:
        raise InvalidRequest(f"there is no credential {name!r}; `weaver auth credential list` shows those there are")
    params = u.CredentialRotateParams(name=name, box=_sealed(name, kinds[name], "rotate"))
    _changed(call("auth.credential-rotate", params), "has another secret", as_json=as_json)


@credential.command()
@click.argument("name")
@_reason
@json_option
def remove(name: str, reason: str, as_json: bool) -> None:
    """Destroy the credential NAME.

    \b
    weaver auth credential remove mail-api --reason "we changed providers"
    """  # noqa: D301 -- click's mark is the backspace itself
    params = u.CredentialRemoveParams(name=name, reason=reason)
    _changed(call("auth.credential-remove", params), "is destroyed", as_json=as_json)


def _sealed(name: str, kind: str, purpose: str) -> bytes:
    """Read a secret and seal it, so that only the vault can open it."""
    from weftos.auth.sealing import seal_box
    from weftos.auth.vault import about_credential

    key: u.VaultKey = call("auth.vault-key", t.NoParams())
    secret = read_secret_text("Secret", twice=sys.stdin.isatty())
    return seal_box(secret, key.public_key, about_credential(name, kind, purpose))


def _changed(result: u.CredentialChanged, done: str, *, as_json: bool) -> None:
    if as_json:
        emit_json(result)
    else:
        write_line(f"the credential {result.name} {done} (version {result.version}, record {result.record})")
