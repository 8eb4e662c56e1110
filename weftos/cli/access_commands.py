"""``weaver resource acl`` and ``delegate``: who may do what with resources, and who may pass that on."""

from __future__ import annotations

import base64
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from weftos.cli import formats as f
from weftos.cli.output import Cell, Panel, Table, emit_json, note, show, write_file, write_line
from weftos.cli.session import call, json_option
from weftos.errors import DelegationInvalid, InvalidRequest, StorageFailed
from weftos.rpc import access_types as x
from weftos.rpc import types as t

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from weftos.tree.delegation import Certificate

__all__ = ["acl", "delegate", "seconds_of"]

_CERTIFICATE_BYTES: Final = 16 * 1024
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}
#: Exit status for an answer that is no.
_DENIED: Final = 4

_reason: Final = click.option("--reason", required=True, help="Why; it goes on the log.")


@click.group()
def acl() -> None:
    """Rules of access: who may do what with a resource and all below it.

    The nearest resource with a rule that speaks about a question decides; on one resource a denial counts more than a
    permission; if no rule speaks, the answer is no. Agents see their own node, and what a rule lets them read.
    """


@acl.command("show")
@click.argument("path")
@json_option
def acl_show(path: str, as_json: bool) -> None:
    """List the rules that count for PATH, and where each of them is."""
    found: x.AclView = call("resource.acl", x.AclParams(path=path))
    if as_json:
        emit_json(found)
        return
    table = Table(("ON", "RULE", "EFFECT", "WHO", "AS", "ACTION"), empty="no rule; so nobody may do anything")
    for rule in found.rules:
        effect: Cell = (rule.effect, "good" if rule.effect == "allow" else "bad")
        who = (rule.principal or "everybody", rule.role or "any role", rule.action or "any action")
        table.rows.append((rule.path, rule.policy_id, effect, *who))
    show(table)


@acl.command("set")
@click.argument("path")
@click.argument("effect", type=click.Choice(["allow", "deny"]))
@click.option("--id", "policy_id", required=True, help="Name of the rule; a rule on PATH with this name is replaced.")
@click.option("--who", help="Whom it is about, such as an agent's id (echo.1). Default: everybody.")
@click.option("--role", help="In which capacity: owner, admin, operator, viewer, custom:NAME. Default: each.")
@click.option("--action", help="read, write, execute, admin, create, delete, custom:NAME. Default: each.")
@_reason
@json_option
def acl_set(
    path: str,
    effect: str,
    policy_id: str,
    who: str | None,
    role: str | None,
    action: str | None,
    reason: str,
    as_json: bool,
) -> None:
    """Put a rule on PATH; it counts there and below.

    \b
    weaver resource acl set /kernel/services allow --id see-services --action read --reason "they may find each other"
    weaver resource acl set /apps deny --id not-for-echo --who echo.1 --reason "on trial"
    """  # noqa: D301 -- click's mark is the backspace itself
    params = x.AclSetParams(
        path=path,
        policy_id=policy_id,
        effect="allow" if effect == "allow" else "deny",
        principal=who,
        role=role,
        action=action,
        reason=reason,
    )
    _changed(call("resource.set-rule", params), f"the rule {policy_id} is on {path}", as_json=as_json)


@acl.command("remove")
@click.argument("path")
@click.argument("policy_id")
@_reason
@json_option
def acl_remove(path: str, policy_id: str, reason: str, as_json: bool) -> None:
    """Take the rule POLICY_ID from PATH."""
    params = x.AclRemoveParams(path=path, policy_id=policy_id, reason=reason)
    _changed(call("resource.remove-rule", params), f"the rule {policy_id} is gone from {path}", as_json=as_json)


@acl.command("check")
@click.argument("path")
@click.argument("who")
@click.option("--role", default="viewer", show_default=True, help="In which capacity.")
@click.option("--action", default="read", show_default=True, help="What would be done.")
@json_option
@click.pass_context
def acl_check(context: click.Context, path: str, who: str, role: str, action: str, as_json: bool) -> None:
    """Tell whether the rules let WHO act on PATH, and which rule decides. Ends with status 4 if they do not."""
    params = x.AclDecisionParams(path=path, principal=who, role=role, action=action)
    found: x.AclDecision = call("resource.decide", params)
    if as_json:
        emit_json(found)
    else:
        show(
            Panel(
                "Decision",
                [
                    ("Answer", ("allowed", "good") if found.allowed else ("denied", "bad")),
                    ("Reason", found.reason),
                    ("Rule", f"{found.policy_id} on {found.path}" if found.path else "-"),
                ],
            )
        )
    if not found.allowed:
        context.exit(_DENIED)


def _changed(result: x.TreeChanged, done: str, *, as_json: bool) -> None:
    if as_json:
        emit_json(result)
    else:
        write_line(f"{done} (record {result.record})")


# --- certificates -----------------------------------------------------------------------------------------------------


@click.group()
def delegate() -> None:
    """Certificates: signed permissions for a while, which can be handed on and revoked.

    One that is handed on can only give less than it rests on. An agent shows its certificates with its question
    (ctx.resources.inspect(path, certificates=[…])); they are checked against the clock and the revocations on the log
    each time.
    """


@delegate.command()
@click.argument("subject")
@click.option("--on", "prefix", default="/", show_default=True, help="Where it counts, and below.")
@click.option("--action", "actions", multiple=True, required=True, help="What may be done; may be given several times.")
@click.option("--for", "span", default="1h", show_default=True, help="For how long: 90s, 30m, 12h, 7d.")
@click.option("--hand-on", "depth", type=click.IntRange(0, 7), default=0, show_default=True, help="How often, by keys.")
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="File for the certificate.")
@_reason
@json_option
def issue(
    subject: str,
    prefix: str,
    actions: tuple[str, ...],
    span: str,
    depth: int,
    output: Path | None,
    reason: str,
    as_json: bool,
) -> None:
    """Sign a certificate for SUBJECT: agent:ID, or key:HEX for the holder of an Ed25519 key.

    \b
    weaver resource delegate issue agent:echo.1 --on /apps/shop --action read --reason "stock taking" -o echo.cert
    weaver resource delegate issue key:59c1… --action read --hand-on 2 --reason "partner" -o partner.cert
    """  # noqa: D301 -- click's mark is the backspace itself
    params = x.DelegateParams(
        subject=subject,
        prefix=prefix,
        actions=list(actions),
        valid_secs=seconds_of(span),
        max_depth=depth,
        reason=reason,
    )
    found: x.DelegateResult = call("resource.delegate", params)
    if output is not None:
        write_file(output, base64.b64decode(found.certificate))
    if as_json:
        emit_json(found)
    else:
        write_line(f"certificate {found.id} (record {found.record}), valid until {f.stamp(found.not_after_ns / 1e9)}")
        if output is None:
            write_line(found.certificate)


@delegate.command("hand-on")
@click.argument("parent", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("subject")
@click.option(
    "--issuer-key",
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="File with the private key of PARENT's subject, as `weaver resource delegate keygen` makes it.",
)
@click.option("--on", "prefix", help="Where it counts, and below. Default: where PARENT does.")
@click.option("--action", "actions", multiple=True, help="What may be done. Default: all that PARENT allows.")
@click.option("--for", "span", default="1h", show_default=True, help="For how long; not longer than PARENT.")
@click.option("--hand-on", "depth", type=click.IntRange(0, 7), default=0, show_default=True, help="How often, by keys.")
@click.option("-o", "--output", required=True, type=click.Path(dir_okay=False, path_type=Path), help="Where to put it.")
def hand_on(
    parent: Path,
    subject: str,
    issuer_key: Path,
    prefix: str | None,
    actions: tuple[str, ...],
    span: str,
    depth: int,
    output: Path,
) -> None:
    """Sign, with a key of your own, a certificate that rests on PARENT. Needs no kernel.

    Whether it lies within PARENT is checked where it is used, and here.
    """
    import secrets
    import time

    from weftos.tree.authority import verify_chain
    from weftos.tree.delegation import issue as sign
    from weftos.tree.names import Action
    from weftos.tree.paths import ResourcePath

    above = _read(parent)
    now = time.time_ns()
    made = sign(
        _private_key(issuer_key),
        subject=subject,
        prefix=ResourcePath(prefix) if prefix else above.prefix,
        actions=frozenset(Action(one) for one in actions) if actions else frozenset(above.actions),
        not_before_ns=max(now, above.not_before_ns),
        not_after_ns=min(now + int(seconds_of(span) * 1e9), above.not_after_ns),
        nonce=secrets.token_bytes(16),
        max_depth=depth,
        parent=above,
    )
    if above.parent is None:
        verify_chain([above, made], trusted={above.issuer: above.prefix}, now_ns=now, revoked=())
    write_file(output, made.to_bytes())
    write_line(f"certificate {made.id.hex()} for {made.subject}; show it behind {parent}")


@delegate.command()
@click.option("-o", "--output", required=True, type=click.Path(dir_okay=False, path_type=Path), help="Where to put it.")
def keygen(output: Path) -> None:
    """Make a private key to hand certificates on with; prints the subject to have one issued for."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from weftos.tree.delegation import key_subject

    key = Ed25519PrivateKey.generate()
    try:
        fd = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(fd, "wb") as file:
            file.write(key.private_bytes_raw().hex().encode() + b"\n")
    except FileExistsError:
        raise InvalidRequest(f"{output} exists already; a key is not overwritten") from None
    except OSError as error:
        raise StorageFailed(f"{output} cannot be written: {error.strerror}") from error
    write_line(key_subject(key.public_key().public_bytes_raw()))


@delegate.command("show")
@click.argument("certificate", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@json_option
def show_certificate(certificate: Path, as_json: bool) -> None:
    """Show what a certificate says; nothing of it is verified."""
    found = _read(certificate)
    values = {
        "id": found.id.hex(),
        "issuer": found.issuer.hex(),
        "subject": found.subject,
        "prefix": str(found.prefix),
        "actions": [str(action) for action in found.actions],
        "not_before_ns": found.not_before_ns,
        "not_after_ns": found.not_after_ns,
        "max_depth": found.max_depth,
        "parent": found.parent.hex() if found.parent else None,
    }
    if as_json:
        emit_json(values)
        return
    pairs: list[tuple[str, Cell]] = [
        ("Identifier", found.id.hex()),
        ("Issuer", found.issuer.hex()),
        ("Subject", found.subject),
        ("Counts on", f"{found.prefix} and below"),
        ("Actions", ", ".join(map(str, found.actions))),
        ("Valid", f"{f.stamp(found.not_before_ns / 1e9)} to {f.stamp(found.not_after_ns / 1e9)}"),
        ("Hand on", f"{found.max_depth} times" if found.max_depth else "no"),
        ("Rests on", found.parent.hex() if found.parent else "the trust in its issuer"),
    ]
    show(Panel("Certificate", pairs))


@delegate.command("list")
@json_option
def list_certificates(as_json: bool) -> None:
    """List the certificates that this instance issued, and who may issue them."""
    found: x.CertificateList = call("resource.delegations", t.NoParams())
    if as_json:
        emit_json(found)
        return
    table = Table(("IDENTIFIER", "SUBJECT", "ON", "ACTIONS", "UNTIL", "STATE"), empty="no certificates")
    for row in found.certificates:
        state: Cell = ("revoked", "bad") if row.revoked else "issued"
        until = f.stamp(row.not_after_ns / 1e9)
        table.rows.append((row.id, row.subject, row.prefix, ", ".join(row.actions), until, state))
    show(table)
    for other in found.revoked_elsewhere:
        write_line(f"revoked, issued elsewhere: {other}")
    for key, prefix in found.issuers.items():
        note(f"key:{key} may issue certificates within {prefix}")


@delegate.command("check")
@click.argument("certificates", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--subject", required=True, help="Who shows them: agent:ID or key:HEX.")
@click.option("--action", default="read", show_default=True, help="What is to be done.")
@click.option("--on", "path", required=True, help="With which resource.")
@json_option
def check(certificates: tuple[Path, ...], subject: str, action: str, path: str, as_json: bool) -> None:
    """Tell whether a chain of CERTIFICATES allows something now, the first one first.

    The running kernel checks it, against its clock and the revocations on its log. Ends with status 4 if not.
    """
    chain = [base64.b64encode(_read(one).to_bytes()).decode() for one in certificates]
    params = x.AuthorizeParams(certificates=chain, subject=subject, action=action, path=path)
    found: x.GrantView = call("resource.authorize", params)
    if as_json:
        emit_json(found)
        return
    pairs: list[tuple[str, Cell]] = [
        ("Answer", ("allowed", "good")),
        ("To", found.subject),
        ("On", f"{found.prefix} and below"),
        ("Actions", ", ".join(found.actions)),
        ("Until", f.stamp(found.not_after_ns / 1e9)),
    ]
    show(Panel("Grant", pairs))


@delegate.command()
@click.argument("identifier")
@_reason
@json_option
def revoke(identifier: str, reason: str, as_json: bool) -> None:
    """Declare the certificate IDENTIFIER, and whatever rests on it, valid no more."""
    params = x.CertificateParams(id=identifier, reason=reason)
    _changed(call("resource.revoke", params), f"{identifier} is revoked", as_json=as_json)


@delegate.command()
@click.argument("identifier")
@_reason
@json_option
def restore(identifier: str, reason: str, as_json: bool) -> None:
    """Take the revocation of the certificate IDENTIFIER back."""
    params = x.CertificateParams(id=identifier, reason=reason)
    _changed(call("resource.restore", params), f"{identifier} is not revoked any more", as_json=as_json)


def seconds_of(span: str) -> float:
    """Read a span of time such as 90s, 30m, 12h or 7d.

    Raises:
        InvalidRequest: it is none.
    """
    number, unit = span[:-1], span[-1:]
    try:
        return float(number) * _UNITS[unit]
    except (ValueError, KeyError):
        raise InvalidRequest(f"{span!r} is no span of time; write 90s, 30m, 12h or 7d") from None


def _read(path: Path) -> Certificate:
    from weftos.tree.delegation import Certificate

    try:
        with path.open("rb") as file:
            return Certificate.from_bytes(file.read(_CERTIFICATE_BYTES))
    except OSError as error:
        raise DelegationInvalid(f"{path} cannot be read: {error.strerror}") from error


def _private_key(path: Path) -> Ed25519PrivateKey:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    try:
        return Ed25519PrivateKey.from_private_bytes(bytes.fromhex(path.read_text("ascii").strip()))
    except (OSError, ValueError) as error:
        raise InvalidRequest(f"{path} holds no private key of 64 hex digits: {error}") from error
