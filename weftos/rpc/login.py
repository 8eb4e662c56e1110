"""Logging in on the control socket with a token, whose secret stays with the client."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from typing import Any

from weftos.auth.tokens import Challenge, Token, parse
from weftos.errors import TokenRefused
from weftos.rpc.auth_types import ChallengeResult, LoginParams, WhoAmI
from weftos.rpc.types import NoParams

__all__ = ["log_in", "token_from_file"]

_TOKEN_FILE_BYTES = 4096


def log_in(ask: Callable[[str, Any, Any], Any], token: Token, server_uid: int) -> WhoAmI:
    """Answer a challenge of the kernel.

    Args:
        ask: calls a method on the connection that is to be logged in: name, parameters, type of the result.
        token: to use.
        server_uid: user of the server, as the system told it.

    Raises:
        TokenRefused: the kernel does not take it.
    """
    given: ChallengeResult = ask("auth.challenge", NoParams(), ChallengeResult)
    challenge = Challenge(given.nonce, given.boot_id, server_uid, given.uid)
    params = LoginParams(nonce=given.nonce, public_key=token.public_key, signature=token.sign(challenge))
    found: WhoAmI = ask("auth.login", params, WhoAmI)
    return found


def token_from_file(path: str) -> Token:
    """Read a token from a file that nobody else may read.

    Raises:
        TokenRefused: it cannot be read, may be read by others, or holds no token.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise TokenRefused(f"the token in {path} cannot be read: {error.strerror}") from error
    with os.fdopen(fd, "rb") as file:
        state = os.fstat(fd)
        if not stat.S_ISREG(state.st_mode) or state.st_mode & 0o077:
            raise TokenRefused(f"{path} may be read by others, or is no file; consider its token known, and revoke it")
        data = file.read(_TOKEN_FILE_BYTES)
    return parse(data.decode("ascii", "replace").strip())
