"""Every reader of bytes from outside, fed with anything: it answers, or it refuses with an error of ours.

Each target (``fuzz_targets``) takes bytes and may raise only what its function documents; what it accepts must read the
same again. It is fed with arbitrary bytes and with good ones of which something was changed. The slow tests take fifty
times as many.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from forged_records import append_forged
from fuzz_targets import ORIGIN, PAIR, TARGETS, Target, as_payload, good_proof, good_seal
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from logs_for_tests import note, open_log

from weftos import chain
from weftos.chain.folder.locate import record_at
from weftos.chain.records.canonical import encode_payload
from weftos.chain.records.redaction import erase_payload
from weftos.chain.signing.log_signer import HIGH_WATER_NAME
from weftos.chain.signing.rotation import Genesis, Rotation
from weftos.chain.statements.seals import Seal
from weftos.chain.verification.proof_file import check_proof, parse_proof
from weftos.disk.files import RealFiles
from weftos.errors import ChainCorrupted, ProofInvalid, SealInvalid, WeftError

EXAMPLES = 60
FILLINGS = (b"\0", b"\xff", b"\n", b"+", b"=", b"\x80", b"\xc0")


def feed(target: Target, data: bytes, folder: Path) -> bool:
    """Whether the bytes were accepted."""
    try:
        if target.read.__code__.co_argcount == 2:
            target.read(data, folder)
        else:
            target.read(data)
    except target.errors:
        return False
    return True


@st.composite
def changed(draw: st.DrawFn, name: str) -> bytes:
    """Good bytes of which some were changed, cut, doubled, moved or replaced."""
    out = bytearray(TARGETS[name].good())
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(len(out) - 1, 0)))
        size = draw(st.sampled_from((1, 1, 2, 4, 16, 100)))
        match draw(st.sampled_from(("flip", "set", "cut", "drop", "double", "insert", "number"))):
            case "flip":
                out[at : at + 1] = bytes(one ^ (1 << draw(st.integers(0, 7))) for one in out[at : at + 1])
            case "set":
                out[at : at + size] = draw(st.sampled_from(FILLINGS)) * size
            case "cut":
                del out[at:]
            case "drop":
                del out[at : at + size]
            case "double":
                out[at:at] = out[at : at + size]
            case "insert":
                out[at:at] = draw(st.binary(max_size=20))
            case "number":
                out[at : at + 4] = draw(st.sampled_from((0, 1, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF))).to_bytes(4, "little")
    return bytes(out)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("fuzz")
    made.chmod(0o700)
    return made


def campaign(name: str, folder: Path, examples: int) -> None:
    target = TARGETS[name]
    quiet = settings(max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck))

    @quiet
    @given(st.data())
    def run(data: st.DataObject) -> None:
        feed(target, data.draw(st.one_of(st.binary(max_size=300), changed(name))), folder)

    run()


@pytest.mark.parametrize("name", TARGETS)
def test_good_bytes_are_accepted(name, folder):
    if name == "proof":
        with pytest.raises(ProofInvalid, match=r"hashes|lead"):
            check_proof(parse_proof(good_proof()), PAIR.public, ORIGIN)
        return
    if name == "seal":
        assert Seal.from_payload(as_payload(good_seal())).epoch == 1
        return
    assert feed(TARGETS[name], TARGETS[name].good(), folder)


@pytest.mark.parametrize("name", TARGETS)
def test_anything_is_answered(name, folder):
    campaign(name, folder, EXAMPLES)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", TARGETS)
def test_anything_is_answered_at_length(name, folder):
    campaign(name, folder, EXAMPLES * 50)


# --- values that are none, in payloads that are maps ------------------------------------------------------------------

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=8)
    | st.binary(max_size=40),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)


def swap_values(examples: int) -> None:
    @settings(max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(st.sampled_from(("seal", "rotation", "genesis")), st.data())
    def run(name: str, data: st.DataObject) -> None:
        payload = as_payload(TARGETS[name].good())
        for key in data.draw(st.lists(st.sampled_from(sorted(payload)), max_size=3)):
            payload[key] = data.draw(VALUES)
        if data.draw(st.booleans()):
            payload[data.draw(st.text(max_size=6))] = data.draw(VALUES)
        reader = {"seal": Seal.from_payload, "rotation": Rotation.from_payload, "genesis": Genesis.read}[name]
        try:
            reader(payload)
        except (SealInvalid, ChainCorrupted):
            return

    run()


def test_payloads_with_values_of_any_type():
    swap_values(EXAMPLES * 5)


@pytest.mark.slow
def test_payloads_with_values_of_any_type_at_length():
    swap_values(EXAMPLES * 250)


# --- whole log folders ------------------------------------------------------------------------------------------------


def damage_folders(folder: Path, rounds: int) -> None:
    """Change a file of a signed log; verifying and opening answer or refuse, and opening never hides the damage."""
    home, keys = folder / "chain", folder / "keys"
    signer = chain.Signer.open(keys)
    with open_log(home, signer=signer, segment_bytes=64 * 1024) as writer:
        for number in range(700):
            writer.append(note(number))
    files = sorted(path for path in home.rglob("*") if path.is_file() and path.name != "lock")
    kept = {path: path.read_bytes() for path in files}
    mark = (keys / HIGH_WATER_NAME).read_bytes()
    for number in range(rounds):
        rng = random.Random(number)
        path = rng.choice(files)
        data = bytearray(kept[path])
        at = rng.randrange(len(data))
        match rng.randrange(4):
            case 0:
                data[at] ^= 1 << rng.randrange(8)
            case 1:
                del data[at:]
            case 2:
                data[at : at + 8] = rng.randbytes(8)
            case 3:
                data += rng.randbytes(rng.randrange(1, 200))
        path.write_bytes(data)
        try:
            sound = chain.verify(home, keys=signer.public).valid
        except WeftError:
            sound = False
        try:
            open_log(home, signer=chain.Signer.open(keys)).close()
            opened = True
        except WeftError:
            opened = False
        if path.suffix == ".log" and opened and not sound:
            assert not chain.verify(home, keys=signer.public).valid, "what was damaged does not become sound by opening"
        for file in [one for one in home.rglob("*") if one.is_file() and one not in kept]:
            file.unlink()
        for one, content in kept.items():
            one.parent.mkdir(parents=True, exist_ok=True)
            one.write_bytes(content)
        (keys / HIGH_WATER_NAME).write_bytes(mark)
    assert chain.verify(home, keys=signer.public).valid


def test_damaged_folders(tmp_path):
    damage_folders(tmp_path, 60)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_damaged_folders_many_times(tmp_path):
    damage_folders(tmp_path, 3000)


# --- records behind the checkpoint ------------------------------------------------------------------------------------

KEPT_BY_CHAIN = ("key.genesis", "key.rotate", "chain.redacted")
SPECIAL = (
    *KEPT_BY_CHAIN,
    "chain.pruned",
    "chain.archived",
    "log.seal",
    "chain.recovered",
    "ipc.window",
    "ipc.grant",
    "app.x",
)
CHOKING = {
    "no UTF-8": b"\x81\xa3seq\xa2\xc3\x28",
    "lists in lists": b"\x81\xa1x" + b"\x91" * 5000,
    "an infinite number": b"\x81\xa3seq\xcb\x7f\xf0" + bytes(6),
}


def forge_records(folder: Path, examples: int) -> None:
    home, signer = folder / "chain", chain.Signer.open(folder / "keys")
    with open_log(home, signer=signer) as writer:
        for number in range(3):
            writer.append(note(number))
    path = home / "00000001.log"
    before = path.read_bytes()
    kept = {one: one.read_bytes() for one in home.rglob("*") if one.is_file()}
    mark = (folder / "keys" / HIGH_WATER_NAME).read_bytes()

    @settings(max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(
        st.sampled_from(SPECIAL),
        st.sampled_from(("chain", "agent")),
        st.binary(max_size=60) | st.dictionaries(st.sampled_from(("seq", "ring", "side", "x")), VALUES),
    )
    def run(kind: str, source: str, payload: bytes | dict) -> None:
        try:
            content = payload if isinstance(payload, bytes) else encode_payload(payload)
        except WeftError:
            return
        try:
            append_forged(home, kind, content, source)
            chain.verify(home, keys=signer.public)
            for record in chain.read(home):
                assert record.seq < 7
            try:
                open_log(home, signer=chain.Signer.open(folder / "keys")).close()
            except WeftError:
                assert path.read_bytes().startswith(before)
        finally:
            for one in [one for one in home.rglob("*") if one.is_file() and one not in kept]:
                one.unlink()
            for one, data in kept.items():
                one.write_bytes(data)
            (folder / "keys" / HIGH_WATER_NAME).write_bytes(mark)

    run()


def test_forged_records_behind_the_checkpoint(tmp_path):
    forge_records(tmp_path, EXAMPLES)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_forged_records_behind_the_checkpoint_at_length(tmp_path):
    forge_records(tmp_path, EXAMPLES * 50)


@pytest.mark.parametrize("payload", CHOKING.values(), ids=CHOKING)
@pytest.mark.parametrize("kind", [*KEPT_BY_CHAIN, "ipc.window", "log.seal"])
def test_payloads_that_a_decoder_chokes_on(tmp_path, kind, payload):
    signer = chain.Signer.open(tmp_path / "keys")
    open_log(tmp_path / "chain", signer=signer).close()
    append_forged(tmp_path / "chain", kind, payload)
    report = chain.verify(tmp_path / "chain", keys=signer.public)
    assert all(one.seq == 2 for one in report.errors)
    if kind in KEPT_BY_CHAIN:
        with pytest.raises(ChainCorrupted) as caught:
            open_log(tmp_path / "chain", signer=signer)
        assert caught.value.exit_code == 5


def test_a_header_with_text_that_is_no_utf_8(tmp_path):
    signer = chain.Signer.open(tmp_path / "keys")
    with open_log(tmp_path / "chain", signer=signer) as writer:
        writer.append(note(1))
    append_forged(tmp_path / "chain", "app.note", b"\x80", "chain", text=b"ch\xff\xfen")
    report = chain.verify(tmp_path / "chain", keys=signer.public)
    assert [(one.code, one.seq) for one in report.errors] == [("header_invalid", 3)]
    with pytest.raises(ChainCorrupted, match="header_invalid"):
        open_log(tmp_path / "chain", signer=signer)
    with pytest.raises(ChainCorrupted):
        record_at(tmp_path / "chain", 3)
    with pytest.raises(ChainCorrupted) as caught:
        erase_payload(RealFiles(), str(tmp_path / "chain" / "00000001.log"), 3)
    assert caught.value.offset == report.errors[0].offset
