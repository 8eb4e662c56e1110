"""Appends one event and tells when witnesses have signed for it."""


def main(ctx):
    for message in ctx:
        done = ctx.service.append("app.important", {"text": message.payload}, cosigned=True)
        ctx.reply(message, {"seq": done.seq, "cosigned_size": ctx.service.head()["cosigned_size"]})
