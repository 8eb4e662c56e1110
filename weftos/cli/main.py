"""The root of ``weaver``: global options, the list of groups, and the one place where errors become exit codes.

Nothing heavy is imported here. Every failure that WeftOS raises on purpose ends as one message on standard error and
the exit code of its class; a mistake in our own code is not caught and shows its traceback.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, NoReturn

import click

from weftos import __version__
from weftos.cli.lazy import LazyGroup
from weftos.errors import WeftError

__all__ = ["EXIT_CODES", "main", "root"]

#: What the exit status of ``weaver`` means, for scripts and for the help text.
EXIT_CODES: Final = (
    (0, "done"),
    (1, "failed; the message says why"),
    (2, "wrong usage, configuration or parameters"),
    (3, "the gate deferred the action: it waits for a decision"),
    (4, "denied, by capabilities or by the gate"),
    (5, "the chain, or an artifact, is not intact"),
    (6, "no kernel is running for this instance"),
    (130, "interrupted"),
)
_INTERRUPTED: Final = 130
#: What a shell reports for a program that SIGPIPE ended.
_BROKEN_PIPE: Final = 141

_COMMANDS: Final = {
    "kernel": ("weftos.cli.kernel_commands:kernel", "Start, stop and watch the kernel."),
    "agent": ("weftos.cli.agent_commands:agent", "Start, inspect, message and stop agents."),
    "capability": ("weftos.cli.capability_commands:capability", "What agents may do: show it, give it, take it."),
    "budget": ("weftos.cli.budget_commands:budget", "How much agents may use, and by whose rule."),
    "chain": ("weftos.cli.chain_commands:chain", "Read and verify the tamper-evident log."),
    "resource": ("weftos.cli.resource_commands:resource", "The resource tree, and who may do what there."),
    "auth": ("weftos.cli.auth_commands:auth", "Who may use the kernel: tokens for users, credentials for agents."),
    "config": ("weftos.cli.config_commands:config", "Settings: see them, change them, and see who changed them."),
    "artifact": ("weftos.cli.artifact_commands:artifact", "Keep files under the hash of their content."),
    "gate": ("weftos.cli.gate_commands:gate", "Ask the gate, and decide about what it leaves to a person."),
    "governance": (
        "weftos.cli.governance_commands:governance",
        "See, try and change the rules of the gate.",
    ),
    "env": (
        "weftos.cli.env_commands:env",
        "Choose how strict the rules are.",
    ),
    "ecc": ("weftos.cli.ecc_commands:ecc", "Memory: what agents remember, and what follows from what."),
    "recall": ("weftos.cli.recall_command:recall", "Answer a question with passages from what was read."),
    "custody": ("weftos.cli.custody_commands:custody", "Attest what this instance holds, for others."),
    "ipc": ("weftos.cli.ipc_commands:ipc", "Topics, proofs of messages, and messages that nobody handled."),
    "run": ("weftos.cli.run:run", "Run a job on agents."),
    "health": ("weftos.cli.system_commands:health", "Show what works and what does not."),
    "doctor": ("weftos.cli.doctor_command:doctor", "Examine this machine and this instance."),
    "version": ("weftos.cli.system_commands:version", "Show the version of WeftOS, Python and the system."),
    "completion": ("weftos.cli.system_commands:completion", "Write the completion script of a shell."),
}

#: Codes of errors that have a next step the message itself does not name.
_HINTS: Final = {
    "process.not_found": "`weaver agent list --all` shows the agents that exist",
    "process.table_full": "stop an agent, or raise kernel.max_processes in weftos.toml",
    "kernel.already_running": "`weaver kernel status` shows it; WEFTOS_HOME or --home names another instance",
    "gate.unavailable": "`weaver health` shows the state of the service process",
    "service.unavailable": "`weaver kernel services` shows the state of the service process",
    "chain.corrupted": "`weaver chain verify` lists what is damaged; the files are left as they are",
    "artifact.corrupted": "`weaver artifact verify` reads all of them; putting the content again mends it",
    "artifact.not_found": "`weaver artifact list` shows those there are",
    "artifact.quota": "`weaver artifact gc` makes room; the limit is artifacts.store_bytes in weftos.toml",
    "rpc.access_denied": "`weaver auth whoami` shows what you may do",
    "auth.token": "`weaver auth token list`, run by the operator, shows the tokens that count",
    "ecc.unavailable": "`weaver ecc status` says why; the files are left as they are",
    "ecc.collection_not_found": "`weaver ecc collections` lists the memory spaces",
    "ecc.quota": "`weaver ecc collections` shows what takes the room",
    "ecc.graph_not_found": "`weaver ecc collections` lists the memory spaces",
    "timeout": "the request may still be carried out: look before you repeat it",
}


class _Root(LazyGroup):
    """The root group: runs a command and ends the process with the right status."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """Run ``weaver``; never returns in standalone mode."""
        arguments = list(sys.argv[1:] if args is None else args)
        if not standalone_mode:
            return super().main(arguments, prog_name or "weaver", complete_var, standalone_mode=False, **extra)
        sys.exit(self._run(arguments, complete_var, extra))

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """As in click (``--help`` writes from here), with the output watched."""
        with _output_watched():
            return super().make_context(info_name, args, parent, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        """As in click, with the output watched."""
        with _output_watched():
            return super().invoke(ctx)

    def _run(self, arguments: list[str], complete_var: str | None, extra: dict[str, Any]) -> int:
        as_json = _wants_json(arguments)
        try:
            status = super().main(arguments, "weaver", complete_var, standalone_mode=False, **extra)
            with _output_watched():
                sys.stdout.flush()
        except WeftError as error:
            _complain(error.code, str(error), as_json=as_json, hint=_hint(error))
            return error.exit_code
        except click.ClickException as error:
            _complain_about_usage(error, as_json=as_json)
            return error.exit_code
        except (click.Abort, KeyboardInterrupt):
            return _INTERRUPTED
        except _ReaderGone:
            # Python would complain once more while flushing at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return _BROKEN_PIPE
        return status if isinstance(status, int) else 0


class _ReaderGone(Exception):  # noqa: N818 - not an error, an end
    """Whoever read our standard output has closed it."""


@contextmanager
def _output_watched() -> Iterator[None]:
    """Tell a closed pipe and a full disk under standard output from mistakes. Around all that writes.

    Raises:
        _ReaderGone: the pipe is closed.
        click.ClickException: the disk is full or failing.
    """
    try:
        yield
    except BrokenPipeError as error:
        raise _ReaderGone from error
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO):
            raise
        raise click.ClickException(f"the output could not be written: {error.strerror}") from error


def _hint(error: WeftError) -> str | None:
    """The next step, unless the message names it already."""
    hint = _HINTS.get(error.code)
    if hint is None:
        return None
    command = hint.split("`")[1] if "`" in hint else hint
    return None if command in str(error) else hint


def _wants_json(arguments: list[str]) -> bool:
    own = arguments[: arguments.index("--")] if "--" in arguments else arguments
    return "--json" in own


def _complain(code: str, message: str, *, as_json: bool, hint: str | None = None) -> None:
    if as_json:
        import json

        body = {"code": code, "message": message} | ({"hint": hint} if hint else {})
        click.echo(json.dumps({"error": body}, ensure_ascii=False), err=True)
        return
    click.echo(f"Error: {message}", err=True)
    if hint:
        click.echo(f"Hint: {hint}", err=True)


def _complain_about_usage(error: click.ClickException, *, as_json: bool) -> None:
    usage = isinstance(error, click.UsageError)
    hint = None
    if isinstance(error, click.UsageError) and error.ctx is not None:
        hint = f"`{error.ctx.command_path} --help` shows what is accepted"
    _complain("usage" if usage else "error", error.format_message(), as_json=as_json, hint=hint)


def _epilog() -> str:
    lines = [f"  {code:>3}  {meaning}" for code, meaning in EXIT_CODES]
    return "\b\nExit status:\n" + "\n".join(lines)


@click.group(
    cls=_Root,
    lazy=_COMMANDS,
    epilog=_epilog(),
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option(
    "--home",
    metavar="DIR",
    help="Directory of the instance. Default: WEFTOS_HOME, else the nearest .weftos upwards, else ~/.weftos.",
)
@click.version_option(__version__, prog_name="weaver", message="%(prog)s %(version)s")
@click.option("-v", "--verbose", is_flag=True, help="Name each question to the kernel and its time on standard error.")
def root(home: str | None, verbose: bool) -> None:  # noqa: ARG001 - read by what connects to the kernel
    """Operate WeftOS: a kernel that runs AI agents as real processes."""
    if home is not None:
        if not home:
            raise click.BadParameter("the directory's name is empty", param_hint="--home")
        os.environ["WEFTOS_HOME"] = os.path.abspath(home)


def main() -> NoReturn:
    """Entry point of the ``weaver`` command."""
    root.main()
    raise AssertionError("main ends the process")


if __name__ == "__main__":
    main()
