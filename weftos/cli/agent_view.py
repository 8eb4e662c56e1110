"""What ``agent inspect`` shows a person: identity, use beside limits as bars, rings, rights, last exit."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from weftos.cli import formats as f
from weftos.cli.output import Cell, Panel, Part, Table, tone
from weftos.cli.processes import exit_text
from weftos.rpc.agent_types import AgentDetail, ExitRecord, RingInfo

__all__ = ["changed_text", "inspect_view", "right_text"]

#: Share of a limit from which the bar turns yellow and red.
_HIGH, _FULL = 0.8, 0.95
#: Colour of what was found of a sandbox.
_FOUND = {"enforced": "good", "partial": "warn", "absent": "bad", "open": "dim"}


def inspect_view(detail: AgentDetail) -> list[Part]:
    """The parts to show, top to bottom."""
    parts: list[Part] = [_identity(detail), _resources(detail)]
    if detail.limits:
        parts.append(_limits(detail))
    parts += [_rings(detail.rings), _rights(detail)]
    if detail.profile:
        parts += [_sandbox(detail), _refusals(detail)]
    if detail.last_exit is not None:
        parts.append(_last_exit(detail.last_exit))
    return parts


def _identity(detail: AgentDetail) -> Panel:
    state = ("quarantined: its restart budget is spent", "bad") if detail.quarantined else tone(detail.state)
    pairs: list[tuple[str, Cell]] = [
        ("State", state),
        ("Name", detail.name),
        ("Agent ID", detail.agent_id),
        ("Program", " ".join([detail.program, *detail.args])),
        ("Process", "-" if detail.os_pid is None else str(detail.os_pid)),
        ("Incarnation", f"{detail.incarnation} ({f.count(detail.restarts, 'restart')})"),
        ("User", "-" if detail.uid < 0 else f"{detail.uid}, group {detail.gid}"),
        ("Parent", "operator" if detail.parent_pid is None else str(detail.parent_pid)),
        ("Children", _list(map(str, detail.children))),
        ("Started", f"{f.stamp(detail.started_at)} ({f.age(detail.uptime_secs)} ago)" if detail.os_pid else "-"),
        ("Log", detail.log_path or "-"),
    ]
    return Panel(f"Agent {detail.pid}", pairs)


def _resources(detail: AgentDetail) -> Panel:
    switches = f"{f.number(detail.voluntary_switches)} voluntary, {f.number(detail.involuntary_switches)} involuntary"
    parts = (
        (detail.rss_bytes, "resident"),
        (detail.pss_bytes, "with shared pages divided"),
        (detail.uss_bytes, "unique"),
    )
    memory = ", ".join(f"{f.size(amount)} {what}" for amount, what in parts)
    return Panel(
        "Resources",
        [
            ("Memory", memory),
            ("CPU", f.seconds(detail.cpu_seconds)),
            ("Threads", f.number(detail.threads)),
            ("Processes", f.number(detail.processes)),
            ("Descriptors", f"{f.number(detail.descriptors)} ({f.count(detail.open_files, 'file')})"),
            ("Switches", switches),
            ("Control group", detail.cgroup or "-"),
        ],
    )


def _limits(detail: AgentDetail) -> Table:
    table = Table(("LIMIT", "USED", "OF", "BAR", "%"), right=("USED", "OF", "%"), title="Limits")
    for name, limit in detail.limits.items():
        used = detail.usage.get(name)
        shown = "-" if used is None else _amount(name, used)
        if limit == 0 or used is None:
            table.rows.append((name, shown, "unlimited" if limit == 0 else _amount(name, limit), "", ""))
            continue
        fraction = detail.usage_percent.get(name, 100 * f.share(used, limit)) / 100
        style = _pressure(fraction)
        table.rows.append((name, shown, _amount(name, limit), (f.bar(fraction), style), (f"{fraction:.0%}", style)))
    return table


def _pressure(fraction: float) -> str:
    """Style for the use of something bounded."""
    return "bad" if fraction >= _FULL else "warn" if fraction >= _HIGH else "good"


def _amount(name: str, value: float) -> str:
    if name.endswith("_bytes"):
        return f.size(value)
    if name.endswith("_seconds"):
        return f.age(value)
    return f.number(int(value))


def _rings(rings: list[RingInfo]) -> Table:
    table = Table(
        ("RING", "DIR", "PEER", "DEPTH", "OF", "BAR", "MESSAGES", "RATE", "BYTES", "DATA RATE", "TOPICS"),
        right=("RING", "PEER", "DEPTH", "OF", "MESSAGES", "RATE", "BYTES", "DATA RATE"),
        title="Rings",
        empty="none",
    )
    for ring in rings:
        fraction = f.share(ring.depth_bytes, ring.capacity_bytes)
        table.rows.append(
            (
                str(ring.ring_id),
                ring.direction,
                "kernel" if ring.peer_pid == 0 else str(ring.peer_pid),
                f.size(ring.depth_bytes),
                f.size(ring.capacity_bytes),
                (f.bar(fraction, 8), _pressure(fraction)),
                f.number(ring.messages),
                f.rate(ring.messages_per_sec),
                f.size(ring.bytes),
                f.rate(ring.bytes_per_sec, data=True),
                _list(ring.topics),
            )
        )
    return table


def _rights(detail: AgentDetail) -> Panel:
    pairs: list[tuple[str, Cell]] = [(name, right_text(value)) for name, value in detail.capabilities.items()]
    pairs += [
        ("Role", detail.role or "-"),
        ("Epoch", f"{detail.epoch}, {changed_text(detail.changed_by, detail.changed_why)}"),
        ("Isolation", _list(detail.isolation)),
        ("Scratch", detail.scratch or "-"),
        ("Subscribed to", _list(detail.topics)),
        ("Offers", _list(detail.services)),
    ]
    return Panel("Rights", pairs)


def _sandbox(detail: AgentDetail) -> Table:
    title = f"Sandbox: {detail.profile}, as found from inside"
    table = Table(("PART", "STATE", "DETAIL"), title=title, empty="not looked at yet")
    for one in detail.confinement:
        table.rows.append((one.name, (one.state, _FOUND.get(one.state, "")), one.detail or "-"))
    return table


def _refusals(detail: AgentDetail) -> Table:
    seen = detail.refusals
    title = f"Refused by the system: calls {seen.calls or '-'}; paths {seen.paths or '-'}"
    table = Table(("WHAT", "NAME", "ERROR", "ABOUT", ">COUNT"), title=title, empty="nothing that the kernel knows of")
    for one in seen.counts:
        table.rows.append((one.what, one.name, one.errno or "-", one.about or "-", f.number(one.count)))
    return table


def changed_text(by: str, why: str) -> str:
    """Who made a version of capabilities, and why."""
    return f"by {by}: {why}" if by else "as it was started"


def right_text(value: Any) -> str:
    """A right: yes or no, the scope ``{"type": "Restricted", "pids": [1, 2]}`` as ``Restricted: 1, 2``, or lists."""
    if isinstance(value, bool):
        return f.yes(value)
    if not isinstance(value, dict):
        return str(value)
    if "type" not in value:
        said = (f"{name} {_list(map(str, part)) if isinstance(part, list) else part}" for name, part in value.items())
        return "; ".join(said) or "by default"
    items = [str(item) for name, part in value.items() if name != "type" for item in part]
    return f"{value.get('type')}: {', '.join(items) or 'nothing'}" if len(value) > 1 else str(value.get("type"))


def _last_exit(record: ExitRecord) -> Panel:
    return Panel(
        "Last exit",
        [
            ("How", exit_text(record)),
            ("Message", record.message),
            ("Incarnation", str(record.incarnation)),
            ("When", f"{f.stamp(record.ended_at)} (it ran {f.age(max(0.0, record.ended_at - record.started_at))})"),
            ("CPU", f"{f.seconds(record.cpu_user_secs)} user, {f.seconds(record.cpu_system_secs)} system"),
            ("Peak memory", f.size(record.max_rss_bytes)),
            ("Core file", f.yes(record.core_dumped)),
        ],
    )


def _list(items: Iterable[str]) -> str:

    return ", ".join(items) or "-"
