"""A program that answers as soon as it has read a request's head, and closes; or ends in the middle of its answer; or
does not speak HTTP."""

import os
import socket

listener = socket.create_server(("127.0.0.1", int(os.environ["PORT"])))
while True:
    connection, _ = listener.accept()
    request = connection.recv(65536)
    if b"GET /half " in request or b'"half"' in request:
        connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n7\r\na whole\r\n")
        connection.close()
        os._exit(0)
    if b"GET /switch " in request:
        connection.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: other\r\nConnection: Upgrade\r\n\r\n")
    elif b"GET /garbage " in request:
        connection.sendall(b"garbage\r\n\r\n")
    elif request:
        body = b'{"read": "little"}'
        status = b"200 OK" if b"POST / HTTP/1.1\r\ncontent-type: application/json\r\nx-amzn-requestid" in request else b"413 Content Too Large"
        head = b"HTTP/1.1 %s\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % (status, len(body))
        connection.sendall(head + body)
    connection.close()
