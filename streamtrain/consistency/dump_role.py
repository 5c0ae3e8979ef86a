"""A role that loads a checkpoint into fresh servers, computes a sample of rows, and does nothing else: what
`streamtrain consistency` starts, a server and a worker of it, apart from the job's own.

dump_role.py CONFIG CHECKPOINT FOLDER    FOLDER: sample.txt in, dump/ out; `done` or `failed` at the end
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[2])

import os

from streamtrain.config import load_config
from streamtrain.dumps import Dump, check_part
from streamtrain.engine.environment import FORCED, engine_environment
from streamtrain.errors import StreamtrainError
from streamtrain.processes import die_with_parent


def main() -> None:
    config, checkpoint, folder = load_config(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3])
    die_with_parent()
    os.environ.update({k: v for k, v in engine_environment().items() if k in FORCED or k not in os.environ})
    from streamtrain.engine.engine import Engine

    try:
        engine = Engine(config.model_dir, config.raw, exact_delta=False)  # it trains nothing
        if engine.is_server:
            engine.serve()
            return
        engine.connect()
        engine.load(checkpoint, folder)
        dataset = engine.read([folder / "sample.txt"], ins_ids=True)
        dump = Dump(folder / "dump", engine.variables("all_vars"))
        dump.directory.mkdir()
        engine.predict(dataset, dump)
        (folder / "done").write_text(str(check_part(dump, 0)))
    except StreamtrainError as error:
        (folder / "failed").write_text(f"{error.exit_code} {error}")
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
