"""Tests of the arguments that arg scopes, builders, units and layers refuse.

TensorFlow accepts True as 1 and converts strings to numbers, so a mistake would build another network.
"""

import fractions

import numpy as np
import pytest
import tensorflow as tf
import tf_slim as slim
from tf_slim.nets import resnet_utils as slim_utils

from nets import (
    layers,
    nets_factory,
    preprocessing,
    resnet_basic,
    resnet_cifar,
    resnet_keras,
    resnet_utils,
    resnet_v1,
    resnet_v2,
)

v1 = tf.compat.v1

NAN, INFINITY = float("nan"), float("inf")

SCOPES = {
    "slim": resnet_utils.resnet_arg_scope,
    "v1": resnet_v1.resnet_arg_scope,
    "keras": resnet_keras.resnet_keras_arg_scope,
    "cifar": resnet_cifar.resnet_cifar_arg_scope,
    "factory": lambda weight_decay: nets_factory.get_network_fn("resnet_v2_tiny", 10, weight_decay),
}


def shown_as(value):
    """Returns a name for a test that is the same in each process, without an address in memory."""
    return getattr(value, "__name__", None) or repr(value)


@pytest.fixture(autouse=True)
def graph():
    with tf.Graph().as_default() as graph:
        yield graph


def images(*shape, dtype=np.float32):
    return np.random.default_rng(0).normal(size=shape).astype(dtype)


# Weight decay: what old threads recommend, `is_training` first, was taken for a weight decay of 1 or 0.


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("mode", [True, False, np.True_])
def test_is_training_in_the_place_of_weight_decay(scope, mode):
    with pytest.raises(
        ValueError, match=f"weight_decay must be a float .*, and is .*{mode}_?: is_training is an "
    ) as told:
        SCOPES[scope](mode)
    assert f"argument of the builder (or give is_training={mode} by keyword)" in str(told.value)


def test_what_the_message_advises_is_obeyed():
    with slim.arg_scope(resnet_v2.resnet_arg_scope(is_training=False)):
        resnet_v2.resnet_v2_tiny(images(2, 32, 32, 3), 10)
    assert v1.get_collection(v1.GraphKeys.UPDATE_OPS) == []
    with tf.Graph().as_default() as graph, slim.arg_scope(resnet_v2.resnet_arg_scope()):
        resnet_v2.resnet_v2_tiny(images(2, 32, 32, 3), 10, is_training=True)
        # Three batch norms in each of four units and the last one: the mean and the variance of each.
        assert len(graph.get_collection(v1.GraphKeys.UPDATE_OPS)) == 2 * (4 * 3 + 1)


DECAYS = [
    *(0.0, 1e-4, 1.0, np.float32(0.25), np.float64(0.25), fractions.Fraction(1, 4), np.array(0.25)),
    *(0, 1, 3, np.int64(1), True, -1e-4, -1.0),
]


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("value", DECAYS, ids=shown_as)
def test_weight_decay_is_what_tf_slim_takes(scope, value):
    """The accepted numbers are exactly those that the original's regularizer accepts."""
    try:
        slim.l2_regularizer(value)
    except ValueError:
        with pytest.raises(ValueError, match=r"weight_decay must be a float of at least 0, such as 0\.0001, and is"):
            SCOPES[scope](value)
    else:
        SCOPES[scope](value)


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("value", [NAN, INFINITY, "0.0001", None, [1e-4], 1j, tf.nn.relu], ids=shown_as)
def test_weight_decay_that_would_fail_later(scope, value):
    with pytest.raises(ValueError, match="weight_decay must be a float of at least 0"):
        SCOPES[scope](value)


def test_an_int_is_told_how_it_is_written():
    with pytest.raises(ValueError, match=r"and is 0: if 0 is meant, write 0\.0; is_training is an argument"):
        resnet_v2.resnet_arg_scope(0)


def test_legal_weight_decays_give_their_loss():
    """The loss is the sum of squares over 2, times the decay, which is a float, NumPy's float or a tensor."""
    decay = v1.placeholder_with_default(np.float32(0.25), [])
    for i, value in enumerate([0.25, np.float32(0.25), decay]):
        with slim.arg_scope(resnet_v2.resnet_arg_scope(value)):
            layers.conv2d(images(1, 4, 4, 3), 2, 1, weights_initializer=v1.constant_initializer(2.0), scope=f"conv{i}")
    with v1.Session() as session:
        session.run(v1.global_variables_initializer())
        assert session.run(v1.losses.get_regularization_losses()) == [0.25 * 6 * 2.0**2 / 2] * 3


# The other arguments of the arg scopes.


SCOPE_REFUSALS = {
    "batch_norm_decay": ([True, NAN, -0.1, 1.5, "0.9", None], "a number from 0 to 1"),
    "batch_norm_epsilon": ([True, NAN, -1e-5, INFINITY, "1e-5", None], "a number of at least 0"),
    "batch_norm_scale": (["False", 0.5, 2, [True]], "True or False"),
    "use_batch_norm": (["no", 0.5, 2], "True or False"),
    "activation_fn": (["relu", True, 1e-5], "a function or None"),
    "batch_norm_updates_collections": ([True, 1e-5], "the name of a collection"),
    "is_training": (["no", 0.5, 2], "True, False or a boolean tensor"),
}
OF_ALL_SCOPES = ["batch_norm_updates_collections", "is_training", "batch_norm_decay"]


@pytest.mark.parametrize("scope", ["slim", "v1", "keras", "cifar"])
@pytest.mark.parametrize("name", SCOPE_REFUSALS)
def test_arg_scopes_refuse(scope, name):
    if scope in ("keras", "cifar") and name not in OF_ALL_SCOPES:
        name = OF_ALL_SCOPES[0]
    values, expected = SCOPE_REFUSALS[name]
    for value in values:
        with pytest.raises(ValueError, match=f"{name} must be {expected}.*, and is"):
            SCOPES[scope](**{name: value})


def test_arg_scopes_take_what_slim_takes():
    legal = [
        {"batch_norm_decay": 0, "batch_norm_epsilon": 0},
        {"batch_norm_decay": np.float32(0.9), "batch_norm_scale": np.False_},
        {"batch_norm_decay": tf.constant(0.9), "batch_norm_scale": 0, "use_batch_norm": 1},
        {"activation_fn": None, "batch_norm_updates_collections": None},
        {"batch_norm_updates_collections": ["mine", "yours"]},
        {"is_training": tf.constant(True)},
    ]
    for i, arguments in enumerate(legal):
        with slim.arg_scope(resnet_v2.resnet_arg_scope(**arguments)):
            resnet_v2.resnet_v2_tiny(images(2, 32, 32, 3), 10, scope=f"network{i}")


# Builders.


BUILDER_REFUSALS = {
    "global_pool": ([16, "no", 0.5], "True or False"),
    "spatial_squeeze": ([16, "no"], "True or False"),
    "output_stride": ([True, 8.5, "8", NAN], "a whole number of at least 1"),
    "store_non_strided_activations": ([2, "yes"], "True or False"),
    "num_classes": ([True, -1, 10.5, "10", NAN, INFINITY], "a whole number of at least 0"),
    "reuse": (["yes", 2, 0], "True, False, None"),
    "scope": ([True, 5], "a string, a variable scope or None"),
    "min_base_depth": ([True, 0, 8.5, "8"], "a whole number of at least 1"),
    "depth_multiplier": ([True, 0, -1.0, NAN, INFINITY, "1"], "a number above 0"),
    "dropout_rate": ([True, False, 1.0, -0.1, NAN, "0.5"], "a number of at least 0 and below 1"),
    "dropout_seed": ([True, 3, [1, 2, 3], [0.5, 1.0], "17", ["1", "2"], [1, None]], "two integers"),
    "relu_leakiness": ([True, -0.1, NAN, "0.1"], "a number of at least 0"),
    "activate_before_residual": ([True, (True, False), (1, 0, 0)], "3 bools"),
}
TAKEN_BY = {
    "resnet_v1_50": [
        *("global_pool", "spatial_squeeze", "output_stride", "store_non_strided_activations", "num_classes", "reuse"),
        *("scope", "min_base_depth", "depth_multiplier"),
    ],
    "resnet_v2_tiny": [
        *("global_pool", "spatial_squeeze", "output_stride", "store_non_strided_activations", "num_classes", "reuse"),
        "scope",
    ],
    "resnet_basic_18": ["global_pool", "spatial_squeeze", "output_stride", "num_classes", "reuse", "scope"],
    "resnet_keras_18": ["num_classes", "reuse", "scope", "dropout_rate", "dropout_seed"],
    "resnet_cifar_20": ["num_classes", "reuse", "scope", "relu_leakiness", "activate_before_residual"],
}


@pytest.mark.parametrize(("name", "argument"), [(name, each) for name, taken in TAKEN_BY.items() for each in taken])
def test_builders_refuse(name, argument):
    values, expected = BUILDER_REFUSALS[argument]
    for value in values:
        with pytest.raises(ValueError, match=f"{argument} must be {expected}.*, and is"):
            nets_factory.networks_map[name](images(1, 32, 32, 3), **{argument: value})


def test_network_functions_are_refused_where_they_are_made():
    for arguments, message in (
        ({"num_classes": True}, "num_classes must be a whole number of at least 0, and is True"),
        ({"num_classes": 10, "is_training": "no"}, "is_training must be True, False or a boolean tensor, and is 'no'"),
        ({"num_classes": 10, "weight_decay": -1.0}, "weight_decay must be a float of at least 0.* and is -1.0"),
    ):
        with pytest.raises(ValueError, match=message):
            nets_factory.get_network_fn("resnet_v2_tiny", **arguments)


@pytest.mark.parametrize("name", TAKEN_BY)
def test_is_training_in_the_place_of_num_classes(name):
    for build in (
        lambda: nets_factory.networks_map[name](images(1, 32, 32, 3), False),
        lambda: nets_factory.get_network_fn(name, False),
    ):
        with pytest.raises(ValueError, match=r"and is False: is_training comes after it \(or give is_training=False"):
            build()


def test_builders_take_numpys_numbers_and_flags():
    logits, _ = resnet_v2.resnet_v2_tiny(
        images(1, 32, 32, 3),
        np.int64(7),
        global_pool=np.True_,
        output_stride=np.int32(8),
        spatial_squeeze=1,
        reuse=False,
    )
    assert logits.shape == [1, 7]
    again, _ = resnet_v2.resnet_v2_tiny(images(1, 32, 32, 3), 7, reuse=v1.AUTO_REUSE)
    assert again.shape == [1, 7]


# Blocks and units.


UNIT = {"depth": 16, "depth_bottleneck": 4, "stride": 1}
UNITS = {
    "v1": (resnet_v1.bottleneck, UNIT, ["depth", "depth_bottleneck", "stride", "rate"]),
    "v2": (resnet_v2.bottleneck, UNIT, ["depth", "depth_bottleneck", "stride", "rate"]),
    "basic": (resnet_basic.basic, {"depth": 16, "stride": 1}, ["depth", "stride", "rate", "nominal_stride"]),
    "keras": (resnet_keras.basic_keras, {"depth": 16, "stride": 1}, ["depth", "stride", "rate"]),
    "keras bottleneck": (resnet_keras.bottleneck_keras, {"depth": 16, "stride": 1}, ["depth", "stride", "rate"]),
    "cifar": (resnet_cifar.residual, {"depth": 16, "stride": 1}, ["depth", "stride"]),
    "cifar bottleneck": (resnet_cifar.bottleneck_residual, {"depth": 16, "stride": 1}, ["depth", "stride"]),
}


@pytest.mark.parametrize("kind", UNITS)
def test_units_refuse(kind):
    unit_fn, arguments, numbers = UNITS[kind]
    for name in numbers:
        for value in (True, 0, -1, 1.5, "2", NAN):
            with pytest.raises(ValueError, match=rf"{name} must be .*1.* {value!r}"):
                unit_fn(images(1, 8, 8, 16), **{**arguments, name: value})


BLOCKS = {
    "no list": (lambda block: block, "blocks must be a list of Block"),
    "a number": (lambda block: 4, "blocks must be a list of Block.* and is 4"),
    "a dict": (lambda block: [block._asdict()], r"blocks must be a list of Block.* and has \{'scope'"),
    "a number as unit": (lambda block: [block._replace(args=[16])], "A unit is a dict or a tuple .* and not 16"),
    "two numbers": (lambda block: [block._replace(args=[(16, 4)])], "A unit is a dict or a tuple"),
    "stride": (lambda block: [block._replace(args=[(16, 4, True)])], "stride of a unit must be .* and is True"),
    "depth": (lambda block: [block._replace(args=[("16", 4, 1)])], "depth must be a whole number .* and is '16'"),
}


@pytest.mark.parametrize("case", BLOCKS)
def test_blocks_refuse(case):
    function, message = BLOCKS[case]
    blocks = function(resnet_v2.resnet_v2_block("block1", 4, 1, 1))
    with pytest.raises(ValueError, match=message):
        resnet_v2.resnet_v2(images(1, 32, 32, 3), blocks)


@pytest.mark.parametrize("name", ["base_depth", "num_units", "stride"])
def test_block_functions_refuse(name):
    legal = {"scope": "block1", "base_depth": 4, "num_units": 2, "stride": 2}
    for value in (True, 0, 1.5, "2"):
        for block in (resnet_v1.resnet_v1_block, resnet_v2.resnet_v2_block):
            with pytest.raises(ValueError, match=f"{name} must be a whole number of at least 1, and is {value!r}"):
                block(**{**legal, name: value})


def test_tf_slims_own_blocks_are_blocks():
    theirs = slim_utils.Block("block1", resnet_v2.bottleneck, [dict(UNIT)])
    net, _ = resnet_v2.resnet_v2(images(1, 32, 32, 3), [theirs])
    assert net.shape == [1, 1, 1, 16]


# Layers.


CONV_REFUSALS = {
    "num_outputs": [True, 0, -4, 2.5, "4", None, NAN],
    "kernel_size": [True, 0, 3.0, "3", [3], [3, 3, 3], [3, True], [3, "3"], [3, -1]],
    "stride": [True, 0, 2.0, "2", [2], [1, 0]],
    "rate": [True, 0, 2.0, "2", [2], [1, 0]],
    "padding": ["FULL", True, 1, ["SAME"]],
    "activation_fn": ["relu", True],
    "normalizer_fn": ["batch_norm", True],
    "normalizer_params": ["decay", True],
    "weights_initializer": ["zeros", 0.1],
    "weights_regularizer": ["l2", 0.1],
    "biases_initializer": ["zeros", 0.1, True],
    "biases_regularizer": ["l2", 0.1],
    "trainable": ["no", 2],
    "reuse": ["no", 2],
    "scope": [True, 5],
}
NORM_REFUSALS = {
    "decay": [True, NAN, -0.1, 1.5, "0.9", None],
    "epsilon": [True, NAN, -1e-3, INFINITY, "0.001", None],
    "center": ["no", 2, 0.5],
    "scale": ["no", 2, 0.5],
    "fused": ["no", 2],
    "trainable": ["no", 2],
    "activation_fn": ["relu", True],
    "param_initializers": ["zeros", True],
    "param_regularizers": ["l2", 0.1],
    "reuse": ["no", 2],
    "scope": [True, 5],
}
POOL_REFUSALS = {
    "kernel_size": CONV_REFUSALS["kernel_size"],
    "stride": CONV_REFUSALS["stride"],
    "padding": CONV_REFUSALS["padding"],
}
LAYERS = {
    "conv2d": (layers.conv2d, {"num_outputs": 4, "kernel_size": 3}, CONV_REFUSALS),
    "batch_norm": (layers.batch_norm, {}, NORM_REFUSALS),
    "max_pool2d": (layers.max_pool2d, {"kernel_size": 2}, POOL_REFUSALS),
}


@pytest.mark.parametrize(("layer", "name"), [(layer, name) for layer, (*_, names) in LAYERS.items() for name in names])
def test_layers_refuse(layer, name):
    function, legal, refusals = LAYERS[layer]
    for value in refusals[name]:
        with pytest.raises(ValueError, match=f"{name} must be .*, and is") as told:
            function(images(2, 8, 8, 3), **{**legal, name: value})
        assert repr(value) in str(told.value)
    assert v1.global_variables() == []


def test_layers_take_what_slim_takes():
    picture = tf.constant(images(2, 8, 8, 3))
    same = {"num_outputs": 4, "kernel_size": 3, "padding": "same"}
    for arguments in (
        same,
        {**same, "kernel_size": [3, 3], "stride": (2, 1)},
        {**same, "kernel_size": tf.TensorShape([3, 3]), "stride": np.int64(2)},
        {**same, "kernel_size": np.array([3, 3]), "num_outputs": np.int32(4), "trainable": np.True_},
        {**same, "num_outputs": 4.0, "rate": [2, 2], "reuse": False},
        {**same, "num_outputs": v1.Dimension(4), "biases_initializer": None, "normalizer_params": {}},
        {**same, "normalizer_fn": slim.batch_norm, "normalizer_params": {"decay": 0, "scale": 1}},
    ):
        assert layers.conv2d(picture, **arguments).shape[-1] == 4
    for arguments in (
        {"decay": 1, "epsilon": 0, "center": 0, "scale": np.True_},
        {"decay": tf.constant(0.5), "epsilon": tf.constant(0.5), "fused": False},
        {"param_initializers": {}, "param_regularizers": None, "fused": True, "scope": "norm"},
    ):
        assert layers.batch_norm(picture, **arguments).shape == picture.shape
    assert layers.max_pool2d(picture, 2, stride=[2, 1], padding="same").shape == [2, 4, 8, 3]


def test_a_large_value_is_shown_in_one_line():
    with pytest.raises(ValueError, match="num_outputs must be a whole number") as told:
        layers.conv2d(images(1, 8, 8, 3), np.zeros([50, 50]), 3)
    assert "\n" not in str(told.value)
    assert len(str(told.value)) < 200


# The rest.


@pytest.mark.parametrize("factor", [True, 0, 1.5, "2"])
def test_subsampling_and_strided_convolutions_refuse(factor):
    with pytest.raises(ValueError, match=f"factor must be a whole number of at least 1, and is {factor!r}"):
        resnet_utils.subsample(tf.constant(images(1, 8, 8, 3)), factor)
    for name in ("kernel_size", "stride", "rate"):
        arguments = {"num_outputs": 4, "kernel_size": 3, "stride": 1, "rate": 1, name: factor}
        with pytest.raises(ValueError, match=f"{name} must be a whole number of at least 1, and is {factor!r}"):
            resnet_utils.conv2d_same(tf.constant(images(1, 8, 8, 3)), **arguments)


PREPROCESSING = {
    "a bool as size": ({"size": True}, "image size must be a whole number of at least 1, and is True"),
    "half a pixel": ({"size": 32.5}, "image size must be a whole number of at least 1, and is 32.5"),
    "a text as size": ({"size": "32"}, "image size must be a whole number of at least 1, and is '32'"),
    "no name": ({"name": None}, "Unknown preprocessing None: there is cifar, "),
    "a list": ({"name": ["vgg"]}, r"Unknown preprocessing \['vgg'\]: there is cifar, "),
    "one image": ({"images": np.zeros([8, 8, 3], np.uint8)}, r"images must be \[batch, height, width, channels\]"),
}


@pytest.mark.parametrize("case", PREPROCESSING)
def test_preprocessing_refuses(case):
    arguments, message = PREPROCESSING[case]
    legal = {"images": np.zeros([1, 8, 8, 3], np.uint8), "name": "vgg", "size": 32}
    with pytest.raises(ValueError, match=message):
        preprocessing.preprocess(**{**legal, **arguments})
