"""Tests of the warnings: training mode at inference, updates that nobody runs, weights and input that do not match.

Each warning comes once: as a Python warning, on the extractor, on stderr and in run.json.
"""

import json
import warnings

import numpy as np
import pytest
import tensorflow as tf
import tf_slim as slim
from PIL import Image
from tensorflow.python.training import moving_averages

from nets import layers, resnet_v2
from nets.guards import InferenceWarning, ancestors, batch_norm_decay_for, check_train_op, training_mode
from tests.conftest import CLASSES
from tools.cli import main
from tools.features import FeatureExtractor

v1 = tf.compat.v1

SCOPE = "resnet_v2_tiny"
UPDATES = v1.GraphKeys.UPDATE_OPS


def network(images, is_training, scope="net", **norm):
    """Builds two convolutions with batch norms, which have 4 updates in training."""
    with slim.arg_scope([layers.batch_norm], is_training=is_training, **norm), v1.variable_scope(scope):
        net = layers.conv2d(images, 4, 3, normalizer_fn=layers.batch_norm, scope="conv1")
        return layers.conv2d(net, 4, 3, normalizer_fn=layers.batch_norm, scope="conv2")


@pytest.fixture
def images():
    """Yields the input of a new graph."""
    with tf.Graph().as_default():
        yield v1.placeholder(tf.float32, [2, 8, 8, 3], name="images")


# Training mode.


@pytest.mark.parametrize("fused", [True, False])
def test_inference_is_no_training(images, fused):
    assert training_mode(images, [network(images, False, fused=fused)]) is None


@pytest.mark.parametrize(
    ("fused", "updates"),
    [(True, UPDATES), (True, None), (True, "another collection"), (False, UPDATES), (False, None)],
)
def test_training_mode_is_said(images, fused, updates):
    """Fused norms show the mode themselves; norms of separate ops show it by their updates."""
    outputs = network(images, True, fused=fused, updates_collections=updates)
    sentence = training_mode(images, [outputs])
    assert sentence.startswith("The network was built in training mode (net/conv")
    assert sentence.endswith("build it with is_training=False.")


def test_one_norm_in_training_is_enough(images):
    outputs = network(network(images, False), True, scope="other")
    assert "in training mode (other/conv" in training_mode(images, [outputs])


def test_a_network_without_batch_norm(images):
    assert training_mode(images, [layers.conv2d(images, 4, 3)]) is None
    assert training_mode(images, []) is None
    assert training_mode(images, [images]) is None


def test_what_comes_before_the_inputs_does_not_count(images):
    """Random crops and another network in training are examples."""
    prepared = network(images + tf.random.uniform([2, 8, 8, 3]), True, updates_collections="of the other")
    assert training_mode(prepared, [network(prepared, False, scope="second")]) is None


def test_what_comes_after_the_outputs_does_not_count(images):
    outputs = network(images, False)
    network(tf.nn.dropout(outputs, 0.5), True, scope="second", updates_collections="of the other")
    assert training_mode(images, [outputs]) is None


def test_a_training_network_beside_does_not_count(images):
    """The usual script builds one network for training, and one for evaluation with the same variables."""
    network(v1.placeholder(tf.float32, [2, 8, 8, 3]), True)
    with v1.variable_scope("", reuse=True):
        outputs = network(images, False)
    assert training_mode(images, [outputs]) is None


@pytest.mark.parametrize(
    "dropout",
    [
        lambda net: tf.nn.dropout(net, 0.5),
        lambda net: v1.nn.dropout(net, rate=0.5),
        lambda net: tf.nn.experimental.stateless_dropout(net, 0.5, seed=[1, 2]),
    ],
    ids=["tf.nn", "v1.nn", "stateless"],
)
def test_dropout_is_said(images, dropout):
    sentence = training_mode(images, [dropout(network(images, False))])
    assert sentence.startswith("The network draws random numbers (")
    assert sentence.endswith("as dropout does in training: switch it off.")


def test_training_is_said_before_dropout(images):
    assert "in training mode" in training_mode(images, [tf.nn.dropout(network(images, True), 0.5)])


def test_ancestors(images):
    """Ancestors are found through inputs and control inputs only."""
    with tf.control_dependencies([tf.no_op("before")]):
        middle = tf.identity(images, "middle")
    result = tf.identity(middle, "result")
    tf.identity(result, "after")
    assert {op.name for op in ancestors([result])} == {"images", "before", "middle", "result"}
    assert {op.name for op in ancestors([middle.op, images])} == {"images", "before", "middle"}


# The training step.


def train(images, **norm):
    """Returns (loss, optimizer) of a network in training."""
    return tf.reduce_mean(network(images, True, **norm)), v1.train.MomentumOptimizer(0.1, 0.9)


def is_silent(train_op):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert check_train_op(train_op) is None
    return not caught


def test_slims_train_op_runs_the_updates(images):
    assert is_silent(slim.learning.create_train_op(*train(images)))


def test_slims_train_op_without_updates_is_said(images):
    train_op = slim.learning.create_train_op(*train(images), update_ops=[])
    with pytest.warns(InferenceWarning, match=r"^4 of 4 updates in tf.GraphKeys.UPDATE_OPS"):
        check_train_op(train_op)


def test_a_plain_step_is_said(images):
    """The warning comes once, names the line of the call, and says how to repair it."""
    loss, optimizer = train(images)
    with pytest.warns(InferenceWarning) as caught:
        check_train_op(optimizer.minimize(loss))
    [warning] = caught
    message = str(warning.message)
    assert message.startswith("4 of 4 updates in tf.GraphKeys.UPDATE_OPS, of moving statistics such as net/conv1/")
    assert "are not run by the training step: the statistics keep their initial values" in message
    assert "slim.learning.create_train_op(loss, optimizer)" in message
    assert "tf.control_dependencies(tf.get_collection(tf.GraphKeys.UPDATE_OPS))" in message
    assert warning.filename == __file__
    assert is_silent(slim.learning.create_train_op(loss, optimizer))


def test_control_dependencies_run_the_updates(images):
    loss, optimizer = train(images)
    with tf.control_dependencies(v1.get_collection(UPDATES)):
        assert is_silent(optimizer.minimize(loss))


def test_a_list_may_run_the_updates(images):
    loss, optimizer = train(images)
    step, updates = optimizer.minimize(loss), v1.get_collection(UPDATES)
    assert is_silent([step, *updates])
    assert is_silent((loss, step, tf.group(*updates)))
    with pytest.warns(InferenceWarning, match=r"^1 of 4 updates"):
        check_train_op([step, *updates[1:]])
    with pytest.warns(InferenceWarning, match=r"^4 of 4 updates"):
        check_train_op([loss, step])


def test_updates_in_place_are_run(images):
    loss, optimizer = train(images, updates_collections=None)
    assert is_silent(optimizer.minimize(loss))


@pytest.mark.parametrize(("updates", "silent"), [(None, True), (UPDATES, False)])
def test_slims_batch_norm(images, updates, silent):
    """A script's arg scope puts tf_slim's normalizer in the place of ours."""
    norm = {"updates_collections": updates, "is_training": True}
    loss = tf.reduce_mean(layers.conv2d(images, 4, 3, normalizer_fn=slim.batch_norm, normalizer_params=norm))
    step = v1.train.GradientDescentOptimizer(0.1).minimize(loss)
    if silent:
        assert is_silent(step)
    else:
        with pytest.warns(InferenceWarning, match=r"^2 of 2 updates"):
            check_train_op(step)


def test_no_batch_norm_needs_no_updates(images):
    loss = tf.reduce_mean(layers.conv2d(images, 4, 3))
    assert is_silent(v1.train.GradientDescentOptimizer(0.1).minimize(loss))
    assert is_silent([])


def test_updates_that_are_variables(images):
    """Layers of tf_slim collect the result of an assignment, which is not an operation."""
    loss = tf.reduce_mean(layers.conv2d(images, 4, 3))
    v1.add_to_collection(UPDATES, v1.get_variable("moving", [], use_resource=True).assign_add(1.0))
    v1.add_to_collection(UPDATES, v1.get_variable("old", [], use_resource=False).assign_add(1.0))
    optimizer = v1.train.GradientDescentOptimizer(0.1)
    with pytest.warns(InferenceWarning, match=r"^2 of 2 updates"):
        check_train_op(optimizer.minimize(loss))
    with tf.control_dependencies(v1.get_collection(UPDATES)):
        assert is_silent(optimizer.minimize(loss))
    assert is_silent(slim.learning.create_train_op(loss, optimizer))


@pytest.mark.parametrize("kind", ["a name", None, {"a": 1}, ["conv1"], [None], 3])
def test_what_is_no_training_step_is_refused(images, kind):
    with pytest.raises(TypeError, match="train_op must be an operation, a tensor or a list of them, and has "):
        check_train_op(kind)


# The decay and the number of steps.


def said_of(train_op, number_of_steps):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        check_train_op(train_op, number_of_steps)
    assert {warning.filename for warning in caught} <= {__file__}
    return [str(warning.message) for warning in caught]


@pytest.mark.parametrize("use_resource", [True, False])
@pytest.mark.parametrize("updates", [UPDATES, None])
def test_too_few_steps_for_the_decay(images, updates, use_resource):
    """0.997^200 = 0.548, and 0.997^997 = 0.05001."""
    with v1.variable_scope("", use_resource=use_resource):
        train_op = slim.learning.create_train_op(*train(images, decay=0.997, updates_collections=updates))
    assert said_of(train_op, 200) == [
        "The decay of the moving statistics is 0.997 (such as net/conv1/BatchNorm/moving_mean): after 200 steps their "
        "initial values still weigh 54.8%, and inference will be worse than training; use batch_norm_decay=0.9, or "
        "train for at least 998 steps."
    ]
    assert len(said_of(train_op, 997)) == 1
    assert said_of(train_op, 998) == []
    assert said_of(train_op, None) == []


def test_the_largest_decay_counts(images):
    loss = tf.reduce_mean(network(network(images, True, decay=0.9), True, scope="slow", decay=0.99))
    train_op = slim.learning.create_train_op(loss, v1.train.GradientDescentOptimizer(0.1))
    [sentence] = said_of(train_op, 100)  # 0.99^100 = 0.366
    assert "is 0.99 (such as slow/conv1/BatchNorm/moving_mean): after 100 steps" in sentence
    assert "weigh 36.6%, and inference will be worse than training; use batch_norm_decay=0.8, or" in sentence
    assert said_of(train_op, 400) == []


def test_a_decay_of_one_never_learns(images):
    [sentence] = said_of(slim.learning.create_train_op(*train(images, decay=1.0)), 10**6)
    assert sentence.endswith(
        "still weigh 100.0%, and inference will be worse than training; use batch_norm_decay=0.997."
    )


def test_so_few_steps_that_no_decay_fits(images):
    """0.5^4 = 0.0625."""
    [sentence] = said_of(slim.learning.create_train_op(*train(images, decay=0.5)), 4)
    assert sentence.endswith("still weigh 6.2%, and inference will be worse than training; train for at least 5 steps.")


def test_updates_that_do_not_run_have_no_decay(images):
    """The sentence on updates that do not run comes alone."""
    loss, optimizer = train(images, decay=0.997)
    [sentence] = said_of(optimizer.minimize(loss), 10)
    assert sentence.startswith("4 of 4 updates")


def test_other_averages_have_no_decay_of_a_batch_norm(images):
    """Frozen batch norms update nothing, and averages of the weights may be slow."""
    loss = tf.reduce_mean(network(images, False))
    with tf.control_dependencies([v1.train.GradientDescentOptimizer(0.1).minimize(loss)]):
        averages = tf.train.ExponentialMovingAverage(0.999).apply(v1.trainable_variables())
    assert said_of(averages, 10) == []


def test_a_decay_that_is_computed_is_not_checked(images):
    decay = v1.placeholder_with_default(np.float32(0.999), [])
    assert said_of(slim.learning.create_train_op(*train(images, decay=decay)), 10) == []


@pytest.mark.parametrize("use_resource", [True, False])
def test_the_update_of_slims_own_layer(images, use_resource):
    """tf_slim's own layer does not build here, but its graphs can be imported. Its update is this function's."""
    moving = v1.get_variable("BatchNorm/moving_mean", [3], trainable=False, use_resource=use_resource)
    update = moving_averages.assign_moving_average(moving, tf.reduce_mean(images, [0, 1, 2]), 0.99, zero_debias=False)
    [sentence] = said_of(tf.group(update), 10)
    assert "is 0.99 (such as BatchNorm/moving_mean)" in sentence


@pytest.mark.parametrize("number", [0, -5, 2.5, "200", True, float("nan"), [200]])
def test_what_is_no_number_of_steps_is_refused(images, number):
    with pytest.raises(ValueError, match="number_of_steps must be a whole number of at least 1, and is "):
        check_train_op(tf.no_op(), number)
    with pytest.raises(ValueError, match="number_of_steps must be a whole number of at least 1, and is "):
        batch_norm_decay_for(number)


@pytest.mark.parametrize(
    ("number_of_steps", "decay"),
    [(1, 0.5), (40, 0.5), (50, 0.6), (200, 0.9), (1000, 0.98), (6667, 0.997), (10**6, 0.997)],
)
def test_decay_for_a_number_of_steps(number_of_steps, decay):
    assert batch_norm_decay_for(number_of_steps) == pytest.approx(decay, abs=1e-6)


# The extractor.


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    path = tmp_path_factory.mktemp("images") / "a.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, [40, 50, 3], dtype=np.uint8)).save(path)
    return path


@pytest.fixture(scope="module")
def untrained_checkpoint(tmp_path_factory, tiny_checkpoint):
    """Returns the same weights with the moving statistics from before training."""
    path = tmp_path_factory.mktemp("untrained") / "model.ckpt"
    reader = tf.train.load_checkpoint(str(tiny_checkpoint))
    values = {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}
    for name in values:
        if name.endswith(("/moving_mean", "/moving_variance")):
            values[name] = np.full_like(values[name], name.endswith("/moving_variance"))
    tf.raw_ops.SaveV2(
        prefix=str(path),
        tensor_names=list(values),
        shape_and_slices=[""] * len(values),
        tensors=list(values.values()),
    )
    return path


def tiny(images, is_training=False):
    with slim.arg_scope(resnet_v2.resnet_arg_scope()):
        return resnet_v2.resnet_v2_tiny(images, CLASSES, is_training=is_training)


def in_training(images):
    return tiny(images, is_training=True)


def with_dropout(images):
    net, end_points = tiny(images)
    return net, {**end_points, "dropped": tf.nn.dropout(end_points["global_pool"], 0.5)}


def extractor_and_warnings(checkpoint, end_points, **options):
    """Returns the warnings of the extractor, and the warnings that were raised."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with FeatureExtractor(checkpoint, end_points, freeze=False, **options) as extractor:
            said = [str(warning.message) for warning in caught if warning.category is InferenceWarning]
            assert len(said) == len(caught)
            return extractor.warnings, said


OF_A_FUNCTION = {"image_size": 32, "preprocessing": "inception"}


def test_an_extractor_with_nothing_to_say(tiny_checkpoint):
    assert extractor_and_warnings(tiny_checkpoint, ["block4"]) == ((), [])
    assert extractor_and_warnings(tiny_checkpoint, ["block4"], net=tiny, **OF_A_FUNCTION) == ((), [])


def test_a_function_that_builds_for_training(tiny_checkpoint):
    held, said = extractor_and_warnings(tiny_checkpoint, ["block4"], net=in_training, **OF_A_FUNCTION)
    [sentence] = said
    assert held == (sentence,)
    assert sentence.startswith(f"The network was built in training mode ({SCOPE}/block1/unit_1/bottleneck_v2/")


def test_a_function_with_dropout(tiny_checkpoint):
    """The warning comes only if an end point follows."""
    held, said = extractor_and_warnings(tiny_checkpoint, ["dropped"], net=with_dropout, **OF_A_FUNCTION)
    assert list(held) == said
    assert said[0].startswith("The network draws random numbers (dropout/")
    assert extractor_and_warnings(tiny_checkpoint, ["logits"], net=with_dropout, **OF_A_FUNCTION) == ((), [])


@pytest.mark.parametrize(
    ("options", "asked"),
    [
        ({"preprocessing": "cifar"}, "cifar at 32"),
        ({"image_size": 48}, "inception at 48"),
        ({"preprocessing": "vgg", "image_size": 40}, "vgg at 40"),
    ],
)
def test_input_that_does_not_go_with_the_weights(tiny_checkpoint, options, asked):
    held, said = extractor_and_warnings(tiny_checkpoint, ["block1"], **options)
    assert list(held) == said
    assert said == [
        "The weights go with preprocessing inception at 32 (assumed: nothing in the file says so), and "
        f"{asked} was asked for: features and classes will be worse, unless the weights were trained so."
    ]


@pytest.mark.parametrize(
    "options",
    [
        {"preprocessing": "none"},
        {"preprocessing": "none", "image_size": 48},
        {"preprocessing": "inception", "image_size": 32},
        {"net": tiny, "preprocessing": "cifar", "image_size": 48},
    ],
)
def test_input_that_is_its_users_affair(tiny_checkpoint, options):
    """The input is prepared elsewhere, the right one by name, or belongs to an unknown network."""
    assert extractor_and_warnings(tiny_checkpoint, ["block1"], **options) == ((), [])


def test_all_that_is_doubtful_is_said_once(untrained_checkpoint):
    held, said = extractor_and_warnings(untrained_checkpoint, ["block1"], preprocessing="cifar")
    assert len(held) == len(said) == 2
    assert held[0] == said[0]
    assert said[0].startswith("The weights go with preprocessing inception at 32 (assumed: nothing in the file says")
    assert "and cifar at 32 was asked for" in said[0]
    assert held[1].startswith("The moving statistics of 13 of 13 batch norms are still at their initial values")
    assert said[1] == f"{untrained_checkpoint}: {held[1]}"


def test_an_extractor_warns_where_it_was_made(tiny_checkpoint):
    with pytest.warns(InferenceWarning, match="The weights go with") as caught:
        FeatureExtractor(tiny_checkpoint, ["block1"], preprocessing="cifar", freeze=False).close()
    assert [warning.filename for warning in caught] == [__file__]


@pytest.mark.filterwarnings("always::nets.guards.InferenceWarning")
@pytest.mark.parametrize("options", [["--image-size=48"], ["--preprocessing=none", "--image-size=32"], []])
def test_the_command_says_each_once_and_records_it(capfd, tmp_path, untrained_checkpoint, image, options):
    prepared = tmp_path / "prepared.png"
    Image.open(image).resize((32, 32)).save(prepared)
    capfd.readouterr()
    arguments = [f"--checkpoint={untrained_checkpoint}", f"--output={tmp_path / 'out'}", "--end-points=block1"]
    assert main(["features", str(prepared), *arguments, *options]) == 0
    stdout, stderr = capfd.readouterr()
    assert stdout == f"1 images done, 0 failed: {tmp_path / 'out'}\n"
    recorded = json.loads((tmp_path / "out" / "run.json").read_text())["warnings"]
    of_input = ["The weights go with preprocessing inception at 32"]
    starts = [*(of_input if options == ["--image-size=48"] else []), "The moving statistics of 13 of 13 batch norms"]
    assert len(recorded) == len(starts)
    said = [line for line in stderr.splitlines() if "warning" in line]
    for sentence, start, line in zip(recorded, starts, said, strict=True):
        assert sentence.startswith(start)
        assert line.startswith("slimnets: warning: ")
        assert line.endswith(sentence)
        assert stderr.count(sentence) == 1


def test_the_command_has_nothing_to_say_of_a_good_file(capfd, tmp_path, tiny_checkpoint, image):
    arguments = [f"--checkpoint={tiny_checkpoint}", f"--output={tmp_path / 'out'}", "--end-points=block1"]
    assert main(["features", str(image), *arguments]) == 0
    assert "warning" not in capfd.readouterr().err
    assert json.loads((tmp_path / "out" / "run.json").read_text())["warnings"] == []


# Excluded variables.


@pytest.mark.parametrize(
    ("exclude", "end_point", "without"),
    [
        (f"{SCOPE}/logits/*", "logits", f"{SCOPE}/logits/weights"),
        (f"{SCOPE}/logits/biases", "predictions", f"{SCOPE}/logits/biases"),
        (["*/moving_mean"], "block1", f"{SCOPE}/block1/unit_1/bottleneck_v2/preact/moving_mean"),
        ([f"{SCOPE}/block2/*", f"{SCOPE}/logits/*"], "block3", f"{SCOPE}/block2/unit_1/bottleneck_v2/preact/beta"),
    ],
)
def test_an_end_point_that_needs_what_is_excluded(tiny_checkpoint, exclude, end_point, without):
    patterns = [exclude] if isinstance(exclude, str) else exclude
    with pytest.raises(ValueError, match="without a value, which an end point needs") as caught:
        FeatureExtractor(tiny_checkpoint, ["conv1", end_point], exclude=exclude, freeze=False)
    assert str(caught.value) == (
        f"exclude={patterns!r} leaves {without} without a value, which an end point needs: exclude less, or ask for "
        "end points before it."
    )


def test_an_end_point_before_what_is_excluded(tiny_checkpoint):
    """The values are the same as without it."""
    pixels = np.random.default_rng(0).integers(0, 256, [2, 40, 40, 3], dtype=np.uint8)
    results = []
    for exclude in ([], [f"{SCOPE}/block3/*", f"{SCOPE}/logits/*", "*/postnorm/*"]):
        with FeatureExtractor(tiny_checkpoint, ["block2"], exclude=exclude, freeze=False) as extractor:
            assert any(name.startswith(f"{SCOPE}/block3") for name in extractor.report.loaded) == (not exclude)
            results.append(extractor(pixels)["block2"])
    assert np.array_equal(*results)


def test_the_command_refuses_an_end_point_without_its_variables(capfd, tmp_path, tiny_checkpoint, image):
    arguments = [f"--checkpoint={tiny_checkpoint}", f"--output={tmp_path / 'out'}", "--end-points=logits"]
    assert main(["features", str(image), *arguments, f"--exclude={SCOPE}/logits/*"]) == 1
    stdout, stderr = capfd.readouterr()
    assert stdout == ""
    assert f"leaves {SCOPE}/logits/weights without a value, which an end point needs" in stderr.splitlines()[-1]
    assert not (tmp_path / "out").exists()
