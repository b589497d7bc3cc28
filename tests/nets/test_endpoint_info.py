"""Compares end points with the graphs that run, and with published receptive fields."""

import contextlib

import numpy as np
import pytest
import tensorflow as tf
import tf_slim as slim

from nets import endpoint_info, nets_factory, resnet_v2

v1 = tf.compat.v1

# Size, stride and padding at the last convolution, on an even image size: the figures that Google's receptive field
# library gives for slim's ResNets.
PUBLISHED = {
    "resnet_v1_50": (483, 32, 239),
    "resnet_v1_101": (1027, 32, 511),
    "resnet_v1_152": (1507, 32, 751),
    "resnet_v1_200": (1763, 32, 879),
    "resnet_v2_50": (483, 32, 239),
    "resnet_v2_101": (1027, 32, 511),
    "resnet_v2_152": (1507, 32, 751),
    "resnet_v2_200": (1763, 32, 879),
}


@pytest.fixture(autouse=True)
def graph():
    with tf.Graph().as_default() as graph:
        yield graph


def build(name="resnet_v2_tiny", shape=(None, 32, 32, 3), classes=10, **kwargs):
    images = v1.placeholder(tf.float32, shape, name="images")
    network = nets_factory.get_network(name)
    with slim.arg_scope(network.arg_scope()):
        _, end_points = network.builder(images, classes, **{"is_training": False, **kwargs})
    return images, end_points


@pytest.mark.parametrize(
    "name", [name if name.endswith("_50") else pytest.param(name, marks=pytest.mark.full) for name in PUBLISHED]
)
@pytest.mark.parametrize("size", [224, 320])
def test_receptive_fields_are_the_published_ones(name, size):
    images, end_points = build(name, [None, size, size, 3])
    (block4,) = endpoint_info.describe(images, end_points, ["block4"])
    field = PUBLISHED[name]
    assert block4.receptive_field == tuple((number, number) for number in field)


# Size and stride, and padding on images of 224 and of 321: the table of google-research/receptive_field
# (receptive_field/RECEPTIVE_FIELD_TABLE.md).
TABLE = {
    "alexnet_v2": """
        alexnet_v2/conv1 11 4 0 0, alexnet_v2/pool1 19 8 0 0, alexnet_v2/conv2 51 8 16 16, alexnet_v2/conv3 99 16 32 32,
        alexnet_v2/conv4 131 16 48 48, alexnet_v2/conv5 163 16 64 64, alexnet_v2/pool5 195 32 64 64""",
    "vgg_a": """
        vgg_a/conv1/conv1_1 3 1 1 1, vgg_a/pool1 4 2 1 1, vgg_a/conv2/conv2_1 8 2 3 3, vgg_a/pool2 10 4 3 3,
        vgg_a/conv3/conv3_1 18 4 7 7, vgg_a/conv3/conv3_2 26 4 11 11, vgg_a/pool3 30 8 11 11,
        vgg_a/conv4/conv4_1 46 8 19 19, vgg_a/conv4/conv4_2 62 8 27 27, vgg_a/pool4 70 16 27 27,
        vgg_a/conv5/conv5_1 102 16 43 43, vgg_a/conv5/conv5_2 134 16 59 59, vgg_a/pool5 150 32 59 59""",
    "vgg_16": """
        vgg_16/conv1/conv1_1 3 1 1 1, vgg_16/pool1 6 2 2 2, vgg_16/conv2/conv2_1 10 2 4 4, vgg_16/pool2 16 4 6 6,
        vgg_16/conv3/conv3_1 24 4 10 10, vgg_16/conv3/conv3_2 32 4 14 14, vgg_16/pool3 44 8 18 18,
        vgg_16/conv4/conv4_1 60 8 26 26, vgg_16/conv4/conv4_2 76 8 34 34, vgg_16/pool4 100 16 42 42,
        vgg_16/conv5/conv5_1 132 16 58 58, vgg_16/conv5/conv5_2 164 16 74 74, vgg_16/pool5 212 32 90 90""",
    "inception_v2": """
        Conv2d_1a_7x7 7 2 2 3, MaxPool_2a_3x3 11 4 2 5, Conv2d_2b_1x1 11 4 2 5, Conv2d_2c_3x3 19 4 6 9,
        MaxPool_3a_3x3 27 8 6 13, Mixed_3b 59 8 22 29, Mixed_3c 91 8 38 45, Mixed_4a 123 16 46 61,
        Mixed_4b 187 16 78 93, Mixed_4c 251 16 110 125, Mixed_4d 315 16 142 157, Mixed_4e 379 16 174 189,
        Mixed_5a 443 32 190 221, Mixed_5b 571 32 254 285, Mixed_5c 699 32 318 349""",
    "inception_v3": """
        Conv2d_1a_3x3 3 2 0 0, Conv2d_2a_3x3 7 2 0 0, Conv2d_2b_3x3 11 2 2 2, MaxPool_3a_3x3 15 4 2 2,
        Conv2d_3b_1x1 15 4 2 2, Conv2d_4a_3x3 23 4 2 2, MaxPool_5a_3x3 31 8 2 2, Mixed_5b 63 8 18 18,
        Mixed_5c 95 8 34 34, Mixed_5d 127 8 50 50, Mixed_6a 159 16 58 58, Mixed_6b 351 16 154 154,
        Mixed_6c 543 16 250 250, Mixed_6d 735 16 346 346, Mixed_6e 927 16 442 442, Mixed_7a 1055 32 490 490,
        Mixed_7b 1183 32 554 554, Mixed_7c 1311 32 618 618""",
}


@pytest.mark.parametrize(
    "name", [name if name != "inception_v2" else pytest.param(name, marks=pytest.mark.full) for name in TABLE]
)
@pytest.mark.parametrize("size", [224, pytest.param(321, marks=pytest.mark.full)])
def test_receptive_fields_of_tf_slims_networks_are_the_published_ones(name, size):
    images, end_points = build(name, [None, size, size, 3], spatial_squeeze=False)
    rows = [row.split() for row in TABLE[name].split(",")]
    expected = {row[0]: tuple(map(int, [*row[1:3], row[3 if size == 224 else 4]])) for row in rows}
    described = endpoint_info.describe(images, end_points, expected)
    found = {point.name: point.receptive_field for point in described}
    assert found == {key: tuple((number, number) for number in field) for key, field in expected.items()}


# Aliases of end points, and the names of their tensors, with stride and channels at the network's own size.
# tf_slim's pools before the logits of v2 and v3 have its default stride of 2, which their single position hides.
PLACES = [
    ("vgg_16", "conv5/conv5_3", "vgg_16/conv5/conv5_3/Relu:0", (16, 16), 512),
    ("vgg_16", "pool5", "vgg_16/pool5/MaxPool:0", (32, 32), 512),
    ("vgg_16", "fc7", "vgg_16/fc7/Relu:0", (32, 32), 4096),
    ("vgg_16", "logits", "vgg_16/fc8/squeezed:0", (32, 32), 10),
    ("vgg_16", "predictions", "vgg_16/predictions:0", (32, 32), 10),
    ("inception_v3", "Mixed_7c", "InceptionV3/InceptionV3/Mixed_7c/concat:0", (32, 32), 2048),
    (
        "inception_v3",
        "Mixed_6b/Branch_2/Conv2d_0e_1x7",
        "InceptionV3/InceptionV3/Mixed_6b/Branch_2/Conv2d_0e_1x7/Relu:0",
        (16, 16),
        192,
    ),
    ("inception_v3", "AuxLogits/Conv2d_1b_1x1", "InceptionV3/AuxLogits/Conv2d_1b_1x1/Relu:0", (48, 48), 128),
    ("inception_v3", "global_pool", "InceptionV3/Logits/Dropout_1b/Identity:0", (64, 64), 2048),
    ("inception_v3", "logits", "InceptionV3/Logits/SpatialSqueeze:0", (64, 64), 10),
    ("inception_v3", "predictions", "InceptionV3/Predictions/Reshape_1:0", (64, 64), 10),
    ("inception_v1", "global_pool", "InceptionV1/Logits/MaxPool_0a_7x7/AvgPool:0", (32, 32), 1024),
]


@pytest.mark.parametrize("name", ["vgg_16", *(pytest.param(f"inception_v{i}", marks=pytest.mark.full) for i in (1, 3))])
def test_places_in_tf_slims_networks(name):
    size = nets_factory.get_network(name).image_size
    images, end_points = build(name, [None, size, size, 3])
    places = [row[1:] for row in PLACES if row[0] == name]
    described = endpoint_info.describe(images, end_points, [place[0] for place in places])
    found = [
        (place[0], point.tensor.name, point.stride, point.channels)
        for place, point in zip(places, described, strict=True)
    ]
    assert found == places
    everything = endpoint_info.describe(images, end_points)
    assert {*end_points} <= {point.name for point in everything}
    tensors = [point.tensor.name for point in everything]
    assert len({*tensors}) >= len(tensors) - 1  # fc8, without and with the axes of its position
    for point in everything:
        assert endpoint_info.resolve(point.alias, end_points) == (point.name, point.tensor)


@pytest.mark.parametrize(
    ("name", "alias"), [("alexnet_v2", "global_pool"), ("vgg_a", "block4"), ("inception_v1", "fc7")]
)
def test_places_that_tf_slims_networks_do_not_have(name, alias):
    _, end_points = build(name, [None, 224, 224, 3])
    with pytest.raises(endpoint_info.UnknownEndPointError, match=f"Unknown end point '{alias}'"):
        endpoint_info.resolve(alias, end_points)


# By hand, from kernels and strides: size, stride and padding, where convolutions pad alike on all sides.
COUNTED = {
    ("resnet_basic_18", "pool1"): (11, 4, 5),
    ("resnet_basic_18", "block1"): (43, 4, 21),
    ("resnet_basic_18", "block2"): (99, 8, 49),
    ("resnet_basic_18", "block4"): (435, 32, 217),
    ("resnet_basic_34", "block4"): (899, 32, 449),
    ("resnet_cifar_20", "unit_1_2"): (15, 1, 7),
}


@pytest.mark.parametrize(("name", "alias"), COUNTED)
def test_receptive_fields_counted_by_hand(name, alias):
    size = nets_factory.get_network(name).image_size
    (point,) = endpoint_info.describe(*build(name, [None, size, size, 3]), [alias])
    assert point.receptive_field == tuple((number, number) for number in COUNTED[name, alias])


@pytest.mark.parametrize(
    "name", ["resnet_v1_50", "resnet_basic_18", "resnet_keras_18", "resnet_keras_18_digits", "resnet_cifar_20"]
)
def test_other_networks_are_described_as_they_run(name):
    channels = nets_factory.get_network(name).channels
    images, end_points = build(name, [2, 64, 64, channels])
    described = endpoint_info.describe(images, end_points)
    assert [point.name for point in described if point.name in end_points] == list(end_points)
    with v1.Session() as session:
        session.run(v1.global_variables_initializer())
        values = session.run([point.tensor for point in described], {images: np.ones([2, 64, 64, channels])})
    for point, value in zip(described, values, strict=True):
        assert point.shape == value.shape
        assert point.receptive_field is not None
        if point.stride is not None:
            assert [64 // stride for stride in point.stride] == list(value.shape[1:3])
        assert endpoint_info.resolve(point.alias, end_points) == (point.name, point.tensor)
        # Kinds of units are in no alias.
        assert not {"basic", "basic_keras", "bottleneck_v1", "identity"} & set(point.alias.split("/"))


@pytest.mark.parametrize("name", ["resnet_v2_tiny", pytest.param("resnet_v2_50", marks=pytest.mark.full)])
@pytest.mark.parametrize("size", [(64, 64), (97, 97), (75, 130)])
@pytest.mark.parametrize("options", [{}, {"output_stride": 8}, {"pool1_padding": "PAD1"}])
def test_descriptions_agree_with_the_graph_that_runs(name, size, options):
    images, end_points = build(name, [2, *size, 3], global_pool=False, spatial_squeeze=False, **options)
    described = endpoint_info.describe(images, end_points)
    with v1.Session() as session:
        session.run(v1.global_variables_initializer())
        values = session.run([point.tensor for point in described], {images: np.ones([2, *size, 3])})
    for point, value in zip(described, values, strict=True):
        assert point.shape == value.shape
        assert point.channels == value.shape[-1]
        # Strided ops keep ceil(size / stride) positions.
        assert (
            tuple(-(-pixels // stride) for pixels, stride in zip(size, point.stride, strict=True)) == value.shape[1:3]
        )


@pytest.mark.parametrize("size", [63, 64])
@pytest.mark.parametrize("options", [{}, {"output_stride": 8}, {"pool1_padding": "PAD1"}])
@pytest.mark.parametrize(
    "alias",
    [
        "pool1",
        "block2",
        *(pytest.param(one, marks=pytest.mark.full) for one in ("conv1", "block1/unit_1/conv2", "block4")),
    ],
)
def test_receptive_field_is_where_a_gradient_comes_from(size, options, alias):
    """Asserts the pixels that change one position, found by differentiation, which defines a receptive field."""
    images, end_points = build(shape=[1, size, size, 3], global_pool=False, spatial_squeeze=False, **options)
    assert_gradient_agrees(images, end_points, alias)


@pytest.mark.parametrize(
    ("name", "alias"),
    [
        ("resnet_basic_18", "block1/unit_2"),
        ("resnet_basic_18", "block2/unit_1"),
        ("resnet_keras_18", "block1/unit_1"),
        ("resnet_keras_18", "block2/unit_1/shortcut"),
        ("resnet_keras_18_digits", "block2/unit_1"),
        ("resnet_cifar_20", "unit_2_0"),
        ("resnet_cifar_20", "unit_3_1"),
    ],
)
def test_receptive_fields_of_other_networks_are_where_gradients_come_from(name, alias):
    size = 64
    images, end_points = build(name, [1, size, size, nets_factory.get_network(name).channels])
    assert_gradient_agrees(images, end_points, alias)


def assert_gradient_agrees(images, end_points, alias):
    size = images.shape.as_list()[1]
    (point,) = endpoint_info.describe(images, end_points, [alias])
    row = column = point.shape[1] // 2
    # The mean takes no part in a maximum: without it, pooling would let one pixel of nine through.
    gradient = tf.gradients(point.tensor[0, row, column], images)[0]
    reached = np.zeros([size, size], bool)
    generator = np.random.default_rng(0)
    with v1.Session() as session:
        session.run(v1.global_variables_initializer())
        for _ in range(60):
            value = session.run(gradient, {images: generator.normal(size=images.shape.as_list())})
            reached |= np.any(value[0] != 0, axis=-1)
    rows = np.flatnonzero(reached.any(axis=1))
    first = row * point.stride[0] - point.receptive_field.padding[0]
    last = first + point.receptive_field.size[0] - 1
    assert (rows[0], rows[-1]) == (max(first, 0), min(last, size - 1))


def test_after_global_pooling_the_field_is_the_image():
    images, end_points = build(shape=[None, 32, 48, 3])
    for point in endpoint_info.describe(images, end_points, ["global_pool", "logits", "predictions"]):
        assert point.receptive_field == ((32, 48), None, (0, 0))
        assert point.stride is None


def test_unknown_size_has_no_receptive_field():
    images, end_points = build(shape=[None, None, None, 3])
    described = endpoint_info.describe(images, end_points)
    assert {point.receptive_field for point in described} == {None}
    assert described[0].channels == 64


def test_a_way_through_an_unknown_op_has_no_receptive_field():
    images = v1.placeholder(tf.float32, [1, 8, 8, 3])
    flipped = tf.reverse(images, axis=[1])
    end_points = {"net/flipped": flipped, "net/sum": tf.add(flipped, images)}
    assert [point.receptive_field for point in endpoint_info.describe(images, end_points)] == [None, None]


def test_union_of_paths_of_different_extent():
    """A 3x3 convolution beside a 5x1 convolution sees 5 rows and 3 columns, from 2 above and 1 to the left."""
    images = v1.placeholder(tf.float32, [1, 9, 9, 1])
    small = tf.nn.conv2d(images, tf.ones([3, 3, 1, 1]), 1, "SAME")
    tall = tf.nn.conv2d(images, tf.ones([5, 1, 1, 1]), 1, "SAME")
    (point,) = endpoint_info.describe(images, {"sum": small + tall})
    assert point.receptive_field == ((5, 3), (1, 1), (2, 1))


def test_with_a_tensor_as_is_training_all_is_as_with_a_bool():
    images, end_points = build(is_training=v1.placeholder(tf.bool, []), shape=[None, 64, 64, 3])
    described = endpoint_info.describe(images, end_points)
    with tf.Graph().as_default():
        expected = endpoint_info.describe(*build(shape=[None, 64, 64, 3]))
    assert [point[:2] + point[3:] for point in described] == [point[:2] + point[3:] for point in expected]


USERS_NETWORKS = {
    "flattened and dense": (lambda net: tf.reshape(net, [1, -1]) @ tf.ones([64, 2]), None),
    "pooled over negative axes": (lambda net: tf.reduce_mean(net, [-3, -2]), ((8, 8), None, (0, 0))),
    "another shape": (lambda net: tf.reshape(net, [1, 4, 16, 1]), None),
    "channels first": (
        lambda net: tf.raw_ops.MaxPool(
            input=net, ksize=[1, 1, 2, 1], strides=[1, 1, 2, 1], padding="VALID", data_format="NCHW"
        ),
        None,
    ),
}


@pytest.mark.parametrize("name", USERS_NETWORKS)
def test_a_field_is_right_or_none_on_users_networks(name):
    function, expected = USERS_NETWORKS[name]
    images = v1.placeholder(tf.float32, [1, 8, 8, 1])
    net = tf.nn.conv2d(images, tf.ones([3, 3, 1, 1]), 1, "SAME")
    (point,) = endpoint_info.describe(images, {"net": function(net)})
    assert point.receptive_field == expected


# Names.


def test_reachable_is_in_graph_order_with_what_the_dict_leaves_out():
    _, end_points = build()
    everything = endpoint_info.reachable(end_points)
    unit = "resnet_v2_tiny/block1/unit_1/bottleneck_v2"
    layers = ["preact", "shortcut", "conv1", "conv2", "conv3"]
    assert list(everything)[:8] == [
        "resnet_v2_tiny/conv1",
        "resnet_v2_tiny/pool1",
        *(f"{unit}/{layer}" for layer in layers),
        unit,
    ]
    left_out = set(everything) - set(end_points)
    preacts = {f"resnet_v2_tiny/block{block}/unit_1/bottleneck_v2/preact" for block in range(1, 5)}
    # The first shortcut is a subsampling, the others are projections, which the dict has.
    assert left_out == {"resnet_v2_tiny/pool1", "resnet_v2_tiny/postnorm", f"{unit}/shortcut", *preacts}
    assert everything["resnet_v2_tiny/pool1"].name == "resnet_v2_tiny/pool1/MaxPool:0"
    assert everything[f"{unit}/preact"].name == f"{unit}/preact/Relu:0"
    assert [key for key in everything if key in end_points] == list(end_points)


ALIASES = {
    "conv1": "{}/conv1",
    "pool1": "{}/pool1",
    "block3": "{}/block3",
    "block3/unit_1": "{}/block3/unit_1/bottleneck_v2",
    "block3/unit_1/conv1": "{}/block3/unit_1/bottleneck_v2/conv1",
    "block3/unit_1/preact": "{}/block3/unit_1/bottleneck_v2/preact",
    "postnorm": "{}/postnorm",
    "global_pool": "global_pool",
    "logits": "{}/logits",
    "spatial_squeeze": "{}/spatial_squeeze",
    "predictions": "predictions",
}


@pytest.mark.parametrize("outer", [None, "outer/scope", "outer/conv1"])
@pytest.mark.parametrize("options", [{}, {"output_stride": 8}, {"is_training": True}])
def test_names_and_aliases_resolve(outer, options):
    if outer is None:
        _, end_points = build(**options)
    else:
        with v1.variable_scope(outer):
            _, end_points = build(**options)
    scope = "/".join(filter(None, [outer, "resnet_v2_tiny"]))
    for alias, pattern in ALIASES.items():
        name = pattern.format(scope)
        by_alias, by_name = endpoint_info.resolve(alias, end_points), endpoint_info.resolve(name, end_points)
        assert by_alias == by_name
        assert by_alias[0] == name
        if name in end_points:
            assert by_alias[1] is end_points[name]


def test_a_network_built_again_has_its_own_layers():
    build()
    with slim.arg_scope(resnet_v2.resnet_arg_scope()):
        images = v1.placeholder(tf.float32, [None, 32, 32, 3])
        _, end_points = resnet_v2.resnet_v2_tiny(images, 10, is_training=False, reuse=True)
    name, tensor = endpoint_info.resolve("pool1", end_points)
    assert name == "resnet_v2_tiny/pool1"
    assert tensor.name == "resnet_v2_tiny_1/pool1/MaxPool:0"
    with tf.Graph().as_default():
        assert list(endpoint_info.reachable(end_points)) == list(endpoint_info.reachable(build()[1]))


def test_unknown_names_suggest_the_nearest_or_list_all():
    _, end_points = build()
    with pytest.raises(endpoint_info.UnknownEndPointError, match="'blok3': did you mean block3"):
        endpoint_info.resolve("blok3", end_points)
    with pytest.raises(endpoint_info.UnknownEndPointError, match=r"there is conv1, pool1, .*predictions"):
        endpoint_info.resolve("fc7", end_points)


# Other libraries' names: torchvision's and timm's, Keras', Caffe's and detectron2's, the paper's.
ELSEWHERE = {
    "avgpool": "global_pool",
    "avg_pool": "global_pool",
    "AvgPool": "global_pool",
    "resnet_v2_tiny/avg_pool": "global_pool",
    "avg_pool:0": "global_pool",
    "model.avgpool": "global_pool",
    "pool5": "global_pool",
    "flatten": "global_pool",
    "flatten_1": "global_pool",
    "features": "global_pool",
    "GlobalAveragePooling2D": "global_pool",
    "fc": "logits",
    "fc1000": "logits",
    "head.fc": "logits",
    "classifier": "logits",
    "dense_1": "logits",
    "prob": "predictions",
    "probs": "predictions",
    "softmax": "predictions",
    "predictions/Softmax:0": "predictions",
    "maxpool": "pool1",
    "max_pooling2d": "pool1",
    "conv1_conv": "conv1",
    "post_relu": "postnorm",
    "layer4": "block4",
    "module.layer2": "block2",
    "stage4": "block4",
    "stages.3": "block4",
    "conv5": "block4",
    "conv5_x": "block4",
    "res2": "block1",
    "layer4.0": "block4/unit_1",
    "layer4.0.conv2": "block4/unit_1/conv2",
    "layer4.0.downsample.0": "block4/unit_1/shortcut",
    "stages.3.blocks.0.conv1": "block4/unit_1/conv1",
    "conv5_block1_out": "block4/unit_1",
    "conv5_block1_2_conv": "block4/unit_1/conv2",
    "conv5_block1_0_conv": "block4/unit_1/shortcut",
    "res5a": "block4/unit_1",
    "res5a_branch2b": "block4/unit_1/conv2",
    "res5a_branch1": "block4/unit_1/shortcut",
    "res5.0.conv3": "block4/unit_1/conv3",
    # A unit that this network does not have: the block that it would be in.
    "layer4.2.conv1": "block4",
}


def unknown(name, end_points):
    """Returns the message for a name that no end point has."""
    with pytest.raises(endpoint_info.UnknownEndPointError) as caught:
        endpoint_info.resolve(name, end_points)
    return str(caught.value)


def test_names_of_other_libraries_are_known():
    _, end_points = build()
    for name, alias in ELSEWHERE.items():
        assert unknown(name, end_points) == f"Unknown end point {name!r}: did you mean {alias}?"
        endpoint_info.resolve(alias, end_points)  # the suggestion can be followed


def test_only_what_the_network_has_is_suggested():
    _, end_points = build(classes=None)
    assert unknown("fc", end_points).startswith("Unknown end point 'fc': this network has no logits; there is conv1, ")
    with tf.Graph().as_default():
        _, end_points = build(global_pool=False, spatial_squeeze=False)
        assert "has no global_pool; there is conv1, pool1, " in unknown("avgpool", end_points)
    with tf.Graph().as_default():
        _, end_points = build("resnet_cifar_20")
        assert unknown("layer2", end_points) == "Unknown end point 'layer2': did you mean unit_2_2?"
        assert unknown("layer2.0", end_points) == "Unknown end point 'layer2.0': did you mean unit_2_0?"
        assert "this network has no block4; there is init/init_conv, " in unknown("layer4", end_points)


def test_what_no_end_point_can_be_called():
    images, end_points = build()
    for name in (None, 4, ["block3"]):
        assert "The name of an end point must be a string, and is" in unknown(name, end_points)
    assert [point.alias for point in endpoint_info.describe(images, end_points, "block3")] == ["block3"]
    with pytest.raises(ValueError, match=r"end_points must be the dict .* and is of type tuple"):
        endpoint_info.resolve("block3", (None, end_points))


@pytest.mark.parametrize("outer", [None, "outer"])
def test_end_points_with_aliases(outer):
    with v1.variable_scope(outer) if outer else contextlib.nullcontext():
        _, end_points = build()
    points = endpoint_info.with_aliases(end_points)
    scope = f"{outer}/resnet_v2_tiny" if outer else "resnet_v2_tiny"
    assert points["block3"] is points[f"{scope}/block3"] is end_points[f"{scope}/block3"]
    assert points["block3/unit_1"] is end_points[f"{scope}/block3/unit_1/bottleneck_v2"]
    assert points["pool1"].op.type == "MaxPool"  # which the dict leaves out
    assert "block3" in points
    assert list(points) == list(end_points)
    assert len(points) == len(end_points)
    assert "blok3" not in points
    assert points.get("blok3") is None
    for error in (KeyError, endpoint_info.UnknownEndPointError):
        with pytest.raises(error, match=r"^Unknown end point 'blok3': did you mean block3"):
            points["blok3"]
    with pytest.raises(ValueError, match="end_points must be the dict"):
        endpoint_info.with_aliases((None, end_points))
