"""streamtrain serve"""

from __future__ import annotations

import logging
import socket

import typer

from streamtrain.cli.options import ModelOption, OptionalConfigOption, model_source, stop_on_signals

#: Seconds that requests in flight get after SIGTERM.
GRACE_S = 30


def command(
    config: OptionalConfigOption = None,
    model: ModelOption = None,
    host: str = typer.Option("127.0.0.1", help="Address to listen at."),
    port: int = typer.Option(8000, min=0, max=65535, help="0: a free one, which is printed."),
    refresh_seconds: float = typer.Option(5.0, min=0.05, help="Between two checks for a newer model."),
) -> None:
    """Serve predictions over HTTP, with the freshest inference model, until SIGTERM or Ctrl-C."""
    source = model_source(config, model)
    from streamtrain.serving.extra import need

    for module in ("fastapi", "uvicorn", "prometheus_client", "pyarrow"):
        need(module)
    import uvicorn

    from streamtrain.serving.predictor import Predictor
    from streamtrain.serving.server import create_app

    logging.getLogger("streamtrain.serving").setLevel(logging.INFO)
    predictor = Predictor(source, load=False)
    listening = _listen(host, port)
    # uvicorn ends the process by the signal that it got, once it has stopped, unless there is a handler
    stop_on_signals()
    predictor.watch(refresh_seconds)
    at = listening.getsockname()
    typer.echo(f"http://{host if ':' not in host else f'[{host}]'}:{at[1]} serves {predictor.source}")
    settings = uvicorn.Config(
        create_app(predictor), log_level="warning", lifespan="off", timeout_graceful_shutdown=GRACE_S
    )
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
        listening.listen(512)
        return listening
    except OSError as error:
        raise ConfigError(
            f"cannot listen at {host}, port {port}: {error.strerror}", remedy="Choose another."
        ) from error
