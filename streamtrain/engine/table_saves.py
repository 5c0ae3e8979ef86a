"""The servers save their tables while this process goes on.

Paddle's own call keeps the interpreter's lock until the save has ended. Its servers take the same command over HTTP, in
brpc's JSON form of a PsRequestMessage: {"cmd_id": 5, "table_id": T, "params": [directory, mode]}, the params in base64.
The answer comes when the files are written.
"""

from __future__ import annotations

import base64
import http.client
import json
import socket
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from streamtrain.errors import CheckpointError

_SERVICE = "/PsService/service"
_SAVE_ONE_TABLE = 5
#: A connection without an answer is asked after 30 s, then every 10 s, three times, whether the other side is there.
_ALIVE = {
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE): 1,
    **{
        (socket.IPPROTO_TCP, getattr(socket, name)): value
        for name, value in (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3))
        if hasattr(socket, name)  # Linux
    },
}


def save_table(endpoints: Sequence[str], table: int, directory: Path, mode: int, *, dense: bool = False) -> None:
    """Every server writes its part of a table below `directory`, in a folder of the table's number. mode: Paddle's.

    dense: servers call the save of this table failed when it is whole: see false_alarms.py; the caller looks at the
    files. Nothing may be pushed meanwhile. Raises CheckpointError naming the server that does not do it.
    """
    with ThreadPoolExecutor(len(endpoints)) as pool:
        for _ in pool.map(lambda endpoint: _save(endpoint, table, directory, mode, dense=dense), endpoints):
            pass


def _save(endpoint: str, table: int, directory: Path, mode: int, *, dense: bool) -> None:
    params = [base64.b64encode(value.encode()).decode() for value in (str(directory), str(mode))]
    request = {"cmd_id": _SAVE_ONE_TABLE, "table_id": table, "client_id": 0, "params": params}
    host, _, port = endpoint.rpartition(":")
    connection = http.client.HTTPConnection(host, int(port))  # a save takes as long as it takes
    try:
        connection.connect()
        for option, value in _ALIVE.items():  # a machine that is gone answers no more
            connection.sock.setsockopt(*option, value)
        connection.request("POST", _SERVICE, json.dumps(request), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        content = answer.read(1 << 16).decode("utf-8", "replace")
        failed = answer.status != http.client.OK or (json.loads(content)["err_code"] != 0 and not dense)
    except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError) as error:
        failed, content = True, str(error) or type(error).__name__
    finally:
        connection.close()
    if failed:
        raise CheckpointError(
            f"server {endpoint} did not save table {table}: {content[:300]}",
            remedy="Is the disk of runner.model_save_path full? Read log/serverlog.*.",
        )
