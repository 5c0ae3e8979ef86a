"""A server is asked on its endpoint, whatever proxies the environment names."""

import http.server
import threading

import pytest

from streamtrain.runtime.observer import answers_health
from tests.support.ports import free_port
from tests.support.proxy import counting_proxy


class Healthy(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"OK")

    def log_message(self, *_arguments: object) -> None:
        pass


def test_a_proxy_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with counting_proxy() as (port, asked), http.server.ThreadingHTTPServer(("127.0.0.1", 0), Healthy) as server:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{port}")
        threading.Thread(target=server.serve_forever, daemon=True).start()
        assert answers_health(f"127.0.0.1:{server.server_port}")
        assert not answers_health(f"127.0.0.1:{free_port()}")
        assert asked == []
        server.shutdown()
