"""A worker's sums over all workers. Writes TARGET-N.json: what worker N was given for each of the arrays that it has.

reduce_role.py CONFIG TARGET ARRAYS     ARRAYS: JSON, of each worker a list of whole numbers
"""

import json
import os
import sys
from pathlib import Path

import numpy as np

from streamtrain.config import load_config
from streamtrain.engine.engine import Engine

config_path, target, arrays = sys.argv[1:4]
config = load_config(config_path)
engine = Engine.of_job(config)
if engine.is_server:
    engine.serve()
engine.connect()
given = np.array(json.loads(arrays)[engine.index], np.int64)
Path(f"{target}-{engine.index}.json").write_text(json.dumps(engine.all_reduce_sum(given).tolist()))
engine.barrier()
if engine.index == 0:
    Path(f"{target}.done").touch()
sys.stdout.flush()
os._exit(0)
