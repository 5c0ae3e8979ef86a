import subprocess
import sys
from pathlib import Path

import pytest

CODE = """
import sys
from pathlib import Path
from streamtrain.checkpoint.views import view_folder
folder = view_folder(Path(sys.argv[1]))
(folder / "copy").touch()
print(folder)
"""


@pytest.mark.parametrize("is_there", [True, False])
def test_nothing_is_left_of_a_process_that_has_ended(tmp_path: Path, is_there: bool) -> None:
    """The job's folder neither, when there was none."""
    cache = tmp_path / "job" / "model"
    cache.parent.mkdir()
    if is_there:
        cache.mkdir()
    done = subprocess.run([sys.executable, "-c", CODE, str(cache)], capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"{cache}/.views/")
    assert list(cache.parent.rglob("*")) == ([cache] if is_there else [])
