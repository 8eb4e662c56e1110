"""From rules about system calls to a program of the classic Berkeley Packet Filter, as seccomp takes it. Pure.

    load the architecture ─▶ another one? kill
    load the number       ─▶ for each call with rules: equal? its rules : go on
                          ─▶ larger than all that are known? as if it did not exist
                          ─▶ allow

Why it is as it is: a chain of comparisons is short to write and to check, and costs nothing in the end, since the
system remembers for each number that such a program always allows it.

Source: seccomp(2), BSD's bpf(4); linux/bpf_common.h, linux/seccomp.h.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Literal, NamedTuple, TypeAlias

import msgspec

__all__ = ["ALLOW", "KILL", "NOTIFY", "CallRule", "Instruction", "Test", "assemble", "encode", "refusal"]

LOAD: Final = 0x20  # BPF_LD | BPF_W | BPF_ABS
JUMP_EQUAL: Final = 0x15  # BPF_JMP | BPF_JEQ | BPF_K
JUMP_GREATER: Final = 0x25  # BPF_JMP | BPF_JGT | BPF_K
JUMP_ANY_BIT: Final = 0x45  # BPF_JMP | BPF_JSET | BPF_K
RETURN: Final = 0x06  # BPF_RET | BPF_K

ALLOW: Final = 0x7FFF0000
KILL: Final = 0x80000000
#: The call waits until whoever holds the listener has answered it; without a listener it fails with ENOSYS.
NOTIFY: Final = 0x7FC00000
_ERRNO: Final = 0x00050000

_NUMBER_AT: Final = 0
_ARCHITECTURE_AT: Final = 4
_ARGUMENTS_AT: Final = 16


class Instruction(NamedTuple):
    """One instruction; jumps are relative to the next one."""

    code: int
    if_true: int
    if_false: int
    value: int


class Test(msgspec.Struct, frozen=True, array_like=True):
    """A condition on the low 32 bits of an argument, which is all that the system looks at in an ``int``.

    Attributes:
        argument: which one, from 0.
        relation: ``is``, ``is-not``, ``has`` for any of some bits, ``lacks`` for none of them.
        value: 32 bits.
    """

    __test__ = False  # for pytest, which collects by names

    argument: int
    relation: Literal["is", "is-not", "has", "lacks"]
    value: int


#: A call, and the tests that all have to hold for it to be refused; without tests it always is.
CallRule: TypeAlias = tuple[str, Sequence[Test]]


def refusal(code: int) -> int:
    """Return the result that makes a call fail with this errno."""
    return _ERRNO | code


def assemble(
    rules: Iterable[CallRule],
    numbers: Mapping[str, int],
    architecture: int,
    highest: int,
    missing: frozenset[str] = frozenset(),
    *,
    notify: bool = False,
) -> list[Instruction]:
    """Make the program.

    Args:
        rules: what is refused with EPERM. A call may have several.
        numbers: of the calls on the machine; rules about others are left out.
        architecture: the machine, as seccomp names it.
        highest: number of the newest call that is known; later ones fail with ENOSYS.
        missing: calls that fail with ENOSYS, whatever their arguments. Nobody is told of these.
        notify: whether the listener is asked about what is refused or not known, instead of answering at once; it is
            never asked about what is allowed.

    Returns:
        Its instructions.
    """
    refused, unknown = (NOTIFY, NOTIFY) if notify else (refusal(errno.EPERM), refusal(errno.ENOSYS))
    by_number: dict[int, list[Sequence[Test]]] = {}
    for name, tests in rules:
        if name in numbers:
            by_number.setdefault(numbers[name], []).append(tests)
    program = [
        Instruction(LOAD, 0, 0, _ARCHITECTURE_AT),
        Instruction(JUMP_EQUAL, 1, 0, architecture),
        Instruction(RETURN, 0, 0, KILL),
        Instruction(LOAD, 0, 0, _NUMBER_AT),
    ]
    for number in sorted(numbers[name] for name in missing if name in numbers):
        program += [Instruction(JUMP_EQUAL, 0, 1, number), Instruction(RETURN, 0, 0, refusal(errno.ENOSYS))]
    for number, alternatives in sorted(by_number.items()):
        body = _body(alternatives, refused)
        assert len(body) < 256, "a jump spans 255 instructions"
        program += [Instruction(JUMP_EQUAL, 0, len(body), number), *body]
    program += [
        Instruction(JUMP_GREATER, 0, 1, highest),
        Instruction(RETURN, 0, 0, unknown),
        Instruction(RETURN, 0, 0, ALLOW),
    ]
    return program


def _body(alternatives: Sequence[Sequence[Test]], refused: int) -> list[Instruction]:
    """What is done about one call: refuse it if all tests of any alternative hold, else allow it."""
    body: list[Instruction] = []
    for tests in alternatives:
        part: list[Instruction] = []
        for at, test in enumerate(tests):
            # Behind this test come the other ones, two instructions each, and the return.
            away = 2 * (len(tests) - at - 1) + 1
            part.append(Instruction(LOAD, 0, 0, _ARGUMENTS_AT + 8 * test.argument))
            code = JUMP_ANY_BIT if test.relation in ("has", "lacks") else JUMP_EQUAL
            holds, fails = (away, 0) if test.relation in ("is-not", "lacks") else (0, away)
            part.append(Instruction(code, holds, fails, test.value & 0xFFFFFFFF))
        body += [*part, Instruction(RETURN, 0, 0, refused)]
        if not tests:
            return body
    return [*body, Instruction(RETURN, 0, 0, ALLOW)]


def encode(program: Sequence[Instruction]) -> bytes:
    """Return the program as ``struct sock_filter`` after ``struct sock_filter``, in this machine's byte order."""
    return b"".join(struct.pack("=HBBI", *one) for one in program)
