"""An async agent: several calls under way at once."""

import asyncio


async def main(ctx):
    async for message in ctx:
        if message.payload == "boom":
            raise RuntimeError("boom")
        to, n = message.payload["to"], message.payload["n"]
        answers = await asyncio.gather(*(ctx.call(to, {"i": i}) for i in range(n)))
        await ctx.reply(message, sorted(answer["i"] for answer in answers))
