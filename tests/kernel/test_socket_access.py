"""Who may ask what on the control socket: by user, by token, by process; and that nothing else gets through."""

from __future__ import annotations

import itertools
import json
import os
import random
import shutil
import socket
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_kernel_auth import ask, issue, records

from weftos.auth.scope import TokenScope
from weftos.config import AccessSection
from weftos.errors import AccessDenied, PeerRefused, TokenRefused, WeftError
from weftos.kernel.peers import Peer, is_descendant
from weftos.kernel.socket_access import class_of, why_not
from weftos.rpc.client import RpcClient
from weftos.rpc.methods import METHODS, Access

STRANGER = 54321
ORDER = [Access.OPEN, Access.READ, Access.OPERATE, Access.ADMIN]
AGENTS = {1: "echo", 2: "mailer", 3: "echo/helper"}
IS_ROOT = os.geteuid() == 0
needs_root = pytest.mark.skipif(not IS_ROOT, reason="acting as another user takes root")

# --- the rule ---------------------------------------------------------------------------------------------------------


def test_every_method_has_a_class_and_only_those_to_log_in_are_open():
    assert {name for name, one in METHODS.items() if one.access is Access.OPEN} == {
        "auth.challenge", "auth.login", "auth.whoami"
    }  # fmt: skip


@given(st.sampled_from(sorted(METHODS)), st.sampled_from(ORDER))
def test_without_a_token_the_class_of_the_user_decides(method, held):
    peer = Peer(STRANGER, 9, "x", held)
    allowed = ORDER.index(METHODS[method].access) <= ORDER.index(held)
    assert (why_not(peer, method, {}, AGENTS.get, 0) is None) == allowed


SCOPES = st.builds(
    TokenScope,
    id=st.just("ab" * 8),
    name=st.just("t"),
    fingerprint=st.just(bytes(32)),
    access=st.sampled_from(["", "read", "operate", "admin"]),
    methods=st.lists(st.sampled_from(sorted(METHODS)), max_size=3, unique=True),
    agents=st.lists(st.sampled_from(["echo", "mailer", "nobody"]), max_size=2, unique=True),
    expires_ns=st.integers(1, 3),
)
PIDS = st.none() | st.integers(0, 4) | st.sampled_from([True, "1", 1.0, [1]])


@given(st.sampled_from(sorted(METHODS)), SCOPES, PIDS, PIDS)
def test_with_a_token_the_token_alone_decides(method, scope, pid, parent):
    params = {key: value for key, value in (("pid", pid), ("parent_pid", parent)) if value is not None}
    needed = METHODS[method].access
    in_class = scope.access and ORDER.index(needed) <= ORDER.index(Access(scope.access))
    named = list(params.values())
    about_them = bool(named) and all(type(one) is int and AGENTS.get(one) in scope.agents for one in named)
    allowed = needed is Access.OPEN or (
        scope.expires_ns > 2
        and method != "auth.token-issue"
        and bool(in_class or method in scope.methods)
        and (not scope.agents or about_them)
    )
    for held in ORDER:
        peer = Peer(0, 9, "root", held, scope)
        assert (why_not(peer, method, params, AGENTS.get, 2) is None) == allowed, "whatever the user would have"


@given(st.integers(0, 5), st.integers(0, 5), *[st.lists(st.integers(1, 5), max_size=3)] * 4)
def test_a_user_in_no_list_may_not_connect(uid, own, read, operate, admin, token):
    rules = AccessSection(read_uids=read, operate_uids=operate, admin_uids=admin, token_uids=token)
    wanted = None
    for access, uids in ((Access.OPEN, token), (Access.READ, read), (Access.OPERATE, operate), (Access.ADMIN, admin)):
        wanted = access if uid in uids else wanted
    assert class_of(uid, own, rules) == (Access.ADMIN if uid in (0, own) else wanted)


def test_descent_is_followed_and_what_cannot_be_is_suspected():
    assert is_descendant(os.getpid(), os.getppid())
    assert not is_descendant(os.getppid(), os.getpid())
    assert not is_descendant(os.getpid(), os.getpid())
    assert not is_descendant(0, os.getpid()), "outside of what we can see"
    assert is_descendant(2**22 + 1, os.getpid()), "there is no such process any more"


# --- agents -----------------------------------------------------------------------------------------------------------


def test_an_agent_cannot_use_the_control_socket_nor_can_its_orphans(shared):
    agent = shared.spawn("holder", name="knocker", sandbox={"profile": "trusted"})
    path = str(shared.home.socket)
    for how in ("knock", "orphan"):
        said = ask(shared, agent, **{how: path})
        assert isinstance(said, str), said
        assert json.loads(said)["error"]["data"]["code"] == "rpc.peer_refused"
    denied = shared.until(lambda: records(shared, "access.deny"))
    assert "agents may not use the control socket" in denied[0].payload["reason"]
    assert shared.call("kernel.status").process_count == 1


# --- other users ------------------------------------------------------------------------------------------------------


@pytest.fixture
def gate_house():
    """A folder for the shared socket that everybody may enter."""
    folder = Path(tempfile.mkdtemp(prefix="wg-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def as_user(uid, act):
    """Run ``act`` in a child of that user; its result, or code and text of its error."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(uid)
            os.setuid(uid)
            try:
                answer = act()
            except WeftError as error:
                answer = {"code": error.code, "text": str(error)}
            os.write(writer, json.dumps(answer).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as file:
        data = file.read()
    os.waitpid(child, 0)
    return json.loads(data)


def configured(cold, gate_house, **lists):
    lines = [f"{name} = {uids}" for name, uids in lists.items()]
    cold.home.root.joinpath("weftos.toml").write_text(
        "\n".join(["[access]", f'socket = "{gate_house}/kernel.sock"', *lines]) + "\n"
    )
    cold.start()
    return str(gate_house / "kernel.sock")


def calling(path, method, params=None, token=None):
    def act():
        with RpcClient(path, timeout=20.0, token=token, shared=True) as client:
            answer = client.call(method, params or {})
            return answer if isinstance(answer, str | bool) else getattr(answer, "access", "done")

    return act


@needs_root
def test_another_user_is_refused_unless_configured_and_gets_his_class(cold, gate_house):
    path = configured(cold, gate_house, read_uids=[2001], operate_uids=[2002], admin_uids=[2003])
    assert as_user(STRANGER, calling(path, "ping"))["code"] == "rpc.peer_refused"
    for uid, held in ((2001, "read"), (2002, "operate"), (2003, "admin")):
        assert as_user(uid, calling(path, "auth.whoami")) == held
        assert as_user(uid, calling(path, "ping")) == "pong"
        stop = as_user(uid, calling(path, "agent.send", {"pid": 7, "message": "x"}))
        assert stop["code"] == ("rpc.access_denied" if held == "read" else "process.not_found")
        admin = as_user(uid, calling(path, "kernel.kill-process", {"pid": 7}))
        assert admin["code"] == ("process.not_found" if held == "admin" else "rpc.access_denied")
    own = str(cold.home.socket)
    assert as_user(2003, calling(own, "ping"))["code"] in ("rpc.peer_refused", "kernel.not_running"), "a closed folder"
    denied = [one.payload for one in records(cold, "access.deny")]
    assert {(one["uid"], one["method"]) for one in denied} == {
        (STRANGER, "(connect)"), (2001, "agent.send"), (2001, "kernel.kill-process"), (2002, "kernel.kill-process")
    }  # fmt: skip
    acted = [one.payload for one in records(cold, "access.act")]
    assert [(one["by"], one["method"], one["target"]) for one in acted] == [
        ("operator:2003/?", "kernel.kill-process", "pid=7")
    ]


@needs_root
def test_a_second_user_with_a_token_gets_what_it_gives(cold, gate_house):
    path = configured(cold, gate_house, token_uids=[2001, 2002])
    token = issue(cold, access="operate", uids=[2001])
    assert as_user(2001, calling(path, "ping"))["code"] == "rpc.access_denied"
    assert as_user(2001, calling(path, "auth.whoami")) == "open"
    assert as_user(2001, calling(path, "ping", token=token)) == "pong"
    assert as_user(2001, calling(path, "agent.send", {"pid": 7, "message": "x"}, token))["code"] == "process.not_found"
    assert as_user(2001, calling(path, "kernel.shutdown", {}, token))["code"] == "rpc.access_denied"
    assert as_user(2002, calling(path, "ping", token=token))["code"] == "auth.token", "it is for another user"
    assert as_user(STRANGER, calling(path, "ping", token=token))["code"] == "rpc.peer_refused"
    cold.call("config.set", key="access.token_uids", value=[2002])
    assert as_user(2001, calling(path, "ping", token=token))["code"] == "rpc.peer_refused", "at once"
    used = [one.payload for one in records(cold, "auth.token.use")]
    assert {(one["uid"], one["by"]) for one in used} == {(2001, "operator:2001/?#ci")}


@needs_root
def test_a_user_taken_from_the_list_is_refused_on_an_open_connection(cold, gate_house):
    path = configured(cold, gate_house, read_uids=[2001])
    told, tell = os.pipe()
    go, say = os.pipe()

    def act():
        with RpcClient(path, timeout=20.0, shared=True) as client:
            client.call("ping")
            os.write(tell, b"x")
            os.read(go, 1)
            return client.call("ping")

    child = os.fork()
    if child == 0:
        try:
            os.read(told, 1)
            cold.call("config.set", key="access.read_uids", value=None)
            os.write(say, b"x")
        finally:
            os._exit(0)
    assert as_user(2001, act)["code"] == "rpc.access_denied"
    os.waitpid(child, 0)
    for fd in (told, tell, go, say):
        os.close(fd)


def test_a_folder_that_others_may_write_is_no_place_for_the_socket(cold, gate_house):
    gate_house.chmod(0o777)
    with pytest.raises(WeftError, match="chmod go-w"):
        configured(cold, gate_house, read_uids=[2001])
    gate_house.chmod(0o755)
    shutil.rmtree(gate_house)
    with pytest.raises(WeftError, match="make it first"):
        cold.start()
    gate_house.mkdir(mode=0o755)
    cold.start()
    assert (gate_house / "kernel.sock").stat().st_mode & 0o777 == 0o666
    cold.stop()
    assert not (gate_house / "kernel.sock").exists()


@needs_root
def test_a_client_talks_to_another_users_process_only_where_that_user_owns_the_folder(gate_house):
    path = str(gate_house / "kernel.sock")
    os.chown(gate_house, 2001, -1)
    listening, ready = os.pipe()
    stay, stop = os.pipe()
    server = os.fork()
    if server == 0:
        try:
            os.close(stop)
            os.setuid(2001)
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
                listener.bind(path)
                os.chmod(path, 0o666)
                listener.listen(4)
                os.write(ready, b"x")
                os.read(stay, 1)
        finally:
            os._exit(0)
    os.read(listening, 1)

    def connecting(*, shared):
        return as_user(STRANGER, lambda: RpcClient(path, shared=shared).connect() > 0)

    assert connecting(shared=True) is True
    assert connecting(shared=False)["code"] == "rpc.peer_refused"
    gate_house.chmod(0o777)
    assert connecting(shared=True)["code"] == "rpc.peer_refused", "anybody could have put it there"
    for fd in (stop, stay, listening, ready):
        os.close(fd)
    os.waitpid(server, 0)


# --- hostile bytes ----------------------------------------------------------------------------------------------------

VALUES = [None, True, -1, 0, 2**70, 1e400, "", "x" * 300, [], {}, [[[]]], {"a": {"b": 1}}, "\ud800", "1"]


def test_no_line_on_the_socket_ends_the_kernel_or_goes_unanswered(kernel):
    chance = random.Random(7)
    names = [*METHODS, "", "nonsense", "auth", "__class__", "ping\0", "x" * 500]
    fields = sorted({name for method in METHODS.values() for name in method.params.__struct_fields__})
    # None of these may really happen here.
    names = [name for name in names if name not in ("kernel.shutdown", "kernel.restart-service", "chain.rotate-key")]
    lines = [b"{", b"[]", b"null", b"\xff\xfe", b'{"jsonrpc":"2.0"}', b"[" * 5000, b'{"jsonrpc":"2.0","method":5}']
    for name, _ in itertools.product(names, range(6)):
        params = {chance.choice(fields): chance.choice(VALUES) for _ in range(chance.randrange(4))}
        body = {"jsonrpc": "2.0", "id": 1, "method": name, "params": params}
        lines.append(json.dumps(body).encode())
    for _ in range(200):
        line = bytearray(chance.choice(lines))
        for _ in range(3):
            line[chance.randrange(len(line))] = chance.choice(b'{}[]",:\\0\x00\x7fa')
        lines.append(bytes(line).replace(b"kernel.shutdown", b"kernel.status"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(60)
        connection.connect(str(kernel.home.socket))
        stream = connection.makefile("rb")
        for line in lines:
            if not line.strip() or b"\n" in line or b'"id"' not in line:
                continue
            connection.sendall(line + b"\n")
            answer = json.loads(stream.readline())
            assert ("result" in answer) != ("error" in answer), line
            if "error" in answer:
                assert answer["error"]["data"]["code"], line
                assert "failed inside the kernel" not in answer["error"]["message"], (line, answer)
        stream.close()
    assert kernel.call("ping") == "pong"
    kernel.audit()


def test_an_endless_line_and_many_connections_cost_the_kernel_nothing(shared):
    held = []
    try:
        for _ in range(140):
            one = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            one.connect(str(shared.home.socket))
            held.append(one)
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as late:
            late.connect(str(shared.home.socket))  # it waits until the kernel has taken those before
            late.settimeout(20)
            assert b"connections are open" in late.recv(4096)
    finally:
        for one in held:
            one.close()
    shared.until(lambda: answers(shared))
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as greedy:
        greedy.connect(str(shared.home.socket))
        greedy.settimeout(20)
        try:
            for _ in range(40):
                greedy.sendall(b"x" * 65536)
        except (BrokenPipeError, ConnectionResetError):
            pass
    assert shared.call("ping") == "pong"


def answers(kernel):
    try:
        return kernel.call("ping") == "pong"
    except PeerRefused:
        return False


def test_a_request_without_login_after_one_with_is_on_its_own(shared):
    """Rights belong to a connection, not to a user: what one logged in as another does not inherit."""
    token = issue(shared, access="read")
    with RpcClient(shared.home.socket, token=token) as bound, RpcClient(shared.home.socket) as free:
        with pytest.raises(AccessDenied):
            bound.call("agent.spawn", {"program": "echo"})
        assert free.call("auth.whoami").access == "admin"
        with pytest.raises(TokenRefused):
            bound.call("auth.login", {"nonce": bytes(32), "public_key": bytes(32), "signature": bytes(64)})
        with pytest.raises(AccessDenied):
            bound.call("agent.spawn", {"program": "echo"})
