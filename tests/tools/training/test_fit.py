"""Tests what a training changes and writes, and what it refuses."""

import json
import os
import re
import shutil

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from checkpoints import diagnose, open_checkpoint
from nets import nets_factory
from tests.helpers.corpus import save_v2, weights
from tests.helpers.digit_folders import held_out_digits, training_digits
from tools.cli import main
from tools.errors import InputError, TrainingError
from tools.training import fit, prepare

DIGITS = "resnet_v2_tiny_digits"
TINY = {"net": "resnet_v2_tiny", "batch_size": 8, "steps": 2}


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """Returns a folder of 16 images of each digit."""
    return training_digits(tmp_path_factory.mktemp("digits") / "train", limit=16)


@pytest.fixture(scope="module")
def four_digits(tmp_path_factory):
    return training_digits(tmp_path_factory.mktemp("four") / "train", "1357", limit=16)


def changed(before, after):
    """Returns the names of the variables of ``before`` that ``after`` has with other values."""
    old, new = open_checkpoint(before), open_checkpoint(after)
    return {name for name in old.shapes if not np.array_equal(old.read(name), new.read(name))}


def of_the_digits(test):
    """Returns the names of the shipped checkpoint's variables that fit a test."""
    return {name for name in open_checkpoint(DIGITS).shapes if test(name)}


def test_a_new_head_replaces_that_of_other_classes(four_digits, tmp_path):
    # labels 1, 3, 5 and 7 are whole numbers, so names make them the classes 0 to 3
    labels = tmp_path / "labels.txt"
    labels.write_text("1\n3\n5\n7\n")
    result = fit(four_digits, tmp_path / "o", checkpoint=DIGITS, labels=labels, trainable="head", batch_size=8, steps=3)
    assert result.steps == 3
    reader = open_checkpoint(tmp_path / "o")
    assert reader.shapes["resnet_v2_tiny/logits/weights"] == (1, 1, 512, 4)
    # Only the logits are trained, and the statistics are frozen, as the others need them.
    assert changed(DIGITS, tmp_path / "o") == of_the_digits(lambda name: "/logits/" in name)
    found = diagnose(tmp_path / "o")
    assert (found.labels, found.preprocessing, found.image_size) == (("1", "3", "5", "7"), "inception", 32)
    assert found.input_known


@pytest.mark.parametrize(
    ("options", "stays"),
    [
        pytest.param({}, lambda name: False, marks=pytest.mark.full),
        ({"trainable": "*block2*"}, lambda name: "block2" not in name and "moving" not in name),
        ({"freeze_batch_norm": True}, lambda name: "moving" in name),
        pytest.param(
            {"trainable": "head", "freeze_batch_norm": False},
            lambda name: "logits" not in name and "moving" not in name,
            marks=pytest.mark.full,
        ),
    ],
)
def test_trainable_and_frozen_variables(options, stays, digits, tmp_path):
    fit(digits, tmp_path / "o", checkpoint=DIGITS, batch_size=8, steps=2, learning_rate=0.1, **options)
    assert changed(DIGITS, tmp_path / "o") == of_the_digits(lambda name: not stays(name))


def test_a_pattern_that_fits_nothing_is_refused(digits, tmp_path):
    options = {"checkpoint": DIGITS, "batch_size": 8, "steps": 1}
    with pytest.raises(ValueError, match=r"trainable='blok2' fits no variable of the network, such as resnet_v2_tiny/"):
        fit(digits, tmp_path / "o", trainable="blok2", **options)
    # Before the first state, other settings take the place of the wrong ones.
    assert prepare(digits, tmp_path / "o", trainable="*block2*", **options).done == 0


@pytest.mark.full
def test_moving_averages_follow_their_formula(digits, tmp_path):
    options = {**TINY, "steps": 3, "ema": 0.5, "optimizer": "sgd", "checkpoint_seconds": 0, "keep": 5}
    fit(digits, tmp_path / "o", checkpoint=DIGITS, **options)
    name = "resnet_v2_tiny/logits/weights"
    average = open_checkpoint(DIGITS).read(name).astype(np.float64)
    for step in (1, 2, 3):
        # tf.train.ExponentialMovingAverage: with n updates so far, at most (1 + n) / (10 + n)
        decay = min(0.5, (1 + step) / (10 + step))
        reader = open_checkpoint(tmp_path / "o" / f"model.ckpt-{step}")
        average = decay * average + (1 - decay) * reader.read(name)
        np.testing.assert_allclose(reader.read(f"{name}/ExponentialMovingAverage"), average, atol=1e-6)


@pytest.mark.full
def test_a_network_of_every_family_trains_a_step(digits, tmp_path):
    for name in ("resnet_v1_50", "resnet_basic_18", "resnet_keras_18_digits", "resnet_cifar_20"):
        size = 28 if name == "resnet_keras_18_digits" else 32
        fit(digits, tmp_path / name, net=name, batch_size=4, steps=1, image_size=size)
        found = diagnose(tmp_path / name)
        assert (found.network.name, found.num_classes, found.usable) == (name, 10, True)


@pytest.mark.full
def test_the_other_commands_need_no_options(digits, tmp_path, capsys):
    output = str(tmp_path / "o")
    fit(digits, output, checkpoint=DIGITS, batch_size=8, steps=2, learning_rate=1e-4)
    image = next((digits / "7").iterdir())
    assert main(["classify", str(image), "--checkpoint", output, "--top", "1", "--json"]) == 0
    [result] = json.loads(capsys.readouterr().out)
    assert result["classes"][0]["label"] == "7"
    assert main(["inspect", output]) == 0
    assert "preprocessing inception at 32\n" in capsys.readouterr().out


def test_unreadable_images_are_left_out(digits, tmp_path, capsys):
    data = shutil.copytree(digits, tmp_path / "data")
    (data / "3" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"x" * 50)
    arguments = ["train", str(data), "--net", "resnet_v2_tiny", "--batch-size", "8", "--epochs", "1"]
    assert main([*arguments, "--output", str(tmp_path / "o")]) == 1
    captured = capsys.readouterr()
    assert "20 steps done" not in captured.out
    assert "21 steps done" in captured.out  # 161 images, one of which is replaced
    assert "broken.png: the image cannot be decoded" in captured.err
    assert "1 image failed and was left out" in captured.err


def test_no_usable_image_is_an_error(tmp_path):
    for label in "ab":
        (tmp_path / "data" / label).mkdir(parents=True)
        for number in range(4):
            (tmp_path / "data" / label / f"{number}.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"x" * 50)
    with pytest.raises(InputError, match="None of the 8 images can be used"):
        fit(tmp_path / "data", tmp_path / "o", **TINY)


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_good_state(digits, tmp_path):
    options = {**TINY, "steps": 40, "optimizer": "sgd", "learning_rate": 999.0, "schedule": "constant"}
    # The variance of a batch overflows before the loss does, and a state with it is no good one.
    sentence = r"has values that are not finite after step (\d+), with a learning rate of up to 999, which is probably"
    with pytest.raises(TrainingError, match=sentence) as error:
        fit(digits, tmp_path / "o", **options, checkpoint_seconds=0)
    step = int(re.search(sentence, str(error.value))[1])
    assert str(error.value).endswith(f"; the state of step {step - 1} remains.")
    reader = open_checkpoint(tmp_path / "o")
    assert all(np.isfinite(reader.read(name)).all() for name in reader.shapes)


@pytest.mark.full
def test_another_learning_rate_takes_the_folder_without_a_state(digits, tmp_path):
    options = {**TINY, "steps": 40, "optimizer": "sgd", "learning_rate": 999.0, "schedule": "constant"}
    with pytest.raises(TrainingError, match=r"The loss is (nan|inf) at step \d+, .*; no state was saved before.$"):
        fit(digits, tmp_path / "o", **options, save_seconds=1000)
    # The steps up to there show the cause.
    assert (tmp_path / "o/history.csv").read_text().count("\n") > 2
    assert fit(digits, tmp_path / "o", **{**TINY, "steps": 1}).steps == 1


def write_images(folder, names, count=4):
    rng = np.random.default_rng(0)
    for name in names:
        (folder / name).mkdir(parents=True)
        for number in range(count):
            pixels = rng.integers(0, 256, [9, 12, 3], np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number}.png")
    return folder


@pytest.mark.parametrize(
    ("names", "options", "sentence"),
    [
        (["a"], {}, "All images have the label 'a', and a classification needs two classes at least"),
        (["a", "b"], {"batch_size": 9}, "There are 8 images, fewer than a batch of 9: give more, or batch_size=8."),
        (["a", "b"], {"steps": 5, "warmup_steps": 5}, "warmup_steps=5 must be fewer than the 5 steps"),
        (
            ["a", "b"],
            {"schedule": "polynomial", "end_learning_rate": 0.5},
            "end_learning_rate=0.5 must be at most the learning rate, 0.01.",
        ),
        (["a", "b"], {"freeze_batch_norm": True}, "freeze_batch_norm=True needs a checkpoint's statistics"),
        (["a", "b"], {"new_head": True}, "new_head=True needs checkpoint='PATH', whose logits it replaces: omit it."),
        (["a", "b"], {"eval_steps": 1}, "eval_steps=1 goes with images for validation: give val=DATA, or omit it."),
        (
            ["a", "b"],
            {"schedule": "piecewise", "boundaries": [1, 2]},
            "boundaries must be steps of the training, which has 2, and 2 is none.",
        ),
        (["a", "b"], {"net": None}, "needs checkpoint='PATH' to start from, or net='NAME' to begin from scratch"),
        (
            ["a", "b"],
            {"checkpoint": DIGITS, "net": "resnet_v2_50"},
            "net='resnet_v2_50' is not the network of resnet_v2_",
        ),
        (["a", "b"], {"net": "resnet_v2_51"}, "Name of network unknown: 'resnet_v2_51'"),
        (["a", "b"], {"preprocessing": "none"}, "Training reads images, which preprocessing='none' does not take"),
    ],
)
def test_bad_input_is_refused_in_a_sentence(names, options, sentence, tmp_path):
    data = write_images(tmp_path / "data", names)
    with pytest.raises(ValueError, match=sentence):
        fit(data, tmp_path / "o", **{**TINY, **options})
    assert not (tmp_path / "o").exists()


def test_classes_that_do_not_go_together_are_refused(tmp_path):
    data = write_images(tmp_path / "data", ["a", "b"])
    (data / "c").mkdir()
    with pytest.raises(InputError, match="1 of 3 classes has no images: c"):
        fit(data, tmp_path / "o", **TINY)
    (data / "c").rmdir()
    other = write_images(tmp_path / "other", ["a", "x"])
    with pytest.raises(InputError, match=r"The label 'x' of .* is not among the names of the 2 classes, a, b"):
        fit(data, tmp_path / "o", val=other, **TINY)
    assert not (tmp_path / "o").exists()


def test_numbers_of_records_are_the_classes(tmp_path):
    checkpoint = save_v2(tmp_path / "four.ckpt", weights(classes=4))
    with tf.io.TFRecordWriter(str(tmp_path / "train.tfrecord")) as writer:
        for number in range(16):
            pixels = np.full([8, 8, 3], 16 * number, np.uint8)
            example = tf.train.Example()
            feature = example.features.feature
            feature["image/encoded"].bytes_list.value.append(tf.io.encode_png(pixels).numpy())
            feature["image/class/label"].int64_list.value.append(number % 4)
            writer.write(example.SerializeToString())
    options = {"checkpoint": checkpoint, "batch_size": 8, "steps": 1, "learning_rate": 1e-9, "weight_decay": 0.0}
    assert fit(tmp_path / "train.tfrecord", tmp_path / "o", **options).steps == 1
    name = "resnet_v2_tiny/logits/weights"  # kept, as the number of classes is the same
    difference = open_checkpoint(tmp_path / "o").read(name) - open_checkpoint(checkpoint).read(name)
    assert np.abs(difference).max() < 1e-6


def test_a_wrong_option_of_the_command_is_told_as_an_option(digits, tmp_path, capsys):
    arguments = ["train", str(digits), "--output", str(tmp_path / "o")]
    assert main(arguments) == 1
    error = capsys.readouterr().err
    assert "A training needs --checkpoint PATH to start from, or --net NAME to begin from scratch." in error
    assert main([*arguments, "--net", "resnet_v2_tiny", "--learning-rate", "0"]) == 1
    assert "slimnets: error: --learning-rate must be above 0" in capsys.readouterr().err


def test_folders_that_cannot_hold_a_training_are_refused(tmp_path):
    data = write_images(tmp_path / "data", ["a", "b"])
    with pytest.raises(InputError, match=r"lies in the images' folder .*data, where it would pass for a class"):
        fit(data, data / "out", **TINY)
    with pytest.raises(InputError, match="memory://out is no folder of this machine"):
        fit(data, "memory://out", **TINY)
    with pytest.raises(InputError, match=r"TensorFlow cannot write to '.*o\\udcff', which is not UTF-8"):
        fit(data, os.fsdecode(bytes(tmp_path) + b"/o\xff"), **TINY)
    features = tmp_path / "features"
    features.mkdir()
    (features / "run.json").write_text('{"inputs": {}, "checkpoint": {}}')
    with pytest.raises(InputError, match=r"run.json is not the record of a training: name another folder"):
        fit(data, features, overwrite=True, **TINY)
    assert {path.name for path in tmp_path.rglob("*.json")} == {"run.json"}
    assert {path.name for path in tmp_path.iterdir()} == {"data", "features"}


@pytest.mark.full
def test_overwrite_deletes_the_training_alone(tmp_path):
    data = write_images(tmp_path / "data", ["a", "b"])
    fit(data, tmp_path / "o", **TINY)
    (tmp_path / "o/mine.txt").write_text("mine")
    fit(data, tmp_path / "o", **{**TINY, "steps": 1}, overwrite=True)
    assert (tmp_path / "o/mine.txt").read_text() == "mine"
    assert not list((tmp_path / "o").glob("model.ckpt-2*"))


def test_labels_of_the_validation_have_the_same_offset(tmp_path):
    data = write_images(tmp_path / "data", ["1", "2", "3"])
    job = prepare(data, tmp_path / "o", val=data, label_offset=1, **TINY)
    assert job.validation.classes.tolist() == job.start.labelled.classes.tolist() == sorted(4 * [0, 1, 2])
    assert job.validation.names == job.start.labelled.names == ["1", "2", "3"]


def write_numbers(path, numbers):
    """Writes a TFRecord file with an image of each class number."""
    image = tf.io.encode_png(np.zeros([4, 4, 3], np.uint8)).numpy()
    with tf.io.TFRecordWriter(str(path)) as writer:
        for number in numbers:
            example = tf.train.Example()
            example.features.feature["image/encoded"].bytes_list.value.append(image)
            example.features.feature["image/class/label"].int64_list.value.append(number)
            writer.write(example.SerializeToString())
    return path


def test_1000_classes_against_1001(tmp_path):
    checkpoint = {classes: save_v2(tmp_path / f"{classes}.ckpt", weights(classes=classes)) for classes in (1000, 1001)}
    from_0 = write_numbers(tmp_path / "from_0", range(1000))
    from_1 = write_numbers(tmp_path / "from_1", range(1, 1001))
    for classes, data, first, offset in (
        (1000, from_0, 0, 0),
        (1000, from_1, 0, 1),
        (1001, from_0, 1, -1),
        (1001, from_1, 1, 0),
    ):
        job = prepare(data, tmp_path / "o", checkpoint=checkpoint[classes], batch_size=8, steps=1)
        assert not job.start.new_head
        assert "The checkpoint's logits are kept, as its classes are those of the images." in job.said
        assert job.start.labelled.classes.tolist() == list(range(first, first + 1000))
        assert any(f"(label_offset={offset})" in sentence for sentence in job.said) == (classes == 1001 or offset != 0)
    with pytest.raises(InputError, match=r"The label 1000 of .* is class 1000 .*, and there are 1,000 classes"):
        numbers = write_numbers(tmp_path / "all", range(1001))
        prepare(numbers, tmp_path / "o", checkpoint=checkpoint[1000], batch_size=8, steps=1)


def test_the_logits_of_other_classes_begin_anew(tmp_path):
    """Not even as many classes as the checkpoint has keep its logits if they are others."""
    folder = write_images(tmp_path / "ten", [f"kind {number}" for number in range(10)], count=1)
    job = prepare(folder, tmp_path / "o", checkpoint=DIGITS, batch_size=8, steps=1)
    assert job.start.new_head
    anew = "The logits begin anew: the checkpoint's classes (0, 1, 2, 3, 4, ...) are not those of the images (kind 0, "
    assert any(sentence.startswith(anew) for sentence in job.said)
    # A file without notes does not tell its classes.
    checkpoint = save_v2(tmp_path / "ten.ckpt", weights(classes=10))
    job = prepare(folder, tmp_path / "o", checkpoint=checkpoint, batch_size=8, steps=1)
    assert not job.start.new_head
    assert any("assumed to be the same" in sentence and "new_head=True" in sentence for sentence in job.said)
    # More classes, and fewer.
    for names in ("abcdefghijkl", "ab"):
        folder = write_images(tmp_path / names, names, count=4)
        job = prepare(folder, tmp_path / "o", checkpoint=DIGITS, batch_size=8, steps=1)
        assert f"The logits begin anew: the checkpoint has 10 classes, and the images {len(names)}." in job.said
    # A thousand other classes are not ImageNet's.
    checkpoint = save_v2(tmp_path / "1000.ckpt", weights(classes=1000))
    labels = tmp_path / "labels.txt"
    labels.write_text("\n".join(f"kind {number}" for number in range(1000)))
    numbers = write_numbers(tmp_path / "numbers", range(1000))
    job = prepare(numbers, tmp_path / "o", checkpoint=checkpoint, labels=labels, batch_size=8, steps=1)
    assert job.start.new_head
    assert job.start.labelled.names[999] == "kind 999"


def test_what_is_assumed_and_what_is_done_is_said(digits, tmp_path, capsys):
    checkpoint = save_v2(tmp_path / "ten.ckpt", weights(classes=10))
    command = ["train", str(digits), "--from", str(checkpoint), "--output", str(tmp_path / "o")]
    command += ["--steps", "1", "--batch-size", "160"]
    assert main(command) == 0
    captured = capsys.readouterr()
    said = "preprocessing inception at 32 (assumed: nothing in the file says so; --preprocessing, or slimnets note)"
    assert said in captured.err
    assert "1 step of 160 images (1 epoch), momentum, learning rate 0.01, cosine\n" in captured.err
    assert captured.out.startswith(f"1 step done, saved in {tmp_path / 'o'}\nlast batch: loss ")
    assert main(command) == 0
    again = capsys.readouterr()
    assert again.out == captured.out
    assert f"The training in {tmp_path / 'o'} is complete.\n" in again.err
    assert "train: " not in again.err


@pytest.mark.full
def test_validation_numbers_are_those_of_an_evaluation(digits, tmp_path, capsys):
    val = held_out_digits(tmp_path / "val", "0123456789")
    broken = val / "0" / "broken.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\n" + b"x" * 50)
    result = fit(digits, tmp_path / "o", checkpoint=DIGITS, val=val, batch_size=16, steps=2, learning_rate=1e-3)
    assert list(result.failed) == [str(broken)]
    assert main(["evaluate", str(val), "--checkpoint", str(tmp_path / "o"), "--batch-size", "16", "--json"]) == 1
    measured = json.loads(capsys.readouterr().out)
    assert measured["top_1"]["value"] == result.validation.val_top_1
    assert measured["cross_entropy"] == pytest.approx(result.validation.val_cross_entropy, rel=1e-6)
    assert nets_factory.get_network("resnet_v2_tiny").image_size == 32
