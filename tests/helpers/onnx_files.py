"""Converts every frozen graph of a folder to ONNX: ``python -P onnx_files.py FOLDER``.

In a process of its own, because tf2onnx brings a folder ``tools`` that must not be found instead of ours. Each
``NAME.pb`` has an input ``images`` and an output ``result``, and becomes ``NAME.onnx``.
"""

import sys
from pathlib import Path

import tensorflow as tf
import tf2onnx

if __name__ == "__main__":
    for file in sorted(Path(sys.argv[1]).glob("*.pb")):
        graph_def = tf.compat.v1.GraphDef.FromString(file.read_bytes())
        tf2onnx.convert.from_graph_def(
            graph_def, None, ["images:0"], ["result:0"], output_path=file.with_suffix(".onnx")
        )
