"""A model of the machine that runs a seccomp filter: one instruction after the other, as bpf(4) says."""

import struct


def run(code, number, architecture, arguments=(0,) * 6):
    """Return what the filter answers to a call."""
    data = struct.pack("=iIQ6Q", number, architecture, 0, *(value % 2**64 for value in arguments))
    program = [struct.unpack_from("=HBBI", code, at) for at in range(0, len(code), 8)]
    at = accumulator = 0
    for _ in range(len(program)):
        operation, if_true, if_false, value = program[at]
        at += 1
        if operation == 0x20:
            accumulator = struct.unpack_from("=I", data, value)[0]
        elif operation == 0x06:
            return value
        else:
            holds = {
                0x15: accumulator == value,
                0x25: accumulator > value,
                0x45: accumulator & value != 0,
            }[operation]
            at += if_true if holds else if_false
    raise AssertionError("the filter has no answer")
