"""A server on loopback that answers each request with the bytes that a test scripts for it, and then hangs up."""

import base64
import hashlib
import os
import socket
import struct
import threading
from collections.abc import Callable, Iterable
from typing import Any

Request = dict[str, str]
Answer = bytes | Callable[[Request], bytes]

# No proxy of the machine stands between the tests and their own server.
os.environ["no_proxy"] = "*"

LINK = "/?url=https%3A%2F%2Ffiles.example%2Fa&kid=k&exp=1&sig=s"


def answer(body: bytes = b"", status: str = "200 OK", *, length: int | None = -1, **fields: str) -> bytes:
    """An answer with its length, another one, or none; `x_sluicegate_length` becomes `x-sluicegate-length`."""
    if length == -1:
        length = len(body)
    lines = [f"HTTP/1.1 {status}", *(f"{name.replace('_', '-')}: {value}" for name, value in fields.items())]
    if length is not None:
        lines.append(f"content-length: {length}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def chunked(pieces: Iterable[bytes], *, ended: bool = True, **fields: str) -> bytes:
    body = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
    return answer(body + (b"0\r\n\r\n" if ended else b""), length=None, transfer_encoding="chunked", **fields)


def digest(body: bytes) -> str:
    return f"sha-256=:{base64.b64encode(hashlib.sha256(body).digest()).decode()}:"


class Hostile:
    """Answers in the order of the script, and 599 beyond it. `reset` tears the connection after the first answer."""

    def __init__(self, *script: Answer, reset: bool = False) -> None:
        self._script = list(script)
        self._reset = reset
        self.requests: list[Request] = []
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.base = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self.link = self.base + LINK
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> "Hostile":
        self._thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        # A last connection, so that the thread sees the end.
        self._closing = True
        socket.create_connection(self._socket.getsockname()).close()
        self._thread.join()
        self._socket.close()

    _closing = False

    def _serve(self) -> None:
        while True:
            connection, _ = self._socket.accept()
            with connection:
                if self._closing:
                    return
                self._answer(connection)

    def _answer(self, connection: socket.socket) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            data = connection.recv(65536)
            if not data:
                return
            head += data
        first, *lines = head.decode("latin-1").split("\r\n")
        request = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines if line)}
        request[":path"] = first.split(" ")[1]
        self.requests.append(request)
        scripted = self._script.pop(0) if self._script else answer(status="599 Beyond the script")
        connection.sendall(scripted if isinstance(scripted, bytes) else scripted(request))
        if self._reset and len(self.requests) == 1:
            # Closing with this option sends RST in place of FIN.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
