"""HTTP requests that are bounded in time and in size, whatever a server does."""

import contextlib
import contextvars
import http.client
import json
import socket
import threading
import zlib
from typing import Any, NamedTuple, Self

import urllib3

from tfp_smvi.core.errors import plain_reason
from tfp_smvi.serving.served import TransientError
from tfp_smvi.storage.json_files import parse_json

__all__ = ["Answer", "Transport", "UntrustedError", "WrongAnswerError"]


class Answer(NamedTuple):
    """The answer to a request.

    Attributes:
        status: the HTTP status.
        reason: its name, such as "Not Found".
        data: the body, expanded if it was compressed.
    """

    status: int
    reason: str
    data: bytes

    def parse(self, most_values: int) -> Any:
        """Returns the body as JSON.

        Args:
            most_values: the largest number of values, counted before any is made: an empty list of
                3 bytes takes 64 in Python.

        Raises:
            ValueError: it is not JSON, is nested too deeply or has more values.
        """
        # A value follows a comma, or is the first one in a list or an object.
        if sum(map(self.data.count, (b",", b"[", b"{"))) > most_values:
            raise ValueError(f"it has more than {most_values} values")
        return parse_json(self.data)


class WrongAnswerError(Exception):
    """An answer that is too large, or that cannot be expanded."""


class UntrustedError(Exception):
    """TLS fails, such as by a certificate that is not valid."""


class Transport:
    """A pool of connections.

    Args:
        timeout: seconds from the start of a request to the end of its answer.
        num_connections: how many threads make requests at a time.
    """

    def __init__(self, timeout: float, num_connections: int = 1) -> None:
        """Connects to nothing yet."""
        self._timeout = timeout
        self._pool = urllib3.PoolManager(
            maxsize=num_connections, block=True, retries=False, timeout=urllib3.Timeout(timeout)
        )
        self._pool.pool_classes_by_scheme = {"http": _HTTPPool, "https": _HTTPSPool}

    def close(self) -> None:
        """Closes idle connections."""
        self._pool.clear()

    def request(self, method: str, url: str, limit: int, body: object = None) -> Answer:
        """Makes one request.

        Args:
            method: such as "GET".
            url: the address.
            limit: the largest number of bytes of the answer, before and after it is expanded.
            body: JSON values to send.

        Raises:
            WrongAnswerError: the answer is larger than the limit or cannot be expanded.
            UntrustedError: TLS fails.
            TransientError: the connection failed, or there was no whole answer in time.
        """
        # Nobody asks for a compressed answer: only a server that compresses nevertheless sends one.
        headers = {"Content-Type": "application/json"} if body is not None else {}
        data = None if body is None else json.dumps(body, separators=(",", ":")).encode()
        with _Deadline(self._timeout) as deadline:
            try:
                response = self._pool.request(
                    method, url, body=data, headers=headers, preload_content=False
                )
                encoded = _read(response, limit)
            except (OSError, urllib3.exceptions.HTTPError) as error:
                if deadline.passed:
                    raise self._too_late() from error
                if isinstance(error, urllib3.exceptions.SSLError):
                    raise UntrustedError(str(error)) from error
                raise TransientError(_reason(error)) from error
        if deadline.passed:  # an answer without a length ends where the connection does
            raise self._too_late()
        encoding = response.headers.get("Content-Encoding", "identity")
        return Answer(response.status, response.reason or "", _expand(encoded, encoding, limit))

    def _too_late(self) -> TransientError:
        return TransientError(f"no whole answer within {self._timeout:g} s")


def _reason(error: Exception) -> str:
    """Says in plain words why a connection failed."""
    causes = [error, error.__cause__, *error.args]
    if isinstance(error, urllib3.exceptions.NameResolutionError):
        return "there is no machine of this name"
    if any(isinstance(cause, http.client.IncompleteRead) for cause in causes):
        return "the answer ended too early"
    if any(isinstance(cause, http.client.RemoteDisconnected) for cause in causes):
        return "the server closed the connection without an answer"
    if any(isinstance(cause, http.client.HTTPException) for cause in causes):
        return "the answer is not HTTP"
    system = next((cause for cause in causes if isinstance(cause, OSError) and cause.errno), None)
    if system is None and isinstance(error, urllib3.exceptions.TimeoutError):
        return "no answer in time"
    return plain_reason(system or error)


def _read(response: urllib3.BaseHTTPResponse, limit: int) -> bytes:
    """Reads the body as it was sent; the connection is kept if all of it was read."""
    data = response.read(limit + 1, decode_content=False)
    # The next read finds the end, or that the connection ended too early.
    if len(data) > limit or response.read(1, decode_content=False):
        response.close()
        raise WrongAnswerError(f"more than {limit} bytes")
    response.release_conn()
    return data


def _expand(data: bytes, encoding: str, limit: int) -> bytes:
    """Expands the body of an answer, up to the limit."""
    if encoding == "identity":
        return data
    if encoding != "gzip":
        raise WrongAnswerError(f"it is encoded as {encoding}")
    inflater = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
    try:
        expanded = inflater.decompress(data, limit + 1)
    except zlib.error as error:
        raise WrongAnswerError("it is damaged") from error
    if len(expanded) > limit:
        raise WrongAnswerError(f"more than {limit} bytes when it is expanded")
    return expanded


class _Deadline:
    """Ends the connections of a request when its time is over; the limits of sockets begin again.

    A limit of a socket is one of each read, so that a server which sends a byte now and then would
    never reach it.
    """

    def __init__(self, seconds: float) -> None:
        self.passed = False
        self._lock, self._handles = threading.Lock(), list[socket.socket]()
        self._timer = threading.Timer(seconds, self._pass)
        self._timer.daemon = True

    def __enter__(self) -> Self:
        self._token = _DEADLINE.set(self)
        self._timer.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._timer.cancel()
        _DEADLINE.reset(self._token)
        with self._lock:
            for handle in self._handles:
                handle.close()
            self._handles.clear()

    def watch(self, connected: socket.socket) -> None:
        """Adds a connection that the request uses, by a handle that lasts as long as the request.

        The connection may close its own before the answer is read.
        """
        with self._lock:
            self._handles.append(connected.dup())
            if self.passed:
                _shut(self._handles[-1])

    def _pass(self) -> None:
        with self._lock:
            self.passed = True
            for handle in self._handles:
                _shut(handle)


# The deadline of the request that this thread makes.
_DEADLINE: contextvars.ContextVar[_Deadline] = contextvars.ContextVar("deadline")


def _shut(handle: socket.socket) -> None:
    with contextlib.suppress(OSError):  # it is closed already
        handle.shutdown(socket.SHUT_RDWR)


class _Watched:
    """A connection that ends when the deadline of the request passes."""

    _handle: socket.socket

    def _new_conn(self) -> socket.socket:
        """Connects; TLS takes the socket over, and another handle of it stays."""
        connected: socket.socket = super()._new_conn()  # type: ignore[misc]
        self._handle = connected.dup()
        _DEADLINE.get().watch(self._handle)
        return connected

    def request(self, *arguments: Any, **options: Any) -> None:
        """Sends a request, over the connection of an earlier one if there is one."""
        if getattr(self, "sock", None) is not None:
            _DEADLINE.get().watch(self._handle)
        super().request(*arguments, **options)  # type: ignore[misc]

    def close(self) -> None:
        """Closes the connection."""
        super().close()  # type: ignore[misc]
        if hasattr(self, "_handle"):
            self._handle.close()


class _HTTPConnection(_Watched, urllib3.connection.HTTPConnection):
    pass


class _HTTPSConnection(_Watched, urllib3.connection.HTTPSConnection):
    pass


class _HTTPPool(urllib3.HTTPConnectionPool):
    ConnectionCls = _HTTPConnection


class _HTTPSPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _HTTPSConnection
