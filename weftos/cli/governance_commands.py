"""``weaver governance``: the rules in force, what other ones would do, and how they are changed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from weftos.cli import formats as f
from weftos.cli.env_commands import own_environment
from weftos.cli.gate_commands import facts, tone_of, verdict_panel
from weftos.cli.output import Cell, Panel, Table, emit_json, show, write_file, write_line
from weftos.cli.session import PID, call, json_option
from weftos.errors import InvalidRequest
from weftos.rpc import governance_types as g
from weftos.rpc import types as t

if TYPE_CHECKING:
    from weftos.governance.constitution import Constitution, Supersede
    from weftos.governance.draft import Draft

__all__ = ["governance"]

_FILE: Final = click.Path(exists=True, dir_okay=False, path_type=Path)
_MOST_BYTES: Final = 1024 * 1024


@click.group()
def governance() -> None:
    """See, try and change the rules of the gate.

    The gate decides by them. They stand on the log. A change is written down in a file, tried with `simulate`, signed
    with the keys of the branches that must agree, and put into force with `supersede`.

    \b
    weaver governance rules --branch executive
    weaver governance simulate --rules change.toml
    weaver governance supersede change.toml --key executive.key
    """  # noqa: D301 -- click's mark is the backspace itself


@governance.command("show")
@json_option
def show_constitution(as_json: bool) -> None:
    """Show the constitution in force: version, hash, thresholds, branches, environment."""
    found: g.ConstitutionView = call("governance.show", t.NoParams())
    if as_json:
        emit_json(found)
        return
    pairs: list[tuple[str, Cell]] = [
        ("Version", f"{found.version}, begun with record {found.genesis_record}"),
        ("Hash", found.hash),
        ("Rules", str(found.rules)),
        ("Threshold", f"{found.risk_threshold:g}, where no environment is chosen"),
        ("Environment", f"{found.environment.name} (threshold {found.environment.risk_threshold:g})"),
        ("Differs", ", ".join(found.differs_from_proposal) or "not from what this version proposes to a new log"),
        ("Waiting", f.count(found.waiting, "request")),
        ("Cedar", found.policies or "no policies"),
    ]
    pairs += [
        (name.capitalize(), f"{f.count(one.rules, 'rule')}, key {one.key}") for name, one in found.branches.items()
    ]
    show(Panel("Constitution", pairs))


@governance.command()
@click.option("--branch", help="Only those of this branch: legislative, executive, judicial.")
@click.option("--category", help="Only those of this category, such as security.")
@click.option("--id", "rule_id", help="Only this one.")
@json_option
def rules(branch: str | None, category: str | None, rule_id: str | None, as_json: bool) -> None:
    """List the rules in force. What a rule names in WHEN must all hold."""
    found = [
        one
        for one in _all_rules()
        if (branch is None or one.branch == branch)
        and (category is None or one.sop_category == category)
        and (rule_id is None or one.id == rule_id)
    ]
    if rule_id is not None and not found:
        raise InvalidRequest(f"there is no rule {rule_id!r}; `weaver governance rules` lists them")
    if as_json:
        emit_json(g.GovernanceRuleList(rules=found, more=False))
        return
    table = Table(("ID", "BRANCH", "SEVERITY", "OUTCOME", "WHEN", "SAYS"), empty="no rule")
    for one in found:
        when = json.dumps(one.when, ensure_ascii=False) if one.when else "always"
        outcome = one.outcome if one.active else f"{one.outcome} (at rest)"
        table.rows.append((one.id, one.branch, one.severity, outcome, when, one.description))
    show(table)


def _all_rules() -> list[g.GovernanceRuleView]:
    found: list[g.GovernanceRuleView] = []
    while True:
        page: g.GovernanceRuleList = call("governance.rules", g.RulesParams(after=found[-1].id if found else ""))
        found += page.rules
        if not page.more:
            return found


@governance.command()
@click.argument("action", required=False, default="")
@click.option("--agent", type=PID, help="Also ask for this agent's capabilities (its pid). Default: the rules alone.")
@click.option("--env", "environment", help="In this environment. Default: the one in force.")
@click.option("--threshold", type=click.FloatRange(0, 1), help="In an environment with this threshold.")
@click.option("--human-approval", is_flag=True, help="In that environment a person may approve what is blocked.")
@click.option("--rules", "file", type=_FILE, help="After the change in this file (TOML or JSON), whoever signs it.")
@click.option("--context", metavar="JSON", help="Facts about the action, as a JSON object.")
@json_option
def simulate(
    action: str,
    agent: int | None,
    environment: str | None,
    threshold: float | None,
    human_approval: bool,
    file: Path | None,
    context: str | None,
    as_json: bool,
) -> None:
    """Tell what would be decided in another environment or under other rules; nothing is recorded.

    Without ACTION all known actions are compared.

    \b
    weaver governance simulate --env production
    weaver governance simulate tool.fs.remove --rules change.toml --context '{"path": "/srv/old"}'
    """  # noqa: D301 -- click's mark is the backspace itself
    own = own_environment(threshold, None, human_approval)
    if own and environment is not None:
        raise click.UsageError("either --env or --threshold")
    assumed: Any = own | {"name": "simulated", "environment_class": "custom"} if own else environment
    draft: dict[str, Any] = {}
    if file is not None:
        import msgspec

        draft = msgspec.to_builtins(_draft(file))
    params = g.SimulateParams(action=action, pid=agent, context=facts(context), environment=assumed, draft=draft)
    found: g.SimulationView = call("governance.simulate", params)
    if as_json:
        emit_json(found)
        return
    if action:
        row = found.rows[0]
        then = verdict_panel(row.then)
        then.title = f"{action} in {found.environment}"
        show(Panel(f"{action} now", [("Decision", tone_of(row.now.decision)), ("Reason", row.now.reason)]), then)
        return
    table = Table(("ACTION", "NOW", "THEN", "RULE", ""), title=f"In {found.environment}")
    for row in found.rows:
        changed: Cell = ("changes", "warn") if row.now.decision != row.then.decision else ""
        rule = row.then.rule or "-"
        table.rows.append((row.action, tone_of(row.now.decision), tone_of(row.then.decision), rule, changed))
    show(table)


@governance.command()
@click.argument("file", type=_FILE)
@click.option("--key", "keys", type=_FILE, multiple=True, help="Private key of a branch; may be given several times.")
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="Sign only, and write it here.")
@json_option
def supersede(file: Path, keys: tuple[Path, ...], output: Path | None, as_json: bool) -> None:
    """Change the rules: sign the change in FILE, and put it into force.

    FILE is a change as you write it (TOML or JSON: reason, rule, removed, risk_threshold), or one that somebody signed
    before, with -o. New rules take the key of their branch; a lower threshold that of the judicial branch; anything
    that could make a decision milder takes all three. The first keys lie in keys/branches of the instance.

    \b
    weaver governance supersede change.toml --key executive.key -o half-signed.json
    weaver governance supersede half-signed.json --key judicial.key --key legislative.key
    """  # noqa: D301 -- click's mark is the backspace itself
    import msgspec

    from weftos.governance.draft import signed

    now = _in_force()
    change = signed(now, _change(file, now), [_seed(one) for one in keys])
    if output is not None:
        write_file(output, msgspec.json.format(msgspec.json.encode(change)) + b"\n")
        missing = sorted(now.who_must_agree(change) - change.signatures.keys())
        write_line(f"written; it lacks the signature of: {', '.join(missing) or 'nobody'}")
        return
    found: g.SupersedeResult = call("governance.supersede", g.SupersedeParams(change=msgspec.to_builtins(change)))
    if as_json:
        emit_json(found)
    else:
        write_line(f"version {found.version} is in force (record {found.record}, hash {found.hash})")


def _text(file: Path) -> bytes:
    with open(file, "rb") as opened:
        text = opened.read(_MOST_BYTES + 1)
    if len(text) > _MOST_BYTES:
        raise InvalidRequest(f"{file} is larger than {_MOST_BYTES} bytes")
    return text


def _draft(file: Path) -> Draft:
    from weftos.governance.draft import Draft

    return Draft.parse(_text(file), as_json=file.suffix == ".json")


def _change(file: Path, now: Constitution) -> Supersede:
    """Read a change that was signed before, or make one of what a person wrote."""
    import msgspec

    from weftos.governance.constitution import Supersede

    if file.suffix == ".json":
        text = _text(file)
        try:
            if "previous" in msgspec.json.decode(text, type=dict[str, msgspec.Raw]):
                return msgspec.json.decode(text, type=Supersede)
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
            raise InvalidRequest(f"{file} is malformed: {error}") from error
    return _draft(file).on(now)


def _in_force() -> Constitution:
    """Put the constitution together from what the kernel shows; its hash says whether that is all of it."""
    import msgspec

    from weftos.governance.constitution import Constitution
    from weftos.governance.rules import Branch, Rule

    shown: g.ConstitutionView = call("governance.show", t.NoParams())
    found = Constitution(
        version=shown.version,
        risk_threshold=shown.risk_threshold,
        human_approval_required=shown.human_approval_required,
        rules=tuple(msgspec.convert(msgspec.to_builtins(one), Rule) for one in _all_rules()),
        keys={Branch(name): bytes.fromhex(one.key) for name, one in shown.branches.items()},
    )
    if found.hash.hex() != shown.hash:
        raise InvalidRequest("the rules changed while they were read; try again")
    return found


def _seed(file: Path) -> bytes:
    seed = _text(file)
    if len(seed) != 32:
        raise InvalidRequest(f"{file} is no key of a branch: it has {len(seed)} bytes, not 32")
    return seed
