"""A file of TensorFlow Lite, ``.tflite``, whose default signature has the names of the input and the outputs."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from tools.export.description import Description
from tools.export.formats import saved_model_format
from tools.export.staging import CALIBRATION, read_batches
from tools.runtime.importing import import_tensorflow, import_tensorflow_alone
from tools.runtime.machine import release_memory

__all__ = ["load", "write"]


def write(folder: Path, description: Description, target: Path) -> None:
    """Converts the graph; int8 makes all weights and activations whole numbers."""
    import_tensorflow()
    import tensorflow as tf

    model = folder / "saved_model"
    saved_model_format.write(folder, description, model)
    release_memory()
    converter = tf.lite.TFLiteConverter.from_saved_model(str(model))
    if description.dtype != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if description.dtype == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if description.dtype == "int8":

        def images() -> Iterator[dict[str, np.ndarray]]:
            for batch in read_batches(folder / CALIBRATION):
                yield {description.images.name: batch}

        converter.representative_dataset = images
    target.write_bytes(converter.convert())


def load(target: Path, description: Description) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    """Loads the file into the interpreter, which takes images of another size with each call."""
    import_tensorflow_alone()
    import tensorflow as tf

    runner = tf.lite.Interpreter(str(target)).get_signature_runner()
    return lambda images: runner(**{description.images.name: images})
