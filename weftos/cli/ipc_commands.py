"""``weaver ipc``: topics, publishing by hand, and messages that nobody handled."""

from __future__ import annotations

import click

from weftos.cli import formats as f
from weftos.cli.messages import message_options, parse_message
from weftos.cli.output import Table, emit_json, show
from weftos.cli.session import PID, call, json_option
from weftos.cli.window_proofs import prove
from weftos.rpc import message_types as mt
from weftos.rpc import types as t

__all__ = ["ipc"]


@click.group()
def ipc() -> None:
    """Topics, proofs of messages, and messages that nobody handled."""


ipc.add_command(prove)


@ipc.command()
@json_option
def topics(as_json: bool) -> None:
    """List the topics with who subscribes and who publishes."""
    rows: list[mt.TopicInfo] = call("ipc.topics", t.NoParams())
    if as_json:
        emit_json(rows)
        return
    table = Table(("TOPIC", "SUBSCRIBERS", "PIDS", "PUBLISHERS"), right=("SUBSCRIBERS",), empty="no topics")
    for row in rows:
        table.rows.append((row.topic, f.number(row.subscriber_count), _pids(row.subscribers), _pids(row.publishers)))
    show(table)


def _pids(pids: list[int]) -> str:
    return ", ".join(map(str, pids)) or "-"


@ipc.command()
@click.argument("topic")
@click.argument("message")
@message_options
@json_option
def publish(topic: str, message: str, text: bool, as_json: bool) -> None:
    """Send a message to all subscribers of a topic.

    MESSAGE is sent as JSON when it is a JSON object or array, else as text; - reads it from standard input.
    """
    params = mt.PublishParams(topic=topic, message=parse_message(message, as_text=text))
    result: mt.PublishResult = call("ipc.publish", params)
    if as_json:
        emit_json(result)
    else:
        show(
            f"{result.topic}: delivered to {f.number(result.delivered)} of {f.count(result.subscribers, 'subscriber')}"
        )


@ipc.command()
@click.argument("pid", type=PID)
@click.argument("topic")
@json_option
def subscribe(pid: int, topic: str, as_json: bool) -> None:
    """Subscribe an agent to a topic."""
    result: mt.SubscribeResult = call("ipc.subscribe", mt.SubscribeParams(pid=pid, topic=topic))
    if as_json:
        emit_json(result)
    else:
        show(f"agent {result.pid} is subscribed to {result.topic}")


@ipc.command("dead-letters")
@click.option(
    "-n",
    "--count",
    type=click.IntRange(0, 100_000),
    default=20,
    show_default=True,
    help="Newest letters to show; 0 is all.",
)
@json_option
def dead_letters(count: int, as_json: bool) -> None:
    """List messages that nobody will handle, with the reason."""
    rows: list[mt.DeadLetterInfo] = call("ipc.dead-letters", t.CountParams(count=count))
    if as_json:
        emit_json(rows)
        return
    table = Table(
        ("TIME", "FROM", "TO", "REASON", "TRIES", "TYPE", "SIZE", "DETAIL", "PREVIEW"),
        right=("FROM", "TO", "TRIES", "SIZE"),
        empty="no dead letters",
    )
    for row in rows:
        table.rows.append(
            (
                f.clock(row.timestamp),
                str(row.sender),
                str(row.target),
                row.reason,
                f.number(row.deliveries),
                row.payload_type,
                f.size(row.size_bytes),
                row.detail or "-",
                row.preview or "-",
            )
        )
    show(table)
