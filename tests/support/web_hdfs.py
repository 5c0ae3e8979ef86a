"""HDFS as a NameNode's WebHDFS shows it, over a local folder: what fsspec's webhdfs:// asks for, and how HDFS answers.

A rename over a file that exists answers `false`, with status 200, and changes nothing.
"""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

_PREFIX = "/webhdfs/v1"


class Cluster:
    """root: its files. forbidden: paths in HDFS that may not be listed. refused: the next so many reads are refused by
    its DataNode."""

    def __init__(self, root: Path, port: int) -> None:
        self.root = root
        self.host = f"127.0.0.1:{port}"
        self.forbidden: set[str] = set()
        self.refused = 0


@contextmanager
def cluster(root: Path) -> Iterator[Cluster]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Node)
    server.daemon_threads = True
    found = server.cluster = Cluster(root, server.server_address[1])  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield found
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Node(BaseHTTPRequestHandler):
    """NameNode and DataNode in one."""

    protocol_version = "HTTP/1.1"

    @property
    def _cluster(self) -> Cluster:
        return self.server.cluster  # type: ignore[attr-defined, no-any-return]

    def _do(self) -> None:
        parts = urlsplit(self.path)
        query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        self._path = unquote(parts.path.removeprefix(_PREFIX))
        self._file = self._cluster.root / self._path.strip("/")
        self._body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        try:
            getattr(self, f"_{query['op'].lower()}")(query)
        except FileNotFoundError:
            self._refuse(404, "FileNotFoundException", f"File does not exist: {self._path}")
        except PermissionError:
            self._refuse(403, "AccessControlException", f"Permission denied: {self._path}")

    do_GET = do_PUT = do_POST = do_DELETE = _do  # noqa: N815 - http.server's names

    def _answer(self, data: bytes, status: int = 200, headers: tuple[tuple[str, str], ...] = ()) -> None:
        self.send_response(status)
        for name, value in (*headers, ("Content-Length", str(len(data)))):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def _say(self, document: Any) -> None:
        self._answer(json.dumps(document).encode())

    def _refuse(self, status: int, name: str, message: str) -> None:
        body = {"RemoteException": {"exception": name, "message": message}}
        self._answer(json.dumps(body).encode(), status)

    def _to_data_node(self, query: dict[str, str]) -> bool:
        """Whether this request was for the NameNode, which only says where to send the data."""
        if "data" in query:
            return False
        self._answer(b"", 307, (("Location", f"http://{self._cluster.host}{self.path}&data=1"),))
        return True

    def _status(self, file: Path) -> dict[str, Any]:
        status = file.stat()
        return {
            "pathSuffix": "" if file == self._file else file.name, "length": status.st_size,
            "type": "DIRECTORY" if file.is_dir() else "FILE", "modificationTime": int(status.st_mtime * 1000),
        }  # fmt: skip

    def _getfilestatus(self, _query: dict[str, str]) -> None:
        self._say({"FileStatus": self._status(self._file)})

    def _liststatus(self, _query: dict[str, str]) -> None:
        if self._path.rstrip("/") in self._cluster.forbidden:
            raise PermissionError
        self._file.stat()
        files = sorted(self._file.iterdir()) if self._file.is_dir() else [self._file]
        self._say({"FileStatuses": {"FileStatus": [self._status(file) for file in files]}})

    def _mkdirs(self, _query: dict[str, str]) -> None:
        self._file.mkdir(parents=True, exist_ok=True)
        self._say({"boolean": True})

    def _rename(self, query: dict[str, str]) -> None:
        target = self._cluster.root / query["destination"].strip("/")
        done = self._file.exists() and not target.exists() and target.parent.is_dir()
        if done:
            self._file.rename(target)
        self._say({"boolean": done})

    def _delete(self, query: dict[str, str]) -> None:
        there = self._file.exists()
        if self._file.is_dir() and query.get("recursive") == "true":
            shutil.rmtree(self._file)
        elif there:
            self._file.unlink()
        self._say({"boolean": there})

    def _create(self, query: dict[str, str]) -> None:
        if self._to_data_node(query):
            return
        self._file.parent.mkdir(parents=True, exist_ok=True)
        self._file.write_bytes(self._body)
        self._answer(b"", 201)

    def _append(self, query: dict[str, str]) -> None:
        if self._to_data_node(query):
            return
        with self._file.open("ab") as out:
            out.write(self._body)
        self._answer(b"")

    def _open(self, query: dict[str, str]) -> None:
        if self._to_data_node(query):
            return
        if self._cluster.refused:
            self._cluster.refused -= 1
            self._refuse(503, "RetriableException", "the DataNode is starting")
            return
        begin, length = int(query.get("offset", 0)), int(query["length"])
        self._answer(self._file.read_bytes()[begin : begin + length])

    def log_message(self, *_args: object) -> None:
        pass
