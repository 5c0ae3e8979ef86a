"""A role that does the warm start of a config on fresh servers and saves what they have then.

warm_role.py CONFIG TARGET
"""

import os
import sys
from pathlib import Path

from streamtrain.checkpoint.runs import Run
from streamtrain.config import load_config
from streamtrain.contracts import json_codec
from streamtrain.engine.engine import Engine
from streamtrain.training.warm_start import WarmStarter

config_path, target = sys.argv[1:3]
config = load_config(config_path)
engine = Engine(config.model_dir, config.raw, layout=config.layout)
if engine.is_server:
    engine.serve()
engine.connect()
first = engine.index == 0
run = Run(config.model_save_path)
if first:
    run.take_over()
warm = WarmStarter(config, engine, run)
assert warm.begin()
if first:
    Path(target).mkdir()
saved = engine.state.save(Path(target) if first else None)
if first:
    warm.add_to(Path(target))
    assert warm.start is not None and saved.keys == warm.start.keys
    Path(f"{target}.json").write_bytes(json_codec.encode(warm.start))
    Path(f"{target}.done").touch()
sys.stdout.flush()
os._exit(0)
