"""Takes orders under keys and records what it makes from what; answers each message with what came of it."""

from weftos.errors import WeftError


def main(ctx):
    for message in ctx:
        act, *rest = message.payload
        try:
            if act == "order":
                key, number = rest
                answer = ctx.service.append("app.order", {"n": number}, key=key).seq
            else:
                child, digest, parent, parent_digest, how = rest
                answer = ctx.service.derive(
                    child,
                    bytes.fromhex(digest),
                    parent,
                    bytes.fromhex(parent_digest) if parent_digest else None,
                    how,
                    3,
                    f"{child} by hand",
                ).seq
        except WeftError as error:
            answer = error.code
        ctx.reply(message, answer)
