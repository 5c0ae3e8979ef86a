"""A role on the ports that a test gives it. The worker writes what the dense parameters are when it has joined, and
when the file GO is there.

round_role.py CONFIG TARGET GO
"""

import sys
from pathlib import Path

import numpy as np
import orjson

from streamtrain.errors import TrainingError
from tests.support.processes import until
from tests.support.role_engine import connected, leave

config_path, target, go = sys.argv[1:4]
try:
    _, engine = connected(config_path)
except TrainingError as error:
    Path(target).write_bytes(orjson.dumps({"error": error.message}))
    leave()


def values() -> dict[str, object]:
    return {name: np.asarray(value).ravel().tolist() for name, value in engine.state.pull_dense().items()}


before = values()
Path(f"{target}.joined").touch()
until(Path(go).exists, 60)
Path(target).write_bytes(orjson.dumps({"before": before, "after": values()}))
leave()
