"""Predictor, with real exported networks; predictions are computed once more in numpy."""

import shutil
import threading
from pathlib import Path

import fsspec
import numpy as np
import pytest

from streamtrain.errors import CheckpointError, DataError
from streamtrain.serving.bundle import open_bundle
from streamtrain.serving.files import Files
from streamtrain.serving.model import evaluate
from streamtrain.serving.predictor import Predictor
from streamtrain.serving.rows import parse
from streamtrain.serving.table import Table
from tests.support.exports import Exports, vectors, write_model
from tests.support.networks import Network
from tests.support.processes import until
from tests.support.serving import DAY, KEYS, NEXT, check, flip, lines, small_base


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
        tables = {name: Table.of(own.keys, own.values) for name, own in bundle.tables.items()}
        found = evaluate(bundle, tables, parse(lines(30)))
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


def test_bad_rows_are_refused_with_their_number(exports: Exports, networks: list[Network]) -> None:
    exports.full(DAY, 0, vectors(KEYS, 1), networks[0])
    predictor = Predictor(exports.root)
    with pytest.raises(DataError, match="line 2: 'x:2' is not feasign:slot"):
        predictor.predict(["1:2", "x:2"])
    for counts, slots, feasigns in (([2], [2], [1, 5]), ([1], [2], [1, 5]), ([-1, 2], [2], [1]), ([1], [70000], [1])):
        with pytest.raises(DataError):
            predictor.predict_arrays(counts, slots, feasigns)


def test_a_directory_of_the_helper_is_as_the_document_says(tmp_path: Path, networks: list[Network]) -> None:
    keys = np.array(list(KEYS), np.uint64)
    values = np.array(list(vectors(KEYS, 1).values()), np.float32)
    write_model(tmp_path / "m", keys, values, networks[0], day=DAY, pass_id=0, kind="full")
    line = (tmp_path / "m" / "sparse" / "part-001.txt").read_text().splitlines()[0].split(" ")
    assert line[0] == "1" and len(line) == 10 and np.float32(line[1]) == values[0, 0]
