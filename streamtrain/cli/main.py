"""The command's entry: sub-commands, logging, errors to exit codes."""

from __future__ import annotations

import io
import logging
import os
import signal
import sys

import typer

from streamtrain import __version__
from streamtrain.cli import (
    bridge,
    broker,
    checkpoints,
    config,
    consistency,
    demo,
    failpoints,
    generate,
    health,
    predict,
    recount,
    run,
    serve,
    status,
    train,
)
from streamtrain.contracts import phases
from streamtrain.errors import StreamtrainError
from streamtrain.masking import show_no_secrets
from streamtrain.stopping import Stopped

#: Of a command that Ctrl-C ends before it has its answer.
INTERRUPTED = 130

app = typer.Typer(
    name="streamtrain",
    help="Click-through-rate models trained from Kafka: no row lost, no row trained twice.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.command("run")(run.command)
app.command("bridge")(bridge.command)
app.command("train")(train.command)
app.command("broker")(broker.command)
app.command("status")(status.command)
app.command("health")(health.command)
app.command("recount")(recount.command)
app.command("consistency")(consistency.command)
app.command("predict")(predict.command)
app.command("serve")(serve.command)
app.command("demo")(demo.command)
app.command("generate")(generate.command)
app.command("failpoints")(failpoints.command)
app.add_typer(checkpoints.app, name="checkpoints")
app.add_typer(config.app, name="config")


def _version(value: bool) -> None:
    if value:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _options(
    verbose: bool = typer.Option(False, "--verbose", "-v", help="Log more."),
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Show it."),  # noqa: ARG001
) -> None:
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.INFO if verbose else logging.WARNING,
    )
    show_no_secrets()


def main() -> None:
    """Runs the command; an error of ours becomes one line and its exit code."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a file's name may be no text
    try:
        app()
    except StreamtrainError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(error.exit_code)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Stopped:
        sys.stderr.write(f"{phases.STOPPED}\n")
        sys.exit(0)
    except SystemExit as end:
        if end.code == INTERRUPTED:
            _ignore_more()
        raise
    except KeyboardInterrupt:
        _ignore_more()
        sys.exit(INTERRUPTED)


def _ignore_more() -> None:
    """A second Ctrl-C would interrupt the interpreter's own end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


if __name__ == "__main__":
    main()
