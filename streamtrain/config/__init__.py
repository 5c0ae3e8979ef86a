"""config_online.yaml: read (yaml_text), its sections typed (sections, tables, kafka_properties), the whole (job)."""

from streamtrain.config.job import ConfigProblems, JobConfig, load_config
from streamtrain.config.sections import (
    IGNORED_FILES,
    NO_EFFECT,
    GateConfig,
    KeepConfig,
    LabelBounds,
    RunnerConfig,
    StreamConfig,
)

__all__ = [
    "IGNORED_FILES",
    "NO_EFFECT",
    "ConfigProblems",
    "GateConfig",
    "JobConfig",
    "KeepConfig",
    "LabelBounds",
    "RunnerConfig",
    "StreamConfig",
    "load_config",
]
