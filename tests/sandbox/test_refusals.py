"""What of refusals goes on the record at once and what is counted; what the audit says, read from its words."""

import errno
import socket
import struct
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weftos import limits
from weftos.sandbox.audit import ACCESS, DOMAIN, Denial, DomainGone, DomainMade, parse, type_filter
from weftos.sandbox.audit_state import attach_filter
from weftos.sandbox.bpf import encode
from weftos.sandbox.notices import Notice
from weftos.sandbox.refusals import OTHERS, Refusal, Tally, of_call
from weftos.sandbox.syscalls import ARCHITECTURES, HIGHEST, numbers_of

refusals = st.builds(
    Refusal,
    what=st.sampled_from(["syscall", "path", "net"]),
    name=st.sampled_from(["a", "b"]),
    about=st.integers(0, 40).map(str),
)


@given(st.lists(st.one_of(refusals, st.none()), max_size=400))
def test_each_refusal_is_on_a_record_of_its_own_or_in_exactly_one_sum(made):
    tally, told = Tally(), Counter()
    for one in made:
        if one is None:  # a sum is due
            sums = tally.take_later()
            assert bool(sums) == any(each.count for each in sums)
            for each in sums:
                told[each.what] += each.count
            assert not tally.waiting
        elif tally.note(one):
            told[one.what] += 1
    for each in tally.take_later():
        told[each.what] += each.count
    wanted = Counter(one.what for one in made if one)
    assert told == wanted
    totals = tally.totals()
    assert sum(one.count for one in totals) == sum(wanted.values())
    assert len(totals) <= limits.REFUSAL_KINDS_MAX + 3


def test_names_that_an_agent_makes_up_are_bounded():
    tally = Tally()
    firsts = [tally.note(Refusal(what="syscall", name=f"call {n}", errno="ENOSYS")) for n in range(10_000)]
    assert sum(firsts) == limits.REFUSAL_KINDS_MAX + 1
    assert tally.totals()[0].name == OTHERS
    assert tally.totals()[0].count == 10_000 - limits.REFUSAL_KINDS_MAX


@pytest.mark.parametrize("machine", ARCHITECTURES)
def test_a_call_gets_the_error_that_the_filter_would_have_given(machine):
    numbers = numbers_of(machine)
    pid = 2**32 - 1  # -1, everybody
    made, code = of_call(Notice(1, 77, numbers["kill"], (pid, 9, 5, 5, 5, 5)), machine)
    assert (made.name, made.errno, made.arguments, made.os_pid, code) == ("kill", "EPERM", (-1, 9), 77, errno.EPERM)
    # Addresses are nobody's business.
    assert of_call(Notice(1, 77, numbers["mount"], (1, 2, 3, 4, 5, 6)), machine)[0].arguments == ()
    for number in (HIGHEST + 1, 0x40000001, 2**32 - 1):
        made, code = of_call(Notice(1, 0, number, (0,) * 6), machine)
        assert (made.name, made.errno, code) == (f"call {number}", "ENOSYS", errno.ENOSYS)


def at(ms, rest):
    return f"audit(1729738800.{ms:03d}:30): {rest}"


@pytest.mark.parametrize(
    ("text", "what", "name", "about"),
    [
        ('blockers=fs.read_file path="/etc/shadow" dev="vda2" ino=351', "path", "fs.read_file", "/etc/shadow"),
        ('blockers=fs.write_file path=2F746D702F612062 dev="vda2" ino=3', "path", "fs.write_file", "/tmp/a b"),
        ('blockers=fs.make_reg,fs.refer path="/usr/bin" dev="vda2" ino=9', "path", "fs.make_reg,fs.refer", "/usr/bin"),
        ('blockers=fs.change_topology name="/" dev="tmpfs" ino=1', "path", "fs.change_topology", "/"),
        ("blockers=net.connect_tcp daddr=127.0.0.1 dest=80", "net", "net.connect_tcp", "127.0.0.1 port 80"),
        ("blockers=net.bind_tcp src=1024", "net", "net.bind_tcp", "port 1024"),
        ("blockers=scope.abstract_unix_socket path=00666F6F", "net", "scope.abstract_unix_socket", "\0foo"),
        ('blockers=scope.signal opid=1 ocomm="systemd"', "signal", "scope.signal", "process 1 (systemd)"),
        ('blockers=ptrace opid=12 ocomm="sh"', "ptrace", "ptrace", "process 12 (sh)"),
        ("blockers=fs.execute path=(null)", "path", "fs.execute", "(null)"),
    ],
)
def test_what_the_audit_says_of_a_refusal(text, what, name, about):
    said = parse(ACCESS, at(268, f"domain=195ba459b {text}"))
    assert said == Denial(domain=0x195BA459B, at_ms=1729738800268, what=what, name=name, about=about)


def test_what_the_audit_says_of_a_domain():
    made = at(1, 'domain=1a status=allocated mode=enforcing pid=300 uid=0 exe="/usr/bin/python3" comm="w"')
    assert parse(DOMAIN, made) == DomainMade(domain=26, os_pid=300)
    assert parse(DOMAIN, at(1, "domain=1a status=deallocated denials=3")) == DomainGone(domain=26)


@given(st.sampled_from([ACCESS, DOMAIN, 1300]), st.text(max_size=80), st.booleans())
def test_records_of_another_form_say_nothing_and_hurt_nobody(kind, rest, headed):
    said = parse(kind, at(0, rest) if headed else rest)
    assert said is None or "domain=" in rest


def test_a_path_cannot_pass_for_another_field():
    # The audit writes a name with quotes or spaces in hexadecimal, so an agent cannot close the quotes.
    hexed = b'x" domain=99 blockers=ptrace opid=1'.hex().upper()
    said = parse(ACCESS, at(0, f"domain=1 blockers=fs.read_file path={hexed}"))
    assert (said.domain, said.name, said.about) == (1, "fs.read_file", 'x" domain=99 blockers=ptrace opid=1')


def test_the_filter_lets_records_of_landlock_pass_and_no_others():
    """On a real netlink socket: messages from one program to another have the header of the audit's."""
    usersock = 2
    with (
        socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, usersock) as ours,
        socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, usersock) as theirs,
    ):
        ours.bind((0, 0))
        attach_filter(ours)
        for kind in (1300, ACCESS, 0, 1107, DOMAIN, 0x8F05):
            theirs.sendto(struct.pack("=IHHII", 17, kind, 0, 1, 0) + b"x", (ours.getsockname()[0], 0))
        assert [struct.unpack_from("=H", ours.recv(100), 4)[0] for _ in range(2)] == [ACCESS, DOMAIN]
        with pytest.raises(BlockingIOError):
            ours.recv(100)
    assert len(encode(type_filter())) == 8 * 5
