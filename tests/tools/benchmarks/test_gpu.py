"""Tests the benchmarks of a GPU on the processor, with a tiny network; failing processes are faked."""

import json
import os
import sys

import numpy as np
import pytest
import tensorflow as tf

from nets.guards import ancestors
from tools.benchmarks import __main__ as benchmarks
from tools.benchmarks.figures import Figure, print_figures
from tools.benchmarks.gpu import measuring, settings, worker
from tools.benchmarks.gpu.settings import Group, Setting
from tools.benchmarks.gpu.steps import opened
from tools.benchmarks.replicas import save_images
from tools.errors import PeerError
from tools.runtime import sessions
from tools.timing.graph import timed_graph
from tools.timing.options import Options

TINY = "resnet_v2_tiny"
BASE = Setting(TINY, 2, device="cpu")


@pytest.fixture(autouse=True)
def as_before():
    before = tf.config.experimental.tensor_float_32_execution_enabled()
    yield
    tf.config.experimental.enable_tensor_float_32_execution(before)


def computes_bfloat16():
    config = sessions.session_config()
    config.graph_options.rewrite_options.auto_mixed_precision_onednn_bfloat16 = 1
    return sessions.computes("bfloat16", config)


# The networks in lower types.


def output_of(dtype, xla=False):
    options = Options(batch_size=4, device="cpu", xla=xla)
    with timed_graph(TINY, options, dtype=dtype) as timed:
        return timed.session.run(timed.target.outputs[0])


@pytest.mark.parametrize("xla", [False, True])
@pytest.mark.parametrize(("dtype", "bits"), [(tf.float16, 11), (tf.bfloat16, 8)])
def test_a_lower_type_computes_the_same_network(dtype, bits, xla):
    """The weights have the same seed. Rounding to so many bits after each of some 20 layers adds up to a few units."""
    expected = output_of(tf.float32)
    found = output_of(dtype, xla)
    assert found.dtype == np.float32
    difference = np.abs(found - expected).max() / np.abs(expected).max()
    assert 0 < difference < 8 * 2**-bits


def test_only_the_layers_are_in_the_lower_type():
    options = Options(batch_size=2, mode="train", device="cpu")
    with timed_graph(TINY, options, dtype=tf.float16) as timed, timed.session.graph.as_default():
        needed = ancestors([timed.target])
        convolutions = [op for op in needed if op.type.startswith("Conv2D")]
        assert {op.get_attr("T") for op in convolutions} == {tf.float16}
        assert {variable.dtype for variable in tf.compat.v1.global_variables()} <= {tf.float32, tf.int64}
        assert {op.get_attr("T") for op in needed if op.type == "ResourceApplyMomentum"} == {tf.float32}
        kernels = [variable for variable in tf.compat.v1.trainable_variables() if variable.shape.rank > 1]
        losses = tf.compat.v1.losses.get_regularization_losses()
        assert len(losses) == len(kernels) == 17
        assert {loss.dtype for loss in losses} == {tf.float32}


@pytest.mark.full
def test_the_decay_of_weights_is_the_same_in_every_type():
    """The loss of the regularizers is that of the builder's own."""
    values = {}
    for dtype in (tf.float32, tf.float16):
        options = Options(batch_size=2, mode="train", device="cpu")
        with timed_graph(TINY, options, dtype=dtype) as timed, timed.session.graph.as_default():
            losses = tf.compat.v1.losses.get_regularization_losses()
            values[dtype] = sum(timed.session.run(losses))
    assert values[tf.float16] == pytest.approx(values[tf.float32], rel=1e-5)


# Settings.


def test_every_setting_is_measured_once_and_against_its_base():
    (group,) = settings.forward(batch_sizes=(8,))
    assert group.base == Setting("resnet_v2_50", 8)
    names = [setting.name.removeprefix("resnet_v2_50, forward, batch 8, ") for setting in group.others]
    assert names == [
        "float32, XLA",
        "TF32",
        "TF32, XLA",
        "bfloat16",
        "bfloat16, XLA",
        "float16",
        "float16, XLA",
        "mixed float16",
        "float32, slim's graph",
    ]
    assert [group.base.batch_size for group in settings.forward()] == [1, 8, 32, 128, 256]
    assert {setting.precision for group in settings.headline() for setting in group.others} == {
        "float32",
        "TF32",
        "float16",
    }


def test_a_setting_survives_its_way_to_a_process():
    setting = BASE._replace(precision="TF32", xla=True, of="slim")
    assert Setting.from_json(setting.to_json()) == setting


GROUPS = [
    group
    for groups in (settings.forward, settings.train)
    for group in groups(TINY, (2,), mixed="bfloat16", device="cpu")
]


def marks(setting):
    """XLA compiles a training step in five seconds."""
    return [pytest.mark.full] if setting.mode == "train" and setting.xla else []


@pytest.mark.parametrize(
    "setting",
    [
        pytest.param(setting, id=setting.name, marks=marks(setting))
        for group in GROUPS
        for setting in (group.base, *group.others)
    ],
)
def test_every_setting_that_a_processor_can_compute(setting, tmp_path):
    if setting.precision.startswith(settings.MIXED) and not computes_bfloat16():
        pytest.skip("this processor computes no bfloat16")
    with opened(setting, tmp_path) as steps:
        assert tf.config.experimental.tensor_float_32_execution_enabled() == (setting.precision == "TF32")
        steps.step()
    assert steps.batches == 1


@pytest.mark.filterwarnings("ignore::nets.guards.InferenceWarning")
def test_files(tmp_path):
    save_images(tmp_path / "images", 5)
    with opened(BASE._replace(mode="files", images=str(tmp_path / "images")), tmp_path) as steps:
        steps.step()
    assert steps.batches == 3


def test_another_device_is_noticed(tmp_path, monkeypatch):
    monkeypatch.setattr("tools.benchmarks.gpu.steps.device_of", lambda setting: "gpu")
    with pytest.raises(PeerError, match="on another device than a GPU"), opened(BASE, tmp_path):
        pass


# Processes.


@pytest.mark.full
def test_processes_take_turns(capsys):
    """With a setting that a processor cannot compute, and a batch that fits into no memory."""
    others = (BASE._replace(xla=True), BASE._replace(precision="mixed float16"))
    large = Group(BASE._replace(batch_size=10**7, mode="train"), ())
    base, xla, mixed, too_large = measuring.measure([Group(BASE, others), large], 2)
    assert base.here == xla.other
    assert len(xla.here) == len(xla.other) == 2 and min(*xla.here, *xla.other) > 0
    assert (xla.batch_size, xla.memory, xla.failure) == (2, None, "")
    assert mixed.failure == "precision='float16' requires a GPU, and TensorFlow finds none: use bfloat16 or float32."
    assert too_large.failure == "out of memory"
    assert capsys.readouterr().out == ""


# Answers like a worker. The folder records which processes are open.
FAKE = """
import json, os, pathlib, sys
fake, opened = json.loads(sys.argv[1]), pathlib.Path(sys.argv[2])
def say(**answer): print(json.dumps(answer), flush=True)
file = opened / str(os.getpid())
if fake.get("needs_all") and any(opened.iterdir()) or fake.get("too_large"):
    say(error="out of memory")
    sys.exit(1)
file.touch()
say(ready=True)
turns = 0
for line in sys.stdin:
    if line.strip() == "memory":
        say(peak=fake.get("peak"))
        continue
    turns += 1
    if turns == fake.get("dies_in_turn"):
        file.unlink()
        os._exit(7)
    if turns == fake.get("too_large_in_turn"):
        say(error="out of memory")
        break
    say(seconds=fake["seconds"])
file.unlink()
"""

XLA = BASE._replace(xla=True)
SLIM = BASE._replace(of="slim")


@pytest.fixture
def fakes(monkeypatch, tmp_path):
    """Returns a function that measures with fake processes: setting → what its process does."""
    (tmp_path / "open").mkdir()

    def measured(told, rounds=3):
        def command(setting, folder):
            return [sys.executable, "-c", FAKE, json.dumps(told[setting]), os.fspath(tmp_path / "open")]

        monkeypatch.setattr(measuring, "worker_command", command)
        return measuring.measure([Group(BASE, tuple(one for one in told if one != BASE))], rounds)

    yield measured
    assert not list((tmp_path / "open").iterdir())


def test_rates_and_ratios(fakes):
    base, xla = fakes({BASE: {"seconds": 0.5, "peak": 10}, XLA: {"seconds": 0.25, "peak": 20}})
    assert base == Figure(BASE.name, "images/s", [4.0] * 3, [], batch_size=2, memory=10)
    assert xla == Figure(XLA.name, "images/s", [8.0] * 3, [4.0] * 3, batch_size=2, memory=20)
    assert xla.ratios == [2.0] * 3


@pytest.mark.parametrize(
    "fails", [{"too_large": True}, {"seconds": 1, "too_large_in_turn": 1}, {"seconds": 1, "too_large_in_turn": 3}]
)
def test_a_batch_that_does_not_fit_stops_nothing(fakes, fails):
    base, xla, slim = fakes({BASE: {"seconds": 0.5}, XLA: fails, SLIM: {"seconds": 1.0}})
    assert (xla.failure, xla.here, xla.other) == ("out of memory", [], [])
    assert (base.here, slim.here, slim.ratios) == ([4.0] * 3, [2.0] * 3, [0.5] * 3)


def test_a_batch_that_fits_only_alone_has_no_ratio(fakes):
    _, xla, slim = fakes({BASE: {"seconds": 0.5}, XLA: {"seconds": 0.25, "needs_all": True}, SLIM: {"seconds": 1.0}})
    assert (xla.failure, xla.here, xla.other) == ("", [8.0] * 3, [])
    assert slim.ratios == [0.5] * 3


def test_a_base_that_does_not_fit_leaves_the_others_without_a_ratio(fakes):
    base, xla = fakes({BASE: {"too_large": True}, XLA: {"seconds": 0.25}})
    assert base.failure == "out of memory"
    assert (xla.failure, xla.here, xla.other) == ("", [8.0] * 3, [])


def test_a_base_without_peers_is_measured(fakes):
    base, xla = fakes({BASE: {"seconds": 0.5}, XLA: {"too_large": True}})
    assert xla.failure == "out of memory"
    assert base.here == [4.0] * 3


def test_a_process_that_ends_is_named(fakes):
    _, xla, slim = fakes({BASE: {"seconds": 0.5}, XLA: {"seconds": 1.0, "dies_in_turn": 2}, SLIM: {"seconds": 1.0}})
    assert xla.failure == f"The process of {XLA.name} ended with exit status 7, without a message"
    assert slim.ratios == [0.5] * 3


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (MemoryError("at least 20 GB"), "out of memory"),
        (tf.errors.ResourceExhaustedError(None, None, "OOM when allocating"), "out of memory"),
        (tf.errors.InternalError(None, None, "Failed: CUDA_ERROR_OUT_OF_MEMORY: out of memory"), "out of memory"),
        (
            tf.errors.UnknownError(None, None, "2 root error(s) found.\n  (0) no driver\n"),
            "(0) no driver",
        ),
        (ValueError(""), "ValueError"),
    ],
)
def test_reasons(error, reason):
    assert worker.reason(error) == reason


# The command.


@pytest.mark.skipif(sessions.has_gpu(), reason="this machine has a GPU")
@pytest.mark.parametrize("names", [["gpu"], ["stopwatch", "gpu_train"]])
def test_without_a_gpu_a_sentence_says_so(names, capsys):
    with pytest.raises(SystemExit) as ended:
        benchmarks.main(names)
    assert ended.value.code == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.endswith(
        f"{names[-1]} requires a GPU, and TensorFlow finds none: choose others, or install 'slimnets[gpu]' on a "
        "machine with a GPU"
    )


@pytest.mark.parametrize(
    ("names", "with_gpu", "chosen"),
    [
        (["gpu"], True, ["gpu_headline", "gpu_forward", "gpu_train", "gpu_files"]),
        (["gpu_train", "gpu", "build"], True, ["gpu_train", "gpu_headline", "gpu_forward", "gpu_files", "build"]),
        ([], False, ["build", "first_feature", "inspect"]),
        ([], True, ["gpu_headline", "gpu_forward", "gpu_train"]),
    ],
)
def test_chosen_benchmarks(names, with_gpu, chosen):
    found = benchmarks._chosen(names, with_gpu=with_gpu)
    assert (found if names else found[:3]) == chosen


def test_the_table(capsys):
    print_figures(
        [
            Figure("base", "images/s", [4.0, 5.0, 6.0], [], batch_size=2, memory=1_500_000_000),
            Figure("other", "images/s", [8.0, 8.0], [4.0, 5.0], batch_size=2),
            Figure("large", "images/s", [], [], failure="out of memory"),
        ]
    )
    rows = [line.split() for line in capsys.readouterr().out.splitlines()[-3:]]
    assert rows == [
        ["base", "0", "5.00", "images/s", "-", "-", "-", "400.00", "1.50", "GB"],
        ["other", "2", "8.00", "images/s", "4.50", "images/s", "1.800", "1.600", "to", "2.000", "250.00", "-"],
        ["large", "0", "out", "of", "memory", "-", "-", "-", "-", "-"],
    ]


def test_a_table_without_a_gpu_has_no_column_for_it(capsys):
    print_figures([Figure("build", "s", [1.0], [2.0], "at most 1")])
    header, _, row = capsys.readouterr().out.splitlines()[-3:]
    assert header.split()[-1] == "wanted"
    assert row.split() == ["build", "1", "1.00", "s", "2.00", "s", "0.500", "0.500", "to", "0.500", "at", "most", "1"]
