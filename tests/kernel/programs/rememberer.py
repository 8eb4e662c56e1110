"""Does with memory what it is told."""

from weftos.errors import WeftError


def main(ctx):
    for message in ctx:
        order = dict(message.payload)
        room, _, name = order["do"].partition(".")
        act = getattr(getattr(ctx, room), name)
        try:
            ctx.reply(message, {"value": plain(act(*order["args"], **order["options"]))})
        except WeftError as error:
            ctx.reply(message, {"error": error.code})


def plain(value):
    if isinstance(value, list):
        return [plain(one) for one in value]
    return [value.text, value.record, value.metadata] if hasattr(value, "text") else value
