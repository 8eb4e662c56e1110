"""JSON-RPC 2.0 as the control socket speaks it: one message per line, one request per message.

Pure functions over bytes.
Lines instead of a length prefix, so that the socket can be used by hand and from any language. Batches are refused: a
client that wants several things sends several lines, and gets the answers in order. Whatever bytes come in, the outcome
is a ``Request``, a ``Refusal`` that can be answered, or (for what a server said) a ``ProtocolError``: no other
exception leaves this module. It guarantees nothing about who sent the bytes.
"""

from __future__ import annotations

from typing import Any, Final, TypeVar

import msgspec

from weftos import limits
from weftos.errors import (
    InvalidRequest,
    MessageTooLarge,
    MethodNotFound,
    PayloadRefused,
    ProtocolError,
    WeftError,
    error_for_code,
)
from weftos.rpc.methods import METHODS, Method

__all__ = [
    "LineSplitter",
    "Refusal",
    "Request",
    "decode_params",
    "decode_response",
    "encode_error",
    "encode_request",
    "encode_result",
    "find_method",
    "parse_request",
]

#: Numbers that JSON-RPC 2.0 reserves (§5.1), and the one number of all errors that WeftOS itself names in
#: ``data.code``.
PARSE_ERROR: Final = -32700
INVALID_REQUEST: Final = -32600
METHOD_NOT_FOUND: Final = -32601
INVALID_PARAMS: Final = -32602
INTERNAL_ERROR: Final = -32603
WEFT_ERROR: Final = -32000

#: Ids are echoed, so a long one would let a caller choose the size of our answer.
_ID_MAX_CHARS: Final = 256
_KEYS: Final = frozenset({"jsonrpc", "id", "method", "params"})

RequestId = str | int | float | None
T = TypeVar("T")


class Request(msgspec.Struct, frozen=True):
    """A well-formed request; whether the method exists and the parameters fit is not yet known.

    Attributes:
        id: echoed in the answer.
        method: name.
        params: by name; an absent ``params`` is an empty mapping.
        notification: the caller wants no answer.
    """

    id: RequestId
    method: str
    params: dict[str, Any]
    notification: bool = False


class Refusal(msgspec.Struct, frozen=True):
    """Bytes that are no request, with the answer they deserve.

    Attributes:
        id: of the request where it could be read, else ``None``.
        number: JSON-RPC error number.
        message: for a person.
    """

    id: RequestId
    number: int
    message: str

    def encode(self) -> bytes:
        """The answer as one line."""
        return _error_line(self.id, self.number, self.message, InvalidRequest.code)


class LineSplitter:
    """Cuts a byte stream into lines without holding more than one over-long line's worth of it.

    Args:
        limit: longest line accepted, bytes, without its newline.
    """

    def __init__(self, limit: int = limits.RPC_LINE_BYTES) -> None:
        self._limit = limit
        self._buffer = bytearray()
        self._searched = 0

    def feed(self, data: bytes) -> list[bytes]:
        """Add bytes and take the lines that are complete, without newlines; empty lines are skipped.

        Raises:
            MessageTooLarge: a line is longer than the limit. The stream cannot be followed further: answer and close.
                Lines that came complete in the same ``data`` are given up with it.
        """
        self._buffer += data
        lines: list[bytes] = []
        start = 0
        while (end := self._buffer.find(b"\n", max(start, self._searched))) >= 0:
            self._check(end - start)
            line = bytes(self._buffer[start:end]).strip(b" \t\r")
            if line:
                lines.append(line)
            start = end + 1
        del self._buffer[:start]
        self._searched = len(self._buffer)
        self._check(self._searched)
        return lines

    @property
    def pending(self) -> int:
        """Bytes of the line that is not yet complete."""
        return len(self._buffer)

    def _check(self, length: int) -> None:
        if length > self._limit:
            message = f"a line on the control socket has at least {length} bytes; at most {self._limit} are accepted"
            raise MessageTooLarge(message, size=length, limit=self._limit)


# --- the server's side ---------------------------------------------------------------------------


def parse_request(line: bytes) -> Request | Refusal:
    """Read one line as a request."""
    if len(line) > limits.RPC_LINE_BYTES:
        return Refusal(
            None, INVALID_REQUEST, f"the line has {len(line)} bytes; at most {limits.RPC_LINE_BYTES} are accepted"
        )
    try:
        value = msgspec.json.decode(line)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        return Refusal(None, PARSE_ERROR, f"the line is not JSON: {error}")
    if isinstance(value, list):
        return Refusal(None, INVALID_REQUEST, "batches are not accepted: send one request per line")
    if not isinstance(value, dict):
        return Refusal(None, INVALID_REQUEST, "a request is a JSON object")
    return _check_request(value)


def _check_request(value: dict[str, Any]) -> Request | Refusal:
    request_id = value.get("id")
    if not _id_acceptable(request_id):
        return Refusal(
            None, INVALID_REQUEST, f"id must be a number, null, or a string of at most {_ID_MAX_CHARS} characters"
        )
    problem = None
    method = value.get("method")
    params = value.get("params")
    if value.get("jsonrpc") != "2.0":
        problem = 'the member "jsonrpc" must be "2.0"'
    elif not isinstance(method, str) or not method:
        problem = 'the member "method" must be a string'
    elif not value.keys() <= _KEYS:
        unknown = min(value.keys() - _KEYS)
        problem = f"a request has no member {unknown[:64]!r}; it has jsonrpc, id, method and params"
    if problem is not None:
        return Refusal(request_id, INVALID_REQUEST, problem)
    if params is not None and not isinstance(params, dict):
        return Refusal(request_id, INVALID_PARAMS, "params must be an object: parameters are given by name")
    assert isinstance(method, str)
    return Request(request_id, method, params or {}, notification="id" not in value)


def _id_acceptable(value: Any) -> bool:
    if value is None:
        return True
    if isinstance(value, bool):
        return False
    # An integer is echoed exactly as far as JSON readers in the wild agree on integers.
    return (isinstance(value, str) and len(value) <= _ID_MAX_CHARS) or (
        isinstance(value, int | float) and abs(value) <= 2**63
    )


def find_method(name: str) -> Method:
    """Look a method up in the table.

    Raises:
        MethodNotFound: it is not there; the message names a similar one.
    """
    method = METHODS.get(name)
    if method is not None:
        return method
    import difflib

    near = difflib.get_close_matches(name[:64], METHODS, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    raise MethodNotFound(f"there is no method {name[:64]!r}{hint}")


def decode_params(method: Method, params: dict[str, Any]) -> Any:
    """Turn parameters by name into the method's struct.

    Returns:
        An instance of ``method.params``.

    Raises:
        InvalidRequest: a parameter is missing, unknown, of the wrong type or out of range; the message names it.
    """
    try:
        return msgspec.convert(params, method.params)
    except msgspec.ValidationError as error:
        raise InvalidRequest(f"{method.name}: {error}") from error


def encode_result(request_id: RequestId, result: Any) -> bytes:
    """Answer a request, as one line. Bytes become base64; NaN and infinities become null.

    Raises:
        PayloadRefused: the result has no JSON form.
    """
    try:
        return msgspec.json.encode({"jsonrpc": "2.0", "id": request_id, "result": result}) + b"\n"
    except (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError) as error:
        raise PayloadRefused(f"the result has no JSON form: {error}") from error


def encode_error(request_id: RequestId, error: WeftError) -> bytes:
    """Answer a request with an error, as one line.

    JSON-RPC's number, the message, and our stable code in ``data.code``.
    """
    if isinstance(error, MethodNotFound):
        number = METHOD_NOT_FOUND
    elif isinstance(error, InvalidRequest):
        number = INVALID_PARAMS
    else:
        number = WEFT_ERROR
    return _error_line(request_id, number, str(error), error.code)


def _error_line(request_id: RequestId, number: int, message: str, code: str) -> bytes:
    # A message may quote bytes that came as lone surrogates (file names); JSON has no form for those.
    clean = message.encode("utf-8", "replace").decode("utf-8")
    body = {"code": number, "message": clean, "data": {"code": code}}
    return msgspec.json.encode({"jsonrpc": "2.0", "id": request_id, "error": body}) + b"\n"


# --- the client's side ---------------------------------------------------------------------------


class _ErrorData(msgspec.Struct):
    code: str = WeftError.code


class _ErrorBody(msgspec.Struct):
    code: int
    message: str
    data: _ErrorData | None = None


class _Response(msgspec.Struct):
    jsonrpc: str
    id: str | int | float | None
    result: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    error: _ErrorBody | None = None


_RESPONSE: Final = msgspec.json.Decoder(_Response)


def encode_request(request_id: int, method: str, params: Any) -> bytes:
    """Write a request as one line.

    Args:
        request_id: echoed by the server.
        method: name of the method.
        params: a params struct or a mapping.

    Raises:
        PayloadRefused: the parameters have no JSON form.
        MessageTooLarge: the line is longer than the server accepts.
    """
    try:
        line = msgspec.json.encode({"jsonrpc": "2.0", "id": request_id, "method": method, "params": params})
    except (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError) as error:
        raise PayloadRefused(f"the parameters of {method} have no JSON form: {error}") from error
    if len(line) > limits.RPC_LINE_BYTES:
        message = f"the request {method} has {len(line)} bytes; the control socket accepts {limits.RPC_LINE_BYTES}"
        raise MessageTooLarge(message, size=len(line), limit=limits.RPC_LINE_BYTES)
    return line + b"\n"


def decode_response(line: bytes, request_id: int, result: type[T]) -> T:
    """Read the answer to a request.

    Args:
        line: one line from the server.
        request_id: id that was sent.
        result: expected type of the result.

    Raises:
        WeftError: the error that the server answered, rebuilt in its own class.
        ProtocolError: the line is no answer to this request, or the result is not of this type.
    """
    try:
        response = _RESPONSE.decode(line)
        if response.jsonrpc != "2.0":
            raise ProtocolError("the kernel's answer is not JSON-RPC 2.0")
        # An error without id answers bytes that the server could not take for a request: ours, since we sent nothing
        # else.
        if response.id != request_id and (response.error is None or response.id is not None):
            raise ProtocolError(f"the kernel answered request {response.id!r} instead of {request_id}")
        if response.error is not None:
            code = response.error.data.code if response.error.data else WeftError.code
            raise error_for_code(code, response.error.message)
        if isinstance(response.result, msgspec.UnsetType):
            raise ProtocolError("the kernel's answer has neither a result nor an error")
        return msgspec.json.decode(response.result, type=result)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise ProtocolError(f"the kernel's answer cannot be read (another version of WeftOS?): {error}") from error
