"""The vectors of docs/formats/access.md, computed and opened."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from blake3 import blake3

from weftos.auth.sealing import open_box
from weftos.auth.tokens import Challenge, Token, parse, verify
from weftos.auth.vault import Vault, about_credential
from weftos.auth.vault_key import FileKey, VaultKeys

PAGE = Path(__file__).parents[2] / "docs" / "formats" / "access.md"
ROWS = dict(re.findall(r"^\| ([^|]+) \| `([^`]+)` \|$", PAGE.read_text(), re.MULTILINE))
KEY = bytes(range(32))


def test_the_token_and_its_login():
    token = Token(KEY)
    assert token.text() == ROWS["token"]
    assert parse(ROWS["token"]).public_key.hex() == ROWS["public key"]
    assert token.fingerprint.hex() == ROWS["fingerprint"]
    challenge = Challenge(b"\x01" * 32, b"\x02" * 16, 1000, 1001)
    assert token.sign(challenge).hex() == ROWS["signature"]
    assert verify(token.public_key, bytes.fromhex(ROWS["signature"]), challenge)


def test_the_box_and_the_file(tmp_path):
    keys = VaultKeys(KEY)
    assert keys.storage.hex() == ROWS["storage key"]
    assert keys.public.hex() == ROWS["public key of the vault"]
    box = bytes.fromhex(ROWS["box, purpose `add`"])
    assert open_box(box, keys.intake, about_credential("mail-api", "api-key", "add")) == b"secret"
    key = tmp_path / "key"
    key.touch(0o600)
    key.write_bytes(KEY)
    vault = Vault(str(tmp_path / "vault"), FileKey(str(key)))
    data = bytes.fromhex(ROWS["file"])
    file = tmp_path / "vault" / "mail-api.v1"
    file.touch(0o600)
    file.write_bytes(data)
    assert vault.load("mail-api", "api-key", 1, blake3(data).digest()) == b"secret"


def test_every_vector_is_used():
    assert len(ROWS) == 8


@pytest.mark.parametrize("spelling", ["{}=", " {}", "{}\n", "{}x"])
def test_other_spellings_of_a_token_are_refused(spelling):
    from weftos.errors import TokenRefused

    with pytest.raises(TokenRefused):
        parse(spelling.format(ROWS["token"]))
