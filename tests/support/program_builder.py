"""Builds a job's model as a worker does, and writes its programs: program_builder.py CONFIG OUT [slow]."""

import contextlib
import os
import sys
from pathlib import Path

from streamtrain.engine.dry_build import role_environment

os.environ.update(role_environment())

from streamtrain.config import load_config
from streamtrain.engine import model
from streamtrain.engine.engine import Engine

config = load_config(sys.argv[1])
if sys.argv[3:] == ["slow"]:
    model.quick_passes = contextlib.nullcontext
engine = Engine.of_job(config)
for program in (engine._program, engine._predicting):
    for block in program.blocks:
        for op in block.ops:
            if op.has_attr("op_callstack"):
                op._remove_attr("op_callstack")
text = "\n=====\n".join(str(p) for p in (engine._program, engine._predicting, engine.serving_network().program))
Path(sys.argv[2]).write_text(text)
sys.stdout.flush()
os._exit(0)
