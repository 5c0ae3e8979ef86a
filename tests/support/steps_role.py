"""A role that does the steps of a JSON file on fresh servers, without Kafka: what a job's days do to the table.

Steps, each a list: ["load", checkpoint], ["train", MultiSlot text], ["train", MultiSlot text whose rows have ids, new
directory of a dump], ["shrink"], ["network", new file of the one that is served], ["save", new directory], ["predict",
MultiSlot text whose rows have ids, new directory of a dump with stats.npy], ["predict and save", the same three, new
directory]. A save may have another new directory, for the touched keys; after a shrink it ends the day. Every worker
does all of them; worker 0 alone trains and predicts, so that a row is trained once.
"""

import json
import sys
from pathlib import Path

import numpy as np

from streamtrain.dumps import Dump
from streamtrain.engine.running_save import SaveRequest
from tests.support.role_engine import connected, leave

config_path, steps_path = sys.argv[1:3]
_, engine = connected(config_path, compares=True)
first = engine.index == 0
scratch = Path(steps_path).parent
after_shrink = False


def request_of(folders: list[str]) -> SaveRequest:
    for folder in folders:
        Path(folder).mkdir(parents=True)
    directory, *touched = map(Path, folders)
    return SaveRequest(directory, touched[0] if touched else None, after_shrink)


for name, *arguments in json.loads(Path(steps_path).read_text()):
    engine.barrier()
    if name == "load":
        engine.state.load(Path(arguments[0]), scratch if first else None)
    elif name == "train" and first:
        dataset = engine.read([Path(arguments[0])], ins_ids=len(arguments) > 1)
        dump = Dump(Path(arguments[1]), engine.variables("train_dump_fields")) if arguments[1:] else None
        if dump is not None:
            dump.directory.mkdir()
            (dump.directory / "operators").write_text("\n".join(op.type for op in engine._program.global_block().ops))
        assert engine.train(dataset, dump).rows == dataset.rows
        dataset.release()
    elif name.startswith("predict") and first:
        if name == "predict and save":
            running = engine.state.start_save(request_of(arguments[2:]))
            after_shrink = False
        dataset = engine.read([Path(arguments[0])], ins_ids=True)
        dump = Dump(Path(arguments[1]), engine.compared_variables())
        dump.directory.mkdir()
        (dump.directory / "worker").write_text(str(engine._predicting._fleet_opt["device_worker"]))
        (dump.directory / "operators").write_text("\n".join(op.type for op in engine._predicting.global_block().ops))
        np.save(dump.directory / "stats.npy", engine.predict(dataset, dump).to_array())
        dataset.release()
        if name == "predict and save":
            assert running.arrange().keys == running.keys > 0
    elif name == "shrink":
        after_shrink = True
        engine.state.shrink()
    elif name == "network" and first:
        Path(arguments[0]).write_bytes(engine.serving_network().program.desc.serialize_to_string())
    elif name == "save":
        engine.state.save(request_of(arguments) if first else None)
        after_shrink = False
if first:
    Path(steps_path).with_suffix(".done").touch()
leave()
