"""A server on this machine that sends an archive, or something else: one way of doing wrong after the other."""

import hashlib
import random
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from eqspike_seq.data.download import Source

ARCHIVE = random.Random(0).randbytes(300_000)
BEHAVIOURS = ("silent", "stalls", "resets", "half", "wrong", "html", "503", "endless", "lies")


@contextmanager
def server(answers: list[str]) -> Iterator[Source]:
    """The archive's address for a while; the server answers as ``answers`` say, which it uses up."""
    over = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer = answers.pop(0)
            if answer == "silent":
                over.wait(5)
                return
            self.send_response(503 if answer == "503" else 200)
            body = {"html": b"<html>moved</html>", "wrong": ARCHIVE[:-1] + b"?"}.get(answer, ARCHIVE)
            if answer != "endless":
                self.send_header("Content-Length", "plenty" if answer == "lies" else str(len(body)))
            self.end_headers()
            if answer in ("stalls", "resets", "half"):
                body = body[: len(body) // 2]
            self.wfile.write(body)
            if answer == "stalls":
                over.wait(5)
            if answer == "resets":
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.connection.close()
            while answer == "endless" and not over.is_set():
                self.wfile.write(body)

        def handle(self) -> None:
            try:
                super().handle()
            except (ConnectionError, ValueError):  # the other side has hung up, or was hung up on
                pass

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as playing:
        threading.Thread(target=playing.serve_forever, args=(0.01,), daemon=True).start()
        address = f"http://127.0.0.1:{playing.server_port}/archive"
        try:
            yield Source(address, "archive", len(ARCHIVE), hashlib.sha256(ARCHIVE).hexdigest())
        finally:
            over.set()
            playing.shutdown()
