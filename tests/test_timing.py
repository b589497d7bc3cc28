"""What is timed and what is printed, with a clock that can be told the time."""

import os
import re
import subprocess
import sys

import pytest

from tools.timing import Timing, time_tensorflow_run

STAMP = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d+)?: "


class Session:
    """Each run takes the next of these durations."""

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
    """By hand: 25 steps, of which one takes 0.5 s and the others 0.1 s; the burn-in takes a minute a step."""
    durations = [60.0] * 10 + [0.1] * 3 + [0.5] + [0.1] * 21
    session = Session(durations)
    timing = time_tensorflow_run(session, "net", "Forward", num_batches=25, clock=session.clock)
    assert session.runs == [("net", None)] * 35
    lines = capsys.readouterr().out.splitlines()
    # The mean is (24 * 0.1 + 0.5) / 25; the squares' is (24 * 0.01 + 0.25) / 25 = 0.0196.
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


@pytest.mark.parametrize(
    ("options", "message"),
    [({"num_batches": 0}, "num_batches must be at least 1, and is 0"), ({"num_steps_burn_in": -1}, "at least 0")],
)
def test_impossible_arguments_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        time_tensorflow_run(Session([]), "net", "Forward", **options)


def script(*arguments):
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-m", "tests.timing_script", *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.parametrize(
    ("way", "name"),
    [
        ("own", "resnet_v2_50"),
        *(
            pytest.param(*arguments, marks=pytest.mark.full)
            for arguments in (("imported", "resnet_v2_50"), ("own", "resnet_v2_152"), ("imported", "resnet_v2_152"))
        ),
    ],
)
def test_a_tutorials_script_runs(way, name):
    *steps, summary = script(way, name, "2", "64", "11").splitlines()
    durations = [float(re.fullmatch(STAMP + r"step \d+, duration = (\d+\.\d{3})", line)[2]) for line in steps]
    assert len(durations) == 2
    match = re.fullmatch(STAMP + r"Forward across 11 steps, (\d+\.\d{3}) \+/- (\d+\.\d{3}) sec / batch", summary)
    assert float(match[2]) > 0


def test_the_scripts_own_definitions_and_ours_are_the_same_network():
    assert script("compare").splitlines()[-1] == "equal: 272 variables, 75 end points"
