"""Compares VGG-16, VGG-19 and Inception v3 with the networks of ``keras.applications`` on the same weights.

Keras' networks are another implementation, whose numbers of layers and shapes are its own. What differs is named here:
Keras' ``fc1`` and ``fc2`` are matrices, and slim's ``fc6`` and ``fc7`` convolutions; its Inception has no auxiliary
logits, and counts its layers in the order of their creation.
"""

import re
import zlib

import numpy as np
import pytest
import tensorflow as tf

from nets import nets_factory
from tests.helpers.networks import assign_in_parts

v1 = tf.compat.v1

pytestmark = [pytest.mark.full, pytest.mark.numerical]

CLASSES = 12
APPLICATIONS = {"vgg_16": "VGG16", "vgg_19": "VGG19", "inception_v3": "InceptionV3"}
BLOCKS = ("5b", "5c", "5d", "6a", "6b", "6c", "6d", "6e", "7a", "7b", "7c")
# End points, and the layers of Keras that compute them. Keras joins the branches of the last two blocks in steps.
POINTS = {
    "vgg_16": {
        **{f"vgg_16/pool{i}": f"block{i}_pool" for i in range(1, 6)},
        **{"vgg_16/conv4/conv4_2": "block4_conv2", "vgg_16/fc6": "fc1", "vgg_16/fc7": "fc2"},
        "predictions": "predictions",
    },
    "vgg_19": {
        **{f"vgg_19/pool{i}": f"block{i}_pool" for i in range(1, 6)},
        **{"vgg_19/conv5/conv5_4": "block5_conv4", "vgg_19/fc6": "fc1", "vgg_19/fc7": "fc2"},
        "predictions": "predictions",
    },
    "inception_v3": {
        **{
            f"Mixed_{block}": f"mixed{i}"
            for i, block in enumerate(["5b", "5c", "5d", "6a", "6b", "6c", "6d", "6e", "7a", "7b", "7c"])
        },
        **{"PreLogits": "avg_pool", "Predictions": "predictions"},
    },
}


def number(name):
    """Returns the number of a layer that Keras counts, such as conv2d_3; without one it is the first."""
    return int((re.search(r"_(\d+)$", name) or [0, 0])[1])


def expected(name):
    """Returns the values of Keras' layers, the images, and the weights by slim's names."""
    import keras

    keras.backend.clear_session()
    model = getattr(keras.applications, APPLICATIONS[name])(weights=None, classes=CLASSES)
    values = {}
    if name.startswith("vgg"):
        for layer in model.layers:
            if layer.weights:
                kernel, bias = layer.weights
                scope = slim_scope(layer.name)
                values[f"{name}/{scope}/weights"] = kernel
                values[f"{name}/{scope}/biases"] = bias
    else:
        scopes = inception_scopes()
        convolutions, norms = (
            sorted((each for each in model.layers if each.name.startswith(kind)), key=lambda each: number(each.name))
            for kind in ("conv2d", "batch_normalization")
        )
        assert len(scopes) == len(convolutions) == len(norms) == 94
        for scope, convolution, norm in zip(scopes, convolutions, norms, strict=True):
            values[f"{scope}/weights"] = convolution.weights[0]
            for variable in norm.weights:
                values[f"{scope}/BatchNorm/{variable.name}"] = variable
        kernel, bias = model.get_layer("predictions").weights
        values |= {"InceptionV3/Logits/Conv2d_1c_1x1/weights": kernel, "InceptionV3/Logits/Conv2d_1c_1x1/biases": bias}
    weights = {key: random_value(key, variable.shape) for key, variable in values.items()}
    for key, variable in values.items():
        variable.assign(weights[key])
    size = nets_factory.get_network(name).image_size
    images = np.random.default_rng(1).normal(size=[2, size, size, 3]).astype(np.float32)
    layers = list(POINTS[name].values())
    computed = keras.Model(model.inputs[0], [model.get_layer(each).output for each in layers])(images, training=False)
    found = dict(zip(POINTS[name], map(np.array, computed), strict=True))
    return found, images, weights


def random_value(name, shape):
    generator = np.random.default_rng(zlib.crc32(name.encode()))
    if len(shape) > 1:
        return generator.standard_normal(shape, np.float32) * np.float32(np.sqrt(1.7 / np.prod(shape[:-1])))
    if name.endswith("variance"):
        return generator.uniform(0.5, 1.5, shape).astype(np.float32)
    return 0.1 * generator.standard_normal(shape, np.float32)


def slim_scope(layer):
    """Returns the scope of a layer of Keras' VGG, by hand: block4_conv2 is conv4/conv4_2."""
    if match := re.fullmatch(r"block(\d)_conv(\d)", layer):
        return f"conv{match[1]}/conv{match[1]}_{match[2]}"
    return {"fc1": "fc6", "fc2": "fc7", "predictions": "fc8"}[layer]


def inception_scopes():
    """Returns the scopes of the convolutions in the order in which tf_slim, and Keras, creates them."""
    with tf.Graph().as_default():
        nets_factory.get_network_fn("inception_v3", None)(v1.placeholder(tf.float32, [1, 299, 299, 3]))
        names = [each.op.name for each in v1.global_variables() if each.op.name.endswith("/weights")]
    return [each.removesuffix("/weights") for each in names]


@pytest.mark.parametrize("name", APPLICATIONS)
def test_end_points_equal_those_of_keras(name):
    values, images, weights = expected(name)
    options = {"create_aux_logits": False} if name == "inception_v3" else {}

    def value(variable):
        return weights[variable.op.name].reshape(variable.shape.as_list())

    with tf.Graph().as_default(), v1.Session() as session:
        fed = v1.placeholder(tf.float32, images.shape)
        _, end_points = nets_factory.get_network_fn(name, CLASSES)(fed, **options)
        variables = v1.global_variables()
        assert {each.op.name for each in variables} == {*weights}
        assign_in_parts(session, value)
        results = session.run({key: end_points[key] for key in values}, {fed: images})
    for key, theirs in values.items():
        ours = results[key].reshape(theirs.shape)
        assert theirs.std() > 0
        assert np.linalg.norm(ours - theirs) <= 1e-5 * np.linalg.norm(theirs), key
