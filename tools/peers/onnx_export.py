"""Writes a problem's network as ONNX: ``python -m tools.peers.onnx_export FOLDER``.

tf2onnx imports TensorFlow, so it gets a process of its own: the engines that run the ONNX file do not need TensorFlow.
"""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tools.errors import PeerError
from tools.peers.problem import Problem
from tools.runtime.processes import module_command

__all__ = ["main", "onnx_file"]


def onnx_file(problem: Problem) -> Path:
    """Returns the network's ONNX file, which the first call converts.

    Raises:
      PeerError: if tf2onnx fails; its last line is quoted.
    """
    if problem.onnx_file.exists():
        return problem.onnx_file
    command = module_command("tools.peers.onnx_export", problem.folder)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode or not problem.onnx_file.exists():
        said = next(reversed(done.stderr.strip().splitlines()), f"exit status {done.returncode}")
        raise PeerError(f"tf2onnx could not convert the network ({said}): leave onnxruntime and openvino out.")
    return problem.onnx_file


def main(argv: Sequence[str]) -> int:
    """Converts the problem in a folder, and returns the exit status."""
    (folder,) = argv
    problem = Problem.load(folder)
    from tools.runtime.importing import import_tensorflow

    import_tensorflow()
    import tf2onnx

    # Another name at first, so that a file with the right name is always complete.
    unfinished = problem.onnx_file.with_suffix(".unfinished")
    tf2onnx.convert.from_graph_def(
        problem.graph_def(),
        input_names=[problem.images_name],
        output_names=[problem.output_name],
        output_path=os.fspath(unfinished),
    )
    unfinished.rename(problem.onnx_file)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
