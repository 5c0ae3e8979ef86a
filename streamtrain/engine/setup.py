"""What Paddle is told before it starts a server or a worker."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Any

from paddle.distributed import fleet
from paddle.distributed.fleet.base import role_maker

from streamtrain.engine import tables
from streamtrain.engine.model import DottedConfig, Model, flatten


def bind_gloo_where_it_is_meant() -> None:
    """Server 0's rendezvous of the workers (gloo), an HTTP server that Paddle would open on every address."""
    from paddle.distributed.fleet.utils import http_server

    host = os.environ.get("PADDLE_GLOO_HTTP_ENDPOINT", "").rpartition(":")[0]
    bind = http_server.KVHTTPServer.server_bind

    def bind_there(server: Any) -> None:
        server.server_address = (host, server.server_address[1])
        bind(server)

    if host:
        http_server.KVHTTPServer.server_bind = bind_there


class _Clock:
    """For Paddle's role maker. A child process of server 0 looks every 5 s whether all workers have met, which each of
    them says once it is connected to all others; the server listens after that, so each start took these seconds. No
    other sleep of that module is longer than LONGEST_S either."""

    LONGEST_S = 0.05

    def sleep(self, seconds: float) -> None:
        time.sleep(min(seconds, self.LONGEST_S))


def end_gloo_store_when_all_have_met() -> None:
    """Before fleet.init()."""
    role_maker.time = _Clock()


def save_as_text() -> None:
    """Before the optimizer is made: servers save every table as text in every mode. Else the dense table's 1.5 million
    values, and the 600,000 keys of a day's end, go through gzip, 3 and 8 s of a processor. They load both."""
    from paddle.distributed.ps import the_one_ps

    def of(kind: Any) -> None:
        as_paddle = kind._set

        def set_uncompressed(table: Any, proto: Any) -> None:
            as_paddle(table, proto)
            proto.compress_in_save = False

        kind._set = set_uncompressed

    of(the_one_ps.SparseTable)
    of(the_one_ps.DenseTable)


def strategy_of(
    config: DottedConfig,
    raw: Mapping[str, Any],
    model: Model,
    formats: Mapping[str, tables.TableFormat],
    exact_delta: bool,
) -> Any:
    """Asynchronous; beta powers of Adam are saved (adam_d2sum), or a restart is not exact."""
    strategy = fleet.DistributedStrategy()
    strategy.a_sync = True
    strategy.adam_d2sum = bool(config.get("hyper_parameters.adam_d2sum", True))
    strategy.trainer_desc_configs = {
        "dump_fields_path": "",
        "dump_fields": [],
        "dump_param": [],
        "stat_var_names": model.summed,
    }
    strategy.sparse_table_configs = {
        name: {
            f"table_parameters.{name}.shard_num": formats[name].shard_num,
            **flatten(values, f"table_parameters.{name}"),
            **(
                flatten(formats[name].all_touched(), f"table_parameters.{name}.accessor.ctr_accessor_param")
                if exact_delta
                else {}
            ),
        }
        for name, values in raw["table_parameters"].items()
    }
    return strategy
