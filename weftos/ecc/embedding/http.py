"""Embeddings from a server with the interface of OpenAI: ``POST {base_url}/embeddings``.

Why the standard library: one request with one answer needs no more, and its client follows no redirect and reads no
proxy from the environment, both of which would hand the key to someone else.

Guaranteed: one request is over within its time as a whole, however slowly the server drips; its answer is bounded and
checked (count, order, dimension, finite, not zero) before any of it is used; what cannot be had raises, and there is no
fallback. The key is read for each call and goes into the one header; it is in no error, ``repr`` or log. Not
guaranteed: a bound on the resolution of a name, which is the operating system's; that a server uses the same model
tomorrow.
"""

from __future__ import annotations

import email.utils
import http.client
import io
import ipaddress
import os
import random
import socket
import ssl
import time
from collections.abc import Callable, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

import blake3
import msgspec
import numpy as np
from numpy.typing import NDArray

from weftos import limits
from weftos.disk.secret_file import read_secret
from weftos.ecc.embedding.provider import EmbeddingIdentity, check_texts, normalised
from weftos.errors import ConfigError, EmbeddingDenied, EmbeddingInvalid, EmbeddingRefused, EmbeddingUnavailable

__all__ = ["HttpParameters", "HttpProvider"]

_VERSION: Final = 1
#: RFC 9110: too many requests, and failures of a server that may pass.
_LATER: Final = frozenset({408, 429, 500, 502, 503, 504, 529})


class HttpParameters(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where embeddings come from.

    Attributes:
        base_url: address without ``/embeddings``; ``https``, or ``http`` to this machine.
        model: name of the model, as the server knows it.
        dimension: numbers in a vector.
        send_dimension: ask the server for that dimension; off for models that have but one.
        key_file: file with the key, readable by its owner alone; empty: none.
        key_env: environment variable with the key; empty: none.
        batch: texts in one request.
        seconds: for one request and its answer.
        tries: times that one request is sent.
        allow_plain: allow ``http`` to another machine, where everybody on the way can read texts and key.
    """

    base_url: str
    model: str
    dimension: int
    send_dimension: bool = True
    key_file: str = ""
    key_env: str = ""
    batch: int = limits.EMBED_HTTP_BATCH
    seconds: float = limits.EMBED_HTTP_SECS
    tries: int = limits.EMBED_HTTP_TRIES
    allow_plain: bool = False


class _Row(msgspec.Struct):
    index: int
    embedding: list[float]


class _Answer(msgspec.Struct):
    data: list[_Row]


class _Fault(msgspec.Struct):
    message: str = ""


class _Refusal(msgspec.Struct):
    error: _Fault | str = ""


class _Later(Exception):  # noqa: N818 - it is caught here, and tells when to try again
    def __init__(self, why: str, wait: float | None = None) -> None:
        super().__init__(why)
        self.wait = wait


class HttpProvider:
    """Embeddings from a server (see the module).

    Args:
        parameters: where they come from.
        wait: how to let seconds pass between tries.

    Raises:
        EmbeddingRefused: a parameter is out of its range, or the address is no ``http(s)`` one that may be used.
    """

    def __init__(self, parameters: HttpParameters, wait: Callable[[float], None] = time.sleep) -> None:
        _check(parameters)
        self._parameters = parameters
        self._wait = wait
        url = urlsplit(parameters.base_url)
        self._secure = url.scheme == "https"
        self._host, self._port = url.hostname or "", url.port
        self._path = url.path.rstrip("/") + "/embeddings"
        whence = f"{url.scheme}://{self._host}:{self._port or (443 if self._secure else 80)}{self._path}"
        facts = [whence, parameters.model, parameters.dimension, parameters.send_dimension]
        digest = blake3.blake3(msgspec.msgpack.encode(facts)).hexdigest()
        self._identity = EmbeddingIdentity(f"http:{parameters.model}", _VERSION, parameters.dimension, digest)

    @property
    def identity(self) -> EmbeddingIdentity:
        """Which vectors these are: model, dimension, and a hash of the address."""
        return self._identity

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Turn texts into vectors; see ``EmbeddingProvider.embed``.

        Raises:
            EmbeddingRefused: the texts are beyond the limits, or the server does not take them.
            EmbeddingDenied: the key cannot be read, or the server does not take it.
            EmbeddingUnavailable: no answer within the tries.
            EmbeddingInvalid: the answer is none to what was asked.
        """
        check_texts(texts)
        key = self._key()
        size = self._parameters.batch
        parts = [self._part(texts[at : at + size], key) for at in range(0, len(texts), size)]
        return np.vstack(parts) if parts else np.zeros((0, self._parameters.dimension), np.float32)

    def _part(self, texts: Sequence[str], key: str) -> NDArray[np.float32]:
        tries = self._parameters.tries
        for number in range(tries):
            try:
                return self._rows(self._ask(texts, key), len(texts))
            except _Later as later:
                if number + 1 == tries:
                    raise EmbeddingUnavailable(f"{self._host}: {later}; tried {tries} times; try again later") from None
                longest = limits.EMBED_HTTP_WAIT_MAX_SECS
                if later.wait is not None and later.wait > longest:
                    raise EmbeddingUnavailable(
                        f"{self._host}: {later}; it asks for {later.wait:.0f} s, at most {longest:.0f} s are waited"
                    ) from None
                step = min(limits.EMBED_HTTP_WAIT_SECS * 2**number, longest)
                # Those that were turned away together must not come back together.
                step *= random.SystemRandom().uniform(0.5, 1)
                self._wait(max(step, later.wait or 0))
        raise AssertionError("the last try returns or raises")

    def _ask(self, texts: Sequence[str], key: str) -> bytes:
        chosen = self._parameters
        asked: dict[str, Any] = {"model": chosen.model, "input": list(texts), "encoding_format": "float"}
        if chosen.send_dimension:
            asked["dimensions"] = chosen.dimension
        try:
            body = msgspec.json.encode(asked)
        except UnicodeEncodeError:
            raise EmbeddingRefused("a text holds a lone surrogate, which is no UTF-8; leave it out") from None
        headers = {"Content-Type": "application/json", "Accept": "application/json", "User-Agent": "weftos"}
        if key:
            headers["Authorization"] = f"Bearer {key}"
        most = limits.EMBED_HTTP_EXTRA_BYTES + len(texts) * (chosen.dimension + 16) * limits.EMBED_HTTP_NUMBER_BYTES
        deadline = time.monotonic() + chosen.seconds
        connection = self._connection(deadline)
        try:
            connection.request("POST", self._path, body, headers)
            response = connection.getresponse()
            data = response.read(most + 1)
        except TimeoutError:
            raise _Later(f"no whole answer within {chosen.seconds:g} s") from None
        except ssl.SSLCertVerificationError as error:
            raise EmbeddingDenied(f"{self._host}: its certificate is not trusted: {error.verify_message}") from None
        except (OSError, http.client.HTTPException) as error:
            # Only the kind of some: what a broken server sent could be in the words.
            words = error.strerror if isinstance(error, OSError) and error.strerror else type(error).__name__
            raise _Later(f"the connection failed: {words}") from None
        finally:
            connection.close()
        if response.status != 200:
            raise self._refusal(response, data[: limits.EMBED_HTTP_EXTRA_BYTES], key)
        if len(data) > most:
            raise EmbeddingInvalid(f"{self._host}: the answer has more than {most} bytes; is this the right model?")
        return data

    def _connection(self, deadline: float) -> http.client.HTTPConnection:
        seconds = self._parameters.seconds
        connection: http.client.HTTPConnection
        if self._secure:
            context = ssl.create_default_context()
            connection = http.client.HTTPSConnection(self._host, self._port, timeout=seconds, context=context)
        else:
            connection = http.client.HTTPConnection(self._host, self._port, timeout=seconds)

        def answer(sock: socket.socket, *rest: Any, **named: Any) -> http.client.HTTPResponse:
            return http.client.HTTPResponse(_Deadlined(sock, deadline), *rest, **named)  # type: ignore[arg-type]

        connection.response_class = answer  # type: ignore[assignment]
        return connection

    def _refusal(self, response: http.client.HTTPResponse, data: bytes, key: str) -> Exception:
        status = response.status
        words = self._words(data, key)
        said = f"HTTP status {status}" + (f" ({words})" if words else "")
        if status in _LATER:
            return _Later(said, _retry_after(response.getheader("Retry-After")))
        if status in {401, 403, 407}:
            return EmbeddingDenied(f"{self._host}: {said}; check the key and what it is allowed to")
        if 300 <= status < 400:
            return EmbeddingRefused(
                f"{self._host}: {said}: it redirects, which is not followed; set base_url to the final address"
            )
        if 400 <= status < 500:
            return EmbeddingRefused(f"{self._host}: {said}; check base_url, model, dimension and the length of texts")
        return EmbeddingInvalid(f"{self._host}: {said} is no answer of such a server; check base_url")

    def _words(self, data: bytes, key: str) -> str:
        """What the server says is wrong, if it says so in the usual form: short, printable, without the key."""
        try:
            found = msgspec.json.decode(data, type=_Refusal).error
        except (msgspec.DecodeError, UnicodeDecodeError):
            return ""
        text = found if isinstance(found, str) else found.message
        if key:
            text = text.replace(key, "[key]")
            # Some servers quote a part of it.
            if any(key[at : at + 8] in text for at in range(max(1, len(key) - 7))):
                return ""
        return "".join(sign if sign.isprintable() else " " for sign in text)[: limits.EMBED_HTTP_WORDS].strip()

    def _rows(self, data: bytes, count: int) -> NDArray[np.float32]:
        dimension = self._parameters.dimension
        try:
            rows = msgspec.json.decode(data, type=_Answer).data
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise EmbeddingInvalid(
                f"{self._host}: the answer is not of the form of embeddings; check base_url"
            ) from None
        if len(rows) != count or sorted(row.index for row in rows) != list(range(count)):
            raise EmbeddingInvalid(f"{self._host}: {len(rows)} vectors for {count} texts, or not one for each")
        wrong = next((len(row.embedding) for row in rows if len(row.embedding) != dimension), None)
        if wrong is not None:
            raise EmbeddingInvalid(f"{self._host}: a vector has {wrong} numbers instead of {dimension}; set dimension")
        rows.sort(key=lambda row: row.index)
        return normalised(np.array([row.embedding for row in rows], np.float64), self._host)

    def _key(self) -> str:
        chosen = self._parameters
        if chosen.key_env:
            data = os.environb.get(os.fsencode(chosen.key_env))
            if data is None:
                raise EmbeddingDenied(f"the environment variable {chosen.key_env} for the key is not set")
        elif chosen.key_file:
            try:
                data = read_secret(chosen.key_file, limits.EMBED_HTTP_KEY_BYTES)
            except ConfigError as error:
                raise EmbeddingDenied(str(error)) from None
            except OSError as error:
                raise EmbeddingDenied(f"{chosen.key_file} with the key cannot be read: {error.strerror}") from None
        else:
            return ""
        whence = chosen.key_env or chosen.key_file
        data = data.strip()
        # Anything else could end the header and begin another.
        if not 0 < len(data) <= limits.EMBED_HTTP_KEY_BYTES or not all(0x20 < byte < 0x7F for byte in data):
            raise EmbeddingDenied(f"{whence} holds no key: printable ASCII without blanks is expected")
        return data.decode("ascii")


class _Deadlined(io.RawIOBase):
    """A socket for reading until a moment, instead of for so long after each byte."""

    def __init__(self, sock: socket.socket, deadline: float) -> None:
        self._sock = sock
        self._file = sock.makefile("rb", buffering=0)
        self._deadline = deadline

    def makefile(self, *_: Any, **__: Any) -> io.BufferedReader:
        return io.BufferedReader(self)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._sock.settimeout(left)
        return self._file.readinto(buffer)

    def close(self) -> None:
        self._file.close()
        super().close()


def _retry_after(value: str | None) -> float | None:
    """Seconds that a server asks to wait (RFC 9110, 10.2.3), a number or a date; ``None`` if it says nothing usable."""
    if value is None:
        return None
    value = value.strip()
    if value.isascii() and value.isdigit():
        return float(value[:12])
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (TypeError, ValueError, OverflowError):
        return None


def _check(chosen: HttpParameters) -> None:
    try:
        url = urlsplit(chosen.base_url)
        host, _ = url.hostname, url.port
    except ValueError as error:
        raise EmbeddingRefused(f"base_url is no address: {error}") from None
    if url.scheme not in {"http", "https"} or not host:
        raise EmbeddingRefused("base_url must begin with https:// or http:// and name a host")
    if url.username is not None or url.password is not None or url.query or url.fragment:
        raise EmbeddingRefused("base_url must hold no user, password, ? or #; name the key by key_file or key_env")
    if not all(0x20 < ord(sign) < 0x7F for sign in chosen.base_url):
        raise EmbeddingRefused("base_url must be printable ASCII without blanks")
    if url.scheme == "http" and not chosen.allow_plain and not _is_this_machine(host):
        raise EmbeddingRefused(f"http to {host} lets others read texts and key; use https, or set allow_plain")
    ranges: list[tuple[str, float, float, float]] = [
        ("dimension", chosen.dimension, 1, limits.EMBED_DIMENSION_MAX),
        ("batch", chosen.batch, 1, limits.EMBED_HTTP_BATCH_MAX),
        ("seconds", chosen.seconds, 0.001, limits.EMBED_HTTP_SECS_MAX),
        ("tries", chosen.tries, 1, limits.EMBED_HTTP_TRIES_MAX),
        ("characters of model", len(chosen.model), 1, limits.EMBED_HTTP_WORDS),
    ]
    for name, value, least, most in ranges:
        if not least <= value <= most:
            raise EmbeddingRefused(f"{name}: {value} is not in {least} to {most}")
    if chosen.key_file and chosen.key_env:
        raise EmbeddingRefused("key_file and key_env are both set; set one")


def _is_this_machine(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
