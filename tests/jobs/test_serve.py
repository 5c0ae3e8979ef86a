"""`streamtrain serve` and `predict`, and what their pages say."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from streamtrain.errors import ConfigError
from streamtrain.serving.predictor import Predictor
from tests.support.exports import Exports, vectors
from tests.support.jobs import write_config
from tests.support.networks import Network
from tests.support.paths import ROOT
from tests.support.processes import until
from tests.support.serving import DAY, KEYS, flip, lines, small_base


@contextlib.contextmanager
def serving(source: Path, *options: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """A real server on a free port; its URL."""
    command = [sys.executable, "-m", "streamtrain.cli.main", "serve", "--model", str(source), "--port", "0", *options]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout
        line = process.stdout.readline()
        found = re.match(r"(http://\S+) serves", line)
        assert found, process.stderr.read() if process.stderr else line
        yield found[1], process
    finally:
        process.kill()
        process.communicate()


def ask(url: str, body: Any = None) -> tuple[int, Any]:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            status, text = answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        status, text = error.code, error.read().decode()
    return status, text if url.endswith("/metrics") else json.loads(text)


def test_the_server(exports: Exports, networks: list[Network]) -> None:
    exports.root.mkdir()
    with serving(exports.root, "--refresh-seconds", "0.05") as (url, process):
        assert process.stderr and "waiting for a first inference model" in process.stderr.readline()
        status, health = ask(f"{url}/healthz")
        assert status == 503 and health["model"] is None
        status, refused = ask(f"{url}/predict", {"rows": ["1:2"]})
        assert status == 503 and "has had no inference model yet" in refused["error"]
        digests = small_base(exports, networks)
        health = until(lambda: (h := ask(f"{url}/healthz"))[0] == 200 and h[1])
        assert health["model"]["event_time"].startswith("2024-01-01T") and health["age_seconds"] > 0
        until(lambda: ask(f"{url}/healthz")[1]["model"]["digest"] == digests[2])
        status, answer = ask(f"{url}/predict", {"rows": lines(30)})
        assert status == 200 and answer["model"]["digest"] == digests[2] and answer["model"]["pass_id"] == 2
        np.testing.assert_allclose(answer["predictions"], exports.expected(digests[2], lines(30)), atol=2e-6)

        status, refused = ask(f"{url}/predict", {"rows": ["1:2", "bad"]})
        assert status == 400 and refused["error"] == "row 2: 'bad' is not feasign:slot"
        for body in ({}, {"rows": "1:2"}, {"rows": [1]}, ["1:2"], {"rows": ["1:2"] * 10_001}):
            status, refused = ask(f"{url}/predict", body)
            assert status == 422 and set(refused) == {"error"} and len(refused["error"]) < 200
        assert ask(f"{url}/predict", {"rows": []})[1]["predictions"] == []

        exports.listed = False
        bad = exports.incremental(DAY, 3, vectors(range(40), 4), networks[0])
        damaged = exports.path(bad) / "dense" / "__params__"
        good = flip(damaged)
        exports.write_donefiles()
        health = until(lambda: (h := ask(f"{url}/healthz")[1])["problems"] and h)
        assert str(damaged) in health["problems"][0] and health["model"]["digest"] == digests[2]
        damaged.write_bytes(good)
        until(lambda: ask(f"{url}/healthz")[1]["model"]["digest"] == bad)

        status, metrics = ask(f"{url}/metrics")
        assert status == 200 and f"streamtrain_model_keys {sum(k > 0 for k in exports.models[bad][0])}.0" in metrics
        assert 'streamtrain_requests_total{status="400"} 1.0' in metrics and "streamtrain_rows_total 30.0" in metrics
        assert "streamtrain_request_seconds_count 9.0" in metrics
        for name in ("reloads_total", "failed_reloads_total", "model_age_seconds", "model_table_bytes"):
            assert f"\nstreamtrain_{name} " in metrics
        of_labels = [line for line in metrics.splitlines() if re.match("streamtrain_model_.*label=", line)]
        assert sorted(of_labels) == [
            'streamtrain_model_auc{label="click",of="predict"} 0.7',
            'streamtrain_model_auc{label="click",of="train"} 0.75',
            'streamtrain_model_copc{label="buy",of="predict"} 0.5',
            'streamtrain_model_copc{label="click",of="predict"} 1.25',
            'streamtrain_model_rows{label="buy",of="predict"} 20.0',
            'streamtrain_model_rows{label="click",of="predict"} 20.0',
            'streamtrain_model_rows{label="click",of="train"} 20.0',
        ]
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
        said = process.stderr.read()
        assert said.count("SKIPPED") == 1 and "Traceback" not in said


def run(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "streamtrain.cli.main", *arguments]
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=60, check=False, cwd=ROOT)
    assert "Traceback" not in done.stderr
    return done


def test_predict(exports: Exports, networks: list[Network], tmp_path: Path) -> None:
    digest = small_base(exports, networks)[2]
    rows = lines(1030)
    text = "".join(f"{line}\n" for line in rows)
    config = write_config(tmp_path, "j", {}, runner={"model_save_path": str(exports.root)}).path
    answer = json.loads(run("predict", "-m", str(config), "--json", "-", stdin=text).stdout)
    assert answer["model"]["digest"] == digest
    np.testing.assert_allclose(answer["predictions"], exports.expected(digest, rows), atol=2e-6)
    file = tmp_path / "rows.txt"
    file.write_text(text + "x\n")
    done = run("predict", "--model", str(exports.root), str(file))
    assert done.returncode == 3 and f"{file}, line 1031: 'x' is not feasign:slot" in done.stderr
    printed = list(map(float, done.stdout.split()))
    np.testing.assert_allclose(printed, exports.expected(digest, rows)[: len(printed)], atol=2e-6)
    assert len(printed) == 1024


def test_wrong_arguments(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nothing://x cannot be opened"):
        Predictor("nothing://x")
    for arguments, code, message in (
        (["predict", "-"], 2, "either -m CONFIG or --model"),
        (["serve", "-m", "x", "--model", "y"], 2, "either -m CONFIG or --model"),
        (["predict", "--model", str(tmp_path), str(tmp_path / "none")], 3, "cannot be read"),
    ):
        done = run(*arguments)
        assert done.returncode == code and message in done.stderr, done.stderr


def test_a_missing_extra_is_named(exports: Exports, networks: list[Network]) -> None:
    exports.full(DAY, 0, vectors(KEYS, 1), networks[0])
    for command, module in (("predict", "pyarrow"), ("serve", "fastapi")):
        code = f"import sys; sys.modules['{module}'] = None; from streamtrain.cli.main import main; main()"
        arguments = [sys.executable, "-c", code, command, "--model", str(exports.root)]
        arguments += ["-"] if command == "predict" else []
        done = subprocess.run(arguments, cwd=ROOT, input="", capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 2 and "pip install 'streamtrain[serving]'" in done.stderr, done.stderr


def test_the_documents_snippets(exports: Exports, networks: list[Network], tmp_path: Path) -> None:
    """The Python of docs/serving.md, as it stands there, in a directory that has what it names."""
    digests = small_base(exports, networks)
    (tmp_path / "output_model").symlink_to(exports.root)
    snippets = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "serving.md").read_text(), re.DOTALL)
    assert len(snippets) == 2
    for snippet, digest in zip(snippets, (digests[2], digests[0]), strict=True):
        code = snippet.replace("20190720", DAY)
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        rows = re.findall(r'"((?:\d+:\d+ ?)+)"', snippet)
        found = list(map(float, re.findall(r"\d\.\d+(?:e-\d+)?", done.stdout)))
        assert rows and found == pytest.approx(exports.expected(digest, rows).tolist(), abs=2e-6)
