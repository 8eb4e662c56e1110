"""The service process is killed at each step of a rotation; what is left is whole, and as the log says."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from test_kernel_auth import ask, weaver

from weftos.auth.sealing import seal_box
from weftos.auth.vault import about_credential
from weftos.errors import ServiceUnavailable, WeftError


def started(kernel, step):
    reader, writer = os.pipe()
    process = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("dying_service.py")), str(step)],
        env=os.environ | {"WEFTOS_HOME": str(kernel.home.root), "WEFTOS_READY_FD": str(writer)},
        pass_fds=[writer],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    os.close(writer)
    with os.fdopen(reader, "rb") as file:
        assert json.loads(file.readline())["code"] == ""
    kernel.os_pid = process.pid
    return process


def rotated(kernel, secret):
    key = kernel.call("auth.vault-key").public_key
    box = seal_box(secret, key, about_credential("mail", "other", "rotate"))
    return kernel.call("auth.credential-rotate", name="mail", box=box)


def available(kernel):
    try:
        return kernel.call("auth.credential-list")
    except WeftError:
        return None


@pytest.mark.slow
def test_a_kill_at_any_step_of_a_rotation(cold):
    cold.start()
    weaver(cold, "auth", "credential", "add", "mail", "--agent", "mailer", stdin=b"secret 0")
    cold.stop()
    secret, seen = b"secret 0", set()
    for step in range(60):
        process = started(cold, step)
        offered, killed = b"secret %d" % (step + 1), False
        try:
            rotated(cold, offered)
        except ServiceUnavailable:
            killed = True
        rows = cold.until(lambda: available(cold))
        mailer = cold.spawn("holder", name="mailer")
        got = cold.until(lambda agent=mailer: answered(cold, agent))
        assert got in (digest(secret), digest(offered)), "the old one or the new one, whole"
        if got == digest(offered):
            secret = offered
        seen.add((killed, got == digest(offered)))
        assert [path.name for path in cold.home.vault.iterdir()] == [f"mail.v{rows[0].version}"]
        told = [one.payload for one in cold.events() if one.kind == "auth.credential.rotate"]
        assert len(told) + 1 == rows[0].version, "each rotation that counts is on the log, and no other"
        cold.audit()
        cold.stop()
        assert process.wait(20) == 0
        cold.os_pid = 0
        if not killed:
            break
    assert step > 8
    assert seen == {(True, False), (True, True), (False, True)}


def digest(secret):
    return hashlib.sha256(secret).hexdigest()


def answered(kernel, agent):
    found = ask(kernel, agent, digest="mail")
    return found if isinstance(found, str) else None
