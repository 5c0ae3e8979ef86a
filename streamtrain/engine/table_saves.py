"""The servers save their tables while this process goes on.

Paddle's own call keeps the interpreter's lock until the save has ended. Its servers take the same command over HTTP, in
brpc's JSON form of a PsRequestMessage: {"cmd_id": 5, "table_id": T, "params": [directory, mode]}, the params in base64.
The answer comes when the files are written.
"""

from __future__ import annotations

import base64
import http.client
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from streamtrain.engine.server_http import ask
from streamtrain.errors import CheckpointError

_SERVICE = "/PsService/service"
_SAVE_ONE_TABLE = 5


def save_table(endpoints: Sequence[str], table: int, directory: Path, mode: int, *, dense: bool = False) -> None:
    """Every server writes its part of a table below `directory`, in a folder of the table's number. mode: Paddle's.

    dense: servers answer a save of this table with the number of its files, as if it were an error (measured); the
    caller looks at the files. Nothing may be pushed meanwhile. Raises CheckpointError naming the server that does not
    do it.
    """
    with ThreadPoolExecutor(len(endpoints)) as pool:
        for _ in pool.map(lambda endpoint: _save(endpoint, table, directory, mode, dense=dense), endpoints):
            pass


def _save(endpoint: str, table: int, directory: Path, mode: int, *, dense: bool) -> None:
    params = [base64.b64encode(value.encode()).decode() for value in (str(directory), str(mode))]
    request = {"cmd_id": _SAVE_ONE_TABLE, "table_id": table, "client_id": 0, "params": params}
    try:
        status, content = ask(endpoint, _SERVICE, body=json.dumps(request))  # a save takes as long as it takes
        failed = status != http.client.OK or (json.loads(content)["err_code"] != 0 and not dense)
    except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError) as error:
        failed, content = True, str(error) or type(error).__name__
    if failed:
        raise CheckpointError(
            f"server {endpoint} did not save table {table}: {content[:300]}",
            remedy="Is the disk of runner.model_save_path full? Read log/serverlog.*.",
        )
