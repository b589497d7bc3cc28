"""Compares tf_slim's other networks with tf_slim's own functions, built in the same process on the same weights."""

import numpy as np
import pytest
import tensorflow as tf
import tf_slim as slim

from nets import nets_factory, tf_slim_nets
from tests.helpers.networks import OF_TF_SLIM, assign_in_parts
from tools.peers.slim_reference import tf_slim_builder, tf_slim_scope

v1 = tf.compat.v1

UPDATE_OPS = v1.GraphKeys.UPDATE_OPS

# The VGGs and overfeat have more than 10^8 parameters, and the other Inceptions take seconds to build.
QUICK = ("alexnet_v2", "inception_v1")
NAMES = [name if name in QUICK else pytest.param(name, marks=pytest.mark.full) for name in OF_TF_SLIM]
CLASSES = 11
# What our dict adds to that of tf_slim.
MORE = {name: set() if name.startswith("inception") else {"predictions"} for name in OF_TF_SLIM}


def built(theirs, name, shape, num_classes=CLASSES, is_training=False, updates_collections=UPDATE_OPS, **options):
    """Returns (graph, images, net, end points) of our network, or of tf_slim's own."""
    graph = tf.Graph()
    network = nets_factory.get_network(name)
    builder = tf_slim_builder(name) if theirs else network.builder
    scope = tf_slim_scope(updates_collections, net=name) if theirs else slim.arg_scope(network.arg_scope())
    with graph.as_default(), scope:
        images = v1.placeholder(tf.float32, shape, name="images")
        if is_training == "tensor":
            is_training = v1.placeholder(tf.bool, [], name="is_training")
        return graph, images, *builder(images, num_classes, is_training=is_training, **options)


def described(graph):
    """Returns names, shapes and dtypes of the variables of each collection, and the sizes of all collections."""
    kinds = ("GLOBAL_VARIABLES", "MODEL_VARIABLES", "TRAINABLE_VARIABLES")
    collections = {getattr(v1.GraphKeys, kind) for kind in kinds} | {"moving_vars"}
    variables = {
        key: [(each.name, each.shape.as_list(), each.dtype) for each in graph.get_collection(key)]
        for key in collections
    }
    losses = [loss.name for loss in graph.get_collection(v1.GraphKeys.REGULARIZATION_LOSSES)]
    sizes = {key: len(graph.get_collection(key)) for key in graph.get_all_collection_keys()}
    return variables, losses, {key: size for key, size in sizes.items() if size}


def assert_same_names(name, ours, theirs):
    assert described(ours[0]) == described(theirs[0])
    more = [key for key in ours[3] if key not in theirs[3]]
    assert set(more) == MORE[name]
    names = {key: tensor.name for key, tensor in ours[3].items() if key not in more}
    assert names == {key: tensor.name for key, tensor in theirs[3].items()}
    assert [*names] == [*theirs[3]]
    assert ours[2].name == theirs[2].name


def values_of(network, images):
    graph, placeholder, _, end_points = network
    with v1.Session(graph=graph) as session:
        assign_in_parts(session)
        return session.run(dict(end_points), {placeholder: images})


def compare(name, shape, num_classes=CLASSES, **options):
    """Compares the names and, to the bit, the values of all end points."""
    ours, theirs = (built(each, name, shape, num_classes, **options) for each in (False, True))
    assert_same_names(name, ours, theirs)
    images = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    results, expected = values_of(ours, images), values_of(theirs, images)
    assert all(np.isfinite(value).all() and value.std() > 0 for value in expected.values())
    assert [key for key in expected if not np.array_equal(results[key], expected[key])] == []
    return results


@pytest.mark.numerical
@pytest.mark.parity
@pytest.mark.parametrize("name", NAMES)
def test_every_end_point_equals_tf_slims_to_the_bit(name):
    """The predictions that our dict adds are the softmax of the logits by NumPy."""
    network = nets_factory.get_network(name)
    size = network.image_size
    results = compare(name, [1, size, size, 3], network.num_classes)
    if "predictions" in MORE[name]:
        logits = results[f"{name}/fc8"].astype(np.float64)
        expected = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
        np.testing.assert_allclose(results["predictions"], expected, rtol=1e-5)


OPTIONS = [
    ("alexnet_v2", [2, 259, 227, 3], {"spatial_squeeze": False}),
    ("inception_v1", [1, 225, 250, 3], {"spatial_squeeze": False}),
    ("inception_v1", [1, 224, 224, 3], {"scope": "mine"}),
    ("inception_v2", [2, 33, 64, 3], {"depth_multiplier": 0.25, "min_depth": 4}),
    ("inception_v3", [2, 107, 120, 3], {"depth_multiplier": 0.125, "min_depth": 8}),
    ("inception_v3", [2, 80, 75, 3], {"depth_multiplier": 0.0625, "create_aux_logits": False}),
    ("vgg_a", [1, 256, 231, 3], {"spatial_squeeze": False}),
]


@pytest.mark.full
@pytest.mark.numerical
@pytest.mark.parametrize(("name", "shape", "options"), OPTIONS)
def test_networks_under_options_equal_tf_slims_to_the_bit(name, shape, options):
    compare(name, shape, **options)


@pytest.mark.full
@pytest.mark.parametrize("name", OF_TF_SLIM)
@pytest.mark.parametrize("mode", [True, "tensor"])
def test_names_in_training_equal_tf_slims(name, mode):
    size = nets_factory.get_network(name).image_size
    networks = [built(theirs, name, [2, size, size, 3], is_training=mode) for theirs in (False, True)]
    assert_same_names(name, *networks)


# A training step.

# Gradients of 10^8 elements are compared at some 10^6 of them.
_SAMPLE = 1_000_000


def step(theirs, name, shape, updates_collections, **options):
    """Returns the loss, the gradients by variable, and the moving statistics after a step."""
    graph, placeholder, logits, end_points = built(
        theirs,
        name,
        shape,
        is_training=True,
        updates_collections=updates_collections,
        dropout_keep_prob=1.0,
        **options,
    )
    generator = np.random.default_rng(2)
    images = generator.normal(size=shape).astype(np.float32)
    labels = generator.integers(0, CLASSES, shape[0])
    with graph.as_default(), v1.Session() as session:
        loss = v1.losses.sparse_softmax_cross_entropy(labels, logits)
        if "AuxLogits" in end_points:
            loss += v1.losses.sparse_softmax_cross_entropy(labels, end_points["AuxLogits"])
        loss += tf.add_n(graph.get_collection(v1.GraphKeys.REGULARIZATION_LOSSES))
        variables = v1.trainable_variables()
        gradients = {}
        for variable, gradient in zip(variables, tf.gradients(loss, variables), strict=True):
            size = variable.shape.num_elements()
            gradients[variable.op.name] = tf.reshape(gradient, [-1])[:: max(1, size // _SAMPLE)]
        assign_in_parts(session)
        updates = graph.get_collection(UPDATE_OPS)
        loss, gradients, _ = session.run([loss, gradients, updates], {placeholder: images})
        moving = {each.op.name: each for each in v1.global_variables() if "/moving_" in each.op.name}
        return loss, gradients, session.run(moving)


STEPS = [
    ("alexnet_v2", [2, 195, 195, 3], {}),
    ("inception_v1", [4, 193, 193, 3], {}),
    ("inception_v2", [4, 65, 65, 3], {"depth_multiplier": 0.25}),
    ("inception_v3", [4, 107, 107, 3], {"depth_multiplier": 0.25}),
    ("overfeat", [1, 231, 231, 3], {}),
    *((name, [1, 224, 224, 3], {}) for name in ("vgg_a", "vgg_16", "vgg_19")),
]


@pytest.mark.numerical
@pytest.mark.parametrize(
    ("name", "shape", "options"),
    [each if each[0] == "alexnet_v2" else pytest.param(*each, marks=pytest.mark.full) for each in STEPS],
)
def test_a_training_step_equals_tf_slims(name, shape, options):
    """The ops are the same, but not the order of their sums: 1e-5 of the norm."""
    loss, gradients, moving = step(False, name, shape, UPDATE_OPS, **options)
    their_loss, their_gradients, their_moving = step(True, name, shape, UPDATE_OPS, **options)
    assert loss == pytest.approx(their_loss, rel=1e-6)
    norm = np.sqrt(sum(np.sum(np.square(each)) for each in their_gradients.values()))
    assert norm > 0
    assert gradients.keys() == their_gradients.keys()
    for key, gradient in their_gradients.items():
        scale = max(np.linalg.norm(gradient), 1e-3 * norm)
        assert np.linalg.norm(gradients[key] - gradient) <= 1e-5 * scale, key
    assert moving.keys() == their_moving.keys()
    assert bool(moving) == name.startswith("inception")
    for key, value in their_moving.items():
        assert np.linalg.norm(moving[key] - value) <= 1e-5 * np.linalg.norm(value), key


# Networks without logits, and what cannot be built.


def variables_of(name, num_classes, **options):
    network = nets_factory.get_network(name)
    with tf.Graph().as_default():
        images = v1.placeholder(tf.float32, [2, network.image_size, network.image_size, 3])
        net, end_points = nets_factory.get_network_fn(name, num_classes)(images, **options)
        return [each.op.name for each in v1.global_variables()], net, end_points


@pytest.mark.parametrize(
    ("name", "channels", "last", "logits"),
    [
        ("alexnet_v2", 4096, "alexnet_v2/fc7", "alexnet_v2/fc8/"),
        ("vgg_a", 4096, "vgg_a/fc7", "vgg_a/fc8/"),
        pytest.param("inception_v1", 1024, "Mixed_5c", "InceptionV1/Logits/Conv2d_0c_1x1/", marks=pytest.mark.full),
        pytest.param("inception_v2", 1024, "Mixed_5c", "InceptionV2/Logits/Conv2d_1c_1x1/", marks=pytest.mark.full),
        pytest.param("inception_v3", 2048, "PreLogits", "InceptionV3/Logits/", marks=pytest.mark.full),
    ],
)
def test_networks_without_logits(name, channels, last, logits):
    """They have all variables but those of the logits, and return the input of the logits."""
    expected = [each for each in variables_of(name, 7)[0] if not each.startswith(logits) and "/AuxLogits/" not in each]
    for num_classes in (None, 0):
        variables, net, end_points = variables_of(name, num_classes)
        assert variables == expected
        assert net.shape.as_list() == [2, 1, 1, channels]
        assert [*end_points][-1] == last


@pytest.mark.parametrize(
    ("name", "size", "options", "sentence"),
    [
        ("vgg_16", 223, {}, "vgg_16 takes images of 224 to 255 rows and columns, and these are 223x223: resize them, "),
        ("vgg_19", 256, {}, "256x256: .*, or set spatial_squeeze=False, which allows larger ones."),
        ("vgg_a", 223, {"spatial_squeeze": False}, "vgg_a takes images of at least 224 rows and columns, and these"),
        ("alexnet_v2", 194, {}, "195 to 226 rows and columns, and these are 194x194: resize them, for example to 224x"),
        ("overfeat", 263, {}, "overfeat takes images of 231 to 262 rows"),
        ("inception_v1", 192, {}, "inception_v1 takes images of 193 to 224 rows"),
        ("inception_v2", 257, {}, "inception_v2 takes images of 1 to 256 rows"),
        ("inception_v3", 106, {}, "107 to 346 .* 106x106: .*, or set create_aux_logits=False, which allows smaller"),
        ("inception_v3", 74, {"create_aux_logits": False}, "inception_v3 takes images of 75 to 362 rows and columns"),
        ("inception_v3", 74, {"num_classes": None}, "inception_v3 takes images of at least 75 rows and columns"),
    ],
)
def test_images_of_another_size_than_a_network_takes(name, size, options, sentence):
    arguments = {"num_classes": 10, "is_training": False} | options
    with tf.Graph().as_default(), pytest.raises(ValueError, match=sentence):
        nets_factory.networks_map[name](v1.placeholder(tf.float32, [1, size, size, 3]), **arguments)
    with tf.Graph().as_default():
        assert v1.global_variables() == []


LIMITS = [
    *(("alexnet_v2", size, {}) for size in (194, 195, 226, 227)),
    *(("overfeat", size, {}) for size in (230, 231, 262, 263)),
    *(("vgg_a", size, {}) for size in (223, 224, 255, 256)),
    *(("inception_v1", size, {}) for size in (192, 193, 224, 225)),
    *(("inception_v2", size, {}) for size in (1, 256, 257)),
    *(("inception_v3", size, {}) for size in (106, 107, 346, 347)),
    *(("inception_v3", size, {"create_aux_logits": False}) for size in (74, 75, 362, 363)),
]


@pytest.mark.full
@pytest.mark.parametrize(("name", "size", "options"), LIMITS)
def test_the_limits_of_sizes_are_tf_slims(name, size, options):
    """Where tf_slim's own function fails in some op, ours says so, and nowhere else."""
    failed = []
    for theirs in (False, True):
        try:
            built(theirs, name, [1, size, size, 3], **options)
        except ValueError:
            failed.append(True)
        else:
            failed.append(False)
    assert failed[0] == failed[1]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"dropout_keep_prob": 1.5}, "dropout_keep_prob must be a number from 0 to 1, and is 1.5"),
        ({"min_depth": 0}, "min_depth must be a whole number of at least 1, and is 0"),
        ({"depth_multiplier": "half"}, "depth_multiplier must be a number of at least 0, and is 'half'"),
        ({"create_aux_logits": "no"}, "create_aux_logits must be True or False, and is 'no'"),
        ({"prediction_fn": 3}, "prediction_fn must be a function or None, and is 3"),
        ({"scope": 3}, "scope must be a string, a variable scope or None, and is 3"),
        ({"reuse": "yes"}, "reuse must be True, False, None"),
        ({"num_classes": -1}, "num_classes must be a whole number of at least 0, and is -1"),
        ({"is_training": "no"}, "is_training must be True, False or a boolean tensor, and is 'no'"),
    ],
)
def test_arguments_that_no_network_can_be_built_with(arguments, sentence):
    with tf.Graph().as_default(), pytest.raises(ValueError, match=sentence):
        tf_slim_nets.inception_v3(v1.placeholder(tf.float32, [1, 299, 299, 3]), **arguments)


def test_the_mode_is_taken_from_the_arg_scope():
    for mode, dropped in ((False, False), (True, True)):
        with tf.Graph().as_default() as graph:
            images = v1.placeholder(tf.float32, [1, 224, 224, 3])
            with slim.arg_scope(tf_slim_nets.vgg_arg_scope()), slim.arg_scope([slim.batch_norm], is_training=mode):
                tf_slim_nets.vgg_a(images, 2, is_training=None)
            assert (
                any("/dropout6/" in op.name and op.type == "RandomUniform" for op in graph.get_operations()) == dropped
            )


@pytest.mark.full
@pytest.mark.parametrize("batch_norm", [True, False])
def test_inception_arg_scope_answers_to_its_options(batch_norm):
    scope = tf_slim_nets.inception_arg_scope(
        use_batch_norm=batch_norm, batch_norm_scale=True, batch_norm_epsilon=0.5, activation_fn=tf.nn.elu
    )
    with tf.Graph().as_default() as graph, slim.arg_scope(scope):
        tf_slim_nets.inception_v1(v1.placeholder(tf.float32, [1, 224, 224, 3]), 3, is_training=False)
        variables = {each.op.name.removeprefix("InceptionV1/Conv2d_1a_7x7/") for each in v1.global_variables()}
        epsilons = {op.get_attr("epsilon") for op in graph.get_operations() if op.type == "FusedBatchNormV3"}
        kinds = {op.type for op in graph.get_operations()}
    norm = {f"BatchNorm/{leaf}" for leaf in ("beta", "gamma", "moving_mean", "moving_variance")}
    assert {each for each in variables if not each.startswith("InceptionV1/")} == {"weights"} | (
        norm if batch_norm else {"biases"}
    )
    assert epsilons == ({0.5} if batch_norm else set())
    assert "Elu" in kinds
    assert "Relu" not in kinds
