"""An async agent that answers at which level each of its appends was acknowledged."""


async def main(ctx):
    async for message in ctx:
        acks = [await ctx.service.append("app.level", {}, **how) for how in message.payload["how"]]
        await ctx.reply(message, [ack.durable for ack in acks])
