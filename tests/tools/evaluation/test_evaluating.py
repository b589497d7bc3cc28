"""Tests ``slimnets evaluate`` and ``evaluate``.

Every figure is compared with scikit-learn's, computed from the file of predictions that the evaluation wrote.
"""

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from sklearn import metrics as sklearn

from checkpoints import open_checkpoint
from nets import nets_factory
from tests.helpers.corpus import save_v2, weights
from tests.helpers.processes import environment
from tests.tools.evaluation.test_labelling import folder_of, records, tar_of
from tools.cli import main
from tools.digits import HELD_OUT
from tools.errors import InputError
from tools.evaluation import evaluate, trying_inputs
from tools.evaluation.evaluating import evaluate_labelled, labelled_for, logits_extractor, measure
from tools.evaluation.evaluation import check_output
from tools.evaluation.labelling import Labelled, open_labelled
from tools.evaluation.metrics import Share
from tools.evaluation.trying_inputs import TriedInput, best_inputs, inputs_to_try, try_inputs
from tools.features.computing import FeatureBatch
from tools.images import open_inputs
from tools.images.reading import ImageStatus

TINY = "resnet_v2_tiny"
DIGITS = "resnet_v2_tiny_digits"

# Random weights fit any input.
pytestmark = pytest.mark.filterwarnings("ignore::nets.guards.InferenceWarning")


def sorted_digits(folder, copies=1):
    """Makes a folder a digit of links to the shipped images; returns the root as a string."""
    for path in sorted(HELD_OUT.glob("*.png")):
        place = folder / path.stem.rpartition("_")[2]
        place.mkdir(parents=True, exist_ok=True)
        for copy in range(copies):
            (place / f"{path.stem}_{copy}.png").symlink_to(path)
    return str(folder)


def biased(path, *logits, scope=TINY):
    """Writes a checkpoint with these logits for every image; returns its path."""
    values = weights(classes=len(logits))
    values[f"{scope}/logits/weights"][:] = 0
    values[f"{scope}/logits/biases"][:] = logits
    return str(save_v2(path, values))


def one_hot(classes, *winners):
    logits = np.zeros(classes)
    logits[list(winners)] = np.arange(9, 9 - len(winners), -1)
    return logits


def rows_of(folder):
    with (folder / "predictions.csv").open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    return sorted_digits(tmp_path_factory.mktemp("data") / "digits")


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory, digits):
    """Returns the evaluation of the shipped weights on the shipped images, and its folder."""
    output = tmp_path_factory.mktemp("evaluated") / "new" / "out"
    calls = []
    evaluation = evaluate(digits, DIGITS, output=output, advance=calls.append)
    assert calls[0] == 0
    assert sum(calls) == 720
    return evaluation, output


@pytest.mark.numerical
def test_the_shipped_weights(evaluated):
    """The README says that they are right for 357 of 360 images."""
    evaluation, output = evaluated
    record = evaluation.record()
    assert record["top_1"]["value"] == 357 / 360
    assert 0.97 < record["top_1"]["low"] < 0.9917 < record["top_1"]["high"] < 1
    assert record["top_5"]["value"] == 1
    assert (record["images"], record["failed"], record["advice"]) == (360, 0, [])
    assert record["batch_statistics"]["images"] == 360
    assert record["batch_statistics"]["top_1"]["value"] > 0.95
    assert sum(confusion["images"] for confusion in record["confusions"]) == 3
    assert {name: record[name] for name in ("network", "preprocessing", "image_size", "num_classes")} == {
        "network": TINY,
        "preprocessing": "inception",
        "image_size": 32,
        "num_classes": 10,
    }
    assert json.loads((output / "metrics.json").read_text(encoding="utf-8")) == record
    assert sorted(path.name for path in output.iterdir()) == [
        "confusion.csv",
        "confusion.png",
        "metrics.json",
        "predictions.csv",
    ]
    with Image.open(output / "confusion.png") as picture:
        assert picture.size == (1440, 900)


@pytest.mark.numerical
def test_figures_are_those_of_scikit_learn(evaluated):
    evaluation, output = evaluated
    record, rows = evaluation.record(), rows_of(output)
    classes = np.array([int(row["class"]) for row in rows])
    predicted = np.array([int(row["predicted"]) for row in rows])
    assert [row["path"].rpartition("_")[0].rpartition("_")[2] for row in rows] == [row["label"] for row in rows]
    assert record["top_1"]["value"] == sklearn.accuracy_score(classes, predicted)
    matrix = sklearn.confusion_matrix(classes, predicted)
    np.testing.assert_array_equal(evaluation.metrics.confusion, matrix)
    with (output / "confusion.csv").open(encoding="utf-8") as stream:
        assert [[*map(int, row[2:])] for row in list(csv.reader(stream))[1:]] == matrix.tolist()
    recall = sklearn.recall_score(classes, predicted, average=None)
    assert [each["recall"] for each in record["recall"]] == recall.tolist()
    scores = np.zeros([len(rows), 10])
    for row, score in zip(rows, scores, strict=True):
        for place in range(1, 6):
            score[int(row[f"top_{place}"])] = float(row[f"probability_{place}"])
    assert record["top_5"]["value"] == sklearn.top_k_accuracy_score(classes, scores, k=5)
    # The loss of each image is that of a single right answer with the probability of its class.
    right = np.array([float(row["class_probability"]) for row in rows])
    loss = sklearn.log_loss(np.ones(len(rows)), right, labels=[0, 1])
    assert record["cross_entropy"] == pytest.approx(loss, rel=1e-9)
    assert record["cross_entropy"] == pytest.approx(np.mean([float(row["cross_entropy"]) for row in rows]), rel=1e-9)
    highest, hits = scores.max(axis=1), classes == predicted
    bins = np.digitize(highest, np.linspace(0, 1, 16), right=True)
    calibration = sum(abs(hits[bins == b].sum() - highest[bins == b].sum()) for b in np.unique(bins)) / len(rows)
    assert record["calibration_error"] == pytest.approx(calibration, rel=1e-9)


@pytest.mark.parametrize(
    ("given", "labels", "winners", "top_5", "offset"),
    [
        # slim's ImageNet has the labels 1 to 1000, and the network the background as class 0.
        ([], [3, 3, 5, 1000], [3, 7, 8, 9, 5], 3 / 4, 0),
        # Without the background, class 4 becomes class 3, which label 1 is by this offset.
        (["--num-classes", "1000", "--label-offset", "-2"], [1, 1, 3, -2], [4, 7, 8, 9, 1], 3 / 4, -2),
    ],
)
def test_1001_classes(tmp_path, capsys, given, labels, winners, top_5, offset):
    """Half of the images are of the class that always wins."""
    checkpoint = biased(tmp_path / "model", *one_hot(1001, *winners))
    data = records(tmp_path / "a.tfrecord", labels)
    assert main(["evaluate", data, "--checkpoint", checkpoint, "--json", "--batch-size", "1", *given]) == 0
    captured = capsys.readouterr()
    record = json.loads(captured.out)
    assert (record["top_1"]["value"], record["top_5"]["value"]) == (2 / 4, top_5)
    assert record["label_offset"] == offset
    assert f"(--label-offset {offset})" in captured.err
    assert "Inference was not compared with the statistics of the batches: a batch needs two images" in captured.err


@pytest.fixture(scope="module")
def dogs(tmp_path_factory):
    """Returns an extractor that takes every image for class 1 of 2."""
    with logits_extractor(biased(tmp_path_factory.mktemp("dogs") / "model", 0, 9), 4) as extractor:
        yield extractor


def inference(extractor, data, **options):
    labelled = labelled_for(extractor, open_inputs([data]), [data])
    return evaluate_labelled(extractor, labelled, figures="inference", **options)


def test_names_of_the_checkpoint_and_of_a_file(tmp_path):
    data = folder_of(tmp_path / "data", {"bird": 1, "cat": 2, "dog": 1})
    (tmp_path / "data" / "labels.txt").write_text("cat\ndog\nbird\n")
    (tmp_path / "names.txt").write_text("0:dog\n1:bird\n2:cat\n")
    inputs = open_inputs([data])

    def classes(noted, labels=None):
        extractor = SimpleNamespace(labels=noted, shapes={"logits": (3,)})
        return labelled_for(extractor, inputs, [data], labels=labels).classes.tolist()

    assert classes(None) == [2, 0, 0, 1]
    assert classes(("dog", "cat", "bird")) == [2, 1, 1, 0]
    assert classes(("dog", "cat", "bird"), tmp_path / "names.txt") == [1, 2, 2, 0]


BROKEN = b"\x89PNG\r\n\x1a\n cut short"


def test_failed_images_are_counted_and_left_out(tmp_path, dogs):
    data = folder_of(tmp_path / "data", {"cat": 2, "dog": 3})
    (tmp_path / "data" / "dog" / "1.png").write_bytes(BROKEN)
    output = tmp_path / "out"
    evaluation = inference(dogs, data, output=output)
    assert (evaluation.metrics.images, evaluation.failed, evaluation.metrics.top_1.value) == (4, 1, 2 / 4)
    rows = rows_of(output)
    assert [row["status"] for row in rows] == ["ok", "ok", "ok", "failed", "ok"]
    assert (rows[3]["label"], rows[3]["class"], rows[3]["row"]) == ("dog", "", "3")
    assert {rows[3]["error"].partition(" (")[0]: 1} == evaluation.reasons
    with pytest.raises(InputError, match="holds an evaluation: name another, or replace it with overwrite=True"):
        inference(dogs, data, output=output)
    (output / "confusion.png").unlink()
    inference(dogs, data, output=output, overwrite=True)
    assert (output / "confusion.png").exists()


def test_nothing_is_written_if_no_image_can_be_read(tmp_path, dogs):
    data = folder_of(tmp_path / "data", {"cat": 1, "dog": 1})
    for path in (tmp_path / "data").glob("*/*.png"):
        path.write_bytes(BROKEN)
    with pytest.raises(InputError, match=rf"None of 2 images can be evaluated. The first is {data}/cat/0.png: "):
        inference(dogs, data, output=tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_records_that_cannot_be_read(tmp_path, dogs):
    path = records(tmp_path / "a.tfrecord", [0, 1, 1])
    content = bytearray(Path(path).read_bytes())
    content[len(content) // 2] ^= 1  # in the second of three records of one length
    Path(path).write_bytes(content)
    evaluation = inference(dogs, path)
    assert (evaluation.metrics.images, evaluation.failed) == (2, 1)
    assert evaluation.metrics.top_1.value == 1 / 2


def test_a_tar_archive_and_some_of_its_rows(tmp_path, dogs):
    labelled = open_labelled([tar_of(tmp_path / "a.tar", ["dog", "cat", "dog", "dog"])], num_classes=2)
    seen = []
    metrics = measure(dogs, labelled, rows=[3, 1], on_batch=lambda images: seen.extend(images.rows))
    assert (metrics.images, metrics.top_1.value, seen) == (2, 1 / 2, [3, 1])
    with pytest.raises(ValueError, match="figures must be one of all, inference, batch statistics, and is 'top'"):
        evaluate_labelled(dogs, labelled, figures="top")


def test_without_matplotlib(tmp_path, monkeypatch, dogs):
    monkeypatch.setitem(sys.modules, "matplotlib.backends.backend_agg", None)
    data = folder_of(tmp_path / "data", {"cat": 1, "dog": 1})
    with pytest.warns(UserWarning, match=r"confusion.png requires matplotlib: pip install 'slimnets\[plot\]'"):
        inference(dogs, data, output=tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "confusion.csv",
        "metrics.json",
        "predictions.csv",
    ]


def test_outputs_that_are_refused(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    for overwrite in (False, True):
        with pytest.raises(InputError, match=r"holds thesis.txt, which no evaluation writes: name another"):
            check_output(tmp_path, overwrite=overwrite)
    with pytest.raises(InputError, match="is a file: name a folder"):
        check_output(tmp_path / "thesis.txt")


@pytest.mark.parametrize(
    ("values", "options", "sentence"),
    [
        ({"classes": 1}, {}, "resnet_v2_tiny has one class, and a classification has two at least"),
        ({"logits": False}, {}, "has no logits to evaluate: give a checkpoint that has them"),
        ({}, {"num_classes": 0}, "num_classes=0 removes the logits that an evaluation needs: omit it"),
    ],
)
def test_what_cannot_be_evaluated(tmp_path, values, options, sentence):
    with pytest.raises(ValueError, match=sentence):
        logits_extractor(save_v2(tmp_path / "model", weights(**values)), 2, **options)


def test_options_that_exclude_each_other(digits, capsys):
    arguments = ["evaluate", digits, "--checkpoint", DIGITS, "--try-inputs"]
    with pytest.raises(SystemExit) as exit_:
        main([*arguments, "--batch-statistics"])
    assert exit_.value.code == 2
    assert main([*arguments, "--output", "new"]) == 1
    assert "--try-inputs writes no files: omit --output." in capsys.readouterr().err


def test_logits_that_are_not_numbers(tmp_path):
    """Leaves out the image, and not the others of its batch."""
    logits = np.array([[0, 1], [np.nan, 1], [1, np.inf]], np.float32)
    statuses = [ImageStatus(f"{i}.png", 8, 8, None, "1") for i in range(3)]
    batch = FeatureBatch(statuses, {"logits": logits})
    extractor = SimpleNamespace(shapes={"logits": (2,)}, batches=lambda inputs, rows: [batch])
    labelled = Labelled(range(3), np.array([1, 1, 1]), ["0", "1"], 0, ())
    errors = []
    metrics = measure(extractor, labelled, on_batch=lambda images: errors.extend(images.errors))
    assert (metrics.images, metrics.top_1.value) == (1, 1)
    sentence = "its logits are not numbers: check the checkpoint with `slimnets inspect --check`"
    assert errors == [None, sentence, sentence]


def test_a_network_given_as_a_function(tmp_path):
    """Such a network is evaluated in inference only."""
    build = nets_factory.get_network_fn(TINY, 2, is_training=False)
    data = folder_of(tmp_path / "data", {"cat": 1, "dog": 1})
    options = {"net": build, "image_size": 32, "preprocessing": "inception"}
    evaluation = evaluate(data, biased(tmp_path / "model", 0, 9), **options)
    assert evaluation.metrics.top_1.value == 1 / 2
    assert evaluation.batch_statistics is None
    assert evaluation.said[-1] == (
        "Inference was not compared with the statistics of the batches: the network was given as a function."
    )
    with pytest.raises(ValueError, match="nothing tells which inputs could suit: give its name"):
        try_inputs(SimpleNamespace(num_classes=None), None, "")


@pytest.fixture(scope="module")
def stale(tmp_path_factory):
    """Returns the shipped weights with moving statistics that are almost as they were at the start of training."""
    reader = open_checkpoint(DIGITS)
    values = {name: reader.read(name) for name in reader.shapes if name.startswith(TINY)}
    for name, value in values.items():
        if "/moving_" in name:
            # After 200 steps with a decay of 0.997 the start still weighs 55 %.
            values[name] = 0.95 * (0 if name.endswith("moving_mean") else 1) + 0.05 * value
    return str(save_v2(tmp_path_factory.mktemp("stale") / "model", values))


@pytest.mark.numerical
def test_stale_moving_statistics_are_named(digits, stale, capsys):
    assert main(["evaluate", digits, "--checkpoint", stale, "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["top_1"]["high"] < record["batch_statistics"]["top_1"]["low"]
    assert record["batch_statistics"]["top_1"]["value"] > 0.95
    [advice] = record["advice"]
    assert "the moving statistics in the checkpoint do not fit its weights" in advice
    assert f"`slimnets recalibrate {stale} DATA --output NEW`" in advice


@pytest.mark.numerical
def test_only_batch_statistics(digits, tmp_path, capsys):
    """Takes a fifth of the images, one of which is broken."""
    data = tmp_path / "digits"
    shutil.copytree(digits, data, symlinks=True)
    (data / "7" / "1_7.png").write_bytes(BROKEN)
    output = tmp_path / "out"
    arguments = ["evaluate", str(data), "--checkpoint", DIGITS, "--batch-statistics", "--output", str(output)]
    assert main([*arguments, "--include", "*1_?*.png", "--include", "*4_?*.png"]) == 1
    captured = capsys.readouterr()
    [row] = [line.split() for line in captured.out.splitlines() if line.startswith("top-1")]
    assert row[:4] == ["top-1", "by", "batch", "statistics"]
    assert float(row[4]) > 0.9
    assert "Failed and left out: 1 of the images." in captured.out
    assert "failed, 1: " in captured.err
    assert [path.name for path in output.iterdir()] == ["metrics.json"]


def network_of(name, preprocessing, image_size):
    return SimpleNamespace(net=name, preprocessing=preprocessing, image_size=image_size)


@pytest.mark.parametrize(
    ("extractor", "inputs"),
    [
        (
            network_of("resnet_v2_50", "inception", 299),
            [("inception", 299), ("inception", 224), ("torchvision", 224), ("vgg", 224)],
        ),
        (
            network_of("resnet_v1_50", "vgg", 224),
            [("vgg", 224), ("inception", 224), ("torchvision", 224), ("inception", 299)],
        ),
        (
            network_of("resnet_cifar_20", "cifar", 32),
            [("cifar", 32), ("inception", 32), ("torchvision", 32), ("vgg", 32)],
        ),
        (network_of("resnet_keras_18_digits", "grayscale", 28), [("grayscale", 28)]),
    ],
)
def test_inputs_that_could_go_with_the_weights(extractor, inputs):
    assert inputs_to_try(extractor) == inputs


def test_a_tie_of_inputs():
    """Intervals that overlap with that of the best."""
    shares = [Share(0.9, 0.85, 0.95), Share(0.8, 0.7, 0.85), Share(0.5, 0.4, 0.6)]
    tried = [TriedInput("vgg", 224 + i, share) for i, share in enumerate(shares)]
    assert best_inputs(tried) == tried[:2]


@pytest.mark.numerical
def test_inputs_are_tried(digits, capsys, monkeypatch):
    monkeypatch.setattr(trying_inputs, "TRIED_IMAGES", 60)
    monkeypatch.setattr(trying_inputs, "inputs_to_try", lambda extractor: [("cifar", 32), ("inception", 32)])
    assert main(["evaluate", digits, "--checkpoint", DIGITS, "--try-inputs"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines[2:4]] == [["inception", "32"], ["cifar", "32"]]
    assert float(lines[2].split()[2]) > 0.9
    assert lines[-1] == (
        f"The best is inception at 32. To note it: slimnets note {DIGITS} --preprocessing inception --image-size 32"
    )


_PEAK = """
import resource, sys
from tools.runtime.importing import import_tensorflow
import_tensorflow()
from tools.evaluation import evaluate
evaluation = evaluate(sys.argv[1], sys.argv[2], output=sys.argv[3])
print(evaluation.metrics.images, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.full
def test_memory_does_not_grow_with_the_number_of_images(tmp_path):
    peaks = {}
    for copies in (6, 56):
        data = sorted_digits(tmp_path / f"data{copies}", copies)
        command = [sys.executable, "-c", _PEAK, data, DIGITS, str(tmp_path / f"out{copies}")]
        done = subprocess.run(command, capture_output=True, text=True, env=environment(), check=True)
        images, peak = map(int, done.stdout.split())
        assert images == 360 * copies
        peaks[copies] = peak
        shutil.rmtree(data)
    assert peaks[56] < 1.05 * peaks[6]
