"""The servers of the world in `network`, and the name server of its machine: `world.py world`, `world.py resolver`."""

import socket
import socketserver
import sys
import threading

# Of the blocks that are kept for documentation (RFC 5737, RFC 3849): no real host has them.
HOST, HOST_V6 = "203.0.113.9", "2001:db8::9"


class Dual(socketserver.ThreadingTCPServer):
    """IPv4 and IPv6."""

    address_family = socket.AF_INET6
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128

    def server_bind(self):
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()


class DualDatagrams(Dual):
    socket_type = socket.SOCK_DGRAM
    max_packet_size = 65535

    def server_activate(self):
        pass

    def get_request(self):
        data, client = self.socket.recvfrom(self.max_packet_size)
        return (data, self.socket), client

    def shutdown_request(self, request):
        pass

    def close_request(self, request):
        pass


class Echo(socketserver.BaseRequestHandler):
    """Says what it hears until the other side has said all, then whose words they were."""

    def handle(self):
        while heard := self.request.recv(65536):
            self.request.sendall(heard)
        self.request.sendall(b" from " + self.client_address[0].removeprefix("::ffff:").encode())


class Datagrams(socketserver.BaseRequestHandler):
    def handle(self):
        data, sock = self.request
        sock.sendto(b"echo " + data, self.client_address)


def answer(question):
    """Every name of `example` has one address in each version; no other is known. Source: RFC 1035."""
    name, at = [], 12
    while length := question[at]:
        name.append(question[at + 1 : at + 1 + length].decode())
        at += 1 + length
    asked, end_of_question = int.from_bytes(question[at + 1 : at + 3]), at + 5
    data = {1: socket.inet_pton(socket.AF_INET, HOST), 28: socket.inet_pton(socket.AF_INET6, HOST_V6)}.get(asked)
    known = name[-1:] == ["example"]
    found = data if known else None
    head = question[:2] + (b"\x81\x80" if known else b"\x81\x83") + b"\0\1" + (b"\0\1" if found else b"\0\0") + b"\0" * 4
    record = b"\xc0\x0c" + asked.to_bytes(2) + b"\0\1" + b"\0\0\0\x3c" + len(data).to_bytes(2) + data if found else b""
    return head + question[12:end_of_question] + record


class Names(socketserver.BaseRequestHandler):
    def handle(self):
        data, sock = self.request
        sock.sendto(answer(data), self.client_address)


class NamesOverTcp(socketserver.StreamRequestHandler):
    def handle(self):
        length = int.from_bytes(self.rfile.read(2))
        found = answer(self.rfile.read(length))
        self.wfile.write(len(found).to_bytes(2) + found)


def serve(*made):
    for server in made:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    print("ready", flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    if sys.argv[1] == "world":
        # Each address has its own, so that answers come from the one that was asked.
        clocks = (HOST, HOST_V6, *sys.argv[2:])
        mapped = [address if ":" in address else f"::ffff:{address}" for address in clocks]
        serve(Dual(("::", 80), Echo), *(DualDatagrams((address, 123), Datagrams) for address in mapped))
    else:
        loopback = "::ffff:127.0.0.53"
        serve(DualDatagrams((loopback, 53), Names), Dual((loopback, 53), NamesOverTcp))
