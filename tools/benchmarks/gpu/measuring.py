"""Measures settings in turns with their peers, each in a process of its own."""

import itertools
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, Self

from tools.benchmarks.figures import Figure, in_turns
from tools.benchmarks.gpu import settings
from tools.benchmarks.gpu.settings import OUT_OF_MEMORY, Group, Setting
from tools.benchmarks.replicas import save_images
from tools.errors import PeerError
from tools.peers.processes import AnsweringProcess
from tools.runtime.processes import module_command

__all__ = ["gpu_files", "gpu_forward", "gpu_headline", "gpu_train", "measure", "worker_command"]

_FILES = 2000


def gpu_headline(rounds: int) -> list[Figure]:
    """Measures forward passes of ResNet-152 v2 in batches of 32."""
    return measure(settings.headline(), rounds)


def gpu_forward(rounds: int) -> list[Figure]:
    """Measures forward passes of ResNet-50 v2 in batches of 1 to 256."""
    return measure(settings.forward(), rounds)


def gpu_train(rounds: int) -> list[Figure]:
    """Measures training steps of ResNet-50 v2."""
    return measure(settings.train(), rounds)


def gpu_files(rounds: int) -> list[Figure]:
    """Measures the way from JPEG files to features of ResNet-50 v2."""
    with tempfile.TemporaryDirectory() as name:
        images = Path(name) / "images"
        save_images(images, _FILES)
        return measure(settings.files(str(images)), rounds)


def measure(groups: Sequence[Group], rounds: int) -> list[Figure]:
    """Measures images/s of every setting of the groups, against the base of its group.

    If a setting fails, as a batch does that does not fit into the GPU's memory, its figure says why, and the others
    continue. At most two processes use the GPU at a time. A setting that does not fit beside its base is measured
    alone, without a ratio.
    """
    figures = []
    with tempfile.TemporaryDirectory() as folder:
        for group in groups:
            with _Base(group.base, Path(folder)) as base:
                measured = [_against(base, setting, rounds, Path(folder)) for setting in group.others]
                figures += [base.figure(rounds), *measured]
    return figures


class _Run(NamedTuple):
    """The seconds a batch of a setting's turns and of its base's, and the peak of the GPU's memory in bytes."""

    here: list[float]
    base: list[float]
    memory: int | None


class _Process(AnsweringProcess):
    """The process of a setting."""

    _numbers = itertools.count()

    def __init__(self, setting: Setting, folder: Path) -> None:
        print(f"{setting.name} ...", file=sys.stderr, flush=True)
        own = folder / f"{next(self._numbers)}"
        own.mkdir()
        super().__init__(setting.name, worker_command(setting, own), own / "stderr.txt")

    def turn(self) -> float:
        """Returns the seconds a batch of a turn. Raises PeerError if the process fails."""
        return self.ask("turn")["seconds"]

    def memory(self) -> int | None:
        """Returns the peak of the GPU's memory during the turns, in bytes; None for a processor."""
        return self.ask("memory")["peak"]


def worker_command(setting: Setting, folder: Path) -> list[str]:
    """Returns the command of a setting's process."""
    return module_command("tools.benchmarks.gpu.worker", setting.to_json(), folder)


class _Base:
    """The base of a group. Its process starts when it is wanted, and again after it has failed or made room."""

    def __init__(self, setting: Setting, folder: Path) -> None:
        self.setting = setting
        self._folder = folder
        self._process: _Process | None = None
        self._seconds: list[float] = []
        self._memory: int | None = None
        self._failure = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def start(self) -> Callable[[], float] | None:
        """Returns the function that takes a turn; None if the base has failed before, or does now."""
        if self._process is None and not self._failure:
            self._process = _Process(self.setting, self._folder)
            try:
                self._process.first_answer()
            except PeerError as error:
                self._failure = str(error)
                self.close()
        return self._process.turn if self._process else None

    def close(self) -> None:
        if self._process is not None:
            self._process.close()
            self._process = None

    def add(self, seconds: list[float]) -> None:
        """Adds the turns of one pair."""
        self._seconds += seconds
        self._memory = self._process.memory()

    def figure(self, rounds: int) -> Figure:
        """Returns the figure of the base itself, which has no ratio. If nothing took turns with it, it runs alone."""
        if not self._seconds and (turn := self.start()):
            self.add(in_turns({"base": turn}, rounds)["base"])
        return _figure(self.setting, _Run(self._seconds, [], self._memory), self._failure)


def _against(base: _Base, setting: Setting, rounds: int, folder: Path) -> Figure:
    """Returns the figure of a setting."""
    try:
        run = _run(base.start(), setting, rounds, folder)
        if run.base:
            base.add(run.base)
    except PeerError as error:
        # Either of the two may have failed.
        base.close()
        if str(error) != OUT_OF_MEMORY:
            return _figure(setting, None, str(error))
        try:
            run = _run(None, setting, rounds, folder)
        except PeerError as alone:
            return _figure(setting, None, str(alone))
    return _figure(setting, run)


def _run(turn_of_base: Callable[[], float] | None, setting: Setting, rounds: int, folder: Path) -> _Run:
    """Measures a setting in turns with its base, or alone. Raises PeerError if one of the two fails."""
    with _Process(setting, folder) as process:
        process.first_answer()
        measured = {"here": process.turn} | ({"base": turn_of_base} if turn_of_base else {})
        seconds = in_turns(measured, rounds)
        return _Run(seconds["here"], seconds.get("base", []), process.memory())


def _figure(setting: Setting, run: _Run | None, failure: str = "") -> Figure:
    if run is None or failure:
        return Figure(setting.name, "images/s", [], [], failure=failure)
    here, base = ([setting.batch_size / seconds for seconds in values] for values in (run.here, run.base))
    return Figure(setting.name, "images/s", here, base, batch_size=setting.batch_size, memory=run.memory)
