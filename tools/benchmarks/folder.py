"""Measures the way from JPEG files to features of ResNet-50 v2, or to an evaluation: its rate, growth, and memory."""

import functools
import itertools
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

from tools.benchmarks.command import run_slimnets
from tools.benchmarks.figures import Figure, in_turns
from tools.benchmarks.replicas import save_images, save_resnet_50
from tools.errors import PeerError
from tools.evaluation import open_labelled
from tools.evaluation.evaluating import evaluate_labelled
from tools.features import FeatureExtractor, extract
from tools.features.computing import TENSORFLOW
from tools.peers import OURS
from tools.peers.engines import model_engine, slimnets_engine
from tools.peers.making import network_problem
from tools.timing import time_steps

__all__ = ["evaluation", "exhaust", "folder", "folder_extractor", "growth", "memory"]

_BATCH_SIZE, _SIZE, _FILES = 32, 224, 2000

# Number of images in the largest step, and in all steps of a turn.
_LARGEST_STEP = 64

# Number of files in a turn.
_TURN = 10 * _BATCH_SIZE

# Engine and precision → wanted images/s, as a multiple of the network's alone and of Keras'; '' for no figure wanted.
_WANTED = {
    (TENSORFLOW, "float32"): ("at least 0.92", "at least 1.5"),
    (TENSORFLOW, "bfloat16"): ("at least 0.90", "at least 2.8"),
    ("openvino", "float32"): ("at least 0.92", ""),
    ("openvino", "bfloat16"): ("at least 0.90", ""),
    ("openvino", "int8"): ("at least 0.85", "at least 3.3"),
}

# Number of turns with folders of 500 to 4,000 files, and of turns that evaluate.
_FOLDER_TURNS, _EVALUATIONS = 2, 6


def folder(rounds: int) -> list[Figure]:
    """Measures images/s from files to ``global_pool``, without start-up, and start-up itself.

    The peers are the network alone, with its images in memory, and Keras' own way, ``image_dataset_from_directory``
    and ``ResNet50V2.predict``.
    """
    figures = []
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        checkpoint = save_resnet_50(Path(name))
        paths = save_images(Path(name) / "images", _FILES)
        keras = stack.enter_context(_KerasPredict(Path(name) / "images"))
        for (engine, precision), (of_alone, of_keras) in _WANTED.items():
            what = f"folder {engine} {precision}"
            start = time.perf_counter()
            try:
                extractor = stack.enter_context(
                    folder_extractor(checkpoint, precision, engine=engine, engine_dir=Path(name))
                )
                extractor.prepare(paths)
                exhaust(extractor, paths[:_BATCH_SIZE])
                starting = time.perf_counter() - start
                alone = _network_alone(Path(name) / what, checkpoint, engine, precision)
            except (ModuleNotFoundError, PeerError, ValueError) as error:
                print(f"{what} is left out: {error}", file=sys.stderr)
                continue
            # The turns go through all files.
            turns = itertools.cycle(paths[i : i + _TURN] for i in range(0, _FILES - _TURN + 1, _TURN))
            measured = {
                "here": lambda e=extractor, t=turns: _rate(lambda: exhaust(e, next(t))),
                "alone": lambda alone=alone: _rate(lambda: [alone() for _ in range(_TURN // _BATCH_SIZE)]),
            }
            if of_keras:
                measured["keras"] = keras.rate
            rates = in_turns(measured, rounds)
            extractor.close()
            figures.append(Figure(f"{what} / network alone", "images/s", rates["here"], rates["alone"], of_alone))
            if of_keras:
                figures.append(Figure(f"{what} / Keras predict", "images/s", rates["here"], rates["keras"], of_keras))
            if engine == TENSORFLOW and of_keras:
                figures.append(Figure(f"{what} start-up / Keras predict", "s", [starting], [keras.start_up]))
    return figures


def folder_extractor(
    checkpoint: str,
    precision: str = "float32",
    batch_size: int = _BATCH_SIZE,
    *,
    engine: str = TENSORFLOW,
    engine_dir: Path | None = None,
) -> FeatureExtractor:
    """Returns the extractor that the folders are measured with."""
    options: dict[str, Any] = {"image_size": _SIZE, "batch_size": batch_size, "precision": precision}
    if engine == TENSORFLOW:
        options["freeze"] = True
    else:
        # The replicas' pictures are unlike those that int8 is for, and its agreement is not measured here.
        options |= {"engine": engine, "engine_dir": engine_dir, "min_cosine": 0.0}
    return FeatureExtractor(checkpoint, ["global_pool"], preprocessing="vgg", **options)


def exhaust(extractor: FeatureExtractor, paths: list[str]) -> None:
    """Computes the features of all files, and keeps none."""
    for batch in extractor.batches(paths):
        if any(status.error for status in batch.statuses):
            raise RuntimeError(f"{batch.statuses} hold an error")


def _rate(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return _TURN / (time.perf_counter() - start)


def _network_alone(
    folder: Path,
    checkpoint: str,
    engine: str = TENSORFLOW,
    precision: str = "float32",
    batch_size: int = _BATCH_SIZE,
) -> Callable[[], object]:
    """Returns a function that computes a batch."""
    # The names of other engines say their precision.
    ours = precision if engine == TENSORFLOW else "float32"
    options = {"checkpoint": checkpoint, "end_point": "global_pool", "precision": ours}
    problem = network_problem(folder, "resnet_v2_50", batch_size=batch_size, image_size=_SIZE, **options)
    if engine == TENSORFLOW:
        return slimnets_engine.prepare(problem, OURS).step
    return model_engine.prepare(problem, f"{engine}:{precision}").step


class _KerasPredict(AbstractContextManager):
    """The process of ``keras_predict``."""

    def __init__(self, images: Path) -> None:
        command = [sys.executable, "-m", "tools.benchmarks.scripts.keras_predict", images, str(_SIZE), str(_BATCH_SIZE)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        start = time.perf_counter()
        self._process = subprocess.Popen(command, text=True, **pipes)
        self._predict(_BATCH_SIZE)
        self.start_up = time.perf_counter() - start

    def rate(self) -> float:
        """Returns the images/s of a turn."""
        return _TURN / self._predict(_TURN)

    def _predict(self, images: int) -> float:
        print(images, file=self._process.stdin, flush=True)
        return float(self._process.stdout.readline())

    def __exit__(self, *error: object) -> None:
        with self._process:
            self._process.stdin.close()


def evaluation(rounds: int) -> list[Figure]:
    """Measures images/s of ``evaluate`` with its files, in inference, against writing the logits as features."""
    with tempfile.TemporaryDirectory() as name:
        checkpoint = save_resnet_50(Path(name))
        data, count = Path(name) / "images", itertools.count()
        for identifier in ("n01440764", "n01443537"):  # two of ImageNet's classes
            save_images(data / identifier, _TURN // 2)
        options = {"image_size": _SIZE, "batch_size": _BATCH_SIZE, "preprocessing": "vgg", "freeze": True}
        with FeatureExtractor(checkpoint, ["logits"], **options) as extractor:
            labelled = open_labelled([data], num_classes=1001)

            def evaluated() -> None:
                output = Path(name) / f"evaluation-{next(count)}"
                evaluate_labelled(extractor, labelled, output=output, figures="inference")

            def written() -> None:
                extract(labelled.inputs, Path(name) / f"features-{next(count)}", extractor)

            rates = in_turns(
                {"evaluated": lambda: _rate(evaluated), "written": lambda: _rate(written)}, min(rounds, _EVALUATIONS)
            )
    return [
        Figure("evaluation / features to logits", "images/s", rates["evaluated"], rates["written"], "at least 0.95")
    ]


def growth(rounds: int) -> list[Figure]:
    """Measures milliseconds per image in batches of 8 to 64 and folders of 500 to 4,000 files, against the smallest."""
    with tempfile.TemporaryDirectory() as name:
        checkpoint = save_resnet_50(Path(name))
        steps = {
            size: _network_alone(Path(name) / str(size), checkpoint, batch_size=size)
            for size in (8, 16, 32, _LARGEST_STEP)
        }
        in_steps = in_turns({size: functools.partial(_steps, step, size) for size, step in steps.items()}, rounds)
        paths = save_images(Path(name) / "images", 4000)
        with folder_extractor(checkpoint) as extractor:
            exhaust(extractor, paths[:_BATCH_SIZE])
            folders = {
                count: functools.partial(_milliseconds, functools.partial(exhaust, extractor, paths[:count]), count)
                for count in (500, 1000, 2000, 4000)
            }
            # A turn has 7,500 files and takes minutes.
            in_folders = in_turns(folders, min(rounds, _FOLDER_TURNS), warm_up=0)
    return [
        Figure(f"growth: {what} {size} / {smallest}, an image", "ms", values[size], values[smallest], wanted)
        for what, values, wanted in (("step of", in_steps, "0.9 to 1.1"), ("folder of", in_folders, "0.95 to 1.05"))
        for smallest, *larger in [values]
        for size in larger
    ]


def _steps(step: Callable[[], object], batch_size: int) -> float:
    """Returns milliseconds per image, in steps that have as many images in all as the largest batch.

    One step before them does not count, because the turns of other networks have filled the caches. That would cost a
    good tenth of a step of 8 images, and little of a step of 64.
    """
    timing = time_steps(step, _LARGEST_STEP // batch_size, 1)
    return 1000 * sum(timing.durations) / _LARGEST_STEP


def _milliseconds(work: Callable[[], object], images: int) -> float:
    start = time.perf_counter()
    work()
    return 1000 * (time.perf_counter() - start) / images


def memory(rounds: int) -> list[Figure]:
    """Measures the peak memory of ``slimnets features``: few images, and many, for which batch norms are folded."""
    del rounds  # one run of 3,000 images takes minutes, and its peak covers all its steps
    figures = []
    with tempfile.TemporaryDirectory() as name:
        checkpoint = save_resnet_50(Path(name))
        folders = {count: Path(name) / f"images-{count}" for count in (200, 900, 1000, 3000)}
        for count, images in folders.items():
            save_images(images, count)
        for end_point in ("global_pool", "block3"):
            peaks = {
                count: _peak_megabytes(checkpoint, images, end_point, Path(name) / f"{end_point}-{count}")
                for count, images in folders.items()
            }
            for many, few, wanted in ((900, 200, "at most 1.05"), (3000, 1000, "at most 1.05"), (1000, 900, "")):
                label = f"memory {end_point} {many} / {few} images"
                figures.append(Figure(label, "MB", [peaks[many]], [peaks[few]], wanted))
    return figures


def _peak_megabytes(checkpoint: str, images: Path, end_point: str, output: Path) -> float:
    options = ["--checkpoint", checkpoint, "--end-points", end_point, "--output", output, "--image-size", _SIZE]
    return run_slimnets("features", images, *options).peak
