"""A role that does the warm start of a config on fresh servers and saves what they have then.

warm_role.py CONFIG TARGET
"""

import sys
from pathlib import Path

from streamtrain.checkpoint.runs import Run
from streamtrain.contracts import json_codec
from streamtrain.engine.running_save import SaveRequest
from streamtrain.training.warm_start import WarmStarter
from tests.support.role_engine import connected, leave

config_path, target = sys.argv[1:3]
config, engine = connected(config_path)
first = engine.index == 0
run = Run(config.model_save_path)
if first:
    run.take_over()
warm = WarmStarter(config, engine, run)
assert warm.begin()
if first:
    Path(target).mkdir()
saved = engine.state.save(SaveRequest(Path(target)) if first else None)
if first:
    warm.add_to(Path(target))
    assert warm.start is not None and saved.keys == warm.start.keys
    Path(f"{target}.json").write_bytes(json_codec.encode(warm.start))
    Path(f"{target}.done").touch()
leave()
