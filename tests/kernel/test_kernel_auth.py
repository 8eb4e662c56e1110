"""Tokens and credentials of a running kernel: who gets what, what survives, and that no secret is in the clear."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import subprocess
import sys

import pytest

from weftos.auth.tokens import PREFIX, Challenge, Token, parse
from weftos.errors import AccessDenied, CredentialRefused, InvalidRequest, TokenRefused, WeftError
from weftos.rpc.client import RpcClient
from weftos.rpc.login import log_in

SECRET = b"hunter2-and-then-some-more-of-it"
NEWER = b"a-newer-secret-of-the-same-name"
WHO = f"operator:{os.geteuid()}/"


def weaver(kernel, *args, stdin=b"", status=0, **environ):
    ran = subprocess.run(
        [sys.executable, "-m", "weftos.cli.main", *args],
        env=os.environ | {"WEFTOS_HOME": str(kernel.home.root)} | environ,
        input=stdin,
        capture_output=True,
        timeout=60,
    )
    assert ran.returncode == status, (ran.returncode, ran.stdout, ran.stderr)
    return ran


def records(kernel, kind):
    return [one for one in kernel.events() if one.kind == kind]


def ask(kernel, agent, **payload):
    return kernel.call("agent.send", pid=agent.pid, message=payload, timeout_secs=15.0).reply


def issue(kernel, **scope):
    token = Token.make()
    kernel.call("auth.token-issue", fingerprint=token.fingerprint, name=scope.pop("name", "ci"), **scope)
    return token


def holder_of(kernel, token):
    return RpcClient(kernel.home.socket, timeout=20.0, token=token)


# --- credentials ------------------------------------------------------------------------------------------------------


def test_an_agent_that_is_named_gets_a_credential_and_nobody_else(kernel):
    weaver(kernel, "auth", "credential", "add", "mail", "--agent", "mailer", "--type", "api-key", stdin=SECRET + b"\n")
    weaver(kernel, "auth", "credential", "add", "nobodys", stdin=SECRET)
    mailer, other = kernel.spawn("holder", name="mailer"), kernel.spawn("holder", name="other")
    assert ask(kernel, mailer, digest="mail") == hashlib.sha256(SECRET).hexdigest()
    for agent, name in ((other, "mail"), (mailer, "nobodys"), (other, "missing")):
        refused = ask(kernel, agent, get=name)
        assert refused["error"] == "auth.credential"
        assert "there is no credential" in refused["text"], "what there is for others is nobody's business"
    for name in ("", "../x", "a" * 5000):
        assert ask(kernel, mailer, get=name)["error"] == "rpc.invalid"
    # A child may be called as it likes: its name is below its parent's.
    assert ask(kernel, other, child="mail", called="mailer")["error"] == "auth.credential"
    assert ask(kernel, mailer, child="mail", called="mailer")["error"] == "auth.credential"
    used = records(kernel, "auth.credential.use")
    assert [(one.payload["name"], one.payload["pid"], one.payload["scope"]) for one in used] == [
        ("mail", mailer.pid, "mailer")
    ]
    denied = [
        one.payload for one in records(kernel, "capability.deny") if one.payload["action"] == "auth.credential.use"
    ]
    assert len(denied) == 8


def test_an_agent_that_may_reach_nothing_gets_no_credential(kernel):
    weaver(kernel, "auth", "credential", "add", "mail", "--agent", "mailer", stdin=SECRET)
    bound = {"can_exec_tools": False, "can_network": False}
    mailer = kernel.spawn("holder", name="mailer", capabilities=bound)
    assert ask(kernel, mailer, get="mail")["error"] == "gate.denied"


def test_a_rotated_credential_has_the_new_secret_and_a_removed_one_none(kernel):
    weaver(kernel, "auth", "credential", "add", "mail", "--agent", "mailer", stdin=SECRET)
    mailer = kernel.spawn("holder", name="mailer")
    assert ask(kernel, mailer, digest="mail") == hashlib.sha256(SECRET).hexdigest()
    shown = json.loads(weaver(kernel, "auth", "credential", "rotate", "mail", "--json", stdin=NEWER).stdout)
    assert shown["version"] == 2
    assert ask(kernel, mailer, digest="mail") == hashlib.sha256(NEWER).hexdigest()
    assert [one.name for one in kernel.home.vault.iterdir()] == ["mail.v2"]
    rows = json.loads(weaver(kernel, "auth", "credential", "list", "--json").stdout)
    assert [(row["name"], row["version"], row["agents"]) for row in rows] == [("mail", 2, ["mailer"])]
    weaver(kernel, "auth", "credential", "remove", "mail", "--reason", "no more")
    assert ask(kernel, mailer, get="mail")["error"] == "auth.credential"
    assert list(kernel.home.vault.iterdir()) == []
    kinds = [kind for kind in kernel.kinds() if kind.startswith("auth.credential") and kind != "auth.credential.use"]
    assert kinds == ["auth.credential.add", "auth.credential.rotate", "auth.credential.remove"]
    assert all(one.payload["by"].startswith(WHO) for one in records(kernel, "auth.credential.rotate"))


def test_what_is_asked_for_credentials_wrongly_is_refused(kernel):
    box = base64.b64encode(bytes(80)).decode()
    for method, params in (
        ("auth.credential-add", {"name": "mail", "type": "api-key", "box": box}),
        ("auth.credential-add", {"name": "../mail", "box": box}),
        ("auth.credential-add", {"name": "mail", "type": "nonsense", "box": box}),
        ("auth.credential-add", {"name": "mail", "agents": ["a b"], "box": box}),
        ("auth.credential-add", {"name": "mail", "box": "AAAA"}),
        ("auth.credential-rotate", {"name": "missing", "box": box}),
        ("auth.credential-remove", {"name": "missing", "reason": "r"}),
        ("auth.credential-remove", {"name": "missing", "reason": ""}),
    ):
        with pytest.raises((InvalidRequest, CredentialRefused)):
            kernel.call(method, **params)
    assert kernel.call("auth.credential-list") == []
    assert not [kind for kind in kernel.kinds() if kind.startswith("auth.credential")]


def test_a_secret_on_the_command_line_is_refused_and_explained(shared):
    for args in (
        ("auth", "credential", "add", "mail", "hunter2"),
        ("auth", "credential", "add", "mail", "--secret", "hunter2"),
        ("auth", "credential", "rotate", "mail", "--value", "hunter2"),
        ("auth", "token", "verify", "hunter2"),
        ("auth", "token", "verify", "--token", "hunter2"),
    ):
        ran = weaver(shared, *args, status=2)
        assert b"command line" in ran.stderr
        assert b"hunter2" not in ran.stderr + ran.stdout
    weaver(shared, "auth", "credential", "add", "mail", status=2, stdin=b"")
    weaver(shared, "auth", "credential", "add", "mail", status=2, stdin=b"x" * 20_000)


def test_after_a_kill_credentials_are_as_the_log_says_and_leftovers_are_gone(kernel):
    weaver(kernel, "auth", "credential", "add", "mail", "--agent", "mailer", stdin=SECRET)
    # What a kill leaves before and after the record of a rotation.
    (kernel.home.vault / "mail.v2").write_bytes(b"announced nowhere")
    (kernel.home.vault / "mail.v3.tmp").write_bytes(b"half")
    (kernel.home.vault / "gone.v1").write_bytes(b"removed on the log")
    kernel.kill()
    kernel.start()
    assert [one.name for one in kernel.home.vault.iterdir()] == ["mail.v1"]
    mailer = kernel.spawn("holder", name="mailer")
    assert ask(kernel, mailer, digest="mail") == hashlib.sha256(SECRET).hexdigest()


def test_a_vault_without_its_key_refuses_and_the_rest_goes_on(kernel):
    weaver(kernel, "auth", "credential", "add", "mail", "--agent", "mailer", stdin=SECRET)
    kernel.stop()
    (kernel.home.keys / "vault.key").unlink()
    kernel.start()
    mailer = kernel.spawn("holder", name="mailer")
    assert ask(kernel, mailer, get="mail")["error"] == "auth.vault"
    with pytest.raises(WeftError, match="key of the vault is gone"):
        kernel.call("auth.vault-key")


# --- tokens -----------------------------------------------------------------------------------------------------------


def test_a_token_gives_its_class_and_what_it_does_is_signed_with_its_name(kernel):
    token = issue(kernel, access="operate")
    with holder_of(kernel, token) as client:
        who = client.call("auth.whoami")
        assert (who.access, who.token.name) == ("operate", "ci")
        agent = client.call("agent.spawn", {"program": "echo", "restart": "never"})
        with pytest.raises(AccessDenied):
            client.call("kernel.kill-process", {"pid": agent.pid})
        with pytest.raises(AccessDenied):
            client.call("auth.token-issue", {"fingerprint": bytes(32), "name": "more", "access": "admin"})
        client.call("agent.stop", {"pid": agent.pid})
    spawned = next(one for one in records(kernel, "agent.spawn") if one.payload["pid"] == agent.pid)
    assert spawned.payload["by"].startswith(WHO)
    assert spawned.payload["by"].endswith("#ci")
    assert "#ci asked" in kernel.until(lambda: records(kernel, "agent.stop"))[-1].payload["by"]
    refused = kernel.until(lambda: len(found := records(kernel, "access.deny")) == 2 and found)
    assert {one.payload["method"] for one in refused} == {"kernel.kill-process", "auth.token-issue"}
    assert kernel.until(lambda: records(kernel, "auth.token.use"))[0].payload["id"] == token.id


def test_a_token_for_methods_and_agents_is_good_for_nothing_else(kernel):
    mine, other = kernel.spawn("echo", name="mine"), kernel.spawn("echo", name="other")
    token = issue(kernel, methods=["agent.send", "agent.inspect", "ping"], agents=["mine"])
    with holder_of(kernel, token) as client:
        assert client.call("agent.send", {"pid": mine.pid, "message": "hello"}).reply == "hello"
        for method, params in (
            ("agent.send", {"pid": other.pid, "message": "hello"}),
            ("agent.inspect", {"pid": other.pid}),
            ("agent.inspect", {"pid": 99}),
            ("agent.stop", {"pid": mine.pid}),
            ("ping", {}),
            ("agent.list", {}),
        ):
            with pytest.raises(AccessDenied):
                client.call(method, params)


def test_a_revoked_token_ends_on_open_connections_and_an_expired_one_too(kernel):
    lasting, short = issue(kernel, access="read"), issue(kernel, access="read", name="short", valid_secs=1.5)
    with holder_of(kernel, lasting) as one, holder_of(kernel, short) as two:
        assert one.call("ping") == two.call("ping") == "pong"
        kernel.call("auth.token-revoke", id="ci", reason="a test")
        with pytest.raises(AccessDenied, match="revoked"):
            one.call("ping")

        def over():
            try:
                return two.call("ping") != "pong"
            except AccessDenied as error:
                return "expired" in str(error)

        kernel.until(over)
    for token in (lasting, short):
        with pytest.raises(TokenRefused), holder_of(kernel, token) as client:
            client.call("ping")
    with pytest.raises(TokenRefused):
        kernel.call("auth.token-revoke", id="ci", reason="again")
    issue(kernel, access="read", name="next")
    assert [one.name for one in kernel.call("auth.token-list")] == ["next"], "the expired one went with it"


def test_a_recorded_login_opens_no_other_connection_and_not_the_same_again(kernel):
    token = issue(kernel, access="admin")
    with RpcClient(kernel.home.socket) as one, RpcClient(kernel.home.socket) as two:
        sent = []

        def recording(method, params, result):
            sent.append((method, params))
            return one.call(method, params, result)

        log_in(recording, token, os.geteuid())
        method, login = sent[-1]
        assert method == "auth.login"
        for client in (two, one):
            with pytest.raises(TokenRefused):
                client.call(method, login)
        # Nor does an answer to the challenge of one connection fit on another.
        given = one.call("auth.challenge")
        answer = token.sign(Challenge(given.nonce, given.boot_id, os.geteuid(), given.uid))
        two.call("auth.challenge")
        with pytest.raises(TokenRefused):
            two.call("auth.login", {"nonce": given.nonce, "public_key": token.public_key, "signature": answer})
        # Nor one that was made for a server of another user, which passes challenges on.
        given = one.call("auth.challenge")
        relayed = token.sign(Challenge(given.nonce, given.boot_id, os.geteuid() + 1, given.uid))
        with pytest.raises(TokenRefused):
            one.call("auth.login", {"nonce": given.nonce, "public_key": token.public_key, "signature": relayed})
    reasons = [one.payload["reason"] for one in kernel.until(lambda: records(kernel, "access.deny"))]
    assert any("not given on this connection" in reason for reason in reasons)


def test_who_guesses_is_cut_off(kernel):
    with RpcClient(kernel.home.socket) as client:
        client.call("ping")
        for _ in range(6):
            with pytest.raises(TokenRefused):
                client.call("auth.login", {"nonce": bytes(32), "public_key": bytes(32), "signature": bytes(64)})
        with pytest.raises(WeftError, match="ended before it answered"):
            client.call("ping")
    counted = kernel.until(lambda: [r for r in records(kernel, "access.deny") if r.payload.get("count", 1) > 1])
    assert len(records(kernel, "access.deny")) == 2
    assert counted[0].payload["count"] == 5


def test_tokens_survive_a_kill_and_the_audit_agrees(kernel):
    kept, revoked = issue(kernel, access="read", name="kept"), issue(kernel, access="read", name="revoked")
    kernel.call("auth.token-revoke", id=revoked.id, reason="a test")
    kernel.audit()
    before = kernel.call("auth.token-list")
    kernel.kill()
    kernel.start()
    assert kernel.call("auth.token-list") == before
    kernel.audit()
    with holder_of(kernel, kept) as client:
        assert client.call("ping") == "pong"
    with pytest.raises(TokenRefused), holder_of(kernel, revoked) as client:
        client.call("ping")
    held = kernel.call("kernel.state")
    assert [(one.name, one.fingerprint) for one in held.tokens] == [("kept", kept.fingerprint.hex())]


def test_the_command_line_issues_uses_shows_and_revokes(kernel, tmp_path):
    file = tmp_path / "ci.token"
    weaver(kernel, "auth", "token", "issue", "ci", "--access", "read", "--for", "1h", "-o", str(file))
    assert file.stat().st_mode & 0o777 == 0o600
    text = file.read_text().strip()
    shown = json.loads(weaver(kernel, "auth", "token", "verify", "--json", stdin=file.read_bytes()).stdout)
    assert (shown["access"], shown["token"]["id"]) == ("read", parse(text).id)
    mine = {"WEFTOS_TOKEN_FILE": str(file)}
    assert b"#ci" in weaver(kernel, "auth", "whoami", **mine).stdout
    ran = weaver(kernel, "kernel", "kill-process", "1", status=4, **mine)
    assert b"outside of what the token ci gives" in ran.stderr
    weaver(kernel, "auth", "token", "issue", "ci", "--access", "read", "-o", str(file), status=1)
    assert file.read_text().strip() == text, "a file that is there is not written over"
    listed = weaver(kernel, "auth", "token", "list").stdout
    assert b"class read" in listed
    weaver(kernel, "auth", "token", "revoke", "ci", "--reason", "a test")
    weaver(kernel, "auth", "token", "verify", stdin=text.encode(), status=4)
    weaver(kernel, "auth", "token", "verify", stdin=b"nonsense", status=4)
    file.chmod(0o644)
    assert b"read by others" in weaver(kernel, "auth", "whoami", status=4, **mine).stderr


# --- redaction --------------------------------------------------------------------------------------------------------


def test_no_secret_is_in_the_clear_anywhere_below_the_home(kernel):
    """A whole life of tokens and credentials; then every file of the instance is searched for each secret."""
    added = weaver(kernel, "auth", "credential", "add", "mail", "--agent", "mailer", stdin=SECRET)
    mailer = kernel.spawn("holder", name="mailer")
    assert ask(kernel, mailer, get="mail") == len(SECRET)
    rotated = weaver(kernel, "auth", "credential", "rotate", "mail", stdin=NEWER)
    assert ask(kernel, mailer, get="mail") == len(NEWER)
    token = weaver(kernel, "auth", "token", "issue", "ci", "--access", "read").stdout.strip()
    verified = weaver(kernel, "auth", "token", "verify", stdin=token)
    inspected = weaver(kernel, "agent", "inspect", str(mailer.pid), "--json")
    tree = weaver(kernel, "resource", "inspect", "/kernel/auth/credentials/mail", "--json")
    logged = weaver(kernel, "kernel", "logs", "-l", "debug", "--json")
    kernel.call("kernel.restart-service", name="service")
    assert ask(kernel, mailer, get="mail") == len(NEWER)
    weaver(kernel, "config", "set", "log.level", token.decode(), status=2)
    kernel.kill()
    kernel.start()
    kernel.stop()
    seed = base64.urlsafe_b64decode(token[len(PREFIX) :] + b"==")[:32]
    secrets = [SECRET, NEWER, token, token[len(PREFIX) :], seed]
    secrets += [form(one) for one in secrets for form in (base64.b64encode, lambda data: data.hex().encode())]
    files = [path for path in kernel.home.root.rglob("*") if path.is_file()]
    assert len(files) > 10
    for path in files:
        data = path.read_bytes()
        assert not [one for one in secrets if one in data], path
    for ran in (added, rotated, verified, inspected, tree, logged):
        assert not [one for one in secrets if one in ran.stdout + ran.stderr]


def test_a_spawned_agent_finds_no_secret_in_the_memory_that_it_inherits(kernel):
    """Agents are forked from the kernel: what passed through its memory would be in theirs."""
    weaver(kernel, "auth", "credential", "add", "mail", "--agent", "mailer", stdin=SECRET)
    token = weaver(kernel, "auth", "token", "issue", "ci", "--access", "read").stdout.strip()
    weaver(kernel, "auth", "token", "verify", stdin=token)
    kernel.spawn("holder", name="mailer")
    late = kernel.spawn("echo", name="late")
    if os.geteuid() != 0:
        pytest.skip("reading another process's memory takes root")
    for os_pid in (late.os_pid, kernel.os_pid):
        found = searched(os_pid, [SECRET, token[len(PREFIX) :]])
        assert found == [], f"process {os_pid}"


def searched(os_pid, needles):
    found = []
    with open(f"/proc/{os_pid}/maps") as maps, open(f"/proc/{os_pid}/mem", "rb", 0) as memory:
        for line in maps:
            span, mode = line.split()[:2]
            if "r" not in mode or "[v" in line:
                continue
            begin, end = (int(one, 16) for one in span.split("-"))
            try:
                memory.seek(begin)
                data = memory.read(end - begin)
            except (OSError, ValueError, OverflowError):
                continue
            found += [line.strip() for one in needles if one in data]
    return found
