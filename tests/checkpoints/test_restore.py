"""Tests the options of ``checkpoints.restore``: scope, exclude, ema, num_classes; and the messages if nothing fits.

TensorFlow's own operations and Saver write the files, from known values. The values that a variable must hold
afterwards are looked up among these. Each mistake is made, and the advice of its message is followed.
"""

import functools
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import tensorflow as tf
import tf_slim as slim

from checkpoints import CheckpointError, CheckpointMismatch, init_fn, open_checkpoint, restore
from nets import resnet_v2
from nets.guards import InferenceWarning
from tests.checkpoints.test_formats import build
from tests.golden.make import golden_file
from tests.helpers.float64 import assert_as_exact, references
from tests.helpers.processes import environment
from tests.helpers.reference import assign, random_values, random_values_of_shapes

v1 = tf.compat.v1

TINY, CIFAR = "resnet_v2_tiny", "resnet_cifar_20"
SHADOW = "ExponentialMovingAverage"
STATISTICS = ("/moving_mean", "/moving_variance")


class Built(NamedTuple):
    """A finished graph; ``initialized`` tells whether each variable has a value."""

    graph: tf.Graph
    logits: tf.Tensor | None
    initialized: list[tf.Tensor]


def finished(graph, logits=None):
    """Returns the graph with the ops that tell whether its variables have a value."""
    with graph.as_default():
        flags = [tf.raw_ops.VarIsInitializedOp(resource=v.handle) for v in v1.global_variables()]
    graph.finalize()
    return Built(graph, logits, flags)


@functools.cache
def network(name=TINY, classes=10, scope=None, cut=False):
    """Builds a network for inference; ``cut`` has a partitioner halve its variables along the last axis."""
    partitioner = (lambda shape, **_: [1] * (shape.rank - 1) + [2]) if cut else None
    with tf.Graph().as_default() as graph, v1.variable_scope(v1.get_variable_scope(), partitioner=partitioner):
        logits = build(name, classes, scope)
    return finished(graph, logits)


@functools.cache
def two_networks():
    with tf.Graph().as_default() as graph:
        images = v1.placeholder(tf.float32, [1, 32, 32, 3])
        with slim.arg_scope(resnet_v2.resnet_arg_scope()):
            for scope in ("one", "other"):
                resnet_v2.resnet_v2_tiny(images, None, is_training=False, scope=scope)
    return finished(graph)


@functools.cache
def shapes_of(name=TINY):
    golden = json.loads(golden_file(name).read_text(encoding="utf-8"))
    return {variable: tuple(shape) for variable, shape in golden["variables"].items()}


def weights(name=TINY, scope=None, classes=10, seed=0):
    """Returns random values by the names of a network's variables, under another scope if one is given."""
    default = name if name == TINY else ""
    shapes = {}
    for variable, shape in shapes_of(name).items():
        inside = variable.removeprefix(f"{default}/")
        if inside.startswith("logit"):
            if not classes:
                continue
            shape = (*shape[:-1], classes)
        shapes["/".join(filter(None, [default if scope is None else scope, inside]))] = shape
    return random_values_of_shapes(shapes, seed)


def averages(values, seed=1):
    """Returns moving averages of all these variables, by the averages' names; the values differ from the variables'."""
    shapes = {name: value.shape for name, value in values.items()}
    return {f"{name}/{SHADOW}": value for name, value in random_values_of_shapes(shapes, seed).items()}


def write(path, values, version="V2"):
    """Writes a checkpoint with TensorFlow's operations, outside any graph."""
    names, tensors = list(values), list(values.values())
    if version == "V1":
        tf.raw_ops.Save(filename=str(path), tensor_names=names, data=tensors)
    else:
        slices = [""] * len(names)
        tf.raw_ops.SaveV2(prefix=str(path), tensor_names=names, shape_and_slices=slices, tensors=tensors)
    return path


def open_session(graph):
    """Opens a session that does not optimize the graph: that would take longer than the computation."""
    config = v1.ConfigProto()
    config.graph_options.rewrite_options.disable_meta_optimizer = True
    return v1.Session(graph=graph, config=config)


def held(session):
    """Returns the values of all initialized variables by name; pieces of a cut variable are joined."""
    with session.graph.as_default():
        variables = v1.global_variables()
    # Not variable.value(), which would add to the graph.
    names = [variable.op.name for variable in variables]
    reads = [session.graph.get_tensor_by_name(f"{name}/Read/ReadVariableOp:0") for name in names]
    flags = [session.graph.get_operation_by_name(f"{name}/IsInitialized/VarIsInitializedOp") for name in names]
    have = session.run([flag.outputs[0] for flag in flags])
    found = session.run([read for read, has in zip(reads, have, strict=True) if has])
    pieces = {}
    for variable, value in zip([v for v, has in zip(variables, have, strict=True) if has], found, strict=True):
        cut = variable._get_save_slice_info()
        pieces.setdefault(variable.op.name if cut is None else cut.full_name, []).append(value)
    return {name: parts[0] if len(parts) == 1 else np.concatenate(parts, axis=-1) for name, parts in pieces.items()}


def restored(net, path, **options):
    """Returns the report, and the values of the variables afterwards."""
    with open_session(net.graph) as session:
        report = restore(session, path, **options)
        return report, held(session)


def refused(net, path, error=CheckpointMismatch, **options):
    """Returns the message, after checking that no variable has a value."""
    with open_session(net.graph) as session:
        with pytest.raises(error) as caught:
            restore(session, path, **options)
        assert not any(session.run(net.initialized))
    return str(caught.value)


def assert_same(found, expected):
    """Asserts that both have the same names and bit-identical values."""
    assert set(found) == set(expected)
    for name, value in expected.items():
        assert found[name].tobytes() == value.tobytes(), name


def images(count=3):
    return np.random.default_rng(5).normal(size=[count, 32, 32, 3]).astype(np.float32)


# Scope.

# Network, its builder's arg scope, its scope in the graph and in the file, and the file's format.
SCOPES = [
    (TINY, None, TINY, f"model/{TINY}", "V1"),
    (TINY, "outer/net", "outer/net", "model/other", "V2"),
    (TINY, "outer/net", "outer/net", "", "V1"),
    (TINY, "outer/net", "outer/net", "outer", "V2"),
    (TINY, "outer/net", "outer/net", "net", "V1"),
    (CIFAR, None, "", "mine/net", "V2"),
    (CIFAR, "mine/net", "mine/net", "", "V1"),
    (CIFAR, "mine/net", "mine/net", "other", "V2"),
]


@pytest.mark.parametrize(("name", "scope", "here", "there", "version"), SCOPES)
def test_a_network_under_another_scope(tmp_path, name, scope, here, there, version):
    """Gives the scope as a string and as a dict, with and without slashes around it."""
    path = write(tmp_path / "model.ckpt", weights(name, there), version)
    expected = weights(name, here)
    for given in (there, {here: there}) if version == "V1" else (f"/{there}/", {f"{here}/": f"{there}/"}):
        report, found = restored(network(name, scope=scope), path, scope=given)
        assert_same(found, expected)
        assert set(report.loaded) == set(expected)
        assert report.missing == report.mismatched == report.unused == ()


@pytest.mark.parametrize(("name", "scope", "here", "there", "version"), SCOPES)
def test_a_forgotten_scope_is_offered(tmp_path, name, scope, here, there, version):
    path = write(tmp_path / "model.ckpt", weights(name, there), version)
    message = refused(network(name, scope=scope), path)
    assert f"the file has the network under the scope {there!r}, and the graph under {here!r}" in message
    assert f"give scope={there!r}." in message
    _, found = restored(network(name, scope=scope), path, scope=there)
    assert_same(found, weights(name, here))


def test_a_file_of_a_saver_that_was_given_names(tmp_path):
    """Reads a file of a Saver with a dict, which is TensorFlow's way to save under other names."""
    expected = weights()
    path = write(tmp_path / "plain.ckpt", expected)
    with tf.Graph().as_default() as graph, open_session(graph) as session:
        build()
        named = {f"model/{variable.op.name}": variable for variable in v1.global_variables()}
        v1.train.Saver().restore(session, str(path))
        v1.train.Saver(named).save(session, str(tmp_path / "model.ckpt"), write_meta_graph=False)
    _, found = restored(network(), tmp_path / "model.ckpt", scope=f"model/{TINY}")
    assert_same(found, expected)


def test_two_networks_of_one_file(tmp_path):
    """Restores each under its own scope, and each with the values of the other."""
    for one, other in (("model/x", "model/y"), ("other", "one")):
        stored = {**weights(scope=one, classes=0), **weights(scope=other, classes=0, seed=1)}
        path = write(tmp_path / "both.ckpt", stored)
        _, found = restored(two_networks(), path, scope={"one": one, "other": other})
        assert_same(found, {**weights(scope="one", classes=0), **weights(scope="other", classes=0, seed=1)})


def test_one_of_two_networks_keeps_its_scope(tmp_path):
    stored = {**weights(scope="model/x", classes=0), **weights(scope="other", classes=0, seed=1)}
    path = write(tmp_path / "both.ckpt", stored)
    _, found = restored(two_networks(), path, scope={"one": "model/x"})
    assert_same(found, {**weights(scope="one", classes=0), **weights(scope="other", classes=0, seed=1)})


@pytest.mark.parametrize("reverse", [False, True])
def test_of_two_scopes_the_inner_one_counts(tmp_path, reverse):
    """The order in the dict does not matter."""
    path = write(tmp_path / "model.ckpt", {"x/a": np.float32([1]), "y/b": np.float32([2])})
    with tf.Graph().as_default() as graph:
        for name in ("outer/a", "outer/inner/b"):
            v1.get_variable(name, [1])
    scopes = [("outer", "x"), ("outer/inner", "y")]
    _, found = restored(finished(graph), path, scope=dict(reversed(scopes) if reverse else scopes))
    assert_same(found, {"outer/a": np.float32([1]), "outer/inner/b": np.float32([2])})


def test_two_networks_may_share_a_file_of_one(tmp_path):
    path = write(tmp_path / "model.ckpt", weights(classes=0))
    _, found = restored(two_networks(), path, scope={"one": TINY, "other": TINY})
    assert_same(found, {**weights(scope="one", classes=0), **weights(scope="other", classes=0)})


def test_a_string_does_not_say_which_of_two_networks(tmp_path):
    path = write(tmp_path / "model.ckpt", weights(classes=0))
    message = refused(two_networks(), path, ValueError, scope=TINY)
    assert message.startswith(f"scope='{TINY}' does not say for which of the graph's networks, 'one', 'other': give a")


def test_a_scope_that_the_file_lacks_is_refused(tmp_path):
    path = write(tmp_path / "model.ckpt", {**weights(scope="a"), **weights(scope="b/c")})
    message = refused(network(), path, ValueError, scope="b/d")
    assert message == f"scope='b/d' does not exist in {path}: it has networks under 'a', 'b/c'."


def test_a_scope_around_the_networks_is_a_mismatch(tmp_path):
    path = write(tmp_path / "model.ckpt", weights(scope=f"model/{TINY}"))
    assert f"give scope='model/{TINY}'." in refused(network(), path, scope="model")
    assert f"give scope='model/{TINY}'." in refused(network(), path, scope={TINY: "nowhere"})


@pytest.mark.parametrize("net", [network, two_networks])
def test_a_scope_that_the_graph_lacks_is_refused(tmp_path, net):
    path = write(tmp_path / "model.ckpt", weights(classes=0))
    message = refused(net(), path, ValueError, scope={"gone": TINY})
    assert message.startswith("scope names 'gone', but no variable of the graph is under it: name a ")


def test_the_start_of_a_name_is_no_scope(tmp_path):
    path = write(tmp_path / "model.ckpt", weights())
    message = refused(network(), path, ValueError, scope={TINY[:-1]: TINY})
    assert f"scope names '{TINY[:-1]}'" in message
    assert f"scope='{TINY[:-1]}' does not exist in" in refused(network(), path, ValueError, scope=TINY[:-1])


def test_a_head_of_ones_own_keeps_its_name(tmp_path):
    """A string moves the network; a head beside it is found under its own name, or excluded."""
    stored = {**weights(scope="model", classes=0), "head/kernel": np.float32([1, 2])}
    path = write(tmp_path / "model.ckpt", stored)
    with tf.Graph().as_default() as graph:
        build(classes=0)
        for name in ("head/kernel", "head/new"):
            slim.model_variable(name, [2], initializer=v1.zeros_initializer())
    net = finished(graph)
    report, found = restored(net, path, scope="model", exclude="head/new")
    assert_same(found, {**weights(classes=0), "head/kernel": np.float32([1, 2])})
    assert report.excluded == ("head/new",)
    assert report.missing == ()


@pytest.mark.parametrize(
    ("names", "stored"),
    [
        (["part/a", "part/deeper/b"], ["old/a", "old/deeper/b"]),
        (["part/deeper/a"], ["old/a"]),
        (["a", "part/b"], ["old/a", "old/part/b"]),
    ],
)
def test_without_a_known_network_the_common_scope_is_moved(tmp_path, names, stored):
    values = [np.float32([i, 1]) for i in range(len(names))]
    path = write(tmp_path / "model.ckpt", dict(zip(stored, values, strict=True)))
    with tf.Graph().as_default() as graph:
        for name in names:
            v1.get_variable(name, [2])
    _, found = restored(finished(graph), path, scope="old")
    assert_same(found, dict(zip(names, values, strict=True)))


# Exclude.


@pytest.mark.parametrize("lacking", ["none", "/block4/"])
@pytest.mark.parametrize(
    ("patterns", "left"),
    [
        (f"{TINY}/block4/*", lambda name: "/block4/" in name),
        ((f"{TINY}/block4/*", "*/moving_m???"), lambda name: "/block4/" in name or name.endswith("/moving_mean")),
        ("*", lambda name: True),
    ],
)
def test_what_is_excluded_is_left_alone(tmp_path, patterns, left, lacking):
    """It may be in the file or not. The patterns apply to the graph's names, although the file has others."""
    stored = {name: value for name, value in weights(scope="model").items() if lacking not in name}
    path = write(tmp_path / "model.ckpt", stored)
    report, found = restored(network(), path, scope="model", exclude=patterns)
    expected = {name: value for name, value in weights().items() if not left(name)}
    assert_same(found, expected)
    assert set(report.loaded) == set(expected)
    assert set(report.excluded) == {name for name in weights() if left(name)}
    assert report.missing == report.mismatched == report.unused == ()


def test_an_excluded_logit_may_have_another_shape_and_scope(tmp_path):
    path = write(tmp_path / "model.ckpt", weights(scope="model", classes=7))
    report, found = restored(network(), path, scope="model", exclude=[f"{TINY}/logits/*"])
    assert_same(found, weights(classes=0))
    assert set(report.excluded) == {f"{TINY}/logits/weights", f"{TINY}/logits/biases"}
    assert report.missing == report.mismatched == report.unused == ()


def test_a_report_says_what_was_excluded(tmp_path):
    """The report does not mention exclusion if nothing was excluded."""
    path = write(tmp_path / "model.ckpt", weights())
    report, _ = restored(network(), path)
    assert str(report) == f"{path} (V2): 78 variables loaded\n  0 missing\n  0 mismatched\n  0 unused"
    assert report.excluded == ()
    report, _ = restored(network(), path, exclude=f"{TINY}/logits/*")
    names = f"{TINY}/logits/weights, {TINY}/logits/biases"
    assert (
        str(report)
        == f"{path} (V2): 76 variables loaded\n  0 missing\n  0 mismatched\n  0 unused\n  2 excluded: {names}"
    )


def test_nothing_is_excluded_by_none(tmp_path):
    """None is slim's own default."""
    report, _ = restored(network(), write(tmp_path / "model.ckpt", weights()), exclude=None)
    assert (len(report.loaded), report.excluded) == (78, ())


@pytest.mark.parametrize("pattern", ["gone", "", "/", "*gone*", "logits,gone"])
def test_a_pattern_of_nothing_offers_nothing(tmp_path, pattern):
    message = refused(network(), write(tmp_path / "model.ckpt", weights()), ValueError, exclude=pattern)
    assert message.startswith(f"exclude={pattern!r} fits no variable of the graph, such as {TINY}/block1/")
    assert message.endswith(": leave it out, or give a pattern of such names.")


def test_patterns_are_of_the_graphs_names(tmp_path):
    path = write(tmp_path / "model.ckpt", weights(scope="model"))
    message = refused(network(), path, ValueError, scope="model", exclude="model/logits/*")
    assert re.match(r"exclude='model/logits/\*' fits no variable of the graph, such as resnet_v2_tiny/block1", message)


# Moving averages, by hand.


def split(values):
    """Returns (trainable, statistics)."""
    statistics = {name: value for name, value in values.items() if name.endswith(STATISTICS)}
    return {name: value for name, value in values.items() if name not in statistics}, statistics


def of_averages(shadows):
    """Returns the expected values: the averages, by the variables' names."""
    return {name.removesuffix(f"/{SHADOW}"): value for name, value in shadows.items()}


@pytest.mark.parametrize(
    ("kept", "version"),
    [("beside", "V1"), ("alone", "V2"), ("trainable beside", "V2"), ("trainable alone", "V1")],
)
def test_averages_are_taken_in_the_place_of_variables(tmp_path, kept, version):
    """Moving statistics without an average are taken as they are."""
    plain = weights()
    trainable, statistics = split(plain)
    shadows = averages(trainable if kept.startswith("trainable") else plain)
    stored = {**(plain if kept.endswith("beside") else statistics if kept == "trainable alone" else {}), **shadows}
    path = write(tmp_path / "model.ckpt", stored, version)
    expected = {**(statistics if kept.startswith("trainable") else {}), **of_averages(shadows)}
    report, found = restored(network(), path, ema=True)
    assert_same(found, expected)
    assert set(report.loaded) == set(expected)
    used = set(shadows) | (set(statistics) if kept.startswith("trainable") else set())
    assert set(report.unused) == set(stored) - used
    if kept.endswith("beside"):
        report, found = restored(network(), path)
        assert_same(found, plain)
        assert set(report.unused) == set(shadows)


@pytest.mark.parametrize("of", ["all", "trainable"])
def test_a_file_of_averages_alone_needs_ema(tmp_path, of):
    """Also tests averages of the trainable variables only, with the plain moving statistics beside them."""
    plain = weights()
    trainable, statistics = split(plain)
    stored = averages(plain) if of == "all" else {**averages(trainable), **statistics}
    path = write(tmp_path / "model.ckpt", {**stored, "global_step": np.int64(7)})
    message = refused(network(), path)
    assert "moving averages of" in message
    assert "give ema=True." in message
    _, found = restored(network(), path, ema=True)
    assert_same(found, of_averages(stored))


def test_ema_of_a_file_without_averages_is_refused(tmp_path):
    path = write(tmp_path / "model.ckpt", weights())
    message = refused(network(), path, ema=True)
    assert "the file has no moving averages of the variables; leave ema=True out." in message
    _, found = restored(network(), path)
    assert_same(found, weights())


def test_ema_of_a_part_of_the_variables_is_refused(tmp_path):
    plain = weights()
    shadows = {name: value for name, value in averages(plain).items() if "/logits/" not in name}
    path = write(tmp_path / "model.ckpt", {**plain, **shadows})
    message = refused(network(), path, ema=True)
    assert "moving averages of only some variables; leave ema=True out, or exclude these." in message
    assert f"2 of 78 variables are not in the file: {TINY}/logits" in message
    _, found = restored(network(), path, ema=True, exclude=f"{TINY}/logits/*")
    assert_same(found, of_averages(shadows))
    _, found = restored(network(), path)
    assert_same(found, plain)


@pytest.mark.parametrize("beside", [False, True])
@pytest.mark.parametrize("there", ["model/net", ""])
def test_averages_under_another_scope(tmp_path, there, beside):
    values = weights(scope=there)
    path = write(tmp_path / "model.ckpt", {**averages(values), **(values if beside else {})})
    expected = of_averages(averages(weights()))
    for scope in (there, {TINY: there}):
        _, found = restored(network(), path, ema=True, scope=scope)
        assert_same(found, expected)


@pytest.mark.parametrize("beside", [False, True])
def test_a_scope_that_is_forgotten_with_averages_is_offered(tmp_path, beside):
    """The file has an average of everything, so if none is found, the scope is wrong."""
    values = weights(scope="model/net")
    path = write(tmp_path / "model.ckpt", {**averages(values), **(values if beside else {})})
    message = refused(network(), path, ema=True)
    assert "give scope='model/net'." in message
    assert "leave ema=True out" not in message


# Training graphs, with TensorFlow's own names.


class Trained(NamedTuple):
    """A checkpoint of a training graph.

    path: the file with all variables; beside it is ``averages.ckpt``, with averages in place of variables.
    net: the graph.
    values: all saved values.
    model: names of the model variables.
    average_names: maps the names of variables that have an average to TensorFlow's names of the averages.
    """

    path: Path
    net: Built
    values: dict[str, np.ndarray]
    model: set[str]
    average_names: dict[str, str]


def train(folder, scope, averaged):
    """Saves a training graph with three optimizers and moving averages, made under a scope."""
    with tf.Graph().as_default() as graph:
        loss = tf.reduce_mean(build(training=True))
        model = slim.get_model_variables()
        gradients = list(zip(tf.gradients(loss, v1.trainable_variables()), v1.trainable_variables(), strict=True))
        average = v1.train.ExponentialMovingAverage(0.9, v1.train.get_or_create_global_step())
        with v1.variable_scope(scope or v1.get_variable_scope()):
            for optimizer in (
                v1.train.MomentumOptimizer(0.1, 0.9),
                v1.train.AdamOptimizer(0.1),
                v1.train.RMSPropOptimizer(0.1, momentum=0.9),
            ):
                optimizer.apply_gradients(gradients)
            average.apply(model if averaged == "all" else None)
        variables = v1.global_variables()
    values = random_values([variable for variable in variables if variable.dtype.base_dtype == tf.float32])
    values["global_step"] = np.int64(7)
    write(folder / "values.ckpt", values)
    names = {v.op.name: average.average_name(v) for v in model if average.average(v) is not None}
    with graph.as_default(), open_session(graph) as session:
        saver = v1.train.Saver()
        saver.restore(session, str(folder / "values.ckpt"))
        saver.save(session, str(folder / "model.ckpt"), write_meta_graph=False)
        alone = {names.get(v.op.name, v.op.name): average.average(v) if v.op.name in names else v for v in model}
        v1.train.Saver(alone).save(session, str(folder / "averages.ckpt"), write_meta_graph=False)
    return Trained(folder / "model.ckpt", finished(graph), values, {variable.op.name for variable in model}, names)


@pytest.fixture(scope="module", params=["plain", "train"])
def trained(request, tmp_path_factory):
    """Makes two kinds: the default has optimizers beside the network and averages of trainable variables; the other
    has all of this under variable_scope('train'), with averages of all model variables."""
    scope, averaged = (None, None) if request.param == "plain" else ("train", "all")
    return train(tmp_path_factory.mktemp(request.param), scope, averaged)


def test_slots_and_averages_are_left_over(trained):
    """Tests those of Momentum, Adam and RMSProp, under any scope."""
    report, found = restored(network(), trained.path)
    assert_same(found, {name: trained.values[name] for name in trained.model})
    assert len(trained.model) == 78
    assert set(report.unused) == set(trained.values) - trained.model
    for slot in ("Momentum", "Adam", "Adam_1", "RMSProp", "RMSProp_1", SHADOW):
        assert any(name.endswith(f"/{slot}") for name in report.unused), slot
    assert report.warnings == ()


def test_averages_of_a_training_graph(trained):
    shadows = {name: trained.values[average] for name, average in trained.average_names.items()}
    expected = {name: shadows.get(name, trained.values[name]) for name in trained.model}
    assert any(not np.array_equal(expected[name], trained.values[name]) for name in trained.model)
    report, found = restored(network(), trained.path, ema=True)
    assert_same(found, expected)
    assert report.missing == report.mismatched == ()


def test_averages_of_a_training_graph_saved_alone(trained):
    """Uses the names of a Saver of ``ExponentialMovingAverage.variables_to_restore``."""
    shadows = {name: trained.values[average] for name, average in trained.average_names.items()}
    expected = {name: shadows.get(name, trained.values[name]) for name in trained.model}
    path = trained.path.with_name("averages.ckpt")
    assert set(open_checkpoint(path).shapes) == set(trained.average_names.values()) | (trained.model - set(shadows))
    if all(average == f"{name}/{SHADOW}" for name, average in trained.average_names.items()):
        _, found = restored(network(), path, ema=True)
    else:
        # Made under a scope, which the averages' names have and the variables' names do not.
        _, found = restored(network(), path, ema=True, scope=f"train/{TINY}")
    assert_same(found, expected)


def test_a_file_of_model_variables_for_a_training_graph(tmp_path, trained):
    path = write(tmp_path / "model.ckpt", weights())
    everything = trained.net.graph.get_collection(v1.GraphKeys.GLOBAL_VARIABLES)
    message = refused(trained.net, path, variables=everything)
    assert "the missing variables belong to the optimizer or the training loop, and were not saved" in message
    assert "give variables=slim.get_model_variables() for the network's" in message
    assert f"{len(everything) - 78} of {len(everything)} variables are not in the file" in message
    _, found = restored(trained.net, path, variables=trained.net.graph.get_collection(v1.GraphKeys.MODEL_VARIABLES))
    assert_same(found, weights())


# Numbers of classes.


def original(values, batch):
    """Returns logits of a file's network in float32 and in float64, with TensorFlow's own assignments."""
    classes = values[f"{TINY}/logits/biases"].shape[0]
    net = network(classes=classes)
    with open_session(net.graph) as session:
        assign(session, values)
        fed = net.graph.get_tensor_by_name("images:0")
        return references(session, {"logits": net.logits}, {fed: batch})["logits"]


def softmax(logits):
    shifted = np.exp(logits.astype(np.float64) - logits.max(axis=-1, keepdims=True))
    return shifted / shifted.sum(axis=-1, keepdims=True)


@pytest.mark.numerical
@pytest.mark.parametrize(("stored", "classes"), [(1001, 1000), (1000, 1001)])
def test_the_background_is_dropped_or_added(tmp_path, stored, classes):
    values = weights(classes=stored)
    path = write(tmp_path / "model.ckpt", values)
    before, net = original(values, images()), network(classes=classes)
    with open_session(net.graph) as session:
        report = restore(session, path, num_classes=classes)
        found = held(session)
        [probabilities] = [op.outputs[0] for op in net.graph.get_operations() if op.type == "Softmax"]
        logits, predictions = session.run([net.logits, probabilities], {"images:0": images()})
    assert report.missing == report.mismatched == report.unused == ()
    assert_same(
        {name: value for name, value in found.items() if "/logits/" not in name},
        {name: value for name, value in values.items() if "/logits/" not in name},
    )
    assert logits.shape == predictions.shape == (3, classes)
    common, expected = (logits, before[:, 1:]) if classes == 1000 else (logits[:, 1:], before)
    assert_as_exact(common, expected)
    probable = predictions if classes == 1000 else predictions[:, 1:]
    assert_as_exact(probable, expected.map(softmax))
    weights_found, biases_found = found[f"{TINY}/logits/weights"], found[f"{TINY}/logits/biases"]
    weights_stored, biases_stored = values[f"{TINY}/logits/weights"], values[f"{TINY}/logits/biases"]
    if classes == 1000:
        assert np.array_equal(weights_found, weights_stored[..., 1:])
        assert np.array_equal(biases_found, biases_stored[1:])
    else:
        assert np.array_equal(weights_found[..., 1:], weights_stored)
        assert np.array_equal(biases_found[1:], biases_stored)
        assert not predictions[:, 0].any()
        assert (logits[:, 0] < logits[:, 1:].min()).all()


@pytest.mark.parametrize(("stored", "classes"), [(1001, 1000), (1000, 1001)])
def test_nothing_is_converted_unless_asked_for(tmp_path, stored, classes):
    path = write(tmp_path / "model.ckpt", weights(classes=stored))
    message = refused(network(classes=classes), path)
    effect = "drops the background" if classes == 1000 else "adds a background that never wins"
    assert (
        f"the graph has {classes} classes and the file {stored}; build the network with num_classes={stored}, or give "
        f"num_classes={classes}, which {effect}."
    ) in message
    restored(network(classes=classes), path, num_classes=classes)
    _, found = restored(network(classes=stored), path)
    assert_same(found, weights(classes=stored))


def test_the_number_that_the_file_has_converts_nothing(tmp_path):
    for classes in (10, 1001):
        path = write(tmp_path / f"{classes}.ckpt", weights(classes=classes))
        _, found = restored(network(classes=classes), path, num_classes=classes)
        assert_same(found, weights(classes=classes))


@pytest.mark.parametrize(
    ("stored", "classes", "asked", "words"),
    [
        (10, 1000, 1000, "which has 10 classes"),
        (1001, 10, 10, "which has 1001 classes"),
        (0, 1000, 1000, "which has no logits"),
    ],
)
def test_other_conversions_are_refused(tmp_path, stored, classes, asked, words):
    path = write(tmp_path / "model.ckpt", weights(classes=stored))
    message = refused(network(classes=classes), path, ValueError, num_classes=asked)
    assert message.startswith(f"num_classes={asked} cannot be made from {path}, {words}: only 1001 classes can become")
    restored(network(classes=classes), path, exclude=f"{TINY}/logits/*")
    restored(network(classes=stored), path)


@pytest.mark.parametrize(("classes", "asked"), [(1001, 1000), (10, 1000)])
def test_a_conversion_to_another_number_than_the_graphs_is_refused(tmp_path, classes, asked):
    """The message does not say what number the file would have been converted to."""
    path = write(tmp_path / "model.ckpt", weights(classes=1001))
    message = refused(network(classes=classes), path, ValueError, num_classes=asked)
    assert str(classes) in message
    assert "the file 1000" not in message
    assert "1000] in the file" not in message


def test_a_conversion_for_a_graph_without_logits_is_refused(tmp_path):
    """The message says that the graph has no logits."""
    path = write(tmp_path / "model.ckpt", weights(classes=1001))
    message = refused(network(classes=None), path, ValueError, num_classes=1000)
    assert "num_classes=1000" in message
    assert f"{path}, which has no logits" not in message
    _, found = restored(network(classes=None), path)
    assert_same(found, weights(classes=0))


@pytest.mark.parametrize(
    ("stored", "classes", "shadows"), [(1001, 1000, False), (1001, 1000, True), (1000, 1001, True)]
)
def test_conversion_with_scope_and_averages_into_pieces(tmp_path, stored, classes, shadows):
    """Tests all options at once, with variables that a partitioner cut."""
    there = weights(scope="model/net", classes=stored)
    path = write(tmp_path / "model.ckpt", averages(there) if shadows else there, "V1")
    options = {"scope": "model/net", "ema": shadows}
    net = network(classes=classes, cut=True)
    assert len(net.initialized) > 78
    message = refused(net, path, **options)
    assert f"or give num_classes={classes}" in message
    _, found = restored(net, path, num_classes=classes, **options)
    here = weights(classes=stored)
    expected = of_averages(averages(here)) if shadows else here
    for name in (f"{TINY}/logits/weights", f"{TINY}/logits/biases"):
        if classes == 1000:
            expected[name] = expected[name][..., 1:]
        else:
            found[name] = found[name][..., 1:]
    assert_same(found, expected)


def test_logits_of_another_name_are_converted(tmp_path):
    """Tests logit/DW and logit/biases, the names of the networks for small images."""
    values = weights(CIFAR, classes=1001)
    path = write(tmp_path / "model.ckpt", values)
    _, found = restored(network(CIFAR, classes=1000), path, num_classes=1000)
    expected = {name: value[..., 1:] if name.startswith("logit/") else value for name, value in values.items()}
    assert_same(found, expected)


# Why nothing fits, and what to do.


@functools.cache
def under(**options):
    """Builds the tiny network under an arg scope with these options, or without an arg scope."""
    with tf.Graph().as_default() as graph:
        inputs = v1.placeholder(tf.float32, [1, 32, 32, 3])
        if options == {"arg_scope": False}:
            resnet_v2.resnet_v2_tiny(inputs, 10, is_training=False)
        else:
            with slim.arg_scope(resnet_v2.resnet_arg_scope(**options)):
                resnet_v2.resnet_v2_tiny(inputs, 10, is_training=False)
    return finished(graph)


def values_for(net):
    """Returns random values for the variables of a graph."""
    return random_values(net.graph.get_collection(v1.GraphKeys.GLOBAL_VARIABLES))


@pytest.mark.parametrize("options", [{"arg_scope": False}, {"use_batch_norm": False}])
def test_a_graph_without_its_arg_scope(tmp_path, options):
    path = write(tmp_path / "model.ckpt", weights())
    message = refused(under(**options), path)
    assert "built without its arg scope; build it under slim.arg_scope(resnet_arg_scope())." in message
    _, found = restored(under(), path)
    assert_same(found, weights())


def test_a_file_without_batch_norm(tmp_path):
    values = values_for(under(use_batch_norm=False))
    path = write(tmp_path / "model.ckpt", values)
    message = refused(under(), path)
    assert "no batch norm; build it under slim.arg_scope(resnet_arg_scope(use_batch_norm=False))." in message
    _, found = restored(under(use_batch_norm=False), path)
    assert_same(found, values)


def test_a_file_without_gammas(tmp_path):
    """The user's own arg scope has no batch_norm_scale."""
    values = {name: value for name, value in weights().items() if not name.endswith("/gamma")}
    path = write(tmp_path / "model.ckpt", values)
    message = refused(under(), path)
    assert "have no gamma: build it yourself, under resnet_arg_scope(batch_norm_scale=False), and restore" in message
    _, found = restored(under(batch_norm_scale=False), path)
    assert_same(found, values)


def test_a_shallower_file(tmp_path):
    path = write(tmp_path / "model.ckpt", weights(CIFAR))
    message = refused(network("resnet_cifar_32"), path)
    assert f"the file holds a {CIFAR} with 10 classes, and the graph resnet_cifar_32; build what is in" in message
    _, found = restored(network(CIFAR), path)
    assert_same(found, weights(CIFAR))


def test_a_deeper_file(tmp_path):
    """It has a value of the right shape for every variable of the graph, but computes something else with them."""
    path = write(tmp_path / "model.ckpt", weights("resnet_cifar_32"))
    message = refused(network(CIFAR), path)
    assert f"the file holds a resnet_cifar_32 with 10 classes, and the graph {CIFAR}; build what is in" in message
    _, found = restored(network("resnet_cifar_32"), path)
    assert_same(found, weights("resnet_cifar_32"))


def test_a_depth_of_no_table(tmp_path):
    with tf.Graph().as_default() as graph:
        inputs = v1.placeholder(tf.float32, [1, 32, 32, 3])
        with slim.arg_scope(resnet_v2.resnet_arg_scope()):
            blocks = [resnet_v2.resnet_v2_block(f"block{i}", 16, 2, 2) for i in (1, 2)]
            resnet_v2.resnet_v2(inputs, blocks, 10, is_training=False, scope=TINY)
    message = refused(finished(graph), write(tmp_path / "model.ckpt", weights()))
    assert f"the file holds a {TINY} with 10 classes, and the graph resnet_v2 of 2 2 units" in message


def test_another_family(tmp_path):
    path = write(tmp_path / "model.ckpt", weights(CIFAR, scope="net"))
    message = refused(network(), path)
    assert f"the file holds a {CIFAR} with 10 classes, and the graph {TINY}; build what is in the file." in message
    _, found = restored(network(CIFAR), path, scope="net")
    assert_same(found, weights(CIFAR))


def test_a_file_of_something_else(tmp_path):
    path = write(tmp_path / "model.ckpt", {"dense/kernel": np.zeros([2, 3], np.float32)})
    message = refused(network(), path)
    assert message.startswith(
        f"{path} does not fit the graph: the file holds the weights of none of the known networks"
    )


def test_other_classes(tmp_path):
    path = write(tmp_path / "model.ckpt", weights(classes=7))
    message = refused(network(), path)
    assert "the graph has 10 classes and the file 7; build the network with num_classes=7, or give" in message
    assert f"exclude='{TINY}/logits/*' to train logits of your own." in message
    _, found = restored(network(classes=7), path)
    assert_same(found, weights(classes=7))
    report, found = restored(network(), path, exclude=f"{TINY}/logits/*")
    assert_same(found, weights(classes=0))
    assert set(report.excluded) == {f"{TINY}/logits/weights", f"{TINY}/logits/biases"}
    assert report.mismatched == ()


def test_a_file_without_logits(tmp_path):
    path = write(tmp_path / "model.ckpt", weights(classes=0))
    message = refused(network(), path)
    assert f"no logits; build with num_classes=None, or give exclude='{TINY}/logits/*' and train them." in message
    for net, options in ((network(classes=None), {}), (network(), {"exclude": f"{TINY}/logits/*"})):
        _, found = restored(net, path, **options)
        assert_same(found, weights(classes=0))


@pytest.mark.parametrize("ema", [False, True])
def test_a_file_of_trainable_variables_alone(tmp_path, ema):
    trainable, _ = split(weights())
    path = write(tmp_path / "model.ckpt", {**trainable, **(averages(trainable) if ema else {})})
    message = refused(network(), path, ema=ema)
    assert (
        f"the file holds a {TINY}, but it has no moving statistics, as only trainable variables were saved" in message
    )
    assert "save tf.global_variables(), or estimate the statistics on data" in message
    report, _ = restored(network(), path, ema=ema, exclude=["*/moving_mean", "*/moving_variance"])
    assert len(report.excluded) == 26


def test_images_of_another_number_of_channels(tmp_path):
    """The message is about channels, not about the network."""
    kernel = f"{TINY}/conv1/weights"
    path = write(tmp_path / "model.ckpt", {**weights(), kernel: weights()[kernel][:, :, :1]})
    message = refused(network(), path)
    assert f"1 have another shape: {kernel} [7, 7, 3, 64] here, [7, 7, 1, 64] in the file." in message
    _, found = restored(network(), path, exclude=kernel)
    assert_same(found, {name: value for name, value in weights().items() if name != kernel})
    assert "channel" in message
    assert f"build the {TINY}" not in message


def test_several_networks_in_the_file(tmp_path):
    path = write(tmp_path / "model.ckpt", {**weights(scope="a"), **weights(scope="b/c", seed=1)})
    message = refused(network(), path)
    assert f"the file holds several networks, {TINY} under 'a', {TINY} under 'b/c': choose one by its scope," in message
    [offered] = re.findall(r"scope='([^']*)'", message)
    _, found = restored(network(), path, scope=offered)
    assert_same(found, weights())


def test_a_mismatch_leaves_values_that_were_there(tmp_path):
    """The session's variables have values already, and none is replaced."""
    path = write(tmp_path / "good.ckpt", weights())
    bad = write(tmp_path / "bad.ckpt", weights(classes=7, seed=1))
    with open_session(network().graph) as session:
        restore(session, path)
        for options in ({}, {"ema": True}, {"num_classes": 1000}, {"scope": "gone"}, {"exclude": "gone"}):
            with pytest.raises(ValueError, match=r"."):
                restore(session, bad, **options)
        assert_same(held(session), weights())


def test_nothing_is_added_to_the_graph(tmp_path):
    """All graphs here are finalized, so adding to one raises an error."""
    assert network().graph.finalized
    restored(network(), write(tmp_path / "model.ckpt", weights()))


# Moving statistics that were never trained.


def initial_statistics(values, scopes=""):
    """Returns the values with initial moving statistics for the batch norms of these scopes."""
    initial = dict(values)
    for name, value in values.items():
        if scopes in name and name.endswith("/moving_mean"):
            initial[name] = np.zeros_like(value)
        if scopes in name and name.endswith("/moving_variance"):
            initial[name] = np.ones_like(value)
    return initial


@pytest.mark.parametrize(("scopes", "count"), [("", 13), ("/block4/", 3), ("/postnorm/", 1)])
def test_untrained_statistics_are_said(tmp_path, scopes, count):
    values = initial_statistics(weights(), scopes)
    path = write(tmp_path / "model.ckpt", values)
    with open_session(network().graph) as session:
        with pytest.warns(InferenceWarning) as caught:
            report = restore(session, path)
        assert_same(held(session), values)
    [sentence] = report.warnings
    [warning] = caught
    assert str(warning.message) == f"{path}: {sentence}"
    assert warning.filename == __file__
    assert f"The moving statistics of {count} of 13 batch norms are still at their initial values" in sentence
    assert "slim.learning.create_train_op" in sentence


def test_trained_statistics_are_not_mentioned(tmp_path):
    """Neither means of 0 with other variances than 1, nor variances of 1 in some channels, are mentioned."""
    values = weights()
    name = f"{TINY}/postnorm"
    values[f"{name}/moving_mean"] = np.zeros_like(values[f"{name}/moving_mean"])
    values[f"{TINY}/block1/unit_1/bottleneck_v2/preact/moving_variance"][:5] = 1
    report, _ = restored(network(), write(tmp_path / "model.ckpt", values))
    assert report.warnings == ()


def test_untrained_statistics_that_are_not_restored_are_not_mentioned(tmp_path):
    path = write(tmp_path / "model.ckpt", initial_statistics(weights()))
    report, _ = restored(network(), path, exclude=["*/moving_mean", "*/moving_variance"])
    assert report.warnings == ()


def test_statistics_of_a_training_that_left_the_updates_out(tmp_path):
    """Runs a real step without the updates, and then one with them, which slim's train op runs."""
    with tf.Graph().as_default() as graph, open_session(graph) as session:
        loss = tf.reduce_mean(build(training=True))
        optimizer = v1.train.GradientDescentOptimizer(0.01)
        steps = {"without": optimizer.minimize(loss), "with": slim.learning.create_train_op(loss, optimizer)}
        saver = v1.train.Saver(slim.get_model_variables())
        session.run(v1.global_variables_initializer())
        for how, step in steps.items():
            session.run(step, {"images:0": images()})
            saver.save(session, str(tmp_path / how), write_meta_graph=False)
    with pytest.warns(InferenceWarning, match="13 of 13 batch norms are still at their initial values"):
        restored(network(), tmp_path / "without")
    report, _ = restored(network(), tmp_path / "with")
    assert report.warnings == ()


def test_untrained_statistics_are_found_among_averages(tmp_path):
    """Checks the restored values, which are the averages if ``ema`` asks for them."""
    plain, shadows = weights(), averages(weights())
    untrained = initial_statistics(of_averages(shadows))
    shadows = {f"{name}/{SHADOW}": value for name, value in untrained.items()}
    path = write(tmp_path / "model.ckpt", {**plain, **shadows})
    report, _ = restored(network(), path)
    assert report.warnings == ()
    with pytest.warns(InferenceWarning, match="13 of 13 batch norms"):
        report, found = restored(network(), path, ema=True)
    assert_same(found, untrained)
    assert len(report.warnings) == 1


# Training with slim.


_TRAINING = """
import sys
import tensorflow.compat.v1 as tf
tf.disable_v2_behavior()
import tf_slim as slim
from checkpoints import init_fn
from nets import layers, nets_factory
layers.repair_tf_slim()

logits, _ = nets_factory.get_network_fn("resnet_v2_tiny", 4, is_training=False)(tf.zeros([2, 32, 32, 3]))
loss = tf.losses.softmax_cross_entropy(tf.one_hot([0, 1], 4), logits)
train_op = slim.learning.create_train_op(loss, tf.train.GradientDescentOptimizer(0.0))
begin = init_fn(sys.argv[1], exclude="resnet_v2_tiny/logits/*")
slim.learning.train(train_op, sys.argv[2], init_fn=begin, number_of_steps=1, log_every_n_steps=0)
"""


def test_init_fn_begins_training_from_a_checkpoint(tmp_path):
    """slim.learning.train with a learning rate of 0 leaves the restored weights in its first checkpoint."""
    values = weights()
    path = write(tmp_path / "model.ckpt", values)
    command = [sys.executable, "-c", _TRAINING, str(path), str(tmp_path / "run")]
    subprocess.run(command, env=environment(), check=True, capture_output=True)
    trained = open_checkpoint(tmp_path / "run")
    assert trained.read("global_step") == 1
    for name, value in values.items():
        if "/logits/" not in name:
            assert np.array_equal(trained.read(name), value), name
    assert trained.read(f"{TINY}/logits/biases").shape == (4,)


def test_init_fn_refuses_a_missing_file_at_once(tmp_path):
    with pytest.raises(CheckpointError, match="There is no"):
        init_fn(tmp_path / "model.ckpt")
