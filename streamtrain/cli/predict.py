"""streamtrain predict"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import typer

from streamtrain.cli.options import JsonOption, ModelOption, OptionalConfigOption, model_source, print_json

BATCH = 1024


def command(
    file: str = typer.Argument(metavar="FILE", help="Lines of feasign:slot; - is the standard input."),
    config: OptionalConfigOption = None,
    model: ModelOption = None,
    json: JsonOption = False,
) -> None:
    """Predict the rows of a file with the freshest inference model, a line a row."""
    source = model_source(config, model)
    with _open(file) as lines:
        from streamtrain.serving.predictor import Predictor

        predictor = Predictor(source)
        all_predictions: list[float] = []
        first = 1
        while batch := [line.rstrip(b"\r\n") for line in islice(lines, BATCH)]:
            predictions, _ = predictor.answer(batch, first, f"{file}, line")
            first += len(batch)
            if json:
                all_predictions += predictions.tolist()
            else:
                sys.stdout.write("".join(f"{p:.6g}\n" for p in predictions.tolist()))
    if json:
        version = predictor.version
        print_json({"predictions": all_predictions, "model": version.to_json() if version else None})


@contextmanager
def _open(file: str) -> Iterator[BinaryIO]:
    if file == "-":
        yield sys.stdin.buffer
        return
    from streamtrain.errors import DataError

    with ExitStack() as stack:
        try:
            stream = stack.enter_context(Path(file).open("rb"))
        except OSError as error:
            raise DataError(f"{file} cannot be read: {error.strerror}") from error
        yield stream
