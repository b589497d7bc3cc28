"""Tests that networks are built only in a graph, and one at a time, whichever thread builds."""

import subprocess
import sys
import threading

import numpy as np
import pytest
import tensorflow as tf
import tf_slim as slim

from nets import (
    endpoint_info,
    layer_info,
    layers,
    nets_factory,
    resnet_cifar,
    resnet_keras,
    resnet_utils,
    resnet_v1,
    resnet_v2,
)
from nets.building import building
from tests.helpers.corpus import save_v2, weights
from tests.helpers.processes import environment
from tools.features import FeatureExtractor

v1 = tf.compat.v1

IMAGES = np.random.default_rng(0).integers(0, 256, [3, 40, 40, 3], dtype=np.uint8)
FLOATS = np.zeros([2, 32, 32, 3], np.float32)

# A network of each family, as small as it has one.
FAMILIES = ["resnet_v1_50", "resnet_v2_tiny", "resnet_basic_18", "resnet_keras_18", "resnet_cifar_20"]


# Under eager execution, which is on where no graph is the default.


EAGER = {
    **{name: nets_factory.networks_map[name] for name in FAMILIES},
    "digits": lambda images: resnet_keras.resnet_keras_18_digits(images[..., :1]),
    "network function": nets_factory.get_network_fn("resnet_v2_tiny", 10),
    "generator of v1": lambda images: resnet_v1.resnet_v1(images, [resnet_v1.resnet_v1_block("block1", 4, 1, 1)]),
    "generator of v2": lambda images: resnet_v2.resnet_v2(images, [resnet_v2.resnet_v2_block("block1", 4, 1, 1)]),
    "generator of cifar": lambda images: resnet_cifar.resnet_cifar(images, 3),
    "blocks": lambda images: resnet_utils.stack_blocks_dense(images, [resnet_v2.resnet_v2_block("block1", 4, 1, 1)]),
}


@pytest.mark.parametrize("case", EAGER)
@pytest.mark.parametrize("inputs", [FLOATS, tf.constant(FLOATS)], ids=["array", "tensor"])
def test_without_a_graph_a_network_is_refused(case, inputs):
    assert tf.executing_eagerly()
    with pytest.raises(ValueError, match=r"needs a graph .* inside of `with tf\.Graph\(\)\.as_default\(\):`"):
        EAGER[case](inputs)


def test_end_points_with_values_are_refused():
    with pytest.raises(ValueError, match=r"end_points must be tensors of a graph, .* `with tf\.Graph\(\)"):
        endpoint_info.describe(FLOATS, {"net": tf.constant(FLOATS)})
    with tf.Graph().as_default():
        net = {"net": v1.placeholder(tf.float32, [1, 4, 4, 3])}
    with pytest.raises(ValueError, match="inputs must be the tensor that the network was built on, and is array"):
        endpoint_info.describe(FLOATS, net)


def test_layers_with_values_are_refused():
    with tf.Graph().as_default():
        images = v1.placeholder(tf.float32, [1, 4, 4, 3])
    with pytest.raises(ValueError, match=r"outputs must be a tensor of the network's graph, and is <tf\.Tensor"):
        layer_info.describe_layers(images, tf.constant(FLOATS))


def test_what_the_message_advises_builds():
    with tf.Graph().as_default():
        logits, _ = nets_factory.get_network_fn("resnet_v2_tiny", 10)(FLOATS)
    assert logits.shape == [2, 10]


@pytest.mark.parametrize(
    "name",
    [
        "resnet_v2_tiny",
        *(
            pytest.param(name, marks=pytest.mark.full)
            for name in ("resnet_cifar_20", "resnet_basic_18", "resnet_keras_18")
        ),
    ],
)
def test_the_body_of_a_function_is_a_graph(name):
    """Tries tf.function and wrap_function, under eager execution; all weights are 1."""
    build = nets_factory.get_network_fn(name, 10)

    def logits(images):
        with v1.variable_scope("", initializer=v1.ones_initializer()):
            return build(images)[0]

    assert tf.function(logits)(FLOATS).shape == [2, 10]
    wrapped = v1.wrap_function(logits, [tf.TensorSpec([None, 32, 32, 3])])
    assert wrapped(FLOATS).shape == [2, 10]
    with tf.Graph().as_default():
        logits(FLOATS)
        expected = [variable.op.name for variable in v1.global_variables()]
    assert sorted(variable.name.partition(":")[0] for variable in wrapped.variables) == sorted(expected)


_IN_A_FUNCTION = """
from tools.runtime.importing import import_tensorflow
import_tensorflow()
import tensorflow as tf
from nets import resnet_v2

@tf.function
def logits(images):
    return resnet_v2.resnet_v2_tiny(images, 10, is_training=False)[0]

print(logits(tf.zeros([1, 32, 32, 3])).shape, logits(tf.zeros([2, 32, 32, 3])).shape)
"""


def test_a_function_builds_in_a_fresh_process():
    """The first to ask TensorFlow for a variable is the network inside of the function."""
    done = subprocess.run(
        [sys.executable, "-c", _IN_A_FUNCTION], env=environment(), capture_output=True, text=True, check=True
    )
    assert done.stdout == "(1, 10) (2, 10)\n"


def test_layers_by_themselves_compute_eagerly_as_ever():
    assert layers.max_pool2d(tf.constant(FLOATS), 2).shape == [2, 16, 16, 3]
    assert layers.conv2d(tf.constant(FLOATS), 4, 3).shape == [2, 32, 32, 4]


# In threads.


def at_once(functions):
    """Returns the results of functions that are called at the same time, each in its own thread."""
    results, barrier = [None] * len(functions), threading.Barrier(len(functions))

    def call(i):
        barrier.wait()
        try:
            results[i] = functions[i]()
        except Exception as error:
            results[i] = error

    threads = [threading.Thread(target=call, args=[i]) for i in range(len(functions))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def network_of_a_user(images):
    """Opens its own arg scope, which would affect the networks that other threads build at the same time."""
    with slim.arg_scope(resnet_v2.resnet_arg_scope()), slim.arg_scope([slim.conv2d], activation_fn=tf.nn.relu6):
        return resnet_v2.resnet_v2_tiny(images, 10, is_training=False)


def features(checkpoint, **options):
    end_points = ["block2", "global_pool", "logits"]
    with FeatureExtractor(checkpoint, end_points, freeze=False, threads=1, **options) as extractor:
        return extractor(IMAGES)


@pytest.fixture(scope="module")
def extractors(tmp_path_factory):
    """Returns functions that compute features with their own extractor, and their results one by one."""
    path = save_v2(tmp_path_factory.mktemp("tiny") / "model.ckpt", weights())
    users = {"net": network_of_a_user, "image_size": 32, "preprocessing": "inception"}
    kinds = [
        lambda: features("resnet_v2_tiny_digits"),
        lambda: features(path),
        lambda: features(path, **users),
        lambda: features(path, pool="mean"),
    ]
    return kinds, [kind() for kind in kinds]


def assert_as_one_by_one(extractors, times):
    kinds, expected = extractors
    for _ in range(times):
        results = at_once([*kinds, *kinds])
        assert [result for result in results if isinstance(result, Exception)] == []
        for result, wanted in zip(results, [*expected, *expected], strict=True):
            assert {name: array.tobytes() for name, array in result.items()} == {
                name: array.tobytes() for name, array in wanted.items()
            }


def test_eight_extractors_at_once_compute_what_each_computes_alone(extractors):
    assert_as_one_by_one(extractors, 1)


@pytest.mark.full
def test_eight_extractors_at_once_twenty_times(extractors):
    assert_as_one_by_one(extractors, 20)


def graph_of(name, weight_decay, is_training):
    """Returns the operations of a network, which show all arguments of its arg scope."""
    with tf.Graph().as_default() as graph:
        nets_factory.get_network_fn(name, 10, weight_decay, is_training)(FLOATS)
        return [(op.name, op.type, [tensor.name for tensor in op.inputs]) for op in graph.get_operations()]


def test_networks_of_several_families_are_built_at_once():
    kinds = [
        lambda: graph_of("resnet_v2_tiny", 0.1, True),
        lambda: graph_of("resnet_v2_tiny", 0.0, False),
        lambda: graph_of("resnet_cifar_20", 0.2, True),
        lambda: graph_of("resnet_keras_18", 0.0, False),
        lambda: graph_of("resnet_basic_18", 0.3, True),
    ]
    assert at_once(kinds) == [kind() for kind in kinds]


def test_threads_with_arg_scopes_of_their_own_hold_the_lock():
    def graph(weight_decay):
        with (
            tf.Graph().as_default() as graph,
            building(),
            slim.arg_scope(resnet_v2.resnet_arg_scope(weight_decay)),
            slim.arg_scope([slim.conv2d], variables_collections=[f"of {weight_decay}"]),
        ):
            resnet_v2.resnet_v2_tiny(FLOATS, 10)
            return {name: len(graph.get_collection(name)) for name in graph.get_all_collection_keys()}

    kinds = [lambda weight_decay=weight_decay: graph(weight_decay) for weight_decay in (0.1, 0.2, 0.0, 0.4)]
    assert at_once(kinds) == [kind() for kind in kinds]
