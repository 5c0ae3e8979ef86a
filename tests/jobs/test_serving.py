"""Serving, with real exported networks; predictions are computed once more in numpy."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest

from streamtrain.errors import CheckpointError, ConfigError, DataError
from streamtrain.serving.bundle import open_bundle
from streamtrain.serving.files import Files
from streamtrain.serving.model import evaluate
from streamtrain.serving.predictor import Predictor
from streamtrain.serving.rows import parse
from streamtrain.serving.table import Table
from tests.support.exports import Exports, vectors, write_model
from tests.support.jobs import write_config
from tests.support.networks import Network, make_networks
from tests.support.paths import ROOT

DAY, NEXT = "20240101", "20240102"
KEYS = range(1, 201)


@pytest.fixture(scope="session")
def networks(tmp_path_factory: pytest.TempPathFactory) -> list[Network]:
    return make_networks(tmp_path_factory.mktemp("networks") / "sum")


@pytest.fixture(scope="session")
def averaging(tmp_path_factory: pytest.TempPathFactory) -> Network:
    """A network whose first step is no sum: it is fed as it is."""
    return make_networks(tmp_path_factory.mktemp("networks") / "average", sets=1, pool="average")[0]


@pytest.fixture
def exports(tmp_path: Path) -> Exports:
    return Exports(tmp_path / "model")


def lines(count: int, seed: int = 0) -> list[str]:
    """Known, unknown, deleted keys and key 0; empty slots, several feasigns a slot, a slot that no model has."""
    source = np.random.default_rng(seed)
    found = ["", "0:1", "7:2", "0:2 0:3 5:3", "9999999:2 18446744073709551615:4", "5:77 6:2"]
    while len(found) < count:
        pairs = zip(source.integers(0, 260, 12).tolist(), source.integers(2, 6, 12).tolist(), strict=True)
        found.append(" ".join(f"{k}:{s}" for k, s in [(1, 1), *pairs][: source.integers(1, 13)]))
    return found[:count]


def small_base(exports: Exports, networks: list[Network]) -> list[str]:
    """A full model and two incremental ones over it."""
    return [
        exports.full(DAY, 0, vectors(KEYS, 1), networks[0]),
        exports.incremental(DAY, 1, vectors(range(150, 230), 2), networks[1], deleted=range(10, 20)),
        exports.incremental(DAY, 2, vectors([3, 15, 240], 3), networks[2], deleted=[4, 5, 160]),
    ]


def check(predictor: Predictor, exports: Exports, digest: str, count: int = 60) -> None:
    predictions, version = predictor.answer(lines(count))
    assert version.digest == digest
    np.testing.assert_allclose(predictions, exports.expected(digest, lines(count)), atol=2e-6)


def flip(path: Path, at: int = -5) -> bytes:
    """Changes one byte; returns the file as it was."""
    data = path.read_bytes()
    path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[len(data) + at + 1 :])
    return data


def test_a_base_with_incremental_ones_predicts_as_numpy_does(exports: Exports, networks: list[Network]) -> None:
    digests = small_base(exports, networks)
    predictor = Predictor(exports.root)
    check(predictor, exports, digests[2])
    assert predictor.keys == len(exports.models[digests[2]][0]) and predictor.problems == ()
    check(predictor, exports, digests[2], count=2500)  # more than one batch
    columns = parse(lines(60))
    shuffled = np.random.default_rng(1).permutation(int(columns.counts[-1]))
    last = len(columns.slots) - len(shuffled)
    slots, feasigns = (np.concatenate([c[:last], c[last:][shuffled]]) for c in (columns.slots, columns.feasigns))
    arrays = predictor.predict_arrays(columns.counts, slots, feasigns)
    np.testing.assert_allclose(arrays, predictor.predict(lines(60)), atol=1e-6)
    assert predictor.predict([]).shape == (0,)


def test_incremental_ones_over_the_empty_model(exports: Exports, networks: list[Network]) -> None:
    exports.incremental(DAY, 1, vectors(KEYS, 1), networks[0])
    predictor = Predictor(exports.root)
    digest = exports.incremental(DAY, 2, vectors(range(100, 240), 2), networks[1], deleted=[1])
    assert predictor.refresh()
    check(predictor, exports, digest)


def test_a_network_of_another_form(exports: Exports, averaging: Network) -> None:
    exports.full(DAY, 0, vectors(KEYS, 1), averaging)
    digest = exports.incremental(DAY, 1, vectors([3], 2), averaging)
    check(Predictor(exports.root), exports, digest)


def test_through_a_url(exports: Exports, networks: list[Network]) -> None:
    digests = small_base(exports, networks)
    memory = fsspec.filesystem("memory")
    memory.put(f"{exports.root}/", "/serving-test/", recursive=True)
    try:
        predictor = Predictor("memory://serving-test")
        check(predictor, exports, digests[2])
        check(Predictor(f"memory://serving-test/{DAY}/inference_model_0"), exports, digests[0])
        newest = exports.incremental(DAY, 3, vectors([9], 2), networks[0])
        memory.put(f"{exports.root}/", "/serving-test/", recursive=True)
        assert predictor.refresh()
        check(predictor, exports, newest)
    finally:
        memory.rm("/serving-test", recursive=True)


def test_all_variables_are_computed_offline(exports: Exports, networks: list[Network], averaging: Network) -> None:
    for number, network in enumerate((networks[0], averaging)):
        exports.full(DAY, number, vectors(KEYS, 1), network)
        bundle = open_bundle(Files(exports.root), f"{DAY}/inference_model_{number}")
        table = Table.of(bundle.keys, bundle.values)
        found = evaluate(bundle, table, parse(lines(30)))
        names = network.variables
        assert set(found) == {*names.values(), network.target}
        expected = exports.expected(bundle.digest, lines(30))
        np.testing.assert_allclose(found[network.target].ravel(), expected, atol=2e-6)
        pooled = np.concatenate([found[names[f"pooled_{i}"]] for i in (3, 2, 1, 0)], axis=1)
        np.testing.assert_allclose(found[names["concat"]], pooled, atol=1e-6)
        first = found[names["pooled_0"]]
        assert not first[0].any() and first[2].any()


@pytest.mark.parametrize(
    "file",
    [
        "sparse/part-001.txt",
        "sparse/deleted.txt",
        "dense/__params__",
        "dense/out.b",
        "model/__model__",
        "manifest.json",
    ],
)
def test_a_damaged_model_is_named_and_taken_when_healed(
    file: str, exports: Exports, networks: list[Network], caplog: pytest.LogCaptureFixture
) -> None:
    first = small_base(exports, networks)[2]
    predictor = Predictor(exports.root)
    second = exports.incremental(DAY, 3, vectors(range(50), 4), networks[0], deleted=[77, 78])
    damaged = exports.path(second) / file
    good = flip(damaged)
    for _ in range(2):
        assert not predictor.refresh()
        assert len(predictor.problems) == 1 and str(damaged) in predictor.problems[0]
    assert [r.levelname for r in caplog.records if "SKIPPED" in r.message and str(damaged) in r.message] == ["ERROR"]
    assert predictor.failed_reloads == 2 and predictor.reloads == 1
    check(predictor, exports, first)
    damaged.write_bytes(good)
    assert predictor.refresh() and predictor.problems == ()
    check(predictor, exports, second)


def test_a_model_that_is_half_there(exports: Exports, networks: list[Network], tmp_path: Path) -> None:
    first = small_base(exports, networks)[2]
    predictor = Predictor(exports.root)
    second = exports.incremental(DAY, 3, vectors(range(50), 4), networks[0])
    aside = tmp_path / "aside"
    exports.path(second).rename(aside)
    assert not predictor.refresh() and "does not exist" in predictor.problems[0]
    shutil.copytree(aside, exports.path(second), ignore=shutil.ignore_patterns("__params__"))
    assert not predictor.refresh() and "dense/__params__ does not exist" in predictor.problems[0]
    check(predictor, exports, first)
    shutil.copy(aside / "dense" / "__params__", exports.path(second) / "dense")
    assert predictor.refresh()
    check(predictor, exports, second)


def test_the_freshest_whole_model_is_taken(exports: Exports, networks: list[Network]) -> None:
    old = small_base(exports, networks)
    new = [
        exports.full(NEXT, 0, vectors(range(1, 90), 5), networks[1]),
        exports.incremental(NEXT, 1, vectors(range(30), 6), networks[2]),
        exports.incremental(NEXT, 2, vectors(range(60), 7), networks[0]),
    ]
    check(Predictor(exports.root), exports, new[2])
    flip(exports.path(new[1]) / "sparse" / "part-000.txt")
    predictor = Predictor(exports.root)
    check(predictor, exports, new[0])
    assert len(predictor.problems) == 1 and "inference_model_1/sparse/part-000.txt" in predictor.problems[0]
    good = flip(exports.path(new[0]) / "sparse" / "part-000.txt")
    predictor = Predictor(exports.root)
    check(predictor, exports, old[2])
    (exports.path(new[0]) / "sparse" / "part-000.txt").write_bytes(good)
    assert predictor.refresh()
    check(predictor, exports, new[0])
    for digest in old + new:
        flip(exports.path(digest) / "manifest.json")
    with pytest.raises(CheckpointError, match="has no inference model"):
        Predictor(exports.root)


def test_a_chain_that_grows_reads_only_what_is_new(exports: Exports, networks: list[Network]) -> None:
    digests = small_base(exports, networks)
    predictor = Predictor(exports.root)
    for digest in digests:
        shutil.rmtree(exports.path(digest))
    newest = exports.incremental(DAY, 3, vectors(range(50), 4), networks[0], deleted=[150])
    assert predictor.refresh()
    check(predictor, exports, newest)


def test_a_trainer_that_went_back(exports: Exports, networks: list[Network]) -> None:
    """The model stays until the trainer has made that pass anew."""
    digests = small_base(exports, networks)
    predictor = Predictor(exports.root)
    for digest in digests[1:]:
        exports.drop_line(digest)
        shutil.rmtree(exports.root / DAY / f"inference_model_{digests.index(digest)}")
    exports.go_back(digests[0])
    assert not predictor.refresh()
    exports.incremental(DAY, 1, vectors(range(50), 8), networks[0])
    assert not predictor.refresh() and predictor.version and predictor.version.digest == digests[2]
    again = exports.incremental(DAY, 2, vectors(range(50), 9), networks[1])
    assert predictor.refresh()
    check(predictor, exports, again)


def test_one_directory(exports: Exports, networks: list[Network]) -> None:
    digests = small_base(exports, networks)
    predictor = Predictor(exports.path(digests[0]))
    check(predictor, exports, digests[0])
    assert not predictor.refresh()
    with pytest.raises(CheckpointError, match="is an incremental model"):
        Predictor(exports.path(digests[1]))
    with pytest.raises(CheckpointError, match="neither a donefile nor"):
        Predictor(exports.root / DAY)


def test_a_line_of_another_manifest_is_refused(exports: Exports, networks: list[Network]) -> None:
    """A manifest that patches another model than its donefile's line says, and one that no model is below."""
    digests = small_base(exports, networks)
    donefile = exports.root / "patch_donefile.txt"
    text = donefile.read_text().splitlines()
    donefile.write_text(text[1].replace(digests[1], digests[0]) + "\n")
    predictor = Predictor(exports.root)
    check(predictor, exports, digests[0])
    assert "patches another model" in predictor.problems[0]
    donefile.write_text(text[1] + "\nnonsense\n")
    predictor.refresh()
    assert any("no donefile names" in p for p in predictor.problems)
    assert any("patch_donefile.txt, line 2 is skipped" in p for p in predictor.problems)


def test_weights_that_are_no_numbers_are_refused(exports: Exports, networks: list[Network]) -> None:
    first = exports.full(DAY, 0, vectors(KEYS, 1), networks[0])
    nan = np.full(1, np.nan, np.float32).tobytes()
    bad = networks[0].params.replace(networks[0].weights["out.b"].tobytes(), nan)
    assert bad != networks[0].params
    exports.full(DAY, 1, vectors(KEYS, 1), Network(**{**vars(networks[0]), "params": bad}))
    exports.full(DAY, 2, vectors(KEYS, 1), Network(**{**vars(networks[0]), "program": b"\x08garbage"}))
    predictor = Predictor(exports.root)
    check(predictor, exports, first)
    assert "Paddle cannot load" in predictor.problems[0] and "does not predict a number" in predictor.problems[1]


def test_reloads_under_requests(exports: Exports, networks: list[Network]) -> None:
    """Each answer is wholly of the model that it names, while they come and go; none fails."""
    digests = small_base(exports, networks)
    predictor = Predictor(exports.root, threads=2)
    rows = lines(40)
    expected = {digest: exports.expected(digest, rows) for digest in digests}
    done = threading.Event()
    problems: list[str] = []
    answers: list[tuple[str, np.ndarray]] = []

    def ask() -> None:
        try:
            while not done.is_set():
                predictions, version = predictor.answer(rows)
                answers.append((version.digest, predictions))
        except Exception as error:
            problems.append(repr(error))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    predictor.watch(0.01)
    source = np.random.default_rng(3)
    try:
        for number in range(3, 13):
            changed = vectors(source.integers(1, 250, 60).tolist(), number)
            network = networks[number % 3]
            if number == 8:
                digest = exports.full(NEXT, 0, vectors(KEYS, number), network)
            else:
                digest = exports.incremental(
                    DAY if number < 8 else NEXT, number, changed, network, source.integers(1, 99, 5).tolist()
                )
            expected[digest] = exports.expected(digest, rows)
            count = len(answers)
            until(lambda digest=digest: bool(predictor.version and predictor.version.digest == digest))
            until(lambda count=count: len(answers) > count + 8 or bool(problems))
    finally:
        done.set()
        for thread in threads:
            thread.join()
        predictor.close()
    assert problems == [] and len({digest for digest, _ in answers}) >= 10
    for digest, predictions in answers:
        np.testing.assert_allclose(predictions, expected[digest], atol=2e-6)


def until(condition: Callable[[], Any], seconds: float = 60) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not come to be"
        time.sleep(0.005)
    return found


def test_bad_rows_are_refused_with_their_number(exports: Exports, networks: list[Network]) -> None:
    exports.full(DAY, 0, vectors(KEYS, 1), networks[0])
    predictor = Predictor(exports.root)
    with pytest.raises(DataError, match="line 2: 'x:2' is not feasign:slot"):
        predictor.predict(["1:2", "x:2"])
    for counts, slots, feasigns in (([2], [2], [1, 5]), ([1], [2], [1, 5]), ([-1, 2], [2], [1]), ([1], [70000], [1])):
        with pytest.raises(DataError):
            predictor.predict_arrays(counts, slots, feasigns)


# the commands


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
            assert ask(f"{url}/predict", body)[0] == 422
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
    told = json.loads(run("predict", "-m", str(config), "--json", "-", stdin=text).stdout)
    assert told["model"]["digest"] == digest
    np.testing.assert_allclose(told["predictions"], exports.expected(digest, rows), atol=2e-6)
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


def test_a_directory_of_the_helper_is_as_the_document_says(tmp_path: Path, networks: list[Network]) -> None:
    keys = np.array(list(KEYS), np.uint64)
    values = np.array(list(vectors(KEYS, 1).values()), np.float32)
    write_model(tmp_path / "m", keys, values, networks[0], day=DAY, pass_id=0, kind="full")
    line = (tmp_path / "m" / "sparse" / "part-001.txt").read_text().splitlines()[0].split(" ")
    assert line[0] == "1" and len(line) == 10 and np.float32(line[1]) == values[0, 0]
