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
    file: str = typer.Argument(
        metavar="FILE", help="Lines of feasign:slot, or JSON objects by name; - is the standard input."
    ),
    config: OptionalConfigOption = None,
    model: ModelOption = None,
    json: JsonOption = False,
) -> None:
    """Predict the rows of a file with the freshest inference model, a line a row; of several targets, with tabs between
    them, in the order of the model's."""
    source = model_source(config, model)
    with _open(file) as lines:
        from streamtrain.serving.predictor import Predictor

        predictor = Predictor(source)
        all_predictions: dict[str, list[float]] = {name: [] for name in predictor.targets}
        first = 1
        while batch := [line.rstrip(b"\r\n") for line in islice(lines, BATCH)]:
            by_name, _ = predictor.answer_by_name(batch, first, f"{file}, line")
            first += len(batch)
            if json:
                for name, predictions in by_name.items():
                    all_predictions[name] += predictions.tolist()
            else:
                rows = zip(*(predictions.tolist() for predictions in by_name.values()), strict=True)
                sys.stdout.write("".join("\t".join(f"{p:.6g}" for p in row) + "\n" for row in rows))
    if json:
        version = predictor.version
        answer = all_predictions if len(all_predictions) > 1 else next(iter(all_predictions.values()))
        print_json({"predictions": answer, "model": version.to_json() if version else None})


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
