"""The settings: all of the schema, with words for people; and what is refused because it would be a secret."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weftos import config
from weftos.config import Config
from weftos.errors import InvalidRequest
from weftos.settings import catalog
from weftos.settings.catalog import EFFECTS, SETTINGS, refuse_secret, setting, typed, value_of


def test_every_key_of_the_schema_is_a_setting_with_its_default():
    keys = {f"{s}.{k}" for s in Config.__struct_fields__ for k in getattr(Config(), s).__struct_fields__}
    assert set(SETTINGS) == keys
    for key, one in SETTINGS.items():
        assert value_of(Config(), key) == one.default
        assert one.accepts
    assert set(EFFECTS) <= keys | set(Config.__struct_fields__)
    assert set(Config.__struct_fields__) <= set(EFFECTS), "a new section says when a change of it holds"


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("kernel.max_processes", "12", 12),
        ("limits.memory_bytes", "512MiB", "512MiB"),
        ("limits.memory_bytes", '"512MiB"', "512MiB"),
        ("chain.archive", "true", True),
        ("chain.archive", "by-hand", "by-hand"),
        ("chain.archive_dir", "12", "12"),
        ("chain.archive_dir", '"12"', "12"),
        ("ipc.proof_topics", '["a", "b"]', ["a", "b"]),
        ("log.level", "weftos.ipc=trace,info", "weftos.ipc=trace,info"),
        ("log.level", "1\nother = 2", "1\nother = 2"),
    ],
)
def test_a_value_is_typed_as_in_the_file_and_text_without_quotes(key, text, value):
    found = typed(key, text)
    assert (found, type(found)) == (value, type(value))


@given(st.text(max_size=60))
def test_anything_typed_is_a_value_that_the_file_takes_or_refuses(text):
    for key in ("kernel.max_processes", "log.level", "ipc.proof_topics"):
        typed(key, text)


@pytest.mark.parametrize("key", ["auth.token", "kernel.api_key", "x.PASSWORD", "chain.private_key", "a.secrets"])
def test_a_key_for_a_secret_is_refused_with_the_place_where_it_belongs(key):
    with pytest.raises(InvalidRequest, match="weaver auth credential add"):
        setting(key)


def test_a_setting_whose_type_is_marked_as_secret_is_refused(monkeypatch):
    class Section(msgspec.Struct):
        hidden: str = ""

    marked = catalog.Setting(key="log.hidden", default="", effect="now", accepts="text", is_text=True, secret=True)
    monkeypatch.setitem(SETTINGS, "log.hidden", marked)
    with pytest.raises(InvalidRequest, match="weaver auth credential add"):
        setting("log.hidden")


def test_a_value_that_looks_like_a_secret_is_refused_and_not_repeated():
    from weftos.auth.tokens import Token

    text = Token.make().text()
    for value in (text, ["plain", text], "-----BEGIN PRIVATE KEY-----\nMII"):
        with pytest.raises(InvalidRequest) as refused:
            refuse_secret(value)
        assert text not in str(refused.value)
    refuse_secret(["orders", 1, None, True])


def test_a_misspelt_key_is_told_what_was_meant():
    with pytest.raises(InvalidRequest, match=r"did you mean limits\.memory_bytes"):
        setting("limits.memroy_bytes")


def test_what_a_file_sets_is_found_with_sizes_as_numbers():
    text = '[limits]\nmemory_bytes = "1MiB"\n[log]\nlevel = "debug"\n'
    assert config.explicit(text, "x") == {"limits.memory_bytes": 1 << 20, "log.level": "debug"}
