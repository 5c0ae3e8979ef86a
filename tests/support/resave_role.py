"""A role that loads a checkpoint into fresh servers and saves it again, nothing between: for the exact restart."""

import sys
from pathlib import Path

from streamtrain.engine.running_save import SaveRequest
from tests.support.role_engine import connected, leave

config_path, source, target = sys.argv[1:4]
_, engine = connected(config_path)
first = engine.index == 0
scratch = Path(target).parent
keys = engine.state.load(Path(source), scratch if first else None)
if first:
    Path(target).mkdir()
saved = engine.state.save(SaveRequest(Path(target)) if first else None)
if first:
    assert saved.keys == keys
    (Path(target).parent / f"{Path(target).name}.done").touch()
leave()
