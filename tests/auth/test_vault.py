"""The vault: what was stored is read, what was altered is not, and every interruption leaves the old or the new."""

from __future__ import annotations

import os
import stat
import sys
import types

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from weftos import limits
from weftos.auth.sealing import OVERHEAD, open_box, seal_box
from weftos.auth.vault import Vault, about_credential, check_name
from weftos.auth.vault_key import FileKey, KeyringKey
from weftos.disk.secret_file import RealSecretFiles
from weftos.errors import ConfigError, CredentialRefused, InvalidRequest, StorageFailed, VaultDamaged

SECRET = b"correct horse battery staple"


@pytest.fixture
def vault(tmp_path):
    return Vault(str(tmp_path / "vault"), FileKey(str(tmp_path / "vault.key")))


def reopened(tmp_path, fs=None):
    return Vault(str(tmp_path / "vault"), FileKey(str(tmp_path / "vault.key")), fs)


# --- boxes ------------------------------------------------------------------------------------------------------------


@given(st.binary(max_size=2000), st.binary(max_size=50))
def test_a_box_opens_for_its_receiver_and_its_purpose(secret, about):
    key = X25519PrivateKey.generate()
    box = seal_box(secret, key.public_key().public_bytes_raw(), about)
    assert len(box) == len(secret) + OVERHEAD
    assert open_box(box, key, about) == secret
    for wrong in ((box, X25519PrivateKey.generate(), about), (box, key, about + b"x")):
        with pytest.raises(CredentialRefused):
            open_box(*wrong)


@given(st.binary(min_size=1, max_size=64), st.data())
def test_an_altered_box_does_not_open(secret, data):
    key = X25519PrivateKey.generate()
    box = bytearray(seal_box(secret, key.public_key().public_bytes_raw(), b""))
    box[data.draw(st.integers(32, len(box) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(CredentialRefused):
        open_box(bytes(box), key, b"")


@given(st.binary(max_size=100))
def test_any_bytes_are_a_box_or_refused(junk):
    with pytest.raises(CredentialRefused):
        open_box(junk, X25519PrivateKey.generate(), b"")


@pytest.mark.parametrize("key", [b"", b"x" * 31, b"x" * 33, bytes(32)])
def test_a_secret_is_not_sealed_for_what_is_no_key(key):
    with pytest.raises(CredentialRefused):
        seal_box(SECRET, key, b"")


# --- files ------------------------------------------------------------------------------------------------------------


@given(secret=st.binary(min_size=1, max_size=limits.AUTH_SECRET_BYTES))
def test_a_secret_is_read_as_it_was_stored_and_is_not_in_the_file(tmp_path_factory, secret):
    folder = tmp_path_factory.mktemp("vault")
    made = reopened(folder)
    digest = made.store("mail", "other", 1, secret)
    assert reopened(folder).load("mail", "other", 1, digest) == secret
    path = folder / "vault" / "mail.v1"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    behind_the_mark = path.read_bytes().removeprefix(b"WVLT")
    assert len(secret) < 4 or secret not in behind_the_mark


def test_the_key_is_a_private_file_and_stays_the_same(vault, tmp_path):
    key = tmp_path / "vault.key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    before = key.read_bytes()
    assert reopened(tmp_path).public_key == vault.public_key
    assert key.read_bytes() == before


def test_a_key_that_others_may_read_is_not_used(vault, tmp_path):
    (tmp_path / "vault.key").chmod(0o640)
    with pytest.raises(ConfigError, match="read by others"):
        reopened(tmp_path)


def test_a_vault_without_its_key_says_so_and_makes_no_other(vault, tmp_path):
    vault.store("mail", "other", 1, SECRET)
    (tmp_path / "vault.key").unlink()
    with pytest.raises(VaultDamaged, match="key of the vault is gone"):
        reopened(tmp_path)
    assert not (tmp_path / "vault.key").exists()


@pytest.mark.parametrize("content", [b"", b"x" * 31, b"x" * 33])
def test_what_is_no_key_is_not_used(vault, tmp_path, content):
    (tmp_path / "vault.key").write_bytes(content)
    with pytest.raises(VaultDamaged):
        reopened(tmp_path)


def test_another_key_opens_nothing(vault, tmp_path):
    digest = vault.store("mail", "other", 1, SECRET)
    (tmp_path / "vault.key").write_bytes(bytes(32))
    with pytest.raises(VaultDamaged, match="another key"):
        reopened(tmp_path).load("mail", "other", 1, digest)


def test_an_altered_or_exchanged_file_is_refused(vault, tmp_path):
    first, second = vault.store("mail", "other", 1, SECRET), vault.store("mail", "other", 2, b"another")
    one, two = tmp_path / "vault" / "mail.v1", tmp_path / "vault" / "mail.v2"
    with pytest.raises(VaultDamaged):
        vault.load("mail", "api-key", 1, first)
    two.write_bytes(one.read_bytes())
    with pytest.raises(VaultDamaged, match="not the one that the log speaks of"):
        vault.load("mail", "other", 2, second)
    with pytest.raises(VaultDamaged, match="another key"):
        vault.load("mail", "other", 2, first)
    two.write_bytes(one.read_bytes()[:20])
    with pytest.raises(VaultDamaged):
        vault.load("mail", "other", 2, second)
    two.unlink()
    with pytest.raises(VaultDamaged, match="cannot be read"):
        vault.load("mail", "other", 2, second)
    one.chmod(0o644)
    with pytest.raises(VaultDamaged, match="not safe"):
        vault.load("mail", "other", 1, first)


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/b", "A", "a.v1\n", "a" * 65, "-a", "a-", "é", "a\0b"])
def test_a_name_that_is_no_name_is_refused(vault, name):
    with pytest.raises(InvalidRequest):
        check_name(name)
    with pytest.raises(InvalidRequest):
        vault.store(name, "other", 1, SECRET)


def test_what_is_sealed_for_the_vault_is_bound_to_its_purpose(vault):
    box = seal_box(SECRET, vault.public_key, about_credential("mail", "other", "add"))
    assert vault.unseal(box, "mail", "other", "add") == SECRET
    for wrong in (("mail2", "other", "add"), ("mail", "api-key", "add"), ("mail", "other", "rotate")):
        with pytest.raises(CredentialRefused):
            vault.unseal(box, *wrong)
    for size in (0, limits.AUTH_SECRET_BYTES + 1):
        with pytest.raises(CredentialRefused, match="1 to"):
            about = about_credential("mail", "other", "add")
            vault.unseal(seal_box(bytes(size), vault.public_key, about), "mail", "other", "add")


# --- interruptions ----------------------------------------------------------------------------------------------------


class Killed(BaseException):
    """The process is gone: nothing after it is done, no clean-up either."""


class Interrupted(RealSecretFiles):
    """Ends before the n-th call, and does nothing more."""

    def __init__(self, after):
        self.left = after

    def _step(self):
        self.left -= 1
        if self.left < 0:
            raise Killed


for _name in ("create", "write", "sync_file", "rename", "unlink", "sync_dir", "open_overwrite"):

    def _call(self, *args, _name=_name):
        self._step()
        return getattr(RealSecretFiles, _name)(self, *args)

    setattr(Interrupted, _name, _call)


def steps_until_done(act):
    """Run ``act`` with a kill at each step in turn; stops after the run that came to its end."""
    for after in range(100):
        try:
            act(after)
        except Killed:
            continue
        return after
    raise AssertionError("it never came to an end")


def test_a_kill_at_any_step_of_a_rotation_leaves_the_old_or_the_new(tmp_path_factory):
    seen = set()

    def act(after):
        folder = tmp_path_factory.mktemp("vault")
        valid = {("mail", 1): reopened(folder).store("mail", "other", 1, b"old secret")}
        vault = reopened(folder, Interrupted(after))
        try:
            digest = vault.store("mail", "other", 2, b"new secret")
            # The record on the log comes here: from now on the new one is valid, and the old one is not.
            valid = {("mail", 2): digest}
            vault.remove("mail", 1)
        finally:
            again = reopened(folder)
            again.clean(valid)
            ((version, known),) = ((key[1], value) for key, value in valid.items())
            seen.add(again.load("mail", "other", version, known))
            assert os.listdir(folder / "vault") == [f"mail.v{version}"]

    assert steps_until_done(act) > 8
    assert seen == {b"old secret", b"new secret"}


def test_a_destroyed_secret_is_overwritten_before_its_name_goes(vault, tmp_path):
    vault.store("mail", "other", 1, SECRET)
    path = tmp_path / "vault" / "mail.v1"
    with path.open("rb") as kept:
        vault.remove("mail", 1)
        assert not path.exists()
        assert set(kept.read()) == {0}
    vault.remove("mail", 1)


def test_a_full_disk_is_an_error_and_the_old_one_stays(tmp_path):
    old = reopened(tmp_path).store("mail", "other", 1, SECRET)

    class Full(RealSecretFiles):
        def write(self, fd, data):
            raise OSError(28, "No space left on device")

    with pytest.raises(StorageFailed, match="No space"):
        reopened(tmp_path, Full()).store("mail", "other", 2, b"new")
    assert reopened(tmp_path).load("mail", "other", 1, old) == SECRET


def test_clean_leaves_alone_what_is_not_its_own(vault, tmp_path):
    (tmp_path / "vault" / "README").write_text("hands off")
    assert vault.clean(()) == []
    assert (tmp_path / "vault" / "README").exists()


# --- keyring ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def keyring(monkeypatch):
    kept = {}
    module = types.ModuleType("keyring")
    module.get_password = lambda service, account: kept.get((service, account))
    module.set_password = lambda service, account, text: kept.__setitem__((service, account), text)
    monkeypatch.setitem(sys.modules, "keyring", module)
    return module, kept


def test_a_keyring_keeps_the_key(keyring, tmp_path):
    one = Vault(str(tmp_path / "v"), KeyringKey("here"))
    digest = one.store("mail", "other", 1, SECRET)
    assert Vault(str(tmp_path / "v"), KeyringKey("here")).load("mail", "other", 1, digest) == SECRET
    with pytest.raises(VaultDamaged, match="gone"):
        Vault(str(tmp_path / "v"), KeyringKey("elsewhere"))


def test_a_keyring_that_fails_or_forgets_or_is_not_there_is_an_error(keyring, tmp_path, monkeypatch):
    module, kept = keyring
    monkeypatch.setattr(module, "set_password", lambda *_: None)
    with pytest.raises(ConfigError, match="did not keep"):
        Vault(str(tmp_path / "v"), KeyringKey("here"))
    kept[("weftos vault", "here")] = "not base64!"
    with pytest.raises(VaultDamaged):
        KeyringKey("here").load()

    def locked(*_):
        raise RuntimeError("the keyring is locked, and its message might name things")

    monkeypatch.setattr(module, "get_password", locked)
    with pytest.raises(ConfigError, match="RuntimeError"):
        KeyringKey("here").load()
    monkeypatch.setitem(sys.modules, "keyring", None)
    with pytest.raises(ConfigError, match="pip install keyring"):
        KeyringKey("here").load()
