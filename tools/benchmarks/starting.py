"""Measures the time before the first image: building a graph, starting a process, inspecting a checkpoint."""

import functools
import itertools
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import tensorflow as tf
import tf_slim as slim

from nets import resnet_v2
from tools.benchmarks.figures import Figure, in_turns
from tools.benchmarks.replicas import save_images, save_resnet_50
from tools.engines import installed
from tools.peers.slim_reference import tf_slim_builder, tf_slim_scope

__all__ = ["build", "first_feature", "inspect"]

v1 = tf.compat.v1

# Prints features, as a script of this library's users does.
_FROM_PYTHON = """
import sys
from tools.features import FeatureExtractor
with FeatureExtractor(sys.argv[1], "global_pool") as extractor:
    print(extractor([sys.argv[2]])["global_pool"][0, :3])
"""


def build(rounds: int) -> list[Figure]:
    """Measures the seconds to build the graphs of two deep networks, all collections included, against tf_slim's."""
    figures = []
    for name, wanted in (("resnet_v2_152", ""), ("resnet_v2_200", "at most 0.25")):
        ours = getattr(resnet_v2, name)
        seconds = in_turns(
            {
                "here": lambda ours=ours: _build_seconds(ours, lambda: slim.arg_scope(resnet_v2.resnet_arg_scope())),
                "other": lambda name=name: _build_seconds(tf_slim_builder(name), tf_slim_scope),
            },
            rounds,
        )
        figures.append(Figure(f"build {name}", "s", **seconds, wanted=wanted))
    return figures


def _build_seconds(builder: Callable, scope: Callable) -> float:
    with tf.Graph().as_default():
        images = v1.placeholder(tf.float32, [None, 224, 224, 3])
        with scope():
            start = time.perf_counter()
            builder(images, 1001, is_training=False)
            return time.perf_counter() - start


def first_feature(rounds: int) -> list[Figure]:
    """Measures the seconds from the start of a process to ``global_pool`` of one image, against a plain slim script.

    By then ``slimnets features`` has written the features to a file, and the scripts print them. With OpenVINO, an
    earlier run has made the model. The figures from Python leave out the seconds of ``import tensorflow``.
    """
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = save_resnet_50(Path(folder))
        image = save_images(Path(folder) / "images", 1)[0]
        outputs = (str(Path(folder) / f"features-{i}") for i in itertools.count())
        options = [
            "--checkpoint",
            checkpoint,
            "--end-points",
            "global_pool",
            "--engine-dir",
            str(Path(folder) / "models"),
        ]

        def command(engine: str) -> float:
            arguments = [image, *options, "--engine", engine, "--output", next(outputs)]
            return _seconds_to_first_line("-m", "tools", "features", *arguments)

        engines = ["tensorflow", *(["openvino"] if "openvino" in installed("float32") else [])]
        script = functools.partial(
            _seconds_to_first_line, "-m", "tools.benchmarks.scripts.slim_script", checkpoint, image
        )
        seconds = in_turns(
            {
                **{engine: functools.partial(command, engine) for engine in engines},
                "python": lambda: _seconds_to_first_line("-c", _FROM_PYTHON, checkpoint, image),
                "slim": script,
                "import": lambda: _seconds_to_first_line("-c", "import tensorflow; print(tensorflow.__version__)"),
            },
            rounds,
        )
    beyond = {
        name: [one - other for one, other in zip(seconds[name], seconds["import"], strict=True)]
        for name in ("python", "slim")
    }
    wanted = {"tensorflow": "at most 0.6", "openvino": "at most 0.35"}
    return [
        *(
            Figure(f"first-feature {name} resnet_v2_50", "s", seconds[name], seconds["slim"], wanted[name])
            for name in engines
        ),
        Figure(
            "first-feature from Python, beyond TensorFlow's import",
            "s",
            beyond["python"],
            beyond["slim"],
            "at most 0.5",
        ),
    ]


def _seconds_to_first_line(*command: str) -> float:
    """Returns the seconds until a process prints its first line. The end of the process does not count."""
    start = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, *command], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        line = process.stdout.readline()
        seconds = time.perf_counter() - start
    if not line or process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}")
    return seconds


def inspect(rounds: int) -> list[Figure]:
    """Measures ``slimnets inspect`` on a V1 file of 100 MB, also with ``--check``, against ``import tensorflow``."""
    figures = []
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = save_resnet_50(Path(folder), "V1")
        for name, options, wanted in (("inspect", [], "at most 1.5"), ("inspect --check", ["--check"], "at most 3")):
            seconds = in_turns(
                {
                    "here": lambda options=options: _seconds_to_end("-m", "tools", "inspect", checkpoint, *options),
                    "other": lambda: _seconds_to_end("-c", "import tensorflow"),
                },
                rounds,
            )
            figures.append(
                Figure(f"{name} {Path(checkpoint).stat().st_size / 1e6:.0f} MB", "s", **seconds, wanted=wanted)
            )
    return figures


def _seconds_to_end(*command: str) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
    return time.perf_counter() - start
