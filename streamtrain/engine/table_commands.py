"""The servers save or load several tables at the same time, while this process goes on.

Paddle's own call takes one table after the other, and keeps the interpreter's lock until the last one has ended. Its
servers take the same command over HTTP, in brpc's JSON form of a PsRequestMessage: {"cmd_id": 5, "table_id": T,
"params": [directory, mode]}, the params in base64; 7 loads. The answer comes when it is done.
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
_SAVE_ONE_TABLE, _LOAD_ONE_TABLE = 5, 7
#: Loads that a server is asked for at once: each holds one of its threads, which answer everything else too.
_AT_ONCE = 4
#: What it is called, and what to do when it fails.
_ACTS = {
    _SAVE_ONE_TABLE: ("save", "Is the disk of runner.model_save_path full? Read log/serverlog.*."),
    _LOAD_ONE_TABLE: ("load", "Read log/serverlog.*."),
}


def save_table(endpoints: Sequence[str], table: int, directory: Path, mode: int, *, dense: bool = False) -> None:
    """Every server writes its part of a table below `directory`, in a folder of the table's number. mode: Paddle's.

    dense: servers answer a save of this table with the number of its files, as if it were an error (measured); the
    caller looks at the files. Nothing may be pushed meanwhile. Raises CheckpointError naming the server that does not
    do it.
    """
    with ThreadPoolExecutor(len(endpoints)) as pool:
        for _ in pool.map(
            lambda endpoint: _do(_SAVE_ONE_TABLE, endpoint, table, directory, mode, dense=dense), endpoints
        ):
            pass


def load_tables(endpoints: Sequence[str], tables: int, directory: Path) -> None:
    """Every server loads its part of so many tables from `directory`, where each has a folder of its number.

    Raises CheckpointError naming the server that does not do it. Paddle says nothing of a file that is not there.
    """
    with ThreadPoolExecutor(_AT_ONCE * len(endpoints)) as pool:
        asked = [
            pool.submit(_do, _LOAD_ONE_TABLE, endpoint, table, directory, 0)
            for table in range(tables)
            for endpoint in endpoints
        ]
    for answer in asked:
        answer.result()


def _do(command: int, endpoint: str, table: int, directory: Path, mode: int, *, dense: bool = False) -> None:
    params = [base64.b64encode(value.encode()).decode() for value in (str(directory), str(mode))]
    request = {"cmd_id": command, "table_id": table, "client_id": 0, "params": params}
    try:
        status, content = ask(endpoint, _SERVICE, body=json.dumps(request))  # it takes as long as it takes
        failed = status != http.client.OK or (json.loads(content)["err_code"] != 0 and not dense)
    except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError) as error:
        failed, content = True, str(error) or type(error).__name__
    if failed:
        act, remedy = _ACTS[command]
        raise CheckpointError(f"server {endpoint} did not {act} table {table}: {content[:300]}", remedy=remedy)
