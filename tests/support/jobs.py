"""Small jobs for the tests: a config, a tree of logs, rows with known keys."""

import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from streamtrain.config import JobConfig, load_config
from streamtrain.demo.run import merged
from tests.support.paths import MODEL

SLOTS = 4
#: Spare roles take processors from a test that lasts a minute.
NEW_KEYS = {"spare_roles_after": 0}


def rows(count: int, seed: int = 0, vocabulary: int = 50) -> list[str]:
    """`feasign:slot` lines with a label that the features tell."""
    source = random.Random(seed)
    lines = []
    for _ in range(count):
        pairs = [(s, source.randrange(vocabulary)) for s in range(2, SLOTS + 2) for _ in range(source.randint(0, 3))]
        label = int(sum(v % 2 for _, v in pairs) * 2 > len(pairs))
        lines.append(" ".join([f"{label}:1", *(f"{s * 1000 + v + 1}:{s}" for s, v in pairs)]))
    return lines


def write_split(data: Path, split: str, lines: list[str], *, file: str = "part-0", done: bool = True) -> Path:
    path = data / split / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))
    if done:
        (data / split / "data.done").touch()
    return path


def write_config(
    folder: Path, job: str, kafka: dict[str, str], *, new_keys: Mapping[str, Any] = NEW_KEYS, **changes: Any
) -> JobConfig:
    """changes: section=dict, merged over the defaults here, which change models/slot_dnn's config. new_keys: of the
    stream section, which the version before refuses."""
    rule = {"adagrad": {"learning_rate": 0.1, "initial_g2sum": 1.0}}
    defaults = {
        "runner": {
            "model_save_path": "model",
            "model_dir": str(MODEL),
            "data_sleep_second": 0.2,
            "split_interval": 720,
            "split_per_pass": 1,
            "start_day": "20240101",
            "end_day": "20240102",
        },
        "hyper_parameters": {"slot_num": SLOTS, "layer_sizes": [8]},
        "table_parameters": {
            "embedding": {"shard_num": 4, "accessor": {"embed_sgd_param": rule, "embedx_sgd_param": rule}}
        },
        "stream": {"job": job, "partitions": 2, "workers": 1, **new_keys},
    }
    config = merged(yaml.safe_load((MODEL / "config_online.yaml").read_text()), defaults)
    config["kafka"] = dict(kafka)
    for section, values in changes.items():
        config[section] = {**config[section], **values}
    (folder / "data").mkdir(parents=True, exist_ok=True)
    path = folder / "config_online.yaml"
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    return load_config(path)
