"""As the rememberer, as a coroutine."""

from weftos.errors import WeftError


async def main(ctx):
    async for message in ctx:
        order = dict(message.payload)
        room, _, name = order["do"].partition(".")
        act = getattr(getattr(ctx, room), name)
        try:
            await ctx.reply(message, {"value": plain(await act(*order["args"], **order["options"]))})
        except WeftError as error:
            await ctx.reply(message, {"error": error.code})


def plain(value):
    if isinstance(value, list):
        return [plain(one) for one in value]
    return [value.text, value.record, value.metadata] if hasattr(value, "text") else value
