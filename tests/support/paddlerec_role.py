"""A role that trains rows and saves as PaddleRec's trainer does, with fleet.save_persistables. No code of the project
writes these files: the Engine builds the network and trains alone.

    paddlerec_role.py CONFIG TEXT TARGET MODE
"""

import os
import sys
from pathlib import Path

from streamtrain.config import load_config
from streamtrain.engine import engine as engine_module
from streamtrain.engine.engine import Engine

config_path, text, target, mode = sys.argv[1:5]
engine_module.save_as_text = lambda: None
config = load_config(config_path)
engine = Engine.of_job(config)
if engine.is_server:
    engine.serve()
engine.connect()
from paddle.distributed import fleet  # noqa: E402

if engine.index == 0:
    dataset = engine.read([Path(text)])
    for _ in range(3):  # the first pass pulls zeros for keys that no push has made yet
        engine.train(dataset)
    dataset.release()
    fleet.save_persistables(engine._executor, target, None, mode=int(mode))
    Path(f"{target}.done").touch()
sys.stdout.flush()
os._exit(0)
