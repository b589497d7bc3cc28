"""Figures of the README: ``python -m tools.benchmarks [build|first-feature|inspect|memory ...]``.

Each is a ratio against a peer, or against itself, with the two taking turns in one run; the median of the ratios pair
by pair, and their spread. Run it on a quiet machine.
"""

import argparse
import importlib.metadata
import itertools
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from tools.startup import import_tensorflow
from tools.tables import print_table

__all__ = ["main"]

# What each figure should be at most; reported beside it, and never asserted.
_TARGETS = {"build": 0.35, "first-feature": 0.7, "inspect": 1.5, "check": 3.0, "memory": 1.05}


def machine() -> str:
    """The processor, the number of cores, and the versions that matter."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("tf-slim", "numpy"))
    tensorflow = sys.modules["tensorflow"].__version__
    cores = len(os.sched_getaffinity(0))
    python = platform.python_version()
    return f"{model or platform.processor()}, {cores} cores; Python {python}, TensorFlow {tensorflow}, {versions}"


def _in_turns(ours: Callable[[], float], theirs: Callable[[], float], rounds: int) -> list[tuple[float, float]]:
    """Measures the two in turns, after one round that does not count."""
    return [(ours(), theirs()) for _ in range(rounds + 1)][1:]


def _row(figure: str, pairs: Sequence[tuple[float, float]], unit: str) -> list[object]:
    ratios = sorted(one / other for one, other in pairs)
    ours, theirs = (statistics.median(values) for values in zip(*pairs, strict=True))
    return [
        figure,
        len(pairs),
        f"{ours:.2f} {unit}",
        f"{theirs:.2f} {unit}",
        f"{statistics.median(ratios):.3f}",
        f"{ratios[0]:.3f} to {ratios[-1]:.3f}",
        f"{_TARGETS[figure.partition(' ')[0]]:.2f}",
    ]


# Building a graph: ours against tf_slim's, in one process.


def _build_seconds(builder: Callable, scope: Callable) -> float:
    import tensorflow as tf

    with tf.Graph().as_default():
        images = tf.compat.v1.placeholder(tf.float32, [None, 224, 224, 3])
        with scope():
            start = time.perf_counter()
            builder(images, 1001, is_training=False)
            return time.perf_counter() - start


def build(rounds: int) -> list[list[object]]:
    """Seconds to build the graphs of the two deepest networks, all collections kept, against tf_slim's own."""
    import tf_slim as slim

    from nets import resnet_v2
    from tools.slim_reference import tf_slim_builder, tf_slim_scope

    rows = []
    for name in ("resnet_v2_152", "resnet_v2_200"):
        pairs = _in_turns(
            lambda name=name: _build_seconds(
                getattr(resnet_v2, name), lambda: slim.arg_scope(resnet_v2.resnet_arg_scope())
            ),
            lambda name=name: _build_seconds(tf_slim_builder(name), tf_slim_scope),
            rounds,
        )
        rows.append(_row(f"build {name}", pairs, "s"))
    return rows


# From process start to the first feature: ours against a plain slim script.


def _plain_slim_script(checkpoint: str, image: str) -> None:
    """Build, initialize, restore, run: as users of tf_slim write it."""
    import tensorflow as tf

    from tools.slim_reference import tf_slim_builder, tf_slim_scope

    v1 = tf.compat.v1
    with tf.Graph().as_default():
        picture = tf.io.decode_jpeg(tf.io.read_file(image), channels=3)
        picture = tf.image.central_crop(tf.image.convert_image_dtype(picture, tf.float32), 0.875)
        picture = tf.raw_ops.ResizeBilinear(images=picture[tf.newaxis], size=[299, 299])
        picture = tf.ensure_shape((picture - 0.5) * 2.0, [1, 299, 299, 3])
        with tf_slim_scope():
            tf_slim_builder("resnet_v2_50")(picture, 1001, is_training=False)
        features = v1.get_default_graph().get_tensor_by_name("resnet_v2_50/pool5:0")
        with v1.Session() as session:
            session.run(v1.global_variables_initializer())
            v1.train.Saver().restore(session, checkpoint)
            print(session.run(features).ravel()[:5], flush=True)


def _seconds_to_first_line(*command: str) -> float:
    """Until the process prints its first line; what it does to end is not waited for."""
    start = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, *command], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        line = process.stdout.readline()
        seconds = time.perf_counter() - start
    if not line or process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}")
    return seconds


def first_feature(rounds: int) -> list[list[object]]:
    """Seconds from process start to global_pool of one image: ``slimnets features``, which has written it to its file
    by then, against a plain slim script, which prints it."""
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = _save_resnet_50(Path(folder))
        image = _save_images(Path(folder) / "images", 1)[0]
        outputs = (str(Path(folder) / f"features-{i}") for i in itertools.count())
        options = ["--checkpoint", checkpoint, "--end-points", "global_pool", "--output"]
        script = "from tools.benchmarks import _plain_slim_script as run; import sys; run(*sys.argv[1:])"
        pairs = _in_turns(
            lambda: _seconds_to_first_line("-m", "tools", "features", image, *options, next(outputs)),
            lambda: _seconds_to_first_line("-c", script, checkpoint, image),
            rounds,
        )
    return [_row("first-feature resnet_v2_50", pairs, "s")]


# What a checkpoint is: against importing TensorFlow.


def _seconds_to_end(*command: str) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
    return time.perf_counter() - start


def inspect(rounds: int) -> list[list[object]]:
    """Seconds of ``slimnets inspect`` on a V1 file of 100 MB, and with ``--check``, against ``import tensorflow``."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = _save_resnet_50(Path(folder), "V1")
        for figure, options in (("inspect", []), ("check", ["--check"])):
            pairs = _in_turns(
                lambda options=options: _seconds_to_end("-m", "tools", "inspect", checkpoint, *options),
                lambda: _seconds_to_end("-c", "import tensorflow"),
                rounds,
            )
            rows.append(_row(f"{figure} {Path(checkpoint).stat().st_size / 1e6:.0f} MB", pairs, "s"))
    return rows


# Peak memory of many images: against that of few.


def _peak_megabytes(checkpoint: str, images: Path, end_point: str, output: Path) -> float:
    command = [sys.executable, "-m", "tools", "features", str(images), "--checkpoint", checkpoint]
    command += ["--end-points", end_point, "--output", str(output), "--image-size", "224"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}")
    return usage.ru_maxrss / 1024


def memory(rounds: int) -> list[list[object]]:
    """Peak resident megabytes of ``slimnets features`` on 2,000 images, against 200."""
    del rounds  # One run of 2,000 images takes minutes, and its peak is the highest of all its steps.
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = _save_resnet_50(Path(folder))
        few, many = Path(folder) / "few", Path(folder) / "many"
        _save_images(few, 200)
        _save_images(many, 2000)
        for end_point in ("global_pool", "block3"):
            peaks = [
                _peak_megabytes(checkpoint, images, end_point, Path(folder) / f"{end_point}-{images.name}")
                for images in (many, few)
            ]
            rows.append(_row(f"memory {end_point}", [tuple(peaks)], "MB"))
    return rows


def _save_resnet_50(folder: Path, write_version: str = "V2") -> str:
    """A ResNet-50 v2 of 1001 classes with its initial weights, and moving statistics as if it had been trained."""
    import tensorflow as tf

    from nets import nets_factory

    v1 = tf.compat.v1
    with tf.Graph().as_default():
        nets_factory.get_network_fn("resnet_v2_50", 1001)(v1.placeholder(tf.float32, [None, 224, 224, 3]))
        with v1.Session() as session:
            session.run(v1.global_variables_initializer())
            session.run([v.assign_add(v + 0.1) for v in v1.global_variables() if "/moving_" in v.op.name])
            saver = v1.train.Saver(write_version=getattr(v1.train.SaverDef, write_version))
            return saver.save(session, str(folder / "resnet_v2_50.ckpt"), write_meta_graph=False)


def _save_images(folder: Path, count: int) -> list[str]:
    """JPEG files of 500x375 with smooth random content."""
    folder.mkdir()
    generator = np.random.default_rng(0)
    paths = []
    for i in range(count):
        coarse = Image.fromarray(generator.integers(0, 256, [24, 32, 3], np.uint8))
        paths.append(str(folder / f"{i:05d}.jpg"))
        coarse.resize((500, 375), Image.Resampling.BICUBIC).save(paths[-1], quality=90)
    return paths


_BENCHMARKS = {"build": build, "first-feature": first_feature, "inspect": inspect, "memory": memory}


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.benchmarks", description=__doc__.partition(":")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"some of {', '.join(_BENCHMARKS)} (default all)")
    parser.add_argument("--rounds", type=int, default=12, help="pairs measured (default 12)")
    arguments = parser.parse_args(argv)
    if unknown := [name for name in arguments.names if name not in _BENCHMARKS]:
        parser.error(f"no benchmark {unknown[0]}: there is {', '.join(_BENCHMARKS)}")
    import_tensorflow()
    print(machine())
    rows = []
    for name in arguments.names or _BENCHMARKS:
        print(f"{name} ...", file=sys.stderr, flush=True)
        rows.extend(_BENCHMARKS[name](arguments.rounds))
    print_table(("figure", "pairs", "this", "other", "ratio (median)", "spread", "at most"), rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
