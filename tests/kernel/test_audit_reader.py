"""The reader of the system's audit: whose a refusal was, in the order in which the system tells it."""

import pytest

from weftos import limits
from weftos.kernel.audit_reader import AuditReader
from weftos.sandbox.audit import ACCESS, DOMAIN


@pytest.fixture
def told():
    return []


@pytest.fixture
def reader(told):
    return AuditReader({300: "one", 400: "two"}.get, lambda agent, denial: told.append((agent, denial.about)))


def refuse(reader, domain, path):
    reader.take(ACCESS, f'audit(1729738800.268:30): domain={domain:x} blockers=fs.read_file path="{path}"')


def make(reader, domain, os_pid):
    reader.take(DOMAIN, f"audit(1729738800.268:30): domain={domain:x} status=allocated mode=enforcing pid={os_pid}")


def end(reader, domain):
    reader.take(DOMAIN, f"audit(1729738800.999:31): domain={domain:x} status=deallocated denials=3")


def test_a_refusal_waits_until_it_is_told_whose_it_is(reader, told):
    refuse(reader, 7, "/a")
    refuse(reader, 8, "/b")
    assert told == []
    make(reader, 8, 400)
    make(reader, 7, 300)
    refuse(reader, 7, "/c")
    assert told == [("two", "/b"), ("one", "/a"), ("one", "/c")]


def test_what_other_programs_are_refused_is_dropped_and_bounded(reader, told):
    make(reader, 9, 55)
    for number in range(3 * limits.AUDIT_WAITING_MAX):
        refuse(reader, 9, "/x")
        refuse(reader, 1000 + number, "/y")
    assert told == []
    assert len(reader._waiting) <= limits.AUDIT_WAITING_MAX
    assert all(len(found) <= limits.AUDIT_WAITING_MAX for found in reader._waiting.values())
    # However many others there are, that of an agent is known as long as it lives.
    make(reader, 7, 300)
    for number in range(3 * limits.AUDIT_WAITING_MAX):
        make(reader, 5000 + number, 55)
    refuse(reader, 7, "/a")
    assert told == [("one", "/a")]


def test_a_domain_that_is_gone_is_forgotten(reader, told):
    make(reader, 7, 300)
    end(reader, 7)
    refuse(reader, 7, "/a")
    assert told == []
    assert not reader._owners
