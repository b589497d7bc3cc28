"""Compares the portable preprocessings with NumPy, in TensorFlow, TensorFlow Lite, ONNX Runtime and OpenVINO."""

import functools
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import openvino
import pytest
import skimage.data
import tensorflow as tf

from nets.preprocessing import PREPROCESSINGS, preprocess
from tests.helpers.numpy_preprocessing import preprocessed
from tests.nets.test_preprocessing import graph_result, noise

v1 = tf.compat.v1

TO_ONNX = Path(__file__).parents[1] / "helpers" / "onnx_files.py"

# TensorFlow warns that its interpreter for TensorFlow Lite will move to another package.
pytestmark = [pytest.mark.numerical, pytest.mark.filterwarnings("ignore:.*tf.lite.Interpreter is deprecated")]

# Share of the largest value that a result may be off by: a few roundings of float32, and those of the means and
# deviations of whole images.
TOLERANCE, TOLERANCE_OF_MEANS = 1e-6, 1e-4
# Levels of 'torchvision' are whole numbers in every runtime, and a level is 4e-3 of the range.
TOLERANCE_OF_LEVELS = 1e-6

ASTRONAUT, COFFEE, CHELSEA = (getattr(skimage.data, name)() for name in ("astronaut", "coffee", "chelsea"))

IMAGES = {
    "astronaut": ASTRONAUT[np.newaxis, :411, :333],
    "coffee": COFFEE[np.newaxis, :389, 7:584],
    "chelsea": CHELSEA[np.newaxis, 1:300, :451],
    "halves between levels": CHELSEA[np.newaxis, :300, :224],
    "smaller than the input": ASTRONAUT[np.newaxis, 100:119, 200:223],
    "one row": COFFEE[np.newaxis, 200:201, 300:307],
    "two images": np.stack([COFFEE[:201, :301], COFFEE[100:301, 200:501]]),
}
FIXED = ("coffee", "smaller than the input", "two images")

# 'cifar' is for small images: TensorFlow Lite's mean of all values of a large one is off by 3e-4.
SIZES = {"cifar": 97, "grayscale": 97, "inception": 299, "none": 97, "torchvision": 224, "vgg": 224}

# These have all ops that the others have.
QUICK = ("torchvision", "vgg")


def given(images, name, size):
    """Returns what a preprocessing takes: 'none' takes numbers of the network's size."""
    return images if name != "none" else np.resize(images, [len(images), size, size, 3]).astype(np.float32)


def expected(images, name, size):
    return given(images, name, size) if name == "none" else preprocessed(images, name, size)


def write_graph(file, name, size, shape):
    with tf.Graph().as_default() as graph:
        images = v1.placeholder(tf.float32 if name == "none" else tf.uint8, shape, name="images")
        tf.identity(preprocess(images, name, size, portable=True), name="result")
        file.write_bytes(graph.as_graph_def().SerializeToString())


def write_onnx(folder):
    subprocess.run([sys.executable, "-P", TO_ONNX, folder], check=True, capture_output=True)


def tensorflow_lite(file):
    with tf.Graph().as_default(), v1.Session() as session:
        graph_def = v1.GraphDef.FromString(file.read_bytes())
        ends = tf.graph_util.import_graph_def(graph_def, return_elements=["images:0", "result:0"], name="")
        model = v1.lite.TFLiteConverter.from_session(session, ends[:1], ends[1:]).convert()
    interpreter = tf.lite.Interpreter(model_content=model)
    (images,), (result,) = interpreter.get_input_details(), interpreter.get_output_details()

    def run(batch):
        interpreter.resize_tensor_input(images["index"], batch.shape)
        interpreter.allocate_tensors()
        interpreter.set_tensor(images["index"], batch)
        interpreter.invoke()
        return interpreter.get_tensor(result["index"])

    return run, list(result["shape_signature"])


def onnx_runtime(file):
    session = onnxruntime.InferenceSession(file.with_suffix(".onnx"), providers=["CPUExecutionProvider"])
    shape = [side if isinstance(side, int) else -1 for side in session.get_outputs()[0].shape]
    return lambda batch: session.run(None, {"images:0": batch})[0], shape


@functools.cache
def core():
    """Returns OpenVINO's core, which takes a second to make."""
    return openvino.Core()


def open_vino(file):
    # By default it computes in bfloat16 on processors that have it.
    options = {"INFERENCE_PRECISION_HINT": "f32"}
    model = core().compile_model(openvino.convert_model(file), "CPU", options)
    shape = [side.get_length() if side.is_static else -1 for side in model.outputs[0].partial_shape]
    return lambda batch: model(batch)[0], shape


RUNTIMES = {"TensorFlow Lite": tensorflow_lite, "ONNX Runtime": onnx_runtime, "OpenVINO": open_vino}


def assert_close(result, name, reference):
    assert result.dtype == np.float32
    assert result.shape == reference.shape
    error, scale = np.abs(result - reference).max(), np.abs(reference).max()
    tolerance = {"torchvision": TOLERANCE_OF_LEVELS, "cifar": TOLERANCE_OF_MEANS}.get(name, TOLERANCE)
    assert error <= tolerance * scale, f"{error:.3g} for values of up to {scale:.3g}"


def check(open_file, file, name, size, images):
    """Compares every image, one after the other, and checks the shape of the result that the file promises."""
    run, shape = open_file(file)
    for batch in images:
        assert_close(run(given(batch, name, size)), name, expected(batch, name, size))
    assert shape[1:] == [size, size, 1 if name == "grayscale" else 3]


def test_images_of_any_size(tmp_path):
    for name in QUICK:
        write_graph(tmp_path / f"{name}.pb", name, 33, [None, None, None, 3])
    write_onnx(tmp_path)
    for open_file in RUNTIMES.values():
        for name in QUICK:
            check(open_file, tmp_path / f"{name}.pb", name, 33, IMAGES.values())


@pytest.mark.full
@pytest.mark.parametrize("name", PREPROCESSINGS)
def test_larger_inputs(tmp_path, name):
    """For images of any size, and of a fixed size, for which converters compute constants themselves."""
    size = SIZES[name]
    write_graph(tmp_path / "any.pb", name, size, [None, None, None, 3])
    for image in FIXED:
        write_graph(tmp_path / f"{image}.pb", name, size, given(IMAGES[image], name, size).shape)
    write_onnx(tmp_path)
    for open_file in RUNTIMES.values():
        check(open_file, tmp_path / "any.pb", name, size, IMAGES.values())
        for image in FIXED:
            check(open_file, tmp_path / f"{image}.pb", name, size, [IMAGES[image]])


@pytest.mark.parametrize("name", PREPROCESSINGS)
def test_in_tensorflow(name):
    for images in IMAGES.values():
        result = graph_result(given(images, name, 33), name, 33, portable=True)
        assert_close(result, name, expected(images, name, 33))


@pytest.mark.parametrize("name", ["torchvision", "vgg"])
def test_sizes_that_depend_on_rounding(name):
    """Sides are scaled to whole numbers, where a division that is a little off would move the crop by a pixel."""
    with tf.Graph().as_default(), v1.Session() as session:
        placeholder = v1.placeholder(tf.uint8, [None, None, None, 3])
        result = preprocess(placeholder, name, 7, portable=True)
        for short in range(1, 33):
            images = noise(1, short, 1 + short * 5 // 2, 3)
            for batch in (images, images.swapaxes(1, 2)):
                assert_close(session.run(result, {placeholder: batch}), name, preprocessed(batch, name, 7))


def test_images_of_unknown_channels():
    with tf.Graph().as_default():
        images = v1.placeholder(tf.uint8, [None, None, None, None])
        with pytest.raises(ValueError, match="portable=True requires images with a known number of channels"):
            preprocess(images, "cifar", 32, portable=True)


def test_none_of_another_size():
    with pytest.raises(tf.errors.InvalidArgumentError):
        graph_result(np.zeros([2, 66, 66, 3], np.float32), "none", 33, portable=True)
