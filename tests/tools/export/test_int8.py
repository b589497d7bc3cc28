"""Tests the lower precisions on the shipped network of digits: errors on held-out digits, and features."""

import numpy as np
import pytest
from PIL import Image

from tests.helpers.digit_folders import held_out_digits, training_digits
from tests.helpers.exports import TARGETS, expected, opened
from tools.digits import CHECKPOINT
from tools.export import export

# Smallest mean cosine of features to those of float32, after the mean of all images has been taken from both.
# TensorFlow Lite has whole numbers between all layers.
INT8 = {"tflite": 0.98, "onnx": 0.99, "openvino": 0.99}
FLOAT16 = {"tflite": 0.9999, "openvino": 0.9999}


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """Returns a folder of the training digits, and the held-out ones: images [360, 8, 8, 3], and their digits."""
    folder = tmp_path_factory.mktemp("digits")
    paths = sorted(held_out_digits(folder / "held_out").rglob("*.png"))
    images = np.stack([np.asarray(Image.open(path).convert("RGB")) for path in paths])
    return training_digits(folder / "train"), images, np.array([int(path.parent.name) for path in paths])


@pytest.fixture(scope="module")
def float32(digits):
    """Returns features and logits of the held-out digits from a plain graph of the checkpoint."""
    (values,) = expected(CHECKPOINT, "resnet_v2_tiny", ["global_pool", "logits"], [digits[1]], 32)
    return values["global_pool"].double, values["logits"].double


def cosine(ours, theirs):
    first, second = (values - values.mean(axis=0) for values in (ours.astype(np.float64), theirs))
    norms = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    return float(np.mean(np.sum(first * second, axis=1) / norms))  # two processes cannot exchange a NumPy number


@pytest.mark.full
@pytest.mark.numerical
@pytest.mark.parametrize(
    ("format", "dtype", "least"),
    [*((name, "int8", least) for name, least in INT8.items()), *((name, "float16", x) for name, x in FLOAT16.items())],
)
def test_digits(digits, float32, tmp_path, record_property, format, dtype, least):
    train, images, labels = digits
    features, logits = float32
    target = tmp_path / TARGETS[format]
    options = {"calibrate": train} if dtype == "int8" else {}
    done = export(CHECKPOINT, target, dtype=dtype, end_points=["global_pool", "logits"], **options)
    compute = opened(target)
    size = done.description.images.shape[0] or len(images)
    batches = [compute(images[start : start + size]) for start in range(0, len(images), size)]
    values = {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}
    errors = [int(np.sum(scores.argmax(axis=1) != labels)) for scores in (values["logits"], logits)]
    near = cosine(values["global_pool"], features)
    sizes = sum(done.files.values())
    said = f"{format} {dtype}: {errors[0]} errors, {errors[1]} in float32, cosine {near:.4f}, {sizes:,} bytes; proof: "
    print(said + ", ".join(f"{one.output} {one.difference:.2g}, {one.cosine:.4f}" for one in done.agreements))
    record_property("errors", errors)
    record_property("cosine", near)
    assert len(labels) == 360
    assert errors[0] <= errors[1] + 2
    assert near >= least
    # Weights of a quarter, or half, of the 2.1 MB of float32, beside the graph.
    assert sizes < (0.45 if dtype == "int8" else 0.6) * 2_085_000
