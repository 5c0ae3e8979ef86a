"""An HTTP proxy that refuses and counts what it is asked."""

import contextlib
import http.server
import threading
from collections.abc import Iterator


@contextlib.contextmanager
def counting_proxy() -> Iterator[tuple[int, list[str]]]:
    """Its port on 127.0.0.1, and the requests that reached it so far."""
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def refuse(self) -> None:
            asked.append(self.path)
            self.send_error(503)

        do_GET = do_POST = do_PUT = do_HEAD = do_CONNECT = do_DELETE = refuse  # noqa: N815

        def log_message(self, *_arguments: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server.server_port, asked
        server.shutdown()
