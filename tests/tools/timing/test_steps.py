"""Tests what is timed and printed, with a clock under the tests' control."""

import os
import re
import subprocess
import sys

import pytest

from tools.timing import Timing, TimingInterrupted, time_steps, time_tensorflow_run

STAMP = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d+)?: "


class Session:
    """A session whose runs take the given durations."""

    def __init__(self, durations):
        self.durations = iter(durations)
        self.now = 1000.0
        self.runs = []

    def run(self, target, feed_dict=None):
        self.runs.append((target, feed_dict))
        self.now += next(self.durations)

    def clock(self):
        return self.now


def test_the_summary_is_of_all_steps_but_the_first(capsys):
    """Computed by hand: one of 25 steps takes 0.5 s, and the others 0.1 s. A burn-in step takes a minute."""
    durations = [60.0] * 10 + [0.1] * 3 + [0.5] + [0.1] * 21
    session = Session(durations)
    timing = time_tensorflow_run(session, "net", "Forward", num_batches=25, clock=session.clock)
    assert session.runs == [("net", None)] * 35
    lines = capsys.readouterr().out.splitlines()
    # The mean is (24 * 0.1 + 0.5) / 25, and that of the squares (24 * 0.01 + 0.25) / 25 = 0.0196.
    expected = [
        "step 0, duration = 0.100",
        "step 10, duration = 0.100",
        "step 20, duration = 0.100",
        "Forward across 25 steps, 0.116 +/- 0.078 sec / batch",
    ]
    assert [re.sub(f"^{STAMP}", "", line) for line in lines] == expected
    assert all(re.match(STAMP, line) for line in lines)
    assert timing.mean == pytest.approx(0.116)
    assert timing.standard_deviation == pytest.approx((0.0196 - 0.116**2) ** 0.5)
    assert (timing.median, timing.minimum) == pytest.approx((0.1, 0.1))
    assert timing.durations == pytest.approx(durations[10:])


def test_feeds_and_burn_in_are_the_callers():
    session = Session([1.0] * 3)
    timing = time_tensorflow_run(
        session, "net", "Forward", 2, num_steps_burn_in=1, feed_dict={"images": 5}, clock=session.clock
    )
    assert session.runs == [("net", {"images": 5})] * 3
    assert timing == Timing((1.0, 1.0))


def test_feeds_come_sixth():
    session = Session([1.0] * 2)
    time_tensorflow_run(session, "net", "Forward", 2, 0, {"images": 5}, clock=session.clock)
    assert session.runs == [("net", {"images": 5})] * 2


def test_percentiles_lie_between_the_steps():
    """Computed by hand: the 95th percentile of five values is at 4 * 0.95 = 3.8, so 0.8 after the fourth."""
    timing = Timing((30.0, 10.0, 50.0, 20.0, 40.0))
    assert (timing.p5, timing.p95, timing.p99) == pytest.approx((12.0, 48.0, 49.6))
    assert timing.percentile(50) == timing.median == 30.0
    assert (timing.percentile(0), timing.percentile(100)) == (10.0, 50.0)
    assert Timing((0.25,)).p99 == 0.25


def test_what_is_done_between_steps_is_not_timed():
    session = Session([1.0] * 5)
    seen = []

    def on_step(i, duration):
        seen.append((i, duration))
        session.now += 100.0

    timing = time_steps(lambda: session.run("net"), 3, 2, clock=session.clock, on_step=on_step)
    assert seen == [(-2, 1.0), (-1, 1.0), (0, 1.0), (1, 1.0), (2, 1.0)]
    assert timing == Timing((1.0, 1.0, 1.0))


def interrupted(durations):
    yield from durations
    raise KeyboardInterrupt


def test_an_interrupt_leaves_the_summary_of_the_steps_that_were_done(capsys):
    """Computed by hand: 0.1, 0.1 and 0.4 s have the mean 0.2 s, and the variance (2 * 0.01 + 0.04) / 3 = 0.02."""
    session = Session(interrupted([60.0, 0.1, 0.1, 0.4]))
    with pytest.raises(KeyboardInterrupt) as stopped:
        time_tensorflow_run(session, "net", "Forward", 20, 1, clock=session.clock)
    assert isinstance(stopped.value, TimingInterrupted)
    assert stopped.value.timing.durations == pytest.approx((0.1, 0.1, 0.4))
    *_, summary = capsys.readouterr().out.splitlines()
    assert re.sub(f"^{STAMP}", "", summary) == "Forward across 3 steps, 0.200 +/- 0.141 sec / batch"


def test_an_interrupt_before_the_steps_that_count_leaves_nothing(capsys):
    session = Session(interrupted([60.0, 60.0]))
    with pytest.raises(KeyboardInterrupt) as stopped:
        time_tensorflow_run(session, "net", "Forward", 20, 3, clock=session.clock)
    assert not isinstance(stopped.value, TimingInterrupted)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(("steps", "burn_in", "message"), [(0, 0, "num_steps must"), (1, -1, "num_steps_burn_in")])
def test_impossible_numbers_of_steps_are_refused(steps, burn_in, message):
    with pytest.raises(ValueError, match=f"{message}.* at least"):
        time_steps(lambda: None, steps, burn_in)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"num_batches": 0}, "num_batches must be at least 1, but is 0"), ({"num_steps_burn_in": -1}, "at least 0")],
)
def test_impossible_arguments_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        time_tensorflow_run(Session([]), "net", "Forward", **options)


def script(*arguments):
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-m", "tests.helpers.timing_script", *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.full
@pytest.mark.parametrize("name", ["resnet_v2_50", "resnet_v2_152"])
@pytest.mark.parametrize("way", ["own", "imported"])
def test_a_tutorials_script_runs(way, name):
    *steps, summary = script(way, name, "2", "64", "11").splitlines()
    durations = [float(re.fullmatch(STAMP + r"step \d+, duration = (\d+\.\d{3})", line)[2]) for line in steps]
    assert len(durations) == 2
    match = re.fullmatch(STAMP + r"Forward across 11 steps, (\d+\.\d{3}) \+/- (\d+\.\d{3}) sec / batch", summary)
    assert float(match[2]) > 0


@pytest.mark.full
def test_the_scripts_own_definitions_and_ours_are_the_same_network():
    assert script("compare").splitlines()[-1] == "equal: 272 variables, 75 end points"
