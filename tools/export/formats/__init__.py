"""The table of the formats that networks are exported to.

One format a file, with two functions that the processes of ``tools.export.worker`` call::

    write(folder: Path, description: Description, target: Path) -> None
    load(target: Path, description: Description) -> Callable[[images], dict[name, values]]

``load`` runs what users have: it imports the runtime, and nothing of slimnets' networks or checkpoints. Nothing in this
file imports TensorFlow or a runtime, so that listing the formats takes no time.
"""

import importlib.util
from pathlib import Path
from typing import NamedTuple

from tools.errors import InputError

__all__ = ["FORMATS", "Format", "format_of", "missing_packages"]


class Format(NamedTuple):
    """One format.

    name: name of the format.
    ending: how the name of its file ends; '' for a folder.
    module: module in ``tools.export.formats`` that writes and loads it.
    packages: packages that this requires besides TensorFlow.
    inputs: kinds of input that it can have.
    dtypes: precisions that it can have.
    portable: whether its runtime lacks ops of TensorFlow's, so that the preprocessing must do without them, and labels
      cannot be an output.
    usage: three lines of Python that load and call it, for ``str.format`` with ``target`` and the fields of the
      description's ``images`` and ``outputs``.
    int8_packages: packages that int8 requires besides.
    classes: whether the most probable classes can be among its outputs.
    weights_ending: ending of a second file, beside the first, that holds the weights; '' if there is none.
    int8_batch: number of images in a batch with int8, unless another one is asked for; None for any.
    """

    name: str
    ending: str
    module: str
    packages: tuple[str, ...]
    inputs: tuple[str, ...]
    dtypes: tuple[str, ...]
    portable: bool
    usage: str
    int8_packages: tuple[str, ...] = ()
    classes: bool = True
    weights_ending: str = ""
    int8_batch: int | None = None


_ENCODED = ("pixels", "encoded", "network")
_PIXELS = ("pixels", "network")

FORMATS: dict[str, Format] = {
    made.name: made
    for made in (
        Format(
            name="saved_model",
            ending="",
            module="saved_model_format",
            packages=(),
            inputs=_ENCODED,
            dtypes=("float32",),
            portable=False,
            usage="import tensorflow as tf\n"
            'network = tf.saved_model.load({target!r}).signatures["serving_default"]\n'
            "outputs = network({images}=tf.constant(images))",
        ),
        Format(
            name="pb",
            ending=".pb",
            module="graph_format",
            packages=(),
            inputs=_ENCODED,
            dtypes=("float32",),
            portable=False,
            usage="import pathlib, tensorflow.compat.v1 as tf; "
            "graph_def = tf.GraphDef.FromString(pathlib.Path({target!r}).read_bytes())\n"
            'network = tf.wrap_function(lambda: tf.import_graph_def(graph_def, name=""), [])'
            ".prune({tensor!r}, {tensors!r})\n"
            "outputs = network(tf.constant(images))",
        ),
        Format(
            name="tflite",
            ending=".tflite",
            module="tflite_format",
            packages=(),
            inputs=_PIXELS,
            dtypes=("float32", "float16", "int8"),
            portable=True,
            usage="import tensorflow as tf\n"
            "network = tf.lite.Interpreter({target!r}).get_signature_runner()\n"
            "outputs = network({images}=images)",
        ),
        Format(
            name="onnx",
            ending=".onnx",
            module="engine_format",
            packages=("onnx", "onnxruntime", "tf2onnx"),
            inputs=_PIXELS,
            dtypes=("float32", "int8"),
            portable=True,
            usage="import onnxruntime\n"
            "network = onnxruntime.InferenceSession({target!r})\n"
            'outputs = network.run({names!r}, {{"{images}": images}})',
        ),
        Format(
            name="openvino",
            ending=".xml",
            weights_ending=".bin",
            # With int8 and any number of images, OpenVINO 2026.4 computes batches of one image wrongly on a processor
            # with AMX.
            int8_batch=1,
            module="engine_format",
            packages=("openvino",),
            int8_packages=("nncf",),
            inputs=_PIXELS,
            dtypes=("float32", "float16", "int8"),
            portable=True,
            # OpenVINO's default is bfloat16 on processors that have it.
            usage="import openvino\n"
            'network = openvino.compile_model({target!r}, "CPU", {{"INFERENCE_PRECISION_HINT": "f32"}})\n'
            'outputs = network({{"{images}": images}})',
        ),
        Format(
            name="keras",
            ending=".keras",
            module="keras_format",
            packages=(),
            classes=False,
            inputs=("network",),
            dtypes=("float32",),
            portable=True,
            usage="import keras\n"
            "network = keras.models.load_model({target!r})\n"
            "outputs = network(images, training=False)",
        ),
    )
}


def format_of(target: str | Path, name: str | None) -> Format:
    """Returns the format of a target, by the name of a format or else by the target's ending.

    Raises:
      InputError: for an unknown format or ending, or an ending of another format.
    """
    path = Path(target)
    endings = {made.ending: made for made in FORMATS.values() if made.ending}
    known = ", ".join(f"{ending} ({made.name})" for ending, made in endings.items())
    by_ending = endings.get(path.suffix.lower())
    if name is not None:
        if name not in FORMATS:
            raise InputError(f"format must be one of {', '.join(FORMATS)}, but is {name!r}.")
        made = FORMATS[name]
        if made is not by_ending and (made.ending or by_ending):
            what = f"end in {made.ending}" if made.ending else "be that of a folder"
            raise InputError(f"{path} is not a name for format={name!r}: its name must {what}.")
        return made
    if by_ending is None and path.suffix:
        raise InputError(
            f"{path} has the unknown ending {path.suffix}: there is {known}, and a name without an ending for a folder "
            "with a SavedModel; format='saved_model' takes any name."
        )
    return by_ending or FORMATS["saved_model"]


def missing_packages(made: Format, dtype: str) -> list[str]:
    """Returns the packages that a format requires for a precision, and that are not installed."""
    packages = (*made.packages, *(made.int8_packages if dtype == "int8" else ()))
    return [package for package in packages if importlib.util.find_spec(package) is None]
