"""Tests the lines of progress where stderr is not a terminal."""

import pytest

from tools.terminal import progress as module
from tools.terminal.progress import progress


@pytest.fixture
def clock(monkeypatch):
    """Replaces the clock by one that a test sets."""
    now = [0.0]
    monkeypatch.setattr(module.time, "perf_counter", lambda: now[0])
    return now


def test_lines_tell_the_rate_the_time_left_and_a_note(clock, capsys):
    with progress("train", 40, "images") as advance:
        advance(0)
        clock[0] = 2.0
        advance(8, "loss 0.9")  # sooner than 10 s
        clock[0] = 10.0
        advance(8, "loss 0.5")
        clock[0] = 11.0
        advance(24)
    assert capsys.readouterr().err.splitlines() == [
        "train: 16/40, 1.6 images/s, 15 s left, loss 0.5",
        "train: 40/40, 3.6 images/s",
    ]


def test_brief_work_prints_nothing_unless_it_takes_long(clock, capsys):
    with progress("labels", 4, "images", brief=True) as advance:
        advance(0)
        clock[0] = 1.0
        advance(4)
    assert capsys.readouterr().err == ""
    clock[0] = 0.0
    with progress("labels", None, "images", brief=True) as advance:
        advance(0)
        clock[0] = 20.0
        advance(40)
    assert capsys.readouterr().err == "labels: 40, 2.0 images/s\n"
