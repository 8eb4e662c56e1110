"""Writes ``docs/cli.md`` from the click tree, ``docs/rpc.md`` from the table of methods and ``docs/events.md`` from the
table of kinds: ``python -m weftos.cli.docs``.

The reference pages cannot lag behind the code, because they are made of it; a test compares them with what this module
would write. ``--check`` writes nothing and ends with status 1 when a page is out of date.
"""

from __future__ import annotations

import inspect
import re
import sys
import types as python_types
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Final, get_args, get_origin

import click
import msgspec

from weftos.cli.main import EXIT_CODES, root
from weftos.events import APP_PREFIX, KINDS, fields_of
from weftos.rpc import wire
from weftos.rpc.methods import METHODS, Method

__all__ = ["cli_page", "events_page", "rpc_page", "write_pages"]

_WIDTH: Final = 100
_GENERATED: Final = "<!-- Written by `python -m weftos.cli.docs`; edit the code instead. -->"


# --- weaver --------------------------------------------------------------------------------------


def cli_page() -> str:
    """The whole of ``docs/cli.md``."""
    lines = [
        "# weaver, the command line",
        "",
        _GENERATED,
        "",
        "`weaver` operates one instance of WeftOS. `--home` or `WEFTOS_HOME` names it; without them it is the nearest",
        "directory `.weftos` upwards from the working directory, else `~/.weftos`.",
        "",
        "- Every command that answers takes `--json` and then writes exactly one JSON value to standard output.",
        "  Its keys are those of the [control socket](rpc.md) and do not change.",
        "- Errors go to standard error: as text, or with `--json` as",
        '  `{"error": {"code", "message", "hint"?}}`. The code is stable, the message is for people.',
        "- In a pipe, tables are plain aligned columns with every cell in full. Colours and frames appear on a",
        "  terminal only; `NO_COLOR` turns the colours off there too.",
        "- No command waits without end. Without a kernel, a command that needs one fails at once with status 6.",
        "- `chain verify`, `chain status` and `chain local`, and `artifact get`, `list`, `stat` and `verify` work from",
        "  the files when no kernel runs.",
        "",
        "## Exit status",
        "",
        "| Status | Meaning |",
        "|---|---|",
        *[f"| {code} | {meaning} |" for code, meaning in EXIT_CODES],
        "",
    ]
    for context in _contexts(root, None, "weaver"):
        lines += _command_section(context)
    return "\n".join(lines).rstrip() + "\n"


def _contexts(command: click.Command, parent: click.Context | None, name: str) -> Iterator[click.Context]:
    """A context for each command of the tree, as click would make it: a command's usage line has its full path."""
    settings: dict[str, Any] = {**command.context_settings, "terminal_width": _WIDTH, "max_content_width": _WIDTH}
    context = click.Context(command, parent=parent, info_name=name, **settings)
    yield context
    if isinstance(command, click.Group):
        for child_name in command.list_commands(context):
            child = command.get_command(context, child_name)
            assert child is not None, "a listed command exists"
            yield from _contexts(child, context, child_name)


def _command_section(context: click.Context) -> list[str]:
    path = context.command_path
    heading = "#" * min(path.count(" ") + 2, 4)
    return [f"{heading} {path}", "", "```text", context.command.get_help(context).rstrip(), "```", ""]


# --- control socket ------------------------------------------------------------------------------


def rpc_page() -> str:
    """The whole of ``docs/rpc.md``."""
    lines = [
        "# The control socket",
        "",
        _GENERATED,
        "",
        "JSON-RPC 2.0 over the unix socket `run/kernel.sock` of the instance: one request per line, one answer per",
        "line, answers in the order of the requests. Both ends check the other's user id (`SO_PEERCRED`): the user of",
        "the kernel and root are served, and whom the operator let in; agents of the kernel are not. Each method has a",
        "class, and who has not that class is refused, on the log too: see [access.md](access.md). Parameters are",
        "given by name. Batches are refused.",
        "",
        "```text",
        '→ {"jsonrpc":"2.0","id":1,"method":"agent.send","params":{"pid":1,"message":"hello"}}',
        '← {"jsonrpc":"2.0","id":1,"result":{"delivered":true,"reply":"hello","reply_type":"text",…}}',
        "```",
        "",
        "An error has JSON-RPC's number, a message for people, and a stable code in `data.code`:",
        "",
        "| Number | When |",
        "|---|---|",
        f"| {wire.PARSE_ERROR} | the line is not JSON |",
        f"| {wire.INVALID_REQUEST} | the line is JSON and no request |",
        f"| {wire.METHOD_NOT_FOUND} | there is no such method |",
        f"| {wire.INVALID_PARAMS} | the parameters do not fit the method |",
        f"| {wire.WEFT_ERROR} | everything else; `data.code` says what |",
        "",
        "Times named `timestamp` or `*_at` are seconds since 1970, spans are seconds, sizes are bytes.",
        "",
        "| Method | Access | Does |",
        "|---|---|---|",
        *[f"| [`{m.name}`](#{_anchor(m.name)}) | {m.access.value} | {m.about} |" for m in METHODS.values()],
        "",
    ]
    structs: dict[str, type[msgspec.Struct]] = {}
    for method in METHODS.values():
        lines += _method_section(method, structs)
    lines += ["## Types", ""]
    # Describing a type may find further ones.
    described: set[str] = set()
    while missing := sorted(structs.keys() - described):
        for name in missing:
            described.add(name)
            lines += _struct_section(structs[name], structs)
    return "\n".join(lines).rstrip() + "\n"


def _anchor(title: str) -> str:
    return re.sub(r"[^a-z0-9_-]", "", title.lower())


def _method_section(method: Method, structs: dict[str, type[msgspec.Struct]]) -> list[str]:
    lines = [f"## {method.name}", "", method.about, ""]
    if method.params.__struct_fields__:
        lines += [_prose(method.params), "", *_field_table(method.params, structs), ""]
    else:
        lines += ["No parameters.", ""]
    return [*lines, f"Result: {_type_text(method.result, structs)}.", ""]


def _struct_section(struct: type[msgspec.Struct], structs: dict[str, type[msgspec.Struct]]) -> list[str]:
    return [f"### {struct.__name__}", "", _prose(struct), "", *_field_table(struct, structs), ""]


def _prose(struct: type[msgspec.Struct]) -> str:
    text = inspect.getdoc(struct) or ""
    return re.sub(r"\s+", " ", text.split("Attributes:")[0]).replace("``", "`").strip()


def _field_table(struct: type[msgspec.Struct], structs: dict[str, type[msgspec.Struct]]) -> list[str]:
    text = inspect.getdoc(struct) or ""
    about = {
        name: re.sub(r"\s+", " ", words).replace("``", "`").strip()
        for name, words in re.findall(r"^    (\w+): (.+(?:\n {8}.+)*)", text, re.MULTILINE)
    }
    lines = ["| Key | Type | Default | |", "|---|---|---|---|"]
    for field in msgspec.structs.fields(struct):
        default = "required" if field.required else f"`{_default_text(field)}`"
        lines.append(
            f"| `{field.name}` | {_type_text(field.type, structs)} | {default} | {about.get(field.name, '')} |"
        )
    return lines


def _default_text(field: msgspec.structs.FieldInfo) -> str:
    value = field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()
    return msgspec.json.encode(value).decode("utf-8")


_PLAIN: Final = {
    int: "integer",
    float: "number",
    str: "string",
    bytes: "string in base64",
    bool: "boolean",
    dict: "object",
    type(None): "null",
}


def _type_text(kind: Any, structs: dict[str, type[msgspec.Struct]]) -> str:
    """A type in JSON's words; structs are linked and entered in ``structs``."""
    origin, args = get_origin(kind), get_args(kind)
    if kind is Any:
        return "any"
    if origin is Annotated:
        return _type_text(args[0], structs)
    if origin is list or origin is tuple:
        return f"list of {_type_text(args[0], structs)}"
    if origin is dict:
        return f"object of {_type_text(args[1], structs)}"
    if origin is python_types.UnionType or str(origin) == "typing.Union":
        return " or ".join(_type_text(part, structs) for part in args)
    if str(origin) == "typing.Literal":
        return " or ".join(f'`"{value}"`' for value in args)
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        structs[kind.__name__] = kind
        return f"[{kind.__name__}](#{_anchor(kind.__name__)})"
    return _PLAIN[kind]


# --- events --------------------------------------------------------------------------------------


def events_page() -> str:
    """The whole of ``docs/events.md``."""
    lines = [
        "# Events",
        "",
        _GENERATED,
        "",
        "What the kernel writes on the log, by kind. A payload has all fields without a question mark, each of its",
        "type, and no others; anything else is refused when it is appended. A kind may get further optional fields",
        f"later; what it has keeps its name and meaning. Kinds that begin with `{APP_PREFIX}` belong to agents, who",
        "put into them what they like. `weaver chain kinds` shows the same.",
        "",
        "| Kind | Says | Payload |",
        "|---|---|---|",
    ]
    for kind, about in KINDS.items():
        fields = (
            f"`{name}`{'' if required else '?'} {text.replace('|', chr(92) + '|')}"
            for name, text, required in fields_of(kind)
        )
        lines.append(f"| `{kind}` | {about} | {', '.join(fields)} |")
    return "\n".join(lines) + "\n"


# --- files ---------------------------------------------------------------------------------------


def write_pages(directory: Path, *, check: bool = False) -> list[Path]:
    """Write the pages that differ from what they should be.

    Args:
        directory: of the documentation.
        check: write nothing.

    Returns:
        The pages that differ.
    """
    stale = []
    for name, text in (("cli.md", cli_page()), ("rpc.md", rpc_page()), ("events.md", events_page())):
        path = directory / name
        if path.is_file() and path.read_text("utf-8") == text:
            continue
        stale.append(path)
        if not check:
            path.write_text(text, "utf-8")
    return stale


@click.command()
@click.option("--check", is_flag=True, help="Write nothing; end with status 1 when a page is out of date.")
@click.argument("directory", type=click.Path(exists=True, file_okay=False, path_type=Path), default=Path("docs"))
def main(check: bool, directory: Path) -> None:
    """Write docs/cli.md, docs/rpc.md and docs/events.md."""
    stale = write_pages(directory, check=check)
    for path in stale:
        click.echo(f"{path} {'is out of date' if check else 'written'}")
    sys.exit(1 if check and stale else 0)


if __name__ == "__main__":
    main()
