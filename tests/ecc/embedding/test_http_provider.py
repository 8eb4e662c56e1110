"""Embeddings from a server that answers well, badly, slowly, or not at all: a real one on this machine."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
from collections.abc import Callable
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest

from weftos.ecc.embedding.http import HttpParameters, HttpProvider
from weftos.errors import EmbeddingDenied, EmbeddingInvalid, EmbeddingRefused, EmbeddingUnavailable, WeftError

KEY = "sk-very-secret-0123456789"
Answer = Callable[["Handler", dict[str, Any]], None]


class Handler(BaseHTTPRequestHandler):
    """Does what the test says, and notes what it was asked."""

    server: Any
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append((self.path, dict(self.headers), asked))
        self.close_connection = True
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.server.answers[min(len(self.server.asked), len(self.server.answers)) - 1](self, asked)

    def do_GET(self) -> None:
        self.server.asked.append((self.path, dict(self.headers), None))

    def log_message(self, *_: Any) -> None:
        pass

    def say(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class Server:
    def __init__(self, *answers: Answer) -> None:
        self.http: Any = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.answers, self.http.asked = answers, []
        self.asked: list[Any] = self.http.asked
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}/v1"

    def __enter__(self) -> Self:
        self.thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.http.shutdown()
        self.thread.join()
        self.http.server_close()


def _vectors(asked: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"index": n, "embedding": [len(text), 1.0, -2.0]} for n, text in enumerate(asked["input"])]


def _well(handler: Handler, asked: dict[str, Any]) -> None:
    handler.say(200, json.dumps({"object": "list", "data": _vectors(asked)[::-1], "usage": {}}).encode())


def _status(status: int, body: bytes = b"", **headers: str) -> Answer:
    return lambda handler, _: handler.say(status, body, **headers)


def _raw(body: str) -> Answer:
    return lambda handler, _: handler.say(200, body.encode())


def _provider(url: str, waits: list[float] | None = None, **changed: Any) -> HttpProvider:
    named = {"base_url": url, "model": "m", "dimension": 3, "seconds": 20.0, **changed}
    return HttpProvider(HttpParameters(**named), wait=(waits if waits is not None else []).append)


def test_batches_order_dimension_and_length() -> None:
    texts = ["a" * (n + 1) for n in range(7)]
    with Server(_well) as server:
        vectors = _provider(server.url + "/", batch=3).embed(texts)
    assert vectors.dtype == np.float32
    expected = np.array([[len(text), 1, -2] for text in texts], np.float64)
    assert np.allclose(vectors, expected / np.linalg.norm(expected, axis=1, keepdims=True))
    assert [len(asked["input"]) for _, _, asked in server.asked] == [3, 3, 1]
    path, headers, asked = server.asked[0]
    assert path == "/v1/embeddings"
    assert "Authorization" not in headers
    assert asked == {"model": "m", "input": texts[:3], "encoding_format": "float", "dimensions": 3}


def test_no_texts_ask_nothing() -> None:
    with Server(_well) as server:
        assert _provider(server.url).embed([]).shape == (0, 3)
    assert not server.asked


def test_dimension_is_not_sent_to_models_that_have_but_one() -> None:
    with Server(_well) as server:
        _provider(server.url, send_dimension=False).embed(["a"])
    assert "dimensions" not in server.asked[0][2]


def test_key_by_file_and_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "key").touch(0o600)
    (tmp_path / "key").write_text(KEY + "\n")
    monkeypatch.setenv("WEFTOS_TEST_KEY", KEY)
    with Server(_well) as server:
        for named in ({"key_file": str(tmp_path / "key")}, {"key_env": "WEFTOS_TEST_KEY"}):
            provider = _provider(server.url, **named)
            provider.embed(["a"])
            assert KEY not in repr(provider) + repr(vars(provider)) + repr(provider.identity)
    assert [headers["Authorization"] for _, headers, _ in server.asked] == [f"Bearer {KEY}"] * 2


@pytest.mark.parametrize("content", [None, b"", b"  \n", b"two words", b"a\r\nX: y", b"\xff", b"x" * 5000])
def test_a_key_that_is_none(content: bytes | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "key").touch(0o600)
        (tmp_path / "key").write_bytes(content)
    with Server(_well) as server, pytest.raises(EmbeddingDenied):
        _provider(server.url, key_file=str(tmp_path / "key")).embed(["a"])
    assert not server.asked


def test_a_key_that_others_may_read(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(KEY)
    (tmp_path / "key").chmod(0o644)
    with Server(_well) as server, pytest.raises(EmbeddingDenied, match="chmod"):
        _provider(server.url, key_file=str(tmp_path / "key")).embed(["a"])
    assert not server.asked


def test_a_name_without_a_key() -> None:
    with pytest.raises(EmbeddingDenied, match="WEFTOS_NO_SUCH_KEY"):
        _provider("http://127.0.0.1:9", key_env="WEFTOS_NO_SUCH_KEY").embed(["a"])


def test_the_key_is_in_no_error(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("WEFTOS_TEST_KEY", KEY)
    echo = json.dumps({"error": {"message": f"bad key {KEY}\x1b[31m"}}).encode()
    part = json.dumps({"error": f"bad key {KEY[:12]}..."}).encode()
    answers = [*(_status(status, body) for status in (400, 401, 500) for body in (echo, part)), _raw(KEY), _raw("{}")]
    for answer in answers:
        with Server(answer) as server, pytest.raises(WeftError) as caught:
            _provider(server.url, key_env="WEFTOS_TEST_KEY").embed(["a"])
        seen = "".join(str(error) for error in (caught.value, caught.value.__cause__))
        assert KEY[:12] not in seen
        assert "\x1b" not in seen
    assert KEY not in "".join(capfd.readouterr())


def test_failures_that_pass_are_tried_again() -> None:
    waits: list[float] = []
    with Server(_status(500), _status(429, Retry_After="7"), _status(503), _well) as server:
        assert _provider(server.url, waits).embed(["a"]).shape == (1, 3)
    assert len(server.asked) == 4
    assert len(waits) == 3
    assert 0.25 <= waits[0] <= 0.5
    assert waits[1] == 7
    assert 1 <= waits[2] <= 2


def test_a_date_in_retry_after() -> None:
    waits: list[float] = []
    with Server(_status(429, Retry_After=formatdate(time.time() + 20, usegmt=True)), _well) as server:
        _provider(server.url, waits).embed(["a"])
    assert 1 < waits[0] <= 20


@pytest.mark.parametrize("value", ["soon", "-1", "", "9" * 400, "Mon, 99 Foo 2020"])
def test_a_retry_after_that_says_nothing_or_too_much(value: str) -> None:
    waits: list[float] = []
    with Server(_status(429, Retry_After=value), _well) as server:
        if value.startswith("9"):
            with pytest.raises(EmbeddingUnavailable, match="at most 30 s"):
                _provider(server.url, waits).embed(["a"])
            assert not waits
        else:
            _provider(server.url, waits).embed(["a"])
            assert waits[0] <= 0.5


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_tries_end(status: int) -> None:
    with Server(_status(status)) as server, pytest.raises(EmbeddingUnavailable, match=str(status)):
        _provider(server.url, tries=3).embed(["a"])
    assert len(server.asked) == 3


@pytest.mark.parametrize(
    ("status", "error"),
    [(400, EmbeddingRefused), (401, EmbeddingDenied), (403, EmbeddingDenied), (404, EmbeddingRefused),
     (413, EmbeddingRefused), (422, EmbeddingRefused), (301, EmbeddingRefused), (302, EmbeddingRefused),
     (307, EmbeddingRefused), (308, EmbeddingRefused), (201, EmbeddingInvalid), (204, EmbeddingInvalid)]
)  # fmt: skip
def test_what_does_not_pass_is_not_tried_again(status: int, error: type[WeftError]) -> None:
    with Server(_well) as other, Server(_status(status, Location=other.url + "/embeddings")) as server:
        with pytest.raises(error, match=str(status)):
            _provider(server.url).embed(["a"])
        assert len(server.asked) == 1
        assert not other.asked


_GOOD = '{"index": 0, "embedding": [1, 2, 3]}'


@pytest.mark.parametrize(
    "body",
    ["", "null", "[]", "{}", "not json", '{"data": []}', '{"data": null}', f'{{"data": [{_GOOD}]}}',
     f'{{"data": [{_GOOD}, {_GOOD}]}}', f'{{"data": [{_GOOD}, {{"index": 2, "embedding": [1, 2, 3]}}]}}',
     f'{{"data": [{_GOOD}, {{"index": -1, "embedding": [1, 2, 3]}}]}}', f'{{"data": [{_GOOD}, {{"index": 1}}]}}',
     f'{{"data": [{_GOOD}, {{"embedding": [1, 2, 3]}}]}}', f'{{"data": [{_GOOD}, {_GOOD}, {_GOOD}]}}',
     *(f'{{"data": [{_GOOD}, {{"index": 1, "embedding": {vector}}}]}}'
       for vector in ("[]", "[1, 2]", "[1, 2, 3, 4]", "[0, 0, 0]", "[1, 2, NaN]", "[1, 2, Infinity]", "[1, 2, 1e999]",
                      '[1, 2, "3"]', "[1, 2, null]", "[[1, 2, 3]]", '"AACAPw=="', "[1, 2, true]")),
     "[" * 100_000, '{"data": [' + "1," * 200_000]
)  # fmt: skip
def test_an_answer_that_is_none(body: str) -> None:
    with Server(_raw(body)) as server, pytest.raises(EmbeddingInvalid):
        _provider(server.url).embed(["a", "b"])
    assert len(server.asked) == 1


@pytest.mark.parametrize("vector", ["[1e-200, 0, 0]", "[1e200, 1e200, 0]", "[1, 0, 0]", "[5e-324, 0, 0]"])
def test_any_length_but_zero_becomes_one(vector: str) -> None:
    with Server(_raw(f'{{"data": [{{"index": 0, "embedding": {vector}}}]}}')) as server:
        found = _provider(server.url).embed(["a"])
    assert np.isclose(np.linalg.norm(found), 1)


def _no_end(handler: Handler, _: Any) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n{" + b" " * (1 << 20))


def _short(handler: Handler, _: Any) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{")


def _hang_up(handler: Handler, _: Any) -> None:
    handler.connection.shutdown(socket.SHUT_RDWR)


def _other_words(handler: Handler, _: Any) -> None:
    handler.wfile.write(b"SSH-2.0-x\r\n")


def _many_headers(handler: Handler, _: Any) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 5000)


def _broken_chunks(handler: Handler, _: Any) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n")


@pytest.mark.parametrize(
    ("answer", "error"),
    [(_no_end, EmbeddingInvalid), (_short, EmbeddingInvalid), (_hang_up, EmbeddingUnavailable),
     (_other_words, EmbeddingUnavailable), (_many_headers, EmbeddingUnavailable),
     (_broken_chunks, EmbeddingUnavailable)]
)  # fmt: skip
def test_a_server_that_does_not_speak_the_protocol(answer: Answer, error: type[WeftError]) -> None:
    with Server(answer) as server, pytest.raises(error):
        _provider(server.url, tries=2).embed(["a"])


@pytest.mark.parametrize("first", [b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"])
def test_a_server_that_drips_has_its_time_as_a_whole(first: bytes) -> None:
    """Each byte comes well within the time allowed; all of them would take for ever."""
    over = threading.Event()

    def drip(handler: Handler, _: Any) -> None:
        handler.wfile.write(first)
        while not over.wait(0.02):
            handler.wfile.write(b" " if first.endswith(b"\r\n\r\n") else b"X")
            handler.wfile.flush()

    try:
        with Server(drip) as server:
            try:
                with pytest.raises(EmbeddingUnavailable, match=r"0\.3 s"):
                    _provider(server.url, seconds=0.3, tries=1).embed(["a"])
            finally:
                over.set()
    finally:
        over.set()


def test_nobody_listens() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        waits: list[float] = []
        with pytest.raises(EmbeddingUnavailable, match="tried 2 times"):
            _provider(url, waits, tries=2).embed(["a"])
        assert len(waits) == 1


def test_a_server_without_tls_is_not_asked_in_the_clear() -> None:
    with Server(_well) as server, pytest.raises(EmbeddingUnavailable):
        _provider(server.url.replace("http:", "https:"), tries=1).embed(["a"])
    assert not server.asked


def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    with Server(_well) as proxy, Server(_well) as server:
        monkeypatch.setenv("http_proxy", proxy.url)
        _provider(server.url).embed(["a"])
        assert not proxy.asked


@pytest.mark.parametrize(
    "changed",
    [{"base_url": url} for url in
     ["", "x", "ftp://a/", "file:///etc/passwd", "http://", "https://u:p@h/", "https://h/?a", "https://h/#a", "http://example.org",
      "http://127.0.0.1.example.org", "http://[::1", "https://h:99999", "https://h/\r\nX: y", "https://hé/"]]
    + [{"dimension": 0}, {"dimension": 1 << 20}, {"batch": 0}, {"seconds": 0}, {"seconds": float("nan")}, {"tries": 0},
       {"tries": 1000}, {"model": ""}, {"key_file": "a", "key_env": "b"}]
)  # fmt: skip
def test_refused_parameters(changed: dict[str, Any]) -> None:
    with pytest.raises(EmbeddingRefused):
        HttpProvider(HttpParameters(**{"base_url": "https://example.org/v1", "model": "m", "dimension": 3, **changed}))


def test_plain_http_elsewhere_only_when_allowed() -> None:
    for url in ("http://localhost:1", "http://[::1]:1", "http://127.9.9.9"):
        _provider(url)
    _provider("http://example.org", allow_plain=True)


def test_texts_beyond_the_limits_are_not_sent() -> None:
    with Server(_well) as server:
        for texts in (["a", " "], "text", ["\udcff"]):
            with pytest.raises(EmbeddingRefused):
                _provider(server.url).embed(texts)
    assert not server.asked


def test_model_dimension_and_address_are_the_identity() -> None:
    changes: list[dict[str, Any]] = [{}, {"model": "n"}, {"dimension": 4}, {"base_url": "https://b.example.org/v1"}]
    base: dict[str, Any] = {"base_url": "https://a.example.org/v1", "model": "m", "dimension": 3}
    assert len({HttpProvider(HttpParameters(**{**base, **change})).identity for change in changes}) == len(changes)
    same = [{**base, "base_url": url} for url in ("https://a.example.org/v1/", "https://A.example.org:443/v1")]
    same += [{**base, "batch": 2}, {**base, "key_env": "K"}]
    assert {HttpProvider(HttpParameters(**named)).identity for named in same} == {
        HttpProvider(HttpParameters(**base)).identity
    }


def test_no_descriptor_stays_open() -> None:
    before = len(os.listdir("/proc/self/fd"))
    with Server(_well, _hang_up, _status(500)) as server:
        for _ in range(5):
            with contextlib.suppress(WeftError):
                _provider(server.url, tries=1).embed(["a"])
    assert len(os.listdir("/proc/self/fd")) <= before
