"""Tests exports of checkpoints of many kinds, and of inputs of many kinds."""

import io
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from checkpoints import note
from tests.helpers.corpus import save_v2
from tests.helpers.exports import KERAS, TARGETS, expected, in_one_process, opened, pictures, random_checkpoint
from tests.helpers.float64 import assert_as_exact
from tests.helpers.numpy_preprocessing import preprocessed
from tests.tools.export.conftest import POINTS
from tools.errors import InputError
from tools.export import export

pytestmark = pytest.mark.numerical

IMAGES = pictures(2, 45, 37)

# The quickest format in the normal run, and the others with all tests.
EACH = [name if name == "pb" else pytest.param(name, marks=pytest.mark.full) for name in TARGETS]


def values_of(checkpoint):
    stored = tf.train.load_checkpoint(str(checkpoint))
    return {name: stored.get_tensor(name) for name in stored.get_variable_to_shape_map()}


def exported_values(checkpoint, target, images=IMAGES, **options):
    with in_one_process():
        done = export(checkpoint, target, **options)
    return done, opened(target)(images)


@pytest.mark.parametrize("format", EACH)
def test_a_fixed_batch(tiny, tmp_path, format):
    done, values = exported_values(tiny, tmp_path / TARGETS[format], batch=2, end_points="global_pool")
    assert done.description.images.shape == (2, None, None, 3)
    assert done.description.outputs[0].shape == (2, 512)
    (wanted,) = expected(tiny, "resnet_v2_tiny", ["global_pool"], [IMAGES], 32)
    assert_as_exact(values["global_pool"], wanted["global_pool"])


@pytest.mark.parametrize("format", EACH)
def test_the_networks_own_input(tiny, tmp_path, format):
    fed = preprocessed(IMAGES, "inception", 32).astype(np.float32)
    done, values = exported_values(tiny, tmp_path / TARGETS[format], fed, input="network", end_points="logits")
    assert (done.description.images.dtype, done.description.images.shape) == ("float32", (None, 32, 32, 3))
    (wanted,) = expected(tiny, "resnet_v2_tiny", ["logits"], [IMAGES], 32)
    assert_as_exact(values["logits"], wanted["logits"])


@pytest.mark.full
@pytest.mark.parametrize("format", TARGETS)
def test_a_network_for_grey_images(tmp_path, format):
    checkpoint = random_checkpoint(tmp_path / "grey.ckpt", "resnet_keras_18_digits", 28)
    _, values = exported_values(checkpoint, tmp_path / TARGETS[format])
    (wanted,) = expected(checkpoint, "resnet_keras_18_digits", ["global_pool", "predictions"], [IMAGES], 28)
    for name, one in wanted.items():
        assert_as_exact(values[name], one)


@pytest.mark.filterwarnings("ignore::nets.guards.InferenceWarning")  # of the size
@pytest.mark.full
@pytest.mark.parametrize("format", TARGETS | KERAS)
def test_one_class_which_a_sigmoid_predicts(tmp_path, format):
    checkpoint = random_checkpoint(tmp_path / "one.ckpt", "resnet_basic_18", 64, num_classes=1)
    with_classes = format in TARGETS
    fed = IMAGES if with_classes else preprocessed(IMAGES, "vgg", 64).astype(np.float32)
    points = ["predictions", "classes"] if with_classes else ["predictions"]
    options = {"net": "resnet_basic_18", "image_size": 64, "preprocessing": "vgg", "end_points": points}
    _, values = exported_values(checkpoint, tmp_path / (TARGETS | KERAS)[format], fed, **options)
    (wanted,) = expected(checkpoint, "resnet_basic_18", ["logits", "predictions"], [IMAGES], 64)
    assert values["predictions"].shape == (2, 1)
    assert_as_exact(values["predictions"][:, 0], wanted["predictions"], scale=1.0)
    assert np.allclose(values["predictions"][:, 0], 1 / (1 + np.exp(-wanted["logits"].double)), rtol=1e-5)
    if with_classes:
        assert values["classes"].tolist() == [[0], [0]]
        assert np.allclose(values["probabilities"][:, 0], wanted["predictions"].double, rtol=1e-5)


@pytest.mark.filterwarnings("ignore::nets.guards.InferenceWarning")
@pytest.mark.full
@pytest.mark.parametrize("format", TARGETS)
def test_another_size_of_images(tiny, tmp_path, format):
    done, values = exported_values(
        tiny, tmp_path / TARGETS[format], image_size=49, end_points=["block1", "predictions"]
    )
    assert done.description.image_size == 49
    (wanted,) = expected(tiny, "resnet_v2_tiny", ["block1", "predictions"], [IMAGES], 49)
    for name, one in wanted.items():
        assert_as_exact(values[name], one)


@pytest.mark.full
def test_without_the_background_class(tmp_path):
    """The 1000 classes have the logits of the last 1000 of 1001, and ImageNet's names."""
    checkpoint = random_checkpoint(tmp_path / "classes.ckpt", "resnet_v2_tiny", 32, num_classes=1001)
    options = {"num_classes": 1000, "end_points": ["logits", "classes"], "preprocessing": "inception", "image_size": 32}
    done, values = exported_values(checkpoint, tmp_path / "network", **options)
    (wanted,) = expected(checkpoint, "resnet_v2_tiny", ["logits"], [IMAGES], 32, preprocessing="inception")
    logits = wanted["logits"][:, 1:]
    assert_as_exact(values["logits"], logits)
    assert np.array_equal(values["classes"], np.argsort(-logits.double, axis=1)[:, :5])
    assert len(done.description.labels) == 1000
    # The first and the last of ImageNet's classes.
    assert done.description.labels[0].startswith("tench")
    assert done.description.labels[999].startswith("toilet tissue")
    named = [[done.description.labels[number].encode() for number in row] for row in values["classes"]]
    assert values["labels"].tolist() == named


def test_moving_averages_under_another_scope(tiny, tmp_path):
    """The file has other weights, and the moving averages are those of the tiny network."""
    values = values_of(tiny)
    moved = {name.replace("resnet_v2_tiny/", "mine/net/"): value for name, value in values.items()}
    averages = {f"{name}/ExponentialMovingAverage": value for name, value in moved.items()}
    trained = {name: value * np.float32(1.5) for name, value in moved.items()}
    checkpoint = save_v2(tmp_path / "moved.ckpt", {**trained, **averages})
    _, found = exported_values(checkpoint, tmp_path / "network.pb", ema=True, scope="mine/net")
    (wanted,) = expected(tiny, "resnet_v2_tiny", ["global_pool"], [IMAGES], 32)
    assert_as_exact(found["global_pool"], wanted["global_pool"])


def test_a_network_without_classes(tmp_path):
    checkpoint = random_checkpoint(tmp_path / "none.ckpt", "resnet_v2_tiny", 32, num_classes=0)
    done, values = exported_values(checkpoint, tmp_path / "network.pb")
    assert done.description.labels is None
    (wanted,) = expected(checkpoint, "resnet_v2_tiny", ["global_pool"], [IMAGES], 32)
    assert list(values) == ["global_pool"]
    assert_as_exact(values["global_pool"], wanted["global_pool"])


@pytest.mark.full
def test_labels_in_notes(tmp_path):
    checkpoint = random_checkpoint(tmp_path / "noted.ckpt", "resnet_v2_tiny", 32, num_classes=3)
    note(checkpoint, labels=["Ärger", "苹果", "a b, c"])
    done, values = exported_values(checkpoint, tmp_path / "network", end_points="classes")
    assert done.description.labels == ("Ärger", "苹果", "a b, c")
    assert {label.decode() for label in values["labels"][0].tolist()} == set(done.description.labels)
    assert values["labels"].shape == (2, 3)
    assert (tmp_path / "network" / "assets" / "labels.txt").read_text(encoding="utf-8") == "Ärger\n苹果\na b, c\n"


def encoded(picture, kind):
    stream = io.BytesIO()
    if kind == "grey JPEG":
        picture, kind = picture.convert("L"), "JPEG"
    elif kind == "GIF":
        picture = picture.quantize(64)
    picture.save(stream, kind)
    return stream.getvalue()


def test_encoded_files(tiny, tmp_path):
    """Values are those of the pixels that Pillow decodes."""
    picture = Image.fromarray(pictures(1, 40, 60)[0])
    files = [encoded(picture, kind) for kind in ("JPEG", "grey JPEG", "PNG", "GIF")]
    pixels = np.stack([np.asarray(Image.open(io.BytesIO(file)).convert("RGB")) for file in files])
    _, values = exported_values(
        tiny, tmp_path / "network.pb", np.array(files, object), input="encoded", end_points="global_pool"
    )
    (wanted,) = expected(tiny, "resnet_v2_tiny", ["global_pool"], [pixels], 32)
    assert_as_exact(values["global_pool"], wanted["global_pool"])


@pytest.mark.full
def test_messages_of_tensorflow(tiny, tmp_path, monkeypatch, capfd):
    """They are wanted, and disturb neither the processes of the export nor their errors."""
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "0")
    export(tiny, tmp_path / "network.onnx")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["network.onnx", "network.onnx.slimnets.json"]


@pytest.mark.parametrize(
    "format",
    [one if one == "saved_model" else pytest.param(one, marks=pytest.mark.full) for one in TARGETS],
)
def test_a_target_is_replaced_as_a_whole(tiny, exported, tmp_path, format):
    target = tmp_path / TARGETS[format]
    done = exported(format)
    with in_one_process(done):
        export(tiny, target, end_points=POINTS)
        first = sorted(path for path in tmp_path.rglob("*"))
        again = export(tiny, target, end_points=POINTS, overwrite=True)
    assert sorted(path for path in tmp_path.rglob("*")) == first
    assert again.files.keys() == {file.relative_to(tmp_path).as_posix() for file in first if file.is_file()}
    assert opened(target)(IMAGES)["global_pool"].shape == (2, 512)


def test_bounds_are_held(tiny, exported, tmp_path):
    """A bound below the rounding of float32 refuses what the usual one allows."""
    with in_one_process(exported("onnx")), pytest.raises(InputError, match=r"more than tolerance=1e-12: nothing is"):
        export(tiny, tmp_path / "network.onnx", end_points=POINTS, tolerance=1e-12)
    assert list(tmp_path.iterdir()) == []
    with in_one_process(exported("onnx")):
        done = export(tiny, tmp_path / "network.onnx", end_points=POINTS, tolerance=0.5)
    assert done.tolerance == 0.5


@pytest.mark.full
def test_the_face_of_the_example(tmp_path):
    """The shipped network has names of its digits."""
    with in_one_process():
        done = export("resnet_v2_tiny_digits", tmp_path / "digits.pb")
    assert done.description.labels == tuple("0123456789")
    assert Path(done.target).is_file()
