"""streamtrain failpoints"""

from __future__ import annotations

import typer

from streamtrain.cli.options import JsonOption, print_json


def command(json: JsonOption = False) -> None:
    """List the points where STREAMTRAIN_FAILPOINTS can make a process die, freeze or fail (for tests)."""
    from streamtrain.failpoints import POINTS

    if json:
        print_json(POINTS)
        return
    width = max(map(len, POINTS))
    for name, what in POINTS.items():
        typer.echo(f"{name:{width}}  {what}")
