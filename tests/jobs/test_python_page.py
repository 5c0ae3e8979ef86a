"""docs/python.md, run as it stands on a finished job: as a script, within an event loop, in a thread."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.paths import ROOT
from tests.support.scene import Scene

pytestmark = [pytest.mark.kafka, pytest.mark.paddle]

RUNNER = """
import asyncio, logging, signal, sys, threading
code, way = compile(open(sys.argv[1]).read(), "docs/python.md", "exec"), sys.argv[2]
before = [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)], list(logging.getLogger().handlers)
problems = []
def run():
    try:
        exec(code, {})
    except BaseException as error:
        problems.append(error)
        raise
async def main():  # as a notebook does: the code is called by a running loop
    run()
if way == "script":
    run()
elif way == "loop":
    asyncio.run(main())
else:
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
after = [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)], list(logging.getLogger().handlers)
assert not problems and before == after, (problems, before, after)
"""


def test_the_examples_run(tmp_path: Path, kafka: dict[str, str], job: str) -> None:
    scene = Scene(tmp_path, kafka, job, stream={"predict_dump_dir": "predicted"})
    scene.start("run").finish()
    page = (ROOT / "docs" / "python.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len(blocks) == 5
    (tmp_path / "example.py").write_text("\n".join(blocks))
    (tmp_path / "runner.py").write_text(RUNNER)
    printed = []
    for way in ("script", "loop", "thread"):
        command = [sys.executable, "runner.py", "example.py", way]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        printed.append(done.stdout.splitlines())
    assert printed[0] == printed[1] == printed[2]
    passes, first, version, *_, rows, recounted, error = printed[0]
    assert passes == "4 passes of 1 splits of 360 minutes" and first.startswith("the first is 20240101/1 - slots: 4")
    assert version.startswith("20240102/inference_model_0 (")
    assert re.match(r"150 rows; the first is 20240101/0000/0/\d+ \{", rows)
    assert re.fullmatch(r"454 rows, \d+ keys: lost 0, duplicated 0", recounted)
    assert error.startswith("2 ") and error.endswith("-> Give the config with -m.")
