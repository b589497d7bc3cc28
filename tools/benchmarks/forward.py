"""Measures forward passes of ResNet-50 v2 against other engines, and in bfloat16 against slim's float32."""

import sys
import tempfile

from tools.benchmarks.figures import Figure
from tools.peers import ENGINES, OURS
from tools.peers.making import network_problem
from tools.peers.turns import compare

__all__ = ["bfloat16", "forward"]

_NET = "resnet_v2_50"

# Batch size → wanted images/s, as a multiple of the slim graph's; and the engines that should not be faster than ours.
_OF_SLIM = {1: "at least 1.10", 8: "at least 1.02", 32: "at least 1.02"}
_NOT_SLOWER_THAN = ("keras", "torch", "torch-compile")


def forward(rounds: int) -> list[Figure]:
    """Measures images/s in float32, with weights as constants, against every installed engine."""
    figures = []
    for batch_size, of_slim in _OF_SLIM.items():
        wanted = {"slim": of_slim} | dict.fromkeys(_NOT_SLOWER_THAN, "at least 1")
        engines = [name for name in ENGINES if name != OURS]
        figures += _against(engines, batch_size, "float32", rounds, wanted)
    return figures


def bfloat16(rounds: int) -> list[Figure]:
    """Measures images/s in bfloat16 against the slim graph in float32."""
    return [
        figure
        for batch_size in (8, 32)
        for figure in _against(["slim"], batch_size, "bfloat16", rounds, {"slim": "at least 1.9"})
    ]


def _against(engines: list[str], batch_size: int, precision: str, rounds: int, wanted: dict[str, str]) -> list[Figure]:
    with tempfile.TemporaryDirectory() as folder:
        problem = network_problem(folder, _NET, batch_size=batch_size, precision=precision)
        # Short steps vary more, so they get more rounds.
        comparison = compare(problem, engines, steps=max(rounds, 48 // batch_size), burn_in=3)
    if comparison.interrupted:
        raise KeyboardInterrupt
    ours = [batch_size / seconds for seconds in comparison.runs[OURS].durations]
    figures = []
    for name in engines:
        run = comparison.runs[name]
        if run.refused:
            print(f"{name} is left out: {run.refused}", file=sys.stderr)
            continue
        label = f"forward {precision} batch {batch_size} / {name} {run.version}"
        theirs = [batch_size / seconds for seconds in run.durations]
        figures.append(Figure(label, "images/s", ours, theirs, wanted.get(name, "")))
    return figures
