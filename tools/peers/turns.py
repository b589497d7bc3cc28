"""Runs engines in turns on the same network: checks that they agree, and times each."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import NamedTuple, TypeVar

import numpy as np

from tools.errors import PeerError
from tools.peers import OURS, get_engine, missing_packages, precision_of
from tools.peers.problem import Problem
from tools.peers.processes import WorkerProcess

__all__ = ["Comparison", "EngineRun", "compare", "orders"]

# Upper bound of the difference between an engine's outputs and ours, relative to the largest absolute value of ours, or
# to the size of the logits' terms if that is larger. In float32 engines sum in other orders, and fold batch norms into
# convolutions: this makes about 1e-5 after 50 layers, and more if activations grow from unit to unit. A padding on the
# wrong side or another epsilon makes a percent or more.
_TOLERANCE = 1e-3

# Name of our own outputs in float32, if the problem's precision is another.
_REFERENCE = "reference"

# Seconds between two turns. After a step an engine's threads look for more work for a while, which slows the next
# engine: ONNX Runtime's for 25 ms, PyTorch's (GNU OpenMP) for 6 ms, TensorFlow's and OpenVINO's for less than 1 ms.
_PAUSE = 0.05

Name = TypeVar("Name")


class EngineRun(NamedTuple):
    """The run of one engine.

    version: version of the engine; None if its setup failed.
    setup_seconds: seconds from the start of its process to its first outputs, including the conversion of the graph if
      it was the first to require it; None if its setup failed.
    durations: seconds of every counted step, one a round; empty if it was refused.
    largest_difference: largest absolute difference of its outputs from ours in float32; None without outputs. For our
      own engine it is the error of a lower precision.
    relative_difference: the same, relative to the largest absolute value of ours, or to the problem's ``logit_size`` if
      that is larger.
    refused: sentence that says why it was not timed; None if it was.
    """

    name: str
    version: str | None = None
    setup_seconds: float | None = None
    durations: tuple[float, ...] = ()
    largest_difference: float | None = None
    relative_difference: float | None = None
    refused: str | None = None


class Comparison(NamedTuple):
    """The runs of all engines.

    runs: by the engines' names, ours first.
    interrupted: whether Ctrl-C ended it before the last round; the earlier rounds are complete.
    """

    runs: dict[str, EngineRun]
    interrupted: bool

    def ratios(self, name: str) -> list[float]:
        """Returns the engine's durations divided by ours, round by round. Above 1, ours is faster."""
        pairs = zip(self.runs[name].durations, self.runs[OURS].durations, strict=False)
        return [theirs / ours for theirs, ours in pairs]


def compare(
    problem: Problem,
    engines: Sequence[str],
    *,
    steps: int = 100,
    burn_in: int = 10,
    on_step: Callable[[int], None] | None = None,
    on_setup: Callable[[str], None] | None = None,
) -> Comparison:
    """Times engines against ours. Each has a process of its own, and they take turns, one step at a time.

    An engine is refused, and the others continue without it, if its setup fails, if its outputs differ from ours in
    float32, or if its process ends before the last round.

    Args:
      problem: the problem to compute.
      engines: names of engines; ours is always included.
      steps: number of counted rounds. Each round times one computation of every engine, after 20 ms of computations
        that warm up its threads and caches.
      burn_in: number of rounds before them that do not count.
      on_step: called with 1 after each of the ``burn_in + steps`` rounds.
      on_setup: called with an engine's name before its setup.

    Returns:
      The run of each engine. After Ctrl-C it holds the complete rounds.

    Raises:
      PeerError: for an unknown engine, fewer than 1 step or 0 burn-in rounds, or if our own engine fails.
    """
    if steps < 1 or burn_in < 0:
        raise PeerError(f"steps must be at least 1 and burn_in at least 0, but are {steps} and {burn_in}.")
    for name in engines:
        get_engine(name)
    runs = {name: EngineRun(name) for name in dict.fromkeys([OURS, *engines])}
    _save_reference(problem)
    with ExitStack() as stack:
        workers: dict[str, WorkerProcess] = {}
        for name in runs:
            if on_setup:
                on_setup(name)
            runs[name], worker = _set_up(stack, problem, name)
            if worker:
                workers[name] = worker
            elif name == OURS:
                raise PeerError(runs[name].refused)
        durations, failures, interrupted = _take_turns(workers, steps, burn_in, on_step)
    for name in workers:
        if name in failures:
            runs[name] = runs[name]._replace(refused=failures[name])
        else:
            runs[name] = runs[name]._replace(durations=tuple(durations[name]))
    return Comparison(runs, interrupted)


def orders(names: Sequence[Name]) -> Iterator[list[Name]]:
    """Yields orders of the names without end, in which each name directly follows every other equally often.

    In a rotation each name would always follow the same one. These are the rows of a balanced Latin square
    (E. J. Williams, "Experimental designs balanced for the estimation of residual effects of treatments", 1949); for an
    odd number of names each row also comes backwards.
    """
    count = len(names)
    zigzag = [(i + 1) // 2 if i % 2 else -i // 2 for i in range(count)]
    while True:
        for shift in range(count):
            row = [names[(shift + i) % count] for i in zigzag]
            yield row
            if count % 2:
                yield row[::-1]


def _save_reference(problem: Problem) -> None:
    """Saves our own outputs in float32, if our own engine computes in another precision.

    bfloat16 keeps 8 bits, and after 50 layers perhaps one, which is too little to recognize another function.
    """
    if problem.precision != "float32":
        with WorkerProcess(OURS, problem.folder, precision="float32") as worker:
            worker.wait_until_ready()
        problem.outputs_file(OURS).replace(problem.outputs_file(_REFERENCE))


def _set_up(stack: ExitStack, problem: Problem, name: str) -> tuple[EngineRun, WorkerProcess | None]:
    """Returns an engine's run and its process; None in place of the process if the engine is refused."""
    run = EngineRun(name)
    if missing := missing_packages(name):
        return run._replace(refused=f"{name} requires {', '.join(missing)}: pip install 'slimnets[peers]'."), None
    start = time.perf_counter()
    worker = stack.enter_context(WorkerProcess(name, problem.folder))
    try:
        version = worker.wait_until_ready()
    except PeerError as error:
        return run._replace(refused=str(error)), None
    run = run._replace(version=version, setup_seconds=time.perf_counter() - start)
    run = _compared(run, problem)
    if run.refused:
        worker.close()
        return run, None
    return run, worker


def _compared(run: EngineRun, problem: Problem) -> EngineRun:
    """Returns the run with its difference from our outputs. It is refused if the difference is too large."""
    reference = OURS if problem.precision == "float32" else _REFERENCE
    ours, theirs = (np.load(problem.outputs_file(name)).astype(np.float64) for name in (reference, run.name))
    largest = float(np.abs(ours).max())
    if not 0 < largest < np.inf:
        return run._replace(refused="Our own outputs are zeros or not finite, so nothing can be compared with them.")
    if ours.size != theirs.size:
        return run._replace(refused=f"Its outputs have the shape {list(theirs.shape)}, and ours {list(ours.shape)}.")
    # tf_slim's logits have two more axes of size 1.
    difference = float(np.abs(theirs.reshape(ours.shape) - ours).max())
    scale = max(largest, problem.logit_size)
    run = run._replace(largest_difference=difference, relative_difference=difference / scale)
    # A lower precision is what it was asked for: its difference is reported. "not" also refuses what is not a number.
    if run.name != OURS and precision_of(run.name) == "float32" and not difference <= _TOLERANCE * scale:
        reason = (
            f"It computes something else: its outputs differ from ours by up to {difference / scale:.2g} "
            f"of the largest, and {_TOLERANCE:g} is allowed."
        )
        return run._replace(refused=reason)
    return run


def _take_turns(
    workers: dict[str, WorkerProcess], steps: int, burn_in: int, on_step: Callable[[int], None] | None
) -> tuple[dict[str, list[float]], dict[str, str], bool]:
    """Returns the durations of the complete counted rounds, the reasons of failed engines, and if Ctrl-C ended them."""
    rounds: list[dict[str, float]] = []
    failures: dict[str, str] = {}
    interrupted = False
    order = orders(list(workers))
    try:
        for i in range(-burn_in, steps):
            seconds = {}
            for name in next(order):
                if name in failures:
                    continue
                time.sleep(_PAUSE)
                try:
                    seconds[name] = workers[name].step()
                except PeerError as error:
                    if name == OURS:
                        raise
                    failures[name] = str(error)
            if i >= 0:
                rounds.append(seconds)
            if on_step:
                on_step(1)
    except KeyboardInterrupt:
        interrupted = True
    durations = {name: [seconds[name] for seconds in rounds] for name in workers if name not in failures}
    return durations, failures, interrupted
