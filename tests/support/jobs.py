"""Small jobs for the tests: a config, a tree of logs, rows with known keys."""

import random
from pathlib import Path
from typing import Any

import yaml

from streamtrain.config import JobConfig, load_config
from tests.support.paths import MODEL

SLOTS = 4


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


def write_config(folder: Path, job: str, kafka: dict[str, str], **changes: Any) -> JobConfig:
    """changes: section=dict, merged over the defaults here."""
    adagrad = {"learning_rate": 0.1, "initial_g2sum": 1.0, "initial_range": 0.001, "weight_bounds": [-10.0, 10.0]}
    rule = {"name": "SparseAdaGradSGDRule", "adagrad": adagrad}
    config: dict[str, Any] = {
        "runner": {
            "train_data_dir": "data",
            "model_save_path": "model",
            "model_dir": str(MODEL),
            "data_donefile": "data.done",
            "data_sleep_second": 0.2,
            "split_interval": 720,
            "split_per_pass": 1,
            "start_day": "20240101",
            "end_day": "20240102",
            "checkpoint_per_pass": 1,
            "train_batch_size": 32,
        },
        "hyper_parameters": {
            "optimizer": {"class": "Adam", "learning_rate": 0.001},
            "emb_dim": 9,
            "slot_num": SLOTS,
            "layer_sizes": [8],
        },
        "table_parameters": {
            "embedding": {
                "table_class": "MemorySparseTable",
                "shard_num": 4,
                "accessor": {
                    "accessor_class": "SparseAccessor",
                    "fea_dim": 11,
                    "embedx_dim": 8,
                    "embedx_threshold": 0,
                    "embed_sgd_param": rule,
                    "embedx_sgd_param": rule,
                    "ctr_accessor_param": {
                        "nonclk_coeff": 0.1,
                        "click_coeff": 1.0,
                        "base_threshold": 0.0,
                        "delta_threshold": 0.05,
                        "delta_keep_days": 16.0,
                        "show_click_decay_rate": 1.0,
                        "delete_threshold": 0.0,
                        "delete_after_unseen_days": 3000.0,
                        "ssd_unseenday_threshold": 1,
                    },
                },
            }
        },
        "stream": {"job": job, "partitions": 2},
        "kafka": dict(kafka),
    }
    for section, values in changes.items():
        config[section] = {**config[section], **values}
    (folder / "data").mkdir(parents=True, exist_ok=True)
    path = folder / "config_online.yaml"
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    return load_config(path)
