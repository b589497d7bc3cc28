"""Networks to export, and what exported files compute when their runtimes load them as users do."""

import contextlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from checkpoints.names import is_logits
from nets import endpoint_info, nets_factory
from nets.nets_factory import Network
from tests.helpers.corpus import save_v2
from tests.helpers.float64 import Reference, references
from tests.helpers.numpy_preprocessing import preprocessed
from tests.helpers.reference import assign
from tools.export import Export, exporting, proof, worker
from tools.runtime.random_weights import assign_random_weights, random_images

__all__ = ["KERAS", "TARGETS", "expected", "in_one_process", "opened", "pictures", "random_checkpoint"]

v1 = tf.compat.v1

# Name of a format → a name of its files. All take pixels.
TARGETS = {
    "saved_model": "network",
    "pb": "network.pb",
    "tflite": "network.tflite",
    "onnx": "network.onnx",
    "openvino": "network.xml",
}

# A Keras model takes the network's input.
KERAS = {"keras": "network.keras"}


def pictures(count: int, height: int, width: int, *, seed: int = 0) -> np.ndarray:
    """Returns images of random patches, uint8 [count, height, width, 3]."""
    values = random_images([count, height, width, 3], "inception", seed)
    return np.rint(127.5 * (values + 1)).astype(np.uint8)


def random_checkpoint(
    path: Path, name: str, size: int, *, num_classes: int | None = None, channels: int | None = None
) -> Path:
    """Writes random weights of a network, and moving statistics as training would leave them; returns ``path``.

    The last layers of residual branches are scaled by the root of their number, so that the network is as smooth as a
    trained one (S. De, S. Smith, arXiv:2002.10444). Otherwise rounding grows from unit to unit.
    """
    network = nets_factory.get_network(name)
    channels = channels or network.channels
    with tf.Graph().as_default(), v1.Session() as session:
        images, outputs = _built(name, size, network.num_classes if num_classes is None else num_classes, channels)
        last = outputs[list(outputs)[-1]]
        variables = v1.global_variables()
        names = [each.op.name for each in variables]
        inputs = random_images([8, size, size, channels], network.preprocessing)
        assign_random_weights(session, images, last, inputs, scales=_scales(names, network))
        return save_v2(path, dict(zip(names, session.run(variables), strict=True)))


def _scales(names: Sequence[str], network: Network) -> dict[str, float]:
    """Returns a factor for the last layer of each residual branch, by the name of its variable."""
    if network.variant is None:
        return {}  # there are none
    last = "conv3" if network.variant.bottleneck else "conv2"
    # Of a convolution before a batch norm no scale is left.
    found = [name for name in names if name.endswith(f"/{last}/BatchNorm/gamma")]
    found = found or [name for name in names if name.endswith((f"/{last}/weights", f"/{last}/DW"))]
    assert found
    return dict.fromkeys(found, len(found) ** -0.5)


def _built(name: str, size: int, num_classes: int, channels: int) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
    images = v1.placeholder(tf.float32, [None, size, size, channels])
    return images, nets_factory.get_network_fn(name, num_classes)(images)[1]


def expected(
    checkpoint: Path,
    name: str,
    points: Sequence[str],
    images: Sequence[np.ndarray],
    size: int,
    *,
    preprocessing: str | None = None,
) -> list[dict[str, Reference]]:
    """Computes end points by TensorFlow's reader of checkpoints, a plain graph, and preprocessing in NumPy.

    Args:
      checkpoint: a V2 bundle of all variables of the network, under their names.
      name: of the network.
      points: aliases of end points.
      images: batches, uint8 [N, height, width, 3].
      size: height and width of the network's input.
      preprocessing: of the input; None for the network's usual one.

    Returns:
      For each batch the values by the aliases.
    """
    network = nets_factory.get_network(name)
    stored = tf.train.load_checkpoint(str(checkpoint))
    shapes = stored.get_variable_to_shape_map()
    classes = next((shape[-1] for key, shape in shapes.items() if is_logits(key) and "bias" in key), 0)
    channels = 1 if preprocessing == "grayscale" else network.channels
    with tf.Graph().as_default(), v1.Session() as session:
        fed, outputs = _built(name, size, classes, channels)
        assign(session, {key: stored.get_tensor(key) for key in shapes})
        described = endpoint_info.describe(fed, outputs, points)
        tensors = {name: point.tensor for name, point in zip(points, described, strict=True)}
        inputs = [preprocessed(batch, preprocessing or network.preprocessing, size) for batch in images]
        computed = [references(session, tensors, {fed: batch}) for batch in inputs]
    # Exported files drop the axes of size 1 after the batch.
    return [
        {name: one.reshape([len(one.double), *(n for n in one.shape[1:] if n > 1)]) for name, one in batch.items()}
        for batch in computed
    ]


@contextlib.contextmanager
def in_one_process(written: Export | None = None) -> Iterator[None]:
    """Makes an export write and run files in this process, which saves two processes that import TensorFlow.

    Args:
      written: an export with the same arguments, whose files are copied; None to write the files anew.
    """

    def run_worker(task: str, folder: Path, target: Path) -> None:
        if task == "run" or written is None:
            assert worker.main([task, str(folder), str(target)]) == 0
        elif Path(written.target).is_dir():
            shutil.copytree(written.target, target)
        else:
            for name in written.files:
                shutil.copy(Path(written.target).with_name(name), target.with_name(name))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exporting, "run_worker", run_worker)
        patch.setattr(proof, "run_worker", run_worker)
        yield


Computes = Callable[[np.ndarray], Mapping[str, np.ndarray]]


def opened(target: Path) -> Computes:
    """Loads an exported file as its users do, and returns a function from the input to the outputs by their names."""
    return _OPENERS[target.suffix](target)


def _open_saved_model(target: Path) -> Computes:
    loaded = tf.saved_model.load(str(target))
    signature = loaded.signatures["serving_default"]
    (name,) = signature.structured_input_signature[1]
    # The function holds ``loaded``, without which the tables and variables of a model are gone.
    return lambda images, loaded=loaded: {
        key: value.numpy() for key, value in signature(**{name: tf.constant(images)}).items()
    }


def _open_graph(target: Path) -> Computes:
    beside = json.loads(target.with_name(f"{target.name}.slimnets.json").read_text(encoding="utf-8"))
    with tf.Graph().as_default() as graph:
        tf.graph_util.import_graph_def(v1.GraphDef.FromString(target.read_bytes()), name="")
    names = {output["name"]: output["tensor"] for output in beside["outputs"]}

    def run(images: np.ndarray) -> dict[str, np.ndarray]:
        with v1.Session(graph=graph) as session:
            return session.run(names, {beside["images"]["tensor"]: images})

    return run


def _open_tflite(target: Path) -> Computes:
    runner = tf.lite.Interpreter(str(target)).get_signature_runner()
    (name,) = runner.get_input_details()
    return lambda images: runner(**{name: images})


def _open_onnx(target: Path) -> Computes:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(target), providers=["CPUExecutionProvider"])
    (fed,) = session.get_inputs()
    names = [output.name for output in session.get_outputs()]
    return lambda images: dict(zip(names, session.run(None, {fed.name: images}), strict=True))


def _open_keras(target: Path) -> Computes:
    import keras

    model = keras.models.load_model(target)
    return lambda images: {
        name: np.asarray(value) for name, value in model(images.astype(np.float32), training=False).items()
    }


def _open_openvino(target: Path) -> Computes:
    import openvino

    # Its default is bfloat16 on processors that have it.
    compiled = openvino.compile_model(str(target), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    (fed,) = compiled.inputs

    def run(images: np.ndarray) -> dict[str, Any]:
        computed = compiled({fed.any_name: images})
        return {output.any_name: np.array(computed[output]) for output in compiled.outputs}

    return run


_OPENERS = {
    "": _open_saved_model,
    ".pb": _open_graph,
    ".tflite": _open_tflite,
    ".onnx": _open_onnx,
    ".xml": _open_openvino,
    ".keras": _open_keras,
}
