"""Tests that ``slimnets time`` runs what it is asked for, and that its figures belong to the steps it ran.

The tests calculate the arithmetic themselves. No test asserts how long anything takes.
"""

import json
import math
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow as tf

from nets import nets_factory
from tests.helpers import bfloat16
from tests.helpers.float64 import assert_as_exact, references
from tests.helpers.processes import COMMAND, environment
from tools.cli import main
from tools.runtime import machine
from tools.timing import graph as timed_graph
from tools.timing import measuring
from tools.timing.costs import flops, least_memory, new_kinds
from tools.timing.options import MODES, Options

v1 = tf.compat.v1

TINY = "resnet_v2_tiny"
BACKWARD = ("forward-backward", "train")
FEW = ("--steps", "3", "--burn-in", "1", "--batch-size", "2")


def run(capsys, *arguments):
    """Returns the exit status, the last network's table by its labels, stdout and stderr."""
    status = main(["time", *map(str, arguments)])
    stdout, stderr = capsys.readouterr()
    rows = (re.split("  +", line.strip()) for line in stdout.splitlines()[4:])
    return status, {label: values[-1] for label, *values in rows}, stdout, stderr


def record(capsys, tmp_path, *arguments):
    """Returns the JSON of a run with few steps."""
    status, *_, stderr = run(capsys, *arguments, *FEW, "--json", tmp_path / "time.json")
    assert status == 0, stderr
    return json.loads((tmp_path / "time.json").read_text())


# Figures.


def test_what_is_printed_are_the_statistics_of_the_durations(capsys, tmp_path):
    file = tmp_path / "time.json"
    arguments = [
        TINY,
        "--steps",
        7,
        "--burn-in",
        2,
        "--batch-size",
        4,
        "--image-size",
        48,
        "--device",
        "cpu",
        "--json",
        file,
    ]
    status, printed, stdout, stderr = run(capsys, *arguments)
    assert status == 0
    written = json.loads(file.read_text())
    (net,) = written["nets"]
    durations = np.array(net["durations"])
    assert len(durations) == net["steps"]["count"] == int(printed["steps, after 2"]) == 7
    expected = {
        "mean": durations.mean(),
        "median": np.median(durations),
        "5th percentile": np.percentile(durations, 5),
        "95th percentile": np.percentile(durations, 95),
        "99th percentile": np.percentile(durations, 99),
        "minimum": durations.min(),
        "standard deviation": durations.std(),
    }
    for label, seconds in expected.items():
        assert printed[label] == f"{1000 * seconds:,.2f} ms", label
    assert printed["images/s, of the median"] == f"{4 / np.median(durations):,.1f}"
    per_second = net["gflop_per_image"] * 4 / np.median(durations)
    assert printed["GFLOP/s, of the median"] == f"{per_second:,.1f}"
    assert printed["images"] == "4x48x48x3"
    assert net["seconds"].keys() == {"build", "initialize", "first_run"}
    assert net["memory"]["device_peak"] is None
    assert stdout.splitlines()[0] == machine.one_line()
    assert written["machine"]["cores"] == len(machine._cores())
    assert written["options"]["steps"] == 7
    assert not written["interrupted"]
    assert f"{TINY}: 9/9" in stderr


def test_several_networks_are_columns(capsys, tmp_path):
    status, printed, stdout, _ = run(
        capsys, TINY, "resnet_cifar_20", *FEW, "--image-size", "32", "--json", tmp_path / "time.json"
    )
    assert status == 0
    assert stdout.splitlines()[2].split() == [TINY, "resnet_cifar_20"]
    assert [net["net"] for net in json.loads((tmp_path / "time.json").read_text())["nets"]] == [TINY, "resnet_cifar_20"]
    assert any("peak memory of the process so far" in line for line in stdout.splitlines())
    assert printed["images"] == "2x32x32x3"


def conv_macs(size, kernel, channels_in, channels_out):
    """Returns the multiply-adds of a convolution whose output has that many positions a side."""
    return size * size * kernel * kernel * channels_in * channels_out


def resnet_50_macs():
    """Counts as in arXiv:1512.03385, table 1, with slim's strides: in the 3x3 of the last unit of blocks 1 to 3."""
    total = conv_macs(112, 7, 3, 64)
    channels, size = 64, 56
    for block, units in enumerate((3, 4, 6, 3)):
        width = 64 * 2**block
        for unit in range(units):
            after = size // 2 if unit == units - 1 and block < 3 else size
            total += conv_macs(size, 1, channels, width)
            total += conv_macs(after, 3, width, width)
            total += conv_macs(after, 1, width, 4 * width)
            if unit == 0:
                total += conv_macs(size, 1, channels, 4 * width)  # a unit with a stride has no projection
            channels, size = 4 * width, after
    return total + channels * 1000


def test_flops_of_resnet_50():
    """The paper counts 3.8e9 multiply-adds. Slim's network strides in the last unit of a block, and has fewer."""
    macs = resnet_50_macs()
    assert 3.4e9 < macs < 3.8e9
    options = Options(batch_size=2, num_classes=1000)
    with timed_graph.timed_graph("resnet_v1_50", options) as timed:
        assert timed.flops == 2 * macs


def test_flops_of_a_backward_pass():
    """The gradients of inputs and filters take as many operations each, except those of the images."""
    forward, backward, train = (flops_of(mode) for mode in MODES)
    assert backward == train == 3 * forward - 2 * conv_macs(16, 7, 3, 64)


def flops_of(mode):
    with timed_graph.timed_graph(TINY, Options(batch_size=1, mode=mode)) as timed:
        return timed.flops


def test_flops_of_a_matrix_product():
    with tf.Graph().as_default() as graph:
        one, other = v1.placeholder(tf.float32, [5, 3]), v1.placeholder(tf.float32, [5, 7])
        tf.matmul(one, other, transpose_a=True)
        assert flops(graph.get_operations()) == 2 * 3 * 5 * 7


def test_memory_of_tensors_that_exist_together():
    """Computed by hand, with 64 bytes each: x and sin x; then cos sin x and sin x; then that and 192 bytes."""
    with tf.Graph().as_default() as graph:
        x = v1.placeholder(tf.float32, [1, 4, 4, 1])
        cosine = tf.raw_ops.Cos(x=tf.raw_ops.Sin(x=x))
        wide = tf.raw_ops.Concat(concat_dim=tf.constant(3), values=[tf.raw_ops.Relu(features=cosine)] * 3)
        tf.raw_ops.L2Loss(t=wide)
        # The axis is 4 bytes.
        assert least_memory(graph.get_operations()) == 64 + 192 + 4


def test_operations_that_were_not_there_before():
    graphs = [v1.GraphDef(), v1.GraphDef()]
    for graph, kinds in zip(graphs, (["Conv2D", "_Fused", "_Fused"], ["_Send", "Relu"]), strict=True):
        for kind in kinds:
            graph.node.add(op=kind)
    before = {"Conv2D": 3, "Relu": 2}
    assert new_kinds(before, graphs) == (5, {"_Fused": 2, "_Send": 1})


# The machine.


def test_what_others_do(tmp_path, monkeypatch):
    """Computed by hand: in 10 s two cores are busy for 12 s, this process for 5 s, and 2 ticks of 10 ms are dropped."""
    stat = tmp_path / "stat"
    monkeypatch.setattr(machine, "_STAT", stat)
    monkeypatch.setattr(machine, "_cores", lambda: {0, 2})
    monkeypatch.setattr(machine.os, "sysconf", lambda name: 100)
    times = iter([(100.0, 3.0), (110.0, 8.0)])

    def at(user, steal):
        now, own = next(times)
        monkeypatch.setattr(machine.time, "perf_counter", lambda: now)
        monkeypatch.setattr(machine.os, "times", lambda: type("Times", (), {"user": own, "system": 0.0}))
        stat.write_text(
            f"cpu  9 9 9 9 9 9 9 9 0 0\ncpu0 {user} 0 0 777 55 0 0 0 0 0\ncpu1 {9 * user} 0 0 0 0 0 0 0 0 0\n"
            f"cpu2 0 0 0 777 55 0 0 {steal} 0 0\nintr 1 2 3\n"
        )

    at(1000, 100)
    load = machine.OtherLoad()
    at(1900, 400)
    assert load.cores() == pytest.approx((12 - 5 - 0.02) / 10)


@pytest.mark.parametrize("text", [None, "cpu  0 0 0 0 0 0 0 0 0 0\ncpu0 0 0 0 0 0 0 0 0 0 0\n"])
def test_what_others_do_need_not_be_told(tmp_path, monkeypatch, text):
    monkeypatch.setattr(machine, "_STAT", tmp_path / "stat")
    if text:
        (tmp_path / "stat").write_text(text)
    assert machine.OtherLoad().cores() is None


def test_memory_is_limited_by_a_control_group(tmp_path, monkeypatch):
    files = [tmp_path / name for name in ("max", "current")]
    monkeypatch.setattr(machine, "_GROUP_MEMORY", (files,))
    unlimited = machine.available_memory()
    for text, expected in (("max", unlimited), ("5000", 3000)):
        files[0].write_text(text + "\n")
        files[1].write_text("2000\n")
        found = machine.available_memory()
        assert (found is None) == (expected is None)
        if expected == 3000:
            assert found == 3000


@pytest.mark.parametrize(("others", "warns"), [(0.0, False), (0.04, False), (1.5, True), (None, False)])
def test_a_busy_machine_is_said(capsys, monkeypatch, others, warns):
    class Load:
        def cores(self):
            return others

    monkeypatch.setattr(machine, "OtherLoad", Load)
    monkeypatch.setattr(machine, "describe", lambda described=machine.describe(): {**described, "cores": 2})  # noqa: B008
    status, printed, _, stderr = run(capsys, TINY, *FEW)
    assert status == 0
    assert ("slimnets: warning: While resnet_v2_tiny was timed, other processes used 1.5 of 2 cores" in stderr) == warns
    assert printed.get("cores that others had") == (None if others is None else f"{others:.2f}")


# Options.


def test_the_size_and_the_classes_are_the_networks_own(capsys, tmp_path):
    (net,) = record(capsys, tmp_path, "resnet_keras_18_digits")["nets"]
    assert (net["shape"], net["num_classes"]) == ([2, 28, 28, 1], 10)


def test_classes(capsys, tmp_path):
    (net,) = record(capsys, tmp_path, TINY, "--num-classes", "7")["nets"]
    assert net["num_classes"] == 7


def test_an_end_point(capsys, tmp_path):
    """Computed by hand, at 32 pixels: only the first convolution runs."""
    (net,) = record(capsys, tmp_path, TINY, "--end-point", "conv1")["nets"]
    assert net["gflop_per_image"] == pytest.approx(2 * conv_macs(16, 7, 3, 64) / 1e9)


def result(**options):
    """Returns the network's outputs, and the types of its operations."""
    with timed_graph.timed_graph(TINY, Options(batch_size=2, **options)) as timed:
        (output,) = timed.target.outputs
        return timed.session.run(output, timed.feed_dict), timed


@pytest.fixture(scope="module")
def plain(tiny_checkpoint):
    """Returns the network's outputs on the timed images, in float32 and in float64."""
    images = np.asarray(tf.random.stateless_uniform([2, 32, 32, 3], [0, 0], -1.0, 1.0))
    with tf.Graph().as_default(), v1.Session() as session:
        fed = v1.placeholder(tf.float32, images.shape)
        logits, _ = nets_factory.get_network_fn(TINY, 10)(fed)
        v1.train.Saver().restore(session, str(tiny_checkpoint))
        return references(session, {"logits": logits}, {fed: images})["logits"]


@pytest.mark.numerical
@pytest.mark.parametrize(
    "option",
    [
        {"freeze": True},
        {"feed": True},
        {"device": "cpu"},
        {"threads": 1},
        {"xla": True},
        pytest.param({"xla": True, "freeze": True, "feed": True}, marks=pytest.mark.full),
    ],
    ids="+".join,
)
def test_however_it_is_computed_it_is_the_same(plain, tiny_checkpoint, option):
    computed, timed = result(checkpoint=str(tiny_checkpoint), **option)
    assert np.abs(plain.double).max() > 0.1
    assert_as_exact(computed, plain)
    assert (timed.feed_dict is not None) == ("feed" in option)
    assert ("freeze" in timed.seconds) == ("freeze" in option)
    assert timed.operations["VarHandleOp"] == (0 if "feed" in option else 1) + (0 if "freeze" in option else 78)
    if "threads" in option:
        config = timed.session._config
        assert (config.intra_op_parallelism_threads, config.inter_op_parallelism_threads) == (1, 1)
    if "device" in option:
        assert timed.target.device == "/device:CPU:0"


@pytest.mark.parametrize("mode", ["forward", *(pytest.param(mode, marks=pytest.mark.full) for mode in BACKWARD)])
def test_xla_compiles(capsys, tmp_path, mode):
    (net,) = record(capsys, tmp_path, TINY, "--xla", "--mode", mode)["nets"]
    assert net["operations"]["new_kinds"]["XlaLaunch"] == 1
    assert not any("Conv2D" in kind for kind in net["operations"]["new_kinds"])


def test_a_checkpoint_by_its_key(capsys, tmp_path):
    (net,) = record(capsys, tmp_path, TINY, "--checkpoint", f"{TINY}_digits")["nets"]
    assert net["seconds"].keys() == {"build", "restore", "first_run"}


@pytest.mark.numerical
@pytest.mark.parametrize("mode", ["forward", *(pytest.param(mode, marks=pytest.mark.full) for mode in BACKWARD)])
def test_bfloat16(capsys, tmp_path, mode):
    """It runs if TensorFlow computes in bfloat16 here, and is refused otherwise."""
    if bfloat16.convolutions():
        (net,) = record(capsys, tmp_path, TINY, "--precision", "bfloat16", "--mode", mode)["nets"]
        assert net["operations"]["new_kinds"].get("Cast")
    else:
        assert_bfloat16_refused(run(capsys, TINY, "--precision", "bfloat16", "--mode", mode))


def assert_bfloat16_refused(done):
    status, _, _, stderr = done
    assert (status, stderr.count("\n")) == (1, 1)
    assert "TensorFlow computes no bfloat16 here: use float32" in stderr


def test_bfloat16_where_tensorflow_does_not_compute_it(capsys, monkeypatch):
    monkeypatch.setattr("tools.runtime.sessions.computes", lambda *_, **__: False)
    assert_bfloat16_refused(run(capsys, TINY, "--precision", "bfloat16"))


# Modes.


def values(timed):
    with timed.session.graph.as_default():
        return {variable.op.name: variable for variable in v1.global_variables()}


@pytest.mark.parametrize("checkpoint", [None, pytest.param(f"{TINY}_digits", marks=pytest.mark.full)])
def test_training_changes_the_network(checkpoint):
    options = Options(batch_size=4, mode="train", checkpoint=checkpoint)
    with timed_graph.timed_graph(TINY, options) as timed:
        variables = values(timed)
        before = timed.session.run(variables)
        for _ in range(3):
            timed.step()
        after = timed.session.run(variables)
    assert after["global_step"] == 3
    # A batch norm's mean cancels a convolution's bias, whose gradient is rounding errors alone.
    names = [name for name in before if name.endswith(("weights", "gamma", "moving_mean", "moving_variance"))]
    assert sum(name.endswith("moving_mean") for name in names) == 13
    for name in names:
        assert not np.array_equal(before[name], after[name]), name
        assert np.isfinite(after[name]).all()


@pytest.mark.parametrize("mode", ["forward", "forward-backward"])
def test_other_modes_change_nothing(mode):
    with timed_graph.timed_graph(TINY, Options(batch_size=4, mode=mode)) as timed:
        variables = values(timed)
        before = timed.session.run(variables)
        timed.step()
        after = timed.session.run(variables)
    assert all(np.array_equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("mode", BACKWARD)
def test_the_gradients_of_all_convolutions_are_computed(mode):
    """The tiny network has 17: the first, three in each of four units and a projection there, and the logits."""
    assert 17 == 1 + 4 * (3 + 1) - 1 + 1
    options = Options(batch_size=4, mode=mode)
    with timed_graph.timed_graph(TINY, options) as timed:
        _, graphs = measuring.first_run(timed, options)
    kinds = [node.op for graph in graphs for node in graph.node]
    assert sum("Conv2DBackpropFilter" in kind for kind in kinds) == 17
    assert sum("Conv2DBackpropInput" in kind for kind in kinds) == 16


# Files.


def test_the_picture(capsys, tmp_path):
    pytest.importorskip("matplotlib")
    file = tmp_path / "time.png"
    assert run(capsys, TINY, *FEW, "--plot", file)[0] == 0
    assert file.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("durations", "suffix", "start"),
    [
        ([0.1], "svg", b"<?xml"),
        ([0.1] * 3, "pdf", b"%PDF"),
        ([0.001, 0.002, 0.5], "png", b"\x89PNG"),
        (list(np.linspace(1, 2, 500)), "png", b"\x89PNG"),
    ],
)
def test_any_durations_can_be_drawn(tmp_path, durations, suffix, start):
    pytest.importorskip("matplotlib")
    from tools.timing.plot import draw

    file = tmp_path / f"time.{suffix}"
    draw(file, [("one", durations), ("other", durations)], interrupted=True)
    assert file.read_bytes().startswith(start)


def test_without_matplotlib(capsys, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    status, _, stdout, stderr = run(capsys, TINY, "--plot", tmp_path / "time.png")
    assert (status, stdout) == (1, "")
    assert stderr == "slimnets: error: A plot requires matplotlib: pip install 'slimnets[plot]'.\n"


# What is refused, before anything is timed.


REFUSED = [
    (["resnet_v2_51"], "Name of network unknown: 'resnet_v2_51'; did you mean"),
    ([TINY, "resnet_v2_51"], "Name of network unknown"),
    ([TINY, "--num-classes", "-1"], "--num-classes must be at least 0, but is -1"),
    ([TINY, "--end-point", "blok2"], "Unknown end point 'blok2': did you mean block2"),
    ([TINY, "--mode", "train", "--freeze"], "--freeze requires --mode forward"),
    (
        [TINY, "--mode", "forward-backward", "--end-point", "block2"],
        "--end-point block2 requires --mode forward",
    ),
    ([TINY, "--mode", "train", "--num-classes", "1"], "at least --num-classes 2"),
    ([TINY, "--xla", "--precision", "bfloat16"], "choose one of the two"),
    ([TINY, "--precision", "float16", "--device", "cpu"], "--precision float16 requires a GPU: omit --device cpu"),
    ([TINY, "--device", "tpu"], "--device must be cpu, gpu, or gpu: and a number, but is 'tpu'"),
    ([TINY, "--device", "cpu:7"], "--device cpu:7 does not exist: TensorFlow finds 1 of that kind"),
    ([TINY, "--device", "gpu:99"], "--device gpu:99 does not exist: TensorFlow finds"),
    ([TINY, "--threads", "5000"], "--threads must be from 1 to 1,024, but is 5,000"),
    ([TINY, "--checkpoint", "nowhere.ckpt"], "There is no checkpoint at nowhere.ckpt"),
    ([TINY, "--checkpoint-dir", "x"], "--checkpoint-dir goes with checkpoint"),
    ([TINY, "resnet_v2_50", "--checkpoint", "x"], "--checkpoint has the weights of one network, and 2 are named"),
    ([TINY, "--json", "nowhere/time.json"], "--json nowhere/time.json cannot be written: there is no folder nowhere"),
    ([TINY, "--plot", "nowhere/time.png"], "--plot nowhere/time.png cannot be written: there is no folder nowhere"),
    ([TINY, "--json", "."], "--json . is a folder"),
    ([TINY, "--plot", "time.gif"], "The plot time.gif must end in .pdf, .png or .svg"),
    (
        [TINY, "--device", "cpu", "--batch-size", "100000", "--image-size", "9999"],
        "for 100,000 images at a time, but only",
    ),
    ([TINY, "--against", "caffe"], "Engine unknown: 'caffe'; the engines are slimnets, "),
    ([TINY, "resnet_v2_50", "--against", "slim"], "Engines are compared on one network, but 2 are named"),
    ([TINY, "--against", "slim", "--mode", "train"], "omit --mode train"),
    ([TINY, "--against", "slim", "--xla"], "Engines are compared without --xla"),
    ([TINY, "--against", "slim", "--feed"], "Engines are compared without --feed"),
    ([TINY, "--against", "slim", "--device", "cpu"], "Engines are compared without --device cpu"),
]


@pytest.mark.parametrize(("arguments", "message"), REFUSED)
def test_what_cannot_be_is_said_in_a_sentence(capsys, arguments, message):
    status, _, stdout, stderr = run(capsys, *arguments)
    assert (status, stdout, stderr.count("\n")) == (1, "", 1)
    assert stderr.startswith("slimnets: error: ")
    assert message in stderr


@pytest.mark.parametrize(
    ("option", "value"),
    [("--steps", "0"), ("--steps", "-1"), ("--burn-in", "-1"), ("--batch-size", "0"), ("--mode", "backward")],
)
def test_wrong_usage(capsys, option, value):
    with pytest.raises(SystemExit) as exit:
        main(["time", TINY, option, value])
    assert exit.value.code == 2
    stdout, stderr = capsys.readouterr()
    assert stdout == ""
    assert value in stderr.splitlines()[-1]


def test_without_xla(capsys, monkeypatch):
    monkeypatch.setattr(tf.test, "is_built_with_xla", lambda: False)
    status, _, stdout, stderr = run(capsys, TINY, "--xla")
    assert (status, stdout, stderr.count("\n")) == (1, "", 1)
    assert "--xla requires a TensorFlow that was built with XLA" in stderr


# Ends that come too soon.


def stopping(monkeypatch, error, at):
    """Makes the step with this number raise an error. Burn-in and the steps of all networks count."""
    steps = iter(range(1, 1000))
    step = timed_graph.TimedGraph.step

    def stops(self):
        if next(steps) == at:
            raise error
        step(self)

    monkeypatch.setattr(timed_graph.TimedGraph, "step", stops)


def test_an_interrupt_leaves_the_figures_of_the_steps_that_were_done(capsys, monkeypatch, tmp_path):
    stopping(monkeypatch, KeyboardInterrupt(), at=2 + 3 + 1)
    file = tmp_path / "time.json"
    status, printed, _, stderr = run(
        capsys, TINY, "resnet_v2_50", "--steps", "9", "--burn-in", "2", "--batch-size", "2", "--json", file
    )
    assert status == 1
    assert stderr.splitlines()[-1] == "slimnets: interrupted; the figures are of the steps until then"
    written = json.loads(file.read_text())
    (net,) = written["nets"]
    assert written["interrupted"] and net["interrupted"]
    assert len(net["durations"]) == net["steps"]["count"] == 3
    assert net["steps"]["asked_for"] == 9
    assert printed["mean"] == f"{1000 * np.mean(net['durations']):,.2f} ms"
    assert printed["steps, after 2"] == "3 of 9"


def test_an_interrupt_in_the_burn_in_leaves_nothing(capsys, monkeypatch, tmp_path):
    stopping(monkeypatch, KeyboardInterrupt(), at=2)
    status, _, stdout, stderr = run(capsys, TINY, "--burn-in", "2", "--json", tmp_path / "time.json")
    assert (status, stdout) == (1, "")
    assert stderr == "slimnets: interrupted; unfinished work is not kept\n"
    assert not (tmp_path / "time.json").exists()


def test_an_interrupt_in_the_second_networks_burn_in_leaves_the_first(capsys, monkeypatch, tmp_path):
    stopping(monkeypatch, KeyboardInterrupt(), at=5)
    status, printed, _, stderr = run(capsys, TINY, TINY, *FEW, "--json", tmp_path / "time.json")
    assert status == 1
    assert "interrupted" in stderr
    written = json.loads((tmp_path / "time.json").read_text())
    assert written["interrupted"]
    assert [net["interrupted"] for net in written["nets"]] == [False]
    assert printed["steps, after 1"] == "3"


def test_what_does_not_fit(capsys, monkeypatch):
    stopping(monkeypatch, tf.errors.ResourceExhaustedError(None, None, "OOM"), at=1)
    status, _, stdout, stderr = run(capsys, TINY)
    assert (status, stdout) == (1, "")
    assert stderr == (
        "slimnets: error: Out of memory (32 images at a time do not fit for resnet_v2_tiny): "
        "use smaller images or batches.\n"
    )


def test_what_does_not_fit_leaves_the_networks_before(capsys, monkeypatch, tmp_path):
    stopping(monkeypatch, tf.errors.ResourceExhaustedError(None, None, "OOM"), at=5)
    status, printed, _, stderr = run(capsys, TINY, "resnet_cifar_20", *FEW, "--json", tmp_path / "time.json")
    assert status == 1
    assert stderr.splitlines()[-1].startswith("slimnets: error: Out of memory (2 images at a time")
    assert printed["steps, after 1"] == "3"
    assert len(json.loads((tmp_path / "time.json").read_text())["nets"]) == 1


@pytest.mark.full
def test_ctrl_c(tmp_path):
    file = tmp_path / "time.json"
    command = [sys.executable, "-c", COMMAND, "time", TINY, "--steps", "100000", "--json", str(file)]
    with subprocess.Popen(
        command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr.readline().startswith(f"{TINY}: ")  # ten seconds after the first step
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 1
    assert stderr.splitlines()[-1] == "slimnets: interrupted; the figures are of the steps until then"
    (net,) = json.loads(file.read_text())["nets"]
    assert net["interrupted"]
    assert 0 < len(net["durations"]) < 100_000
    assert f"{1000 * np.median(net['durations']):,.2f} ms" in stdout


# Other engines.


def faked(monkeypatch, comparison):
    """Replaces the comparison by this one, and returns its arguments."""
    asked = {}

    def network_problem(folder, net, **options):
        asked.update(net=net, **options)
        return "problem"

    def compare(problem, engines, *, steps, burn_in, on_step=None, on_setup=None):
        asked.update(engines=engines, steps=steps, burn_in=burn_in)
        on_setup("slim")
        for _ in range(burn_in + steps):
            on_step(1)
        return comparison

    monkeypatch.setattr("tools.peers.making.network_problem", network_problem)
    monkeypatch.setattr("tools.peers.turns.compare", compare)
    return asked


def comparison(interrupted=False, rounds=4):
    from tools.peers.turns import Comparison, EngineRun

    runs = [
        EngineRun("slimnets", "2.0", 1.0, (0.1, 0.2, 0.1, 0.4)[:rounds], 0.0, 0.0),
        EngineRun("slim", "1.1.0", 2.0, (0.2, 0.3, 0.3, 0.4)[:rounds], 1e-6, 1e-7),
        EngineRun("torch", refused="torch needs torch."),
    ]
    return Comparison({run.name: run for run in runs}, interrupted)


def test_against_others(capsys, monkeypatch, tmp_path):
    """Computed by hand: the ratios 2, 1.5, 3 and 1 have the median 1.75, and the quartiles 1.375 and 2.25."""
    asked = faked(monkeypatch, comparison())
    file = tmp_path / "time.json"
    options = ["--steps", "4", "--burn-in", "2", "--batch-size", "3", "--threads", "1", "--num-classes", "5"]
    assert main(["time", TINY, "--against", "slim, torch", *options, "--json", str(file)]) == 0
    stdout, stderr = capsys.readouterr()
    assert asked == {
        "net": TINY, "batch_size": 3, "image_size": None, "num_classes": 5, "checkpoint": None, "threads": 1,
        "precision": "float32", "engines": ["slim", "torch"], "steps": 4, "burn_in": 2,
    }  # fmt: skip
    rows = {line.split()[0]: line.split()[1:] for line in stdout.splitlines()}
    assert rows["slim"] == ["1.1.0", "1e-06", "10.0", "1.750", "1.375", "to", "2.250"]
    assert stdout.splitlines()[-1] == "torch: not compared: torch needs torch."
    assert f"{TINY}: 6/6" in stderr
    written = json.loads(file.read_text())
    assert [engine["durations"] for engine in written["engines"]] == [[0.1, 0.2, 0.1, 0.4], [0.2, 0.3, 0.3, 0.4], []]
    assert written["engines"][2]["refused"] == "torch needs torch."
    assert math.isclose(written["engines"][1]["ratio"]["median"], 1.75)


def test_an_interrupted_comparison(capsys, monkeypatch, tmp_path):
    pytest.importorskip("matplotlib")
    faked(monkeypatch, comparison(interrupted=True, rounds=2))
    assert main(["time", TINY, "--against", "slim", *FEW, "--plot", str(tmp_path / "time.png")]) == 1
    stdout, stderr = capsys.readouterr()
    assert "2 rounds" in stdout
    assert stderr.splitlines()[-1] == "slimnets: interrupted; the figures are of the steps until then"
    assert (tmp_path / "time.png").is_file()


def test_a_comparison_without_a_round(capsys, monkeypatch):
    faked(monkeypatch, comparison(interrupted=True, rounds=0))
    assert main(["time", TINY, "--against", "slim", *FEW]) == 1
    stdout, stderr = capsys.readouterr()
    assert stdout == ""
    assert stderr.splitlines()[-1] == "slimnets: interrupted; unfinished work is not kept"


@pytest.mark.full
def test_against_tf_slim(capsys, tmp_path):
    file = tmp_path / "time.json"
    assert main(["time", TINY, "--against", "slim", *FEW, "--json", str(file)]) == 0
    engines = {engine["name"]: engine for engine in json.loads(file.read_text())["engines"]}
    assert engines.keys() == {"slimnets", "slim"}
    assert all(len(engine["durations"]) == 3 for engine in engines.values())
