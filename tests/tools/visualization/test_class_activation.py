"""Compares Grad-CAM and CAM with computations in float64, with Keras' published recipe, and with each other.

The weights are random: see tests/conftest.py.
"""

from concurrent.futures import ThreadPoolExecutor as Threads

import numpy as np
import pytest
import tensorflow as tf
import tf_slim as slim
from PIL import Image

from nets import layers, nets_factory, resnet_v2
from nets.endpoint_info import UnknownEndPointError
from tests.helpers.float64 import session_in_float64
from tests.helpers.reference import assign, random_values
from tools.conversion.keras_writing import write_keras
from tools.digits import CHECKPOINT, digits
from tools.errors import ImageError, InputError
from tools.features import FeatureExtractor
from tools.visualization import cam, grad_cam

v1 = tf.compat.v1

pytestmark = pytest.mark.filterwarnings("ignore:The weights go with:nets.guards.InferenceWarning")

# Networks whose tests are slow.
LARGER = ("resnet_basic_18", "resnet_keras_18", "resnet_keras_18_digits", "resnet_v1_50")

SIZE = 48  # two by two places in block3 and block4

# Of float32, as a share of the largest value.
NEAR = 1e-5


def noise(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


@pytest.fixture(scope="module")
def extractor(tiny_checkpoint):
    with FeatureExtractor(tiny_checkpoint, "logits", image_size=SIZE, batch_size=3, freeze=False) as extractor:
        yield extractor


def by_formula(checkpoint, end_point, inputs, classes):
    """Computes Grad-CAM in float64: the gradients as central differences of the logits, the rest in NumPy."""
    step = 1e-6
    with tf.Graph().as_default() as graph, v1.Session() as session:
        images = v1.placeholder(tf.float32, [None, SIZE, SIZE, 3])
        with slim.arg_scope(resnet_v2.resnet_arg_scope()):
            logits, _ = resnet_v2.resnet_v2_tiny(images, 10, is_training=False)
        v1.train.Saver(slim.get_model_variables()).restore(session, str(checkpoint))
        values = session.run({variable.op.name: variable for variable in v1.global_variables()})
        maps = f"resnet_v2_tiny/{MAPS[end_point]}:0"
        heatmaps = []
        with session_in_float64(graph, values, [graph.get_tensor_by_name(maps), logits]) as exact:
            for image, number in zip(inputs, classes, strict=True):
                (activations,) = exact.run(maps, {images.name: image[np.newaxis]})
                steps = np.eye(activations.size).reshape(-1, *activations.shape) * step
                above, below = (exact.run(logits.name, {maps: activations + sign * steps}) for sign in (1, -1))
                gradients = ((above - below)[:, number] / (2 * step)).reshape(activations.shape)
                weights = gradients.mean(axis=(0, 1))
                heatmaps.append(np.maximum((weights * activations).sum(axis=-1), 0))
    return np.stack(heatmaps)


def assert_near(found, expected):
    assert found.shape == expected.shape
    assert expected.max() > 0
    assert np.abs(found - expected).max() <= NEAR * expected.max()


# Names of end points → slim's names of their tensors.
MAPS = {
    "block3": "block3/unit_1/bottleneck_v2/add",
    "block4/unit_1/preact": "block4/unit_1/bottleneck_v2/preact/Relu",
    "postnorm": "postnorm/Relu",
}


@pytest.mark.numerical
@pytest.mark.parametrize(
    "end_point", ["block3", *(pytest.param(name, marks=pytest.mark.full) for name in MAPS if name != "block3")]
)
def test_grad_cam_is_its_formula(tiny_checkpoint, extractor, end_point):
    images, classes = noise(2, 60, 70, 3), [7, 2]
    heatmaps, inputs = grad_cam(extractor, images, classes, end_point=end_point)
    assert np.array_equal(inputs, extractor.preprocess(images))
    expected = by_formula(tiny_checkpoint, end_point, inputs, classes)
    assert_near(heatmaps, expected)
    # Another class has another heat map.
    assert np.abs(grad_cam(extractor, images, [2, 7], end_point=end_point).heatmaps - expected).max() > 0.01


def test_the_top_class_is_the_default():
    images = digits().images[:5]  # more than a batch
    with FeatureExtractor(CHECKPOINT, "logits", batch_size=3, freeze=False) as extractor:
        top = extractor(images)["logits"].argmax(axis=1)
        assert len({*top}) > 1
        expected = grad_cam(extractor, images, top, end_point="block3/unit_1/preact").heatmaps
        assert np.array_equal(grad_cam(extractor, images).heatmaps, expected)
        one = grad_cam(extractor, images, int(top[0])).heatmaps
    assert np.array_equal(one[top == top[0]], expected[top == top[0]])
    assert not np.array_equal(one[top != top[0]], expected[top != top[0]])


def test_a_network_whose_last_map_has_one_place(tiny_checkpoint):
    """At 32 pixels the pooled map has one place. The last map on all paths is the first preactivation of block 3."""
    with FeatureExtractor(tiny_checkpoint, "logits", freeze=False) as extractor:
        images = noise(2, 32, 32, 3)
        expected = grad_cam(extractor, images, end_point="block3/unit_1/preact").heatmaps
        assert np.array_equal(grad_cam(extractor, images).heatmaps, expected)
        assert expected.shape == (2, 2, 2)
        with pytest.raises(InputError, match="resnet_v2_tiny pools has a single place at 32: use Grad-CAM, or larger"):
            cam(extractor, images)


@pytest.mark.numerical
def test_cam_is_grad_cam_up_to_a_factor(tiny_checkpoint, extractor):
    """The gradient of the mean of a map is 1 / places, so that Grad-CAM is ReLU(CAM) / places."""
    images, classes = noise(3, 48, 48, 3), [0, 5, 9]
    found = cam(extractor, images, classes).heatmaps
    assert (found < 0).any()
    assert_near(grad_cam(extractor, images, classes).heatmaps * 4, np.maximum(found, 0))
    with FeatureExtractor(tiny_checkpoint, "postnorm", image_size=SIZE) as other:
        maps = other(images)["postnorm"]
    weights = tf.train.load_variable(str(tiny_checkpoint), "resnet_v2_tiny/logits/weights")[0, 0].astype(np.float64)
    assert_near(found, np.einsum("nhwc,cn->nhw", maps.astype(np.float64), weights[:, classes]))


def keras_recipe(model, image, number):
    """Returns the heat map of Keras' example "Grad-CAM class activation visualization" (keras.io, F. Chollet)."""
    import keras

    grad_model = keras.models.Model(model.inputs[0], [model.get_layer("postnorm_relu").output, model.outputs[0]])
    with tf.GradientTape() as tape:
        last_conv_layer_output, predictions = grad_model(image[np.newaxis])
        class_channel = predictions[:, number]
    gradients = tape.gradient(class_channel, last_conv_layer_output)
    pooled = tf.reduce_mean(gradients, axis=(0, 1, 2))
    heatmap = tf.squeeze(last_conv_layer_output[0] @ pooled[..., tf.newaxis])
    return (tf.maximum(heatmap, 0) / tf.math.reduce_max(heatmap)).numpy()


@pytest.mark.numerical
def test_grad_cam_is_keras_recipe(extractor, tmp_path):
    import keras

    frozen = extractor.frozen()
    path = tmp_path / "tiny.keras"
    write_keras(path, frozen.graph_def, frozen.images.name, frozen.outputs, extractor.net)
    model = keras.models.load_model(path)
    image = noise(60, 70, 3)
    heatmaps = [grad_cam(extractor, image, number).heatmaps[0] for number in range(10)]
    assert sum(heatmap.max() > 0 for heatmap in heatmaps) >= 3  # Keras' recipe divides by the largest value
    for number, heatmap in enumerate(heatmaps):
        if heatmap.max() > 0:
            assert_near(
                heatmap / heatmap.max(), keras_recipe(model, extractor.preprocess(image[np.newaxis])[0], number)
            )


@pytest.mark.parametrize(
    "name",
    ["resnet_cifar_20", *(pytest.param(name, marks=pytest.mark.full) for name in LARGER)],
)
def test_other_networks(tmp_path, name):
    """Dense logits and convolutions, each on the mean of the last map: CAM's identity holds for all of them."""
    network = nets_factory.get_network(name)
    with tf.Graph().as_default(), v1.Session() as session:
        nets_factory.get_network_fn(name, 10)(v1.placeholder(tf.float32, [None, 64, 64, network.channels]))
        assign(session, random_values(v1.global_variables()))
        path = v1.train.Saver().save(session, str(tmp_path / "model.ckpt"), write_meta_graph=False)
    with FeatureExtractor(path, "logits", image_size=64, freeze=False) as extractor:
        images = noise(2, 64, 64, 3)
        heatmaps, inputs = grad_cam(extractor, images, [1, 4])
        assert inputs.shape == (2, 64, 64, network.channels)
        found = np.maximum(cam(extractor, images, [1, 4]).heatmaps, 0)
        assert_near(heatmaps * heatmaps[0].size, found)


def test_files(extractor, tmp_path):
    Image.fromarray(noise(60, 70, 3)).save(tmp_path / "one.png")
    heatmaps, inputs = grad_cam(extractor, [tmp_path / "one.png"], 3)
    assert np.array_equal(heatmaps, grad_cam(extractor, noise(60, 70, 3), 3).heatmaps)
    assert inputs.shape == (1, SIZE, SIZE, 3)
    (tmp_path / "two.png").write_text("no image")
    with pytest.raises(ImageError, match=r"two\.png: the file is not an image"):
        grad_cam(extractor, [tmp_path / "two.png"])
    assert grad_cam(extractor, []).heatmaps.shape == grad_cam(extractor, [], []).heatmaps.shape == (0, 2, 2)


def test_operations_are_added_once(extractor):
    grad_cam(extractor, noise(1, 48, 48, 3))
    cam(extractor, noise(1, 48, 48, 3))
    before = len(extractor.graph.get_operations())
    grad_cam(extractor, noise(1, 48, 48, 3), 3)
    cam(extractor, noise(1, 48, 48, 3), 3)
    assert len(extractor.graph.get_operations()) == before


def test_threads_share_the_operations(tiny_checkpoint):
    images = noise(2, 48, 48, 3)
    with FeatureExtractor(tiny_checkpoint, None, image_size=SIZE, freeze=False) as extractor, Threads(4) as threads:
        found = list(threads.map(lambda _: grad_cam(extractor, images, 3, end_point="block3").heatmaps, range(8)))
        expected = grad_cam(extractor, images, 3, end_point="block3").heatmaps
    assert all(np.array_equal(heatmaps, expected) for heatmaps in found)


@pytest.mark.parametrize(
    ("classes", "words"),
    [
        (10, "There is no class 10: resnet_v2_tiny has 10, numbered from 0"),
        ([0, -1], "There is no class -1: resnet_v2_tiny has 10"),
        ([1, 2, 3], "There are 3 classes for 2 images: give one for each, or one for all"),
        (0.5, "classes must be a whole number, or one for each image, and is 0.5"),
        (True, "classes must be a whole number, or one for each image, and is True"),
        ([[1], [2]], r"classes must be a whole number, or one for each image, and is \[\[1\], \[2\]\]"),
    ],
)
def test_classes_that_do_not_exist(extractor, classes, words):
    for function in (grad_cam, cam):
        with pytest.raises(InputError, match=f"^{words}"):
            function(extractor, noise(2, 48, 48, 3), classes)


@pytest.mark.parametrize(
    ("end_point", "error", "words"),
    [
        ("global_pool", InputError, "global_pool of resnet_v2_tiny is Nx1x1x512 and has no height and width"),
        ("logits", InputError, "logits of resnet_v2_tiny is Nx1x1x10 and has no height and width"),
        ("blok3", UnknownEndPointError, "did you mean block3"),
    ],
)
def test_end_points_that_are_no_maps(extractor, end_point, error, words):
    with pytest.raises(error, match=words):
        grad_cam(extractor, noise(1, 48, 48, 3), end_point=end_point)


def test_frozen_and_headless_networks(tiny_checkpoint):
    with (
        FeatureExtractor(tiny_checkpoint, "logits", freeze=True) as extractor,
        pytest.raises(ValueError, match="frozen into the graph, which has no tensor 'logits'"),
    ):
        grad_cam(extractor, noise(1, 32, 32, 3))
    with (
        FeatureExtractor(tiny_checkpoint, "block3", num_classes=0, freeze=False) as extractor,
        pytest.raises(InputError, match="resnet_v2_tiny has no logits, which class activation explains"),
    ):
        grad_cam(extractor, noise(1, 32, 32, 3))
    with pytest.raises(RuntimeError, match="is closed"):
        grad_cam(extractor, noise(1, 32, 32, 3))


def flat_logits(images):
    """A network whose logits are a linear layer on the whole map, and an end point that leads nowhere."""
    maps = layers.conv2d(images, 4, 3, stride=2, scope="conv1")
    logits = layers.conv2d(maps, 10, 4, padding="VALID", activation_fn=None, scope="logits")
    return logits, {"conv1": maps, "aside": maps * 2, "logits": logits}


def test_cam_needs_the_mean_of_a_map(tmp_path):
    with tf.Graph().as_default(), v1.Session() as session:
        flat_logits(v1.placeholder(tf.float32, [None, 8, 8, 3]))
        assign(session, random_values(v1.global_variables()))
        path = v1.train.Saver().save(session, str(tmp_path / "model.ckpt"), write_meta_graph=False)
    options = {"net": flat_logits, "image_size": 8, "preprocessing": "inception", "freeze": False}
    with FeatureExtractor(path, "logits", **options) as extractor:
        assert grad_cam(extractor, noise(1, 8, 8, 3)).heatmaps.shape == (1, 4, 4)
        with pytest.raises(InputError, match="linear layer on the mean of a map, and those of flat_logits are not"):
            cam(extractor, noise(1, 8, 8, 3))
        with pytest.raises(InputError, match="logits of flat_logits do not depend on aside"):
            grad_cam(extractor, noise(1, 8, 8, 3), end_point="aside")
