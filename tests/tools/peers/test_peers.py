"""Tests the engines: that they compute the same network, which are refused, and how they take turns."""

import itertools
import json
import os
import re
import sys
from collections import Counter

import numpy as np
import pytest
import tensorflow as tf

from nets.endpoint_info import UnknownEndPointError
from tests.helpers.float64 import assert_as_exact, references
from tools import peers
from tools.engines import engine_module
from tools.errors import PeerError
from tools.peers import OURS, processes, turns
from tools.peers.layer_list import Layer, layers_of, same_padding
from tools.peers.making import make_problem, network_problem
from tools.peers.problem import Problem
from tools.peers.turns import Comparison, EngineRun, compare, orders
from tools.runtime.sessions import session_config

v1 = tf.compat.v1

# Share of the largest value in float32 for other orders of sums over about 20 layers. A mistake is of the order of 1.
TOLERANCE = 1e-4

NETWORKS = (
    ("resnet_v2_tiny", 32),
    ("resnet_v2_tiny", 33),
    pytest.param("resnet_basic_18", 64, marks=pytest.mark.full),
    pytest.param("resnet_keras_18", 64, marks=pytest.mark.full),
    pytest.param("resnet_keras_18_digits", 28, marks=pytest.mark.full),
    ("resnet_cifar_20", 32),
    *(
        pytest.param(name, size, marks=pytest.mark.full)
        for name in ("resnet_v1_50", "resnet_v2_50", "resnet_basic_34", "resnet_keras_50", "resnet_cifar_164")
        for size in (64, 65)
        if (name, size) != ("resnet_cifar_164", 65)  # its size must be a multiple of 4
    ),
)


def problem_of(folder, build, shape, seed=0):
    """Writes the problem of computing ``build`` on images of this shape."""
    with tf.Graph().as_default(), v1.Session() as session:
        images = v1.placeholder(tf.float32, [None, *shape[1:]], name="images")
        output = build(images)
        session.run(v1.global_variables_initializer())
        values = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
        return make_problem(folder, session, images, output, values, net="resnet_v2_tiny", num_classes=10, threads=2)


def layers_in(problem):
    return layers_of(problem.graph_def(), problem.images_name, [problem.output_name])


def by_keras(problem):
    from tools.peers.keras_model import build_model

    return np.array(build_model(*layers_in(problem))(problem.images(), training=False)[problem.output_name])


def by_torch(problem):
    import torch

    from tools.peers.engines.torch_engine import build_module

    images = torch.from_numpy(problem.images()).permute(0, 3, 1, 2)
    with torch.inference_mode():
        outputs = build_module(layers_in(problem)[0])(images)
    return (outputs.permute(0, 2, 3, 1) if outputs.ndim == 4 else outputs).numpy()


def by_the_graph(problem):
    """Returns the outputs of the frozen graph's ops without optimization, in float32 and in float64."""
    with tf.Graph().as_default():
        (output,) = tf.graph_util.import_graph_def(problem.graph_def(), return_elements=[problem.output_name])
        images = output.graph.get_tensor_by_name(f"import/{problem.images_name}")
        with v1.Session(config=session_config(optimize_graph=False)) as session:
            return references(session, {"output": output}, {images: problem.images()})["output"]


@pytest.mark.numerical
@pytest.mark.parametrize(("name", "size"), NETWORKS)
def test_layers_compute_what_the_graph_does(tmp_path, name, size):
    problem = network_problem(tmp_path, name, batch_size=2, image_size=size, num_classes=10, end_point="logits")
    expected = by_the_graph(problem)
    # Agreement would mean little if activations vanished or exploded.
    assert 0.1 < expected.double.std() < 100
    assert_as_exact(by_keras(problem), expected)
    assert_as_exact(by_torch(problem), expected)


@pytest.mark.numerical
@pytest.mark.parametrize("size", [8, 9])
@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("kind", ["conv", "depthwise conv", "max_pool", "relu and max_pool"])
def test_padding_of_even_and_odd_sizes(tmp_path, kind, padded, padding, size):
    """Images with both signs distinguish padding with zeros from padding with -inf."""
    generator = np.random.default_rng(1)

    def build(images):
        images = tf.nn.relu(images) if kind.startswith("relu") else tf.identity(images)
        if padded:
            images = tf.pad(images, [[0, 0], [1, 1], [1, 1], [0, 0]])
        if kind.endswith("max_pool"):
            return tf.nn.max_pool2d(images, 3, 2, padding)
        kernel = tf.constant(generator.normal(size=[3, 3, 2, 4]), tf.float32)
        if kind == "conv":
            return tf.nn.conv2d(images, kernel, 2, padding)
        convolved = tf.nn.depthwise_conv2d(images, kernel, [1, 2, 2, 1], padding)
        return tf.nn.bias_add(convolved, generator.normal(size=8).astype(np.float32))

    problem = problem_of(tmp_path, build, [2, size, size + 2, 2])
    expected = by_the_graph(problem)
    assert_as_exact(by_keras(problem), expected)
    assert_as_exact(by_torch(problem), expected)


@pytest.mark.numerical
@pytest.mark.parametrize("size", [3, 5])
def test_branches_with_average_pooling(tmp_path, size):
    """Zeros in the padding would count in the means at the edges, and another order of the branches would show."""

    def branches(images):
        return tf.concat([tf.nn.avg_pool2d(images, size, 1, "SAME"), tf.nn.relu(images)], axis=-1)

    problem = problem_of(tmp_path, branches, [2, 8, 9, 2])
    expected = by_the_graph(problem)
    assert_as_exact(by_keras(problem), expected)
    assert_as_exact(by_torch(problem), expected)


@pytest.mark.numerical
@pytest.mark.parametrize("size", [8, 9])
@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize("convolve", [tf.nn.convolution, tf.nn.conv2d])
def test_dilated_convolutions(tmp_path, convolve, padding, size):
    """TensorFlow writes them as one op, or as three, which move pixels into the batch and back."""
    kernel = np.random.default_rng(1).normal(size=[3, 3, 2, 4]).astype(np.float32)
    problem = problem_of(
        tmp_path, lambda images: convolve(images, kernel, 1, padding, dilations=(2, 1)), [2, size, size, 2]
    )
    expected = by_the_graph(problem)
    assert_as_exact(by_keras(problem), expected)
    assert_as_exact(by_torch(problem), expected)


@pytest.mark.parametrize("stride", [1, 2, 3])
def test_same_padding_is_tensorflows(stride):
    """Sums over windows of ones count the pixels inside, so the first window tells the padding before the image."""
    cases = list(itertools.product([1, 5, 6, 7, 8], [1, 2, 3, 7]))
    with tf.Graph().as_default(), v1.Session() as session:
        sums = session.run(
            [
                tf.nn.conv2d(tf.ones([1, size, 1, 1]), tf.ones([kernel, 1, 1, 1]), [stride, 1], "SAME")
                for size, kernel in cases
            ]
        )
    for (size, kernel), found in zip(cases, sums, strict=True):
        before, after = same_padding(size, kernel, stride)
        padded = np.pad(np.ones(size), (before, after))
        starts = range(0, len(padded) - kernel + 1, stride)
        np.testing.assert_array_equal(found.ravel(), [padded[start : start + kernel].sum() for start in starts])


def test_layers_are_those_of_a_library(tmp_path):
    """Biases and paddings are parts of their layers, and reshapes to the same shape are gone."""
    problem = network_problem(tmp_path, "resnet_v2_tiny", batch_size=1)
    layers, outputs = layers_in(problem)
    assert outputs == {problem.output_name: layers[-1].name}
    kernels = [name for name in problem.weights() if name.endswith("/weights")]
    norms = [name for name in problem.weights() if name.endswith("/gamma")]
    biases = [name for name in problem.weights() if name.endswith("/biases")]
    assert Counter(layer.kind for layer in layers) == {
        **{"input": 1, "conv": len(kernels), "batch_norm": len(norms), "relu": len(norms), "max_pool": 2, "add": 4},
        **{"global_mean": 1, "flatten": 1, "softmax": 1},
    }
    assert sum("bias" in layer.weights for layer in layers) == len(biases)
    assert layers[1].attributes == {"strides": (2, 2), "padding": ((3, 3), (3, 3)), "dilation": (1, 1)}


UNKNOWN = {
    "op": (tf.nn.elu, "is a Elu, which is not translated for other engines"),
    "constant": (lambda x: x + tf.constant(1.0), "is a AddV2 with shapes"),
    "pixels in the batch": (
        lambda x: tf.batch_to_space(
            tf.nn.relu(tf.space_to_batch(x, [2, 2], [[0, 0], [0, 0]])), [2, 2], np.zeros((2, 2))
        ),
        "is a BatchToSpaceND, which",
    ),
    "groups": (lambda x: tf.nn.conv2d(x, np.ones([3, 3, 1, 2], np.float32), 1, "SAME"), "is a Conv2D with groups"),
    "mean of padding": (lambda x: tf.nn.avg_pool2d(x, 3, 2, "SAME"), "is a AvgPool with uneven padding"),
    "another axis": (lambda x: tf.concat([x, tf.nn.relu(x)], 1), "is a ConcatV2 with axis 1"),
    "axes": (lambda x: tf.reduce_mean(x, [3]), r"is a Mean with axes \[3\]"),
    "bias alone": (lambda x: tf.nn.bias_add(x, [1.0, 2.0]), "is a BiasAdd after a input"),
    "order": (lambda x: tf.reshape(x, [2, 72]), r"shapes \[2, 6, 6, 2\] to \[2, 72\]"),
    "training": (
        lambda x: v1.nn.fused_batch_norm(x, [1.0, 1.0], [0.0, 0.0])[0],
        "is a FusedBatchNormV3 with is_training True",
    ),
    "another output": (
        lambda x: v1.nn.fused_batch_norm(x, [1.0, 1.0], [0.0, 0.0])[1],
        "is the FusedBatchNormV3's output 1, not its first",
    ),
}


@pytest.mark.parametrize("case", UNKNOWN)
def test_what_is_not_understood_is_refused(tmp_path, case):
    build, message = UNKNOWN[case]
    problem = problem_of(tmp_path, build, [2, 6, 6, 2])
    with pytest.raises(PeerError, match=message):
        layers_in(problem)


def test_engines_refuse_a_kind_that_they_do_not_know():
    from tools.peers.engines.torch_engine import build_module
    from tools.peers.keras_model import build_model

    layers = [Layer("input", "images", (), {"shape": (1, 2, 2, 1)}, {}), Layer("swish", "s", ("images",), {}, {})]
    for build in (lambda listed: build_model(listed, {"s": "s"}), build_module):
        with pytest.raises(PeerError, match="s is a layer 'swish'"):
            build(layers)


def test_problem_is_as_it_was_saved(tmp_path):
    problem = network_problem(tmp_path / "new", "resnet_cifar_20", batch_size=3, threads=1, precision="bfloat16")
    assert Problem.load(tmp_path / "new") == problem
    assert (problem.threads, problem.precision, problem.num_classes) == (1, "bfloat16", 10)
    assert problem.images().shape == (3, 32, 32, 3)
    assert problem.images().dtype == np.float32
    assert len(problem.weights()) == 19 + 4 * 19 + 2
    again = network_problem(tmp_path / "again", "resnet_cifar_20", batch_size=3)
    assert all(np.array_equal(value, again.weights()[name]) for name, value in problem.weights().items())


def test_problem_has_the_weights_of_a_checkpoint(tmp_path, tiny_checkpoint):
    problem = network_problem(tmp_path, "resnet_v2_tiny", batch_size=1, checkpoint=tiny_checkpoint)
    reader = tf.train.load_checkpoint(str(tiny_checkpoint))
    for name, value in problem.weights().items():
        np.testing.assert_array_equal(value, reader.get_tensor(name))


def test_mistakes_in_a_problem_are_sentences(tmp_path):
    with pytest.raises(UnknownEndPointError, match="Unknown end point 'block9': did you mean block"):
        network_problem(tmp_path, "resnet_v2_tiny", batch_size=1, end_point="block9")
    with pytest.raises(PeerError, match="batch_size must be at least 1, but is 0"):
        network_problem(tmp_path, "resnet_v2_tiny", batch_size=0)
    with pytest.raises(PeerError, match="threads must be at least 1, or None for one a core, but is 0"):
        network_problem(tmp_path, "resnet_v2_tiny", batch_size=1, threads=0)
    with pytest.raises(PeerError, match="holds no problem"):
        Problem.load(tmp_path / "nowhere")
    with pytest.raises(PeerError, match="does not depend on images:0"):
        problem_of(tmp_path, lambda images: tf.ones([2, 2]), [2, 6, 6, 2])
    with tf.Graph().as_default(), v1.Session() as session:
        images = v1.placeholder(tf.float32, [None, 6, 6, 2])
        with pytest.raises(PeerError, match=r"but have \[2, 7, 7, 2\]"):
            make_problem(tmp_path, session, images, images, np.ones([2, 7, 7, 2]), net="", num_classes=1)


# An engine with prescribed outputs and failures, which records each step.
FAKE = """
import json, os, sys, types
import numpy as np
from pathlib import Path
from tools.peers import worker
from tools.peers.problem import Prepared

name, folder, told = sys.argv[1], Path(sys.argv[2]), json.loads(sys.argv[3])

def prepare(problem, name):
    print("chatter of the engine")
    os.system("echo chatter of its library")
    if "refuses" in told:
        raise ValueError(told["refuses"])
    if "dies" in told:
        raise RuntimeError(told["dies"])
    (folder / f"pid-{name}").write_text(str(os.getpid()))
    steps = []
    def step():
        print("chatter of a step")
        steps.append(name)
        if len(steps) > told.get("steps", 1000):
            os._exit(3)
        with (folder / "steps").open("a") as file:
            file.write(f"{name}\\n")
    worker._WARM_UP = told.get("warm_up", 0.0)
    return Prepared(step, np.array(told.get("outputs", [1.0, 2.0]), np.float32), "1.0")

for module in ("slimnets", "slim", "keras", "torch", "model"):
    sys.modules[f"tools.peers.engines.{module}_engine"] = types.SimpleNamespace(prepare=prepare)
sys.exit(worker.main(sys.argv[1:3]))
"""


@pytest.fixture
def fakes(tmp_path, monkeypatch):
    """Returns a problem, and a dict that tells the fake engines, by name, what to do."""
    told = {}

    def command(name, folder, precision):
        wanted = told.get("in float32" if precision else name, {})
        return [sys.executable, "-c", FAKE, name, os.fspath(folder), json.dumps(wanted)]

    monkeypatch.setattr(processes, "worker_command", command)
    monkeypatch.setattr(turns, "_PAUSE", 0.0)
    problem = Problem(tmp_path, "resnet_v2_tiny", 10, "images:0", "output:0", 1, "float32")
    problem.save()
    return problem, told


def steps_of(problem):
    return (problem.folder / "steps").read_text(encoding="utf-8").split()


def test_engines_take_turns(fakes):
    problem, _ = fakes
    set_up, rounds = [], []
    names = [OURS, "slim", "keras"]
    comparison = compare(problem, ["slim", "keras"], steps=4, burn_in=2, on_step=rounds.append, on_setup=set_up.append)
    assert list(comparison.runs) == set_up == names
    assert rounds == [1] * 6
    assert not comparison.interrupted
    steps = steps_of(problem)
    assert [sorted(steps[i : i + 3]) for i in range(0, 18, 3)] == [sorted(names)] * 6
    for run in comparison.runs.values():
        assert len(run.durations) == 4
        assert (run.version, run.refused, run.largest_difference, run.relative_difference) == ("1.0", None, 0.0, 0.0)
        assert run.setup_seconds > 0


def test_engines_warm_up_before_each_step(fakes):
    problem, told = fakes
    told["slim"] = {"warm_up": 0.02}
    compare(problem, ["slim"], steps=2, burn_in=0)
    counts = Counter(steps_of(problem))
    assert counts[OURS] == 2
    assert counts["slim"] > 2


def test_every_process_has_ended(fakes):
    problem, told = fakes
    told["slim"] = {"outputs": [3.0, 4.0]}
    compare(problem, ["slim", "keras"], steps=1, burn_in=0)
    for name in (OURS, "slim", "keras"):
        with pytest.raises(ProcessLookupError):
            os.kill(int((problem.folder / f"pid-{name}").read_text(encoding="utf-8")), 0)


@pytest.mark.parametrize("count", range(1, 8))
def test_everyone_comes_after_everyone_else(count):
    names = [str(i) for i in range(count)]
    rows = list(itertools.islice(orders(names), 2 * count if count % 2 else count))
    assert all(sorted(row) == names for row in rows)
    followers = Counter(pair for row in rows for pair in itertools.pairwise(row))
    assert len(followers) == count * (count - 1)
    assert len(set(followers.values())) <= 1
    assert all(set(place) == set(names) for place in zip(*rows, strict=True))


def test_ratio_is_above_one_where_ours_is_faster():
    runs = {name: EngineRun(name, durations=seconds) for name, seconds in ((OURS, (1.0, 2.0)), ("torch", (3.0, 1.0)))}
    assert Comparison(runs, interrupted=False).ratios("torch") == [3.0, 0.5]


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        ([1.0, 2.1], "differ from ours by up to 0.05 of the largest, and 0.001 is allowed"),
        ([1.0, float("nan")], "It computes something else"),
        ([1.0, 2.0, 3.0], r"Its outputs have the shape \[3\], and ours \[2\]"),
    ],
)
def test_another_function_is_refused_and_not_timed(fakes, outputs, message):
    problem, told = fakes
    told["slim"] = {"outputs": outputs}
    told["torch"] = {"outputs": [[1.0, 2.001]]}
    runs = compare(problem, ["slim", "torch"], steps=1, burn_in=0).runs
    assert runs["slim"].durations == ()
    with pytest.raises(PeerError, match=message):
        raise PeerError(runs["slim"].refused)
    assert (runs["torch"].refused, len(runs["torch"].durations)) == (None, 1)
    assert runs["torch"].relative_difference == pytest.approx(5e-4, rel=1e-3)
    assert set(steps_of(problem)) == {OURS, "torch"}


def test_logits_that_cancel_are_compared_by_the_size_of_their_terms(fakes):
    problem, told = fakes
    told |= {OURS: {"outputs": [1e-6]}, "slim": {"outputs": [5e-4]}, "keras": {"outputs": [2e-3]}}
    runs = compare(problem._replace(logit_size=1.0), ["slim", "keras"], steps=1, burn_in=0).runs
    assert runs["slim"].refused is None
    assert runs["slim"].relative_difference == pytest.approx(4.99e-4)
    assert "differ from ours by up to 0.002 of the largest" in runs["keras"].refused


@pytest.mark.parametrize("squeezed", [False, True])
def test_a_problem_knows_the_size_of_its_logits(tmp_path, squeezed):
    """One logit has the features [3, 4], and a bias that cancels it. The output of another layer has no such size."""
    kernel, bias = np.array([[0.6], [0.8]], np.float32), [-5.0]

    def build(images):
        if squeezed:
            net = tf.nn.conv2d(tf.reduce_mean(images, [1, 2], keepdims=True), kernel[None, None], 1, "SAME")
            return tf.squeeze(tf.nn.bias_add(net, bias), [1, 2])
        return tf.nn.bias_add(tf.matmul(tf.reduce_mean(images, [1, 2]), kernel), bias)

    def size(build):
        with tf.Graph().as_default(), v1.Session() as session:
            images = v1.placeholder(tf.float32, [None, 2, 2, 2])
            given = np.full([1, 2, 2, 2], [3.0, 4.0], np.float32)
            return make_problem(tmp_path, session, images, build(images), given, net="", num_classes=1).logit_size

    assert size(build) == pytest.approx(5.0 / np.sqrt(2))
    assert Problem.load(tmp_path).logit_size == size(build)
    assert size(lambda images: tf.nn.softmax(build(images))) == 0


def test_a_lower_precision_of_ours_is_held_against_float32_as_all_others(fakes):
    problem, told = fakes
    problem = problem._replace(precision="bfloat16")
    told |= {"in float32": {"outputs": [1.0, 2.0]}, OURS: {"outputs": [1.0, 2.2]}, "slim": {"outputs": [1.0, 2.2]}}
    runs = compare(problem, ["slim", "keras"], steps=1, burn_in=0).runs
    assert runs[OURS].relative_difference == pytest.approx(0.1)
    assert runs["slim"].refused.startswith("It computes something else")
    assert [runs[name].refused for name in (OURS, "keras")] == [None, None]
    assert runs["keras"].largest_difference == 0.0


def test_what_cannot_be_set_up_is_refused(fakes, monkeypatch):
    problem, told = fakes
    monkeypatch.setitem(peers.ENGINES, "openvino", peers.ENGINES["openvino"]._replace(packages=("no_such_package",)))
    told["slim"] = {"refuses": "There is no such network."}
    told["keras"] = {"dies": "in two\nlines"}
    runs = compare(problem, ["slim", "keras", "openvino"], steps=1, burn_in=0).runs
    assert runs["slim"].refused == "There is no such network."
    assert runs["keras"].refused == "The process of keras ended with exit status 1: lines"
    assert runs["openvino"].refused == "openvino requires no_such_package: pip install 'slimnets[peers]'."
    assert all(run.durations == () for name, run in runs.items() if name != OURS)
    assert len(runs[OURS].durations) == 1


def test_who_ends_before_the_last_round_is_out(fakes):
    problem, told = fakes
    told["slim"] = {"steps": 5}
    runs = compare(problem, ["slim"], steps=8, burn_in=0).runs
    assert "The process of slim ended with exit status 3" in runs["slim"].refused
    assert runs["slim"].durations == ()
    assert len(runs[OURS].durations) == 8


@pytest.mark.parametrize(
    "told_ours", [{"dies": "Out of order."}, {"steps": 3}, {"outputs": [0.0, 0.0]}, {"outputs": [1.0, float("inf")]}]
)
def test_nothing_is_compared_without_our_own(fakes, told_ours):
    problem, told = fakes
    told[OURS] = told_ours
    with pytest.raises(PeerError, match=r"The process of slimnets ended|zeros or not finite"):
        compare(problem, ["slim"], steps=8, burn_in=0)


def test_interrupt_leaves_the_rounds_before_it(fakes):
    problem, _ = fakes
    left = itertools.count(-5)

    def interrupt(count):
        if next(left) + count > 0:
            raise KeyboardInterrupt

    comparison = compare(problem, ["slim"], steps=100, burn_in=2, on_step=interrupt)
    assert comparison.interrupted
    assert [len(run.durations) for run in comparison.runs.values()] == [4, 4]
    assert len(comparison.ratios("slim")) == 4


def test_mistakes_in_a_comparison_are_sentences(fakes):
    problem, _ = fakes
    with pytest.raises(
        PeerError, match="Engine unknown: 'caffe'; the engines are slimnets, slim, keras, torch, torch-compile"
    ):
        compare(problem, ["caffe"])
    with pytest.raises(PeerError, match="steps must be at least 1 and burn_in at least 0, but are 0 and 1"):
        compare(problem, [], steps=0, burn_in=1)


@pytest.mark.numerical
def test_slim_with_other_weights_is_refused(tmp_path):
    """In real processes tf_slim's network gets its weights from another file than ours."""
    problem = network_problem(tmp_path, "resnet_v2_tiny", batch_size=2)
    weights = problem.weights()
    weights["resnet_v2_tiny/logits/weights"] *= -1
    np.savez(tmp_path / "weights.npz", **weights)
    runs = compare(problem, ["slim"], steps=1, burn_in=0).runs
    assert runs["slim"].refused.startswith("It computes something else")
    assert_as_exact(np.load(problem.outputs_file(OURS)), by_the_graph(problem))


def test_torch_compile_without_a_compiler_is_a_sentence(tmp_path, monkeypatch):
    import torch

    from tools.peers.engines import torch_engine

    problem = network_problem(tmp_path, "resnet_v2_tiny", batch_size=1, threads=torch.get_num_threads())
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(PeerError, match="requires a C\\+\\+ compiler, and there is no no-such-compiler: install one"):
        torch_engine.prepare(problem, "torch-compile")


def assert_agreement(problem, names):
    runs = compare(problem, names, steps=2, burn_in=0).runs
    assert {*names} <= runs.keys()
    for run in runs.values():
        assert run.refused is None
        assert len(run.durations) == 2
        assert run.relative_difference < TOLERANCE


@pytest.mark.numerical
@pytest.mark.full
@pytest.mark.parametrize("end_point", ["logits", "predictions", "block2/unit_1"])
def test_engines_agree_in_their_processes(tmp_path, end_point):
    assert_agreement(
        network_problem(tmp_path, "resnet_v2_tiny", batch_size=2, end_point=end_point), ["slim", "keras", "torch"]
    )


@pytest.mark.numerical
@pytest.mark.full
def test_torch_compile_agrees(tmp_path):
    assert_agreement(network_problem(tmp_path, "resnet_v2_tiny", batch_size=2), ["torch-compile"])


@pytest.mark.numerical
@pytest.mark.full
@pytest.mark.parametrize(("name", "size"), [("resnet_v2_tiny", 33), ("resnet_cifar_20", 32), ("resnet_basic_18", 64)])
def test_engines_with_models_agree(tmp_path, name, size):
    assert_agreement(network_problem(tmp_path, name, batch_size=2, image_size=size), ["onnxruntime", "openvino"])


@pytest.mark.numerical
@pytest.mark.full
def test_lower_precisions_are_compared(tmp_path):
    """Each one differs from float32 more than float32 does, and by little."""
    names = ["openvino:int8", "onnxruntime:int8", "openvino:bfloat16"]
    if "bfloat16" not in engine_module("openvino").precisions():
        names.pop()
    problem = network_problem(tmp_path, "resnet_v2_tiny", batch_size=8, end_point="global_pool")
    runs = compare(problem, ["openvino", *names], steps=2, burn_in=0).runs
    assert list(runs) == [OURS, "openvino", *names]
    for name in names:
        assert runs[name].refused is None
        assert len(runs[name].durations) == 2
        assert 10 * runs["openvino"].relative_difference < runs[name].relative_difference < 0.3


def test_a_lower_precision_may_differ(fakes):
    problem, told = fakes
    told["openvino:int8"] = {"outputs": [1.0, 1.5]}
    told["openvino"] = {"outputs": [1.0, 1.5]}
    runs = compare(problem, ["openvino:int8", "openvino"], steps=1, burn_in=0).runs
    assert (runs["openvino:int8"].refused, runs["openvino:int8"].largest_difference) == (None, 0.5)
    assert runs["openvino"].refused.startswith("It computes something else")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("torch:int8", "torch is compared in float32, and not in int8."),
        ("onnxruntime:bfloat16", "onnxruntime is compared in float32 and int8, and not in bfloat16."),
        ("caffe:int8", "Engine unknown: 'caffe:int8'; the engines are slimnets, "),
    ],
)
def test_precisions_that_an_engine_does_not_have(fakes, name, said):
    with pytest.raises(PeerError, match=re.escape(said)):
        compare(fakes[0], [name], steps=1, burn_in=0)
