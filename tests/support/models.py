"""Changes of a job's model and of its tables."""

from pathlib import Path

from tests.support.paths import MODEL
from tests.support.scene import Scene


def set_accessor(scene: Scene, **values: float) -> None:
    text = scene.config.path.read_text()
    for key, value in values.items():
        before = next(line for line in text.splitlines() if line.strip().startswith(f"{key}:"))
        text = text.replace(before, f"{before.partition(':')[0]}: {value}")
    scene.config.path.write_text(text)


def model_that_dumps(folder: Path, infer: str, train: str, params: str) -> Path:
    """The slot_dnn model with other lists."""
    folder.mkdir(parents=True)
    (folder / "net.py").write_text((MODEL / "net.py").read_text())
    text = (MODEL / "static_model.py").read_text()
    for old, new in (
        ("infer_dump_fields = [predicted]", f"infer_dump_fields = {infer}"),
        ("train_dump_fields = [predicted]", f"train_dump_fields = {train}"),
        ("train_dump_params: list[Any] = []", f"train_dump_params = {params}"),
    ):
        assert old in text
        text = text.replace(old, new)
    (folder / "static_model.py").write_text(text)
    return folder
