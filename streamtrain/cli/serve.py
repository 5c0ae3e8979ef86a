"""streamtrain serve"""

from __future__ import annotations

import logging
import resource
import socket

import typer

from streamtrain.cli.options import ModelOption, OptionalConfigOption, model_source, stop_on_signals
from streamtrain.serving.limits import BACKLOG, HEAD_BYTES, IDLE_S, Limits

#: Seconds that requests in flight get after SIGTERM.
GRACE_S = 30


#: Seconds between two checks for a newer model: a few small files are read, or as many requests are sent.
LOCAL_S, REMOTE_S = 1.0, 5.0


def command(
    config: OptionalConfigOption = None,
    model: ModelOption = None,
    host: str = typer.Option("127.0.0.1", help="Address to listen at."),
    port: int = typer.Option(8000, min=0, max=65535, help="0: a free one, which is printed."),
    refresh_seconds: float | None = typer.Option(
        None, min=0.05, help="Between two checks for a newer model: 1 where it is a local folder, else 5."
    ),
    max_body_bytes: int = typer.Option(16 << 20, min=1, help="Of a request's body."),
    max_rows: int = typer.Option(10_000, min=1, help="Of a request."),
    max_features: int = typer.Option(10_000, min=1, help="Of a row."),
    request_seconds: float = typer.Option(30.0, min=0.1, help="From a request's headers to the end of its answer."),
    max_requests: int = typer.Option(64, min=1, help="To /predict that compute or wait; others get 503."),
    max_connections: int = typer.Option(512, min=1, help="Open at once."),
) -> None:
    """Serve predictions over HTTP, with the freshest inference model, until SIGTERM or Ctrl-C."""
    source = model_source(config, model)
    limits = Limits(max_body_bytes, max_rows, max_features, request_seconds, max_requests, max_connections)
    limits.check_descriptors(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    from streamtrain.serving.extra import need

    for module in ("fastapi", "uvicorn", "prometheus_client", "pyarrow"):
        need(module)
    import uvicorn

    from streamtrain.serving.connections import limited
    from streamtrain.serving.predictor import Predictor
    from streamtrain.serving.server import create_app

    logging.getLogger("streamtrain.serving").setLevel(logging.INFO)
    predictor = Predictor(source, load=False)
    listening = _listen(host, port)
    # uvicorn ends the process by the signal that it got, once it has stopped, unless there is a handler
    stop_on_signals()
    predictor.watch(refresh_seconds or (LOCAL_S if isinstance(source, str) else REMOTE_S))
    at = listening.getsockname()
    typer.echo(f"http://{host if ':' not in host else f'[{host}]'}:{at[1]} serves {predictor.source}")
    settings = uvicorn.Config(
        create_app(predictor, limits), http=limited(limits), ws="none", log_level="warning", lifespan="off",
        timeout_graceful_shutdown=GRACE_S, timeout_keep_alive=int(IDLE_S), h11_max_incomplete_event_size=HEAD_BYTES,
        backlog=BACKLOG,
    )  # fmt: skip
    server = uvicorn.Server(settings)
    server.run(sockets=[listening])
    predictor.close()


def _listen(host: str, port: int) -> socket.socket:
    from streamtrain.errors import ConfigError

    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind, protocol)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(BACKLOG)
        return listening
    except OSError as error:
        raise ConfigError(
            f"cannot listen at {host}, port {port}: {error.strerror}", remedy="Choose another."
        ) from error
