"""A role that loads a checkpoint into fresh servers and saves it again, nothing between: for the exact restart."""

import os
import sys
from pathlib import Path

from streamtrain.config import load_config
from streamtrain.engine.engine import Engine

config_path, source, target = sys.argv[1:4]
config = load_config(config_path)
engine = Engine(config.model_dir, config.raw, layout=config.layout)
if engine.is_server:
    engine.serve()
engine.connect()
first = engine.index == 0
scratch = Path(target).parent
keys = engine.state.load(Path(source), scratch if first else None)
if first:
    Path(target).mkdir()
saved = engine.state.save(Path(target) if first else None)
if first:
    assert saved.keys == keys
    (Path(target).parent / f"{Path(target).name}.done").touch()
sys.stdout.flush()
os._exit(0)
