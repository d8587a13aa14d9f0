"""Plain HTTP beside the AWS clients: names below .localhost, and sockets by hand for what clients never send."""

import socket

_resolve = socket.getaddrinfo


def resolve_localhost():
    """Makes every name below .localhost this machine, as browsers and curl do (RFC 6761) and glibc does not."""

    def getaddrinfo(host, *arguments, **more):
        if isinstance(host, str) and host.endswith(".localhost"):
            host = "127.0.0.1"
        return _resolve(host, *arguments, **more)

    socket.getaddrinfo = getaddrinfo


def connect(address, seconds=20):
    """A TCP connection on which a hang becomes an error."""
    return socket.create_connection(address, timeout=seconds)


def talk(address, request, seconds=20):
    """Sends bytes as they are and gives all that comes back until the server closes."""
    with connect(address, seconds) as sock:
        try:
            sock.sendall(request)
        except (BrokenPipeError, ConnectionResetError):
            pass  # the server may answer and close before it has read everything
        return read_all(sock)


def read_all(sock):
    """What comes until the end of the stream or a reset."""
    received = b""
    while True:
        try:
            chunk = sock.recv(65536)
        except ConnectionResetError:
            return received
        if not chunk:
            return received
        received += chunk


def status_of(answer):
    """The status code at the head of a raw HTTP/1.1 answer."""
    assert answer.startswith(b"HTTP/1.1 "), answer[:80]
    return int(answer[9:12])
