"""``weaver health``, ``version`` and ``completion``."""

from __future__ import annotations

import click

from weftos.cli.output import Panel, Table, emit_json, show, tone
from weftos.cli.session import call, json_option

__all__ = ["completion", "health", "version"]


@click.command()
@json_option
@click.pass_context
def health(ctx: click.Context, as_json: bool) -> None:
    """Show what works and what does not.

    The exit status is 1 when something is unhealthy, and 0 when it is healthy or merely degraded.
    """
    from weftos.rpc.kernel_types import HealthReport

    result: HealthReport = call("kernel.health")
    if as_json:
        emit_json(result)
    else:
        services = Table(("SERVICE", "HEALTH", "DETAIL"), empty="no services")
        services.rows = [(row.name, tone(row.health), row.detail or "-") for row in result.services]
        pairs = [("Overall", tone(result.overall)), ("Limits enforced", ", ".join(result.limits_enforced) or "none")]
        pairs += [("Degraded", (text, "warn")) for text in result.degraded]
        show(Panel("Health", pairs), services)
    ctx.exit(1 if result.overall == "unhealthy" else 0)


@click.command()
@json_option
def version(as_json: bool) -> None:
    """Show the version of WeftOS, Python and the system."""
    import platform

    from weftos import __version__

    facts = {
        "version": __version__,
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "system": platform.system(),
        "release": platform.release(),
        "machine": platform.machine(),
    }
    if as_json:
        emit_json(facts)
    else:
        show(
            f"weaver {__version__} (Python {facts['python']}, {facts['system']} {facts['release']} {facts['machine']})"
        )


@click.command()
@click.argument("shell", type=click.Choice(("bash", "zsh", "fish")))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Write the completion script of a shell.

    \b
    bash:  weaver completion bash >> ~/.bash_completion
    zsh:   weaver completion zsh > a file _weaver in a directory of $fpath
    fish:  weaver completion fish > ~/.config/fish/completions/weaver.fish
    """  # noqa: D301 -- click's mark is the backspace itself
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None, "the choices are those that click has"
    click.echo(kind(ctx.find_root().command, {}, "weaver", "_WEAVER_COMPLETE").source())
