"""Engines that compute the same network in turns: whether they agree, and how long each takes."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import NamedTuple, TypeVar

import numpy as np

from tools.errors import PeerError
from tools.peers import OURS, get_engine, missing_packages
from tools.peers.problem import Problem
from tools.peers.processes import WorkerProcess

__all__ = ["Comparison", "EngineRun", "compare", "orders"]

# The largest difference of an engine's outputs from ours, by the largest absolute value of ours. In float32 engines sum
# in other orders, and fold batch norms into convolutions: some 1e-5 after 50 layers, and more where activations grow
# from unit to unit. A padding on the wrong side or another epsilon is a percent and more.
_TOLERANCE = 1e-3

# Of the file of our own outputs in float32, where the problem's precision is another.
_REFERENCE = "reference"

# Seconds between two turns. The threads of the engine before look for work after a step, in the way of the next one's:
# those of ONNX Runtime for 25 ms, of PyTorch (GNU OpenMP) for 6 ms, of TensorFlow and OpenVINO for less than 1 ms.
_PAUSE = 0.05

Name = TypeVar("Name")


class EngineRun(NamedTuple):
    """What one engine did.

    version: of the engine; None if it did not get so far.
    setup_seconds: from the start of its process to its first outputs, the conversion of the graph included where it
      was the first to need it; None as above.
    durations: seconds of every step that counts, a round each; none if it was refused.
    largest_difference: of its outputs from ours in float32, absolute; None if there were none. Our own run's is what a
      lower precision of the problem costs.
    relative_difference: the same by the largest absolute value of ours.
    refused: why it was not timed, a sentence; None if it was.
    """

    name: str
    version: str | None = None
    setup_seconds: float | None = None
    durations: tuple[float, ...] = ()
    largest_difference: float | None = None
    relative_difference: float | None = None
    refused: str | None = None


class Comparison(NamedTuple):
    """What all engines did.

    runs: by the engines' names, ours first.
    interrupted: whether an interrupt ended it before the last round; the rounds before that one are all there.
    """

    runs: dict[str, EngineRun]
    interrupted: bool

    def ratios(self, name: str) -> list[float]:
        """The engine's duration by ours, round by round: more than 1 where ours is the faster one."""
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
    """Times engines against ours, each in a process of its own, a step at a time in turns.

    They are set up one after the other. Those whose outputs differ from ours in float32, whatever the problem's
    precision, or that cannot be set up or end before the last round, are refused, and the rest goes on without them.

    Args:
      problem: what to compute.
      engines: names of engines; ours is always among them.
      steps: number of rounds that count, in each of which one computation of every engine is timed, after others for
        20 ms that are not: its threads and caches have to come back from the other engines' turns.
      burn_in: number of rounds before them, which do not.
      on_step: called with 1 after each of the ``burn_in + steps`` rounds.
      on_setup: called with an engine's name before it is set up.

    Returns:
      What each did; after an interrupt in the rounds what there is.

    Raises:
      PeerError: for an unknown engine, fewer than 1 step or 0 to burn in, or if our own engine fails.
    """
    if steps < 1 or burn_in < 0:
        raise PeerError(f"steps must be at least 1 and burn_in at least 0, and are {steps} and {burn_in}.")
    runs = {get_engine(name).name: EngineRun(name) for name in dict.fromkeys([OURS, *engines])}
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
    """Orders of the names, without end, in which each comes right after every other one equally often.

    A rotation alone would leave everyone behind the same one. The rows of a balanced Latin square (E. J. Williams,
    "Experimental designs balanced for the estimation of residual effects of treatments", 1949), and for an odd number
    of names each of them backwards as well.
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
    """Saves our own outputs in float32, where our own engine is to compute in another precision.

    bfloat16 keeps 8 bits, and of 50 layers that may leave one: too little to tell another function by.
    """
    if problem.precision != "float32":
        with WorkerProcess(OURS, problem.folder, precision="float32") as worker:
            worker.wait_until_ready()
        problem.outputs_file(OURS).replace(problem.outputs_file(_REFERENCE))


def _set_up(stack: ExitStack, problem: Problem, name: str) -> tuple[EngineRun, WorkerProcess | None]:
    """An engine whose outputs are as ours, with its process; or why there is none."""
    run = EngineRun(name)
    if missing := missing_packages(name):
        return run._replace(refused=f"{name} needs {', '.join(missing)}: pip install 'slimnets[peers]'."), None
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
    """The run with its outputs' difference from ours, and refused if that is too large."""
    reference = OURS if problem.precision == "float32" else _REFERENCE
    ours, theirs = (np.load(problem.outputs_file(name)).astype(np.float64) for name in (reference, run.name))
    largest = float(np.abs(ours).max())
    if not 0 < largest < np.inf:
        return run._replace(refused="Our own outputs are zeros or not finite: there is nothing to agree with.")
    if ours.size != theirs.size:
        return run._replace(refused=f"Its outputs are {list(theirs.shape)}, and ours {list(ours.shape)}.")
    # tf_slim's logits have two axes of 1 more.
    difference = float(np.abs(theirs.reshape(ours.shape) - ours).max())
    run = run._replace(largest_difference=difference, relative_difference=difference / largest)
    # Also where the difference is no number.
    if run.name != OURS and not difference <= _TOLERANCE * largest:
        reason = (
            f"It computes something else: its outputs differ from ours by up to {difference / largest:.2g} "
            f"of the largest, and {_TOLERANCE:g} is allowed."
        )
        return run._replace(refused=reason)
    return run


def _take_turns(
    workers: dict[str, WorkerProcess], steps: int, burn_in: int, on_step: Callable[[int], None] | None
) -> tuple[dict[str, list[float]], dict[str, str], bool]:
    """Durations by engine of the complete rounds that count, why engines dropped out, and whether interrupted."""
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
