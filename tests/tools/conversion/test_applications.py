"""Tests conversions of VGG-16, VGG-19 and Inception v3 to and from Keras against both sides' own networks.

Keras builds and runs the networks of ``keras.applications``, and tf_slim's functions ours. What stands where in the two
is told by hand, as in the tests of these networks themselves.
"""

import contextlib
import json
import shutil
import zipfile

import numpy as np
import pytest

from tests.nets.test_keras_applications import inception_scopes, number, slim_scope
from tests.tools.conversion.test_convert import features, full, keras_model, save, stored
from tools.cli import main
from tools.conversion import convert
from tools.runtime.importing import import_tensorflow

import_tensorflow()

import h5py  # noqa: E402
import keras  # noqa: E402
import tensorflow as tf  # noqa: E402

from checkpoints import CheckpointMismatch, diagnose, restore  # noqa: E402
from nets import nets_factory  # noqa: E402
from tests.helpers.networks import assign_in_parts, value_of  # noqa: E402
from tests.helpers.slim_corpus import save_shapes, shapes_of  # noqa: E402

v1 = tf.compat.v1

pytestmark = [
    pytest.mark.filterwarnings("default::DeprecationWarning:h5py.*"),
    pytest.mark.filterwarnings("default::UserWarning:keras.*"),
]

THREE = {"vgg_16": "VGG16", "vgg_19": "VGG19", "inception_v3": "InceptionV3"}
MODULES = {"vgg_16": "vgg16", "vgg_19": "vgg19", "inception_v3": "inception_v3"}
SIZES = {"vgg_16": 224, "vgg_19": 224, "inception_v3": 299}
# The last end point without a top, and Keras' layer.
LAST = {"vgg_16": ("pool5", "block5_pool"), "vgg_19": ("pool5", "block5_pool"), "inception_v3": ("Mixed_7c", "mixed10")}
CLASSES = 12

# How the files that Keras hosts name a layer's variables: Keras 1 and Keras 2 wrote them.
HOSTED = {"vgg": ("{layer}_{leaf}_1:0", {"kernel": "W", "bias": "b"}), "inception": ("{layer}/{leaf}:0", {})}


@pytest.fixture
def folder(tmp_path):
    """Yields a folder, and empties it: the files of a VGG take half a gigabyte each."""
    yield tmp_path
    shutil.rmtree(tmp_path)


def replica(name, *, top=True, classes=CLASSES):
    """Returns Keras' own network with random weights."""
    size = SIZES[name] if top and name.startswith("vgg") else None
    return keras_model(THREE[name], classes=classes, top=top, size=size)


def host(model, name, path):
    """Writes weights as the files that Keras hosts: Inception's layers are counted from 1."""
    pattern, leaves = HOSTED[name.partition("_")[0]]
    counted = {}
    if name == "inception_v3":
        for kind in ("conv2d", "batch_normalization"):
            layers = [each.name for each in model.layers if each.name.startswith(kind)]
            counted |= {each: f"{kind}_{number(each) + 1}" for each in layers}
    with h5py.File(path, "w") as file:
        names = {layer: counted.get(layer.name, layer.name) for layer in model.layers}
        file.attrs["layer_names"] = [layer.encode() for layer in names.values()]
        for layer, given in names.items():
            group = file.create_group(given)
            variables = {
                pattern.format(layer=given, leaf=leaves.get(each.name, each.name)): each for each in layer.weights
            }
            group.attrs["weight_names"] = [each.encode() for each in variables]
            for key, variable in variables.items():
                group[key] = variable.numpy()
    return path


def by_hand(model, name):
    """Returns the values of a replica by slim's names."""
    values = {}
    if name.startswith("vgg"):
        for layer in model.layers:
            if layer.weights:
                kernel, bias = (variable.numpy() for variable in layer.weights)
                if layer.name == "block1_conv1":
                    kernel = kernel[:, :, ::-1]  # takes BGR
                size = (7, 7, 512, 4096) if layer.name == "fc1" else (1, 1, *kernel.shape)
                scope = f"{name}/{slim_scope(layer.name)}"
                values[f"{scope}/weights"] = kernel if kernel.ndim == 4 else kernel.reshape(size)
                values[f"{scope}/biases"] = bias
        return values
    convolutions, norms = (
        sorted((each for each in model.layers if each.name.startswith(kind)), key=lambda each: number(each.name))
        for kind in ("conv2d", "batch_normalization")
    )
    for scope, convolution, norm in zip(inception_scopes(), convolutions, norms, strict=True):
        values[f"{scope}/weights"] = convolution.kernel.numpy()
        values |= {f"{scope}/BatchNorm/{each.name}": each.numpy() for each in norm.weights}
    if model.layers[-1].name == "predictions":
        kernel, bias = (variable.numpy() for variable in model.layers[-1].weights)
        scope = "InceptionV3/Logits/Conv2d_1c_1x1"
        values |= {f"{scope}/weights": kernel[None, None], f"{scope}/biases": bias}
    return values


def assert_same_bits(found, expected):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)


def assert_same_models(model, other):
    for layer, there in zip(model.layers, other.layers, strict=True):
        assert type(layer) is type(there)
        for variable, value in zip(layer.weights, there.weights, strict=True):
            np.testing.assert_array_equal(value.numpy(), variable.numpy(), err_msg=layer.name)


def assert_alike(result, expected, tolerance=2e-5):
    """Asserts that the norm of a difference is small: slim's means of the colours differ from Keras' by 0.001."""
    assert expected.std() > 0
    assert np.linalg.norm(result - expected) <= tolerance * np.linalg.norm(expected)


def in_both(name):
    """Returns images of a size that our preprocessing crops, and Keras' input from the crops."""
    size = SIZES[name]
    side, start = (256, 16) if name.startswith("vgg") else (341, 21)
    images = np.random.default_rng(7).integers(0, 256, (2, side, side, 3), np.uint8)
    crops = images[:, start : start + size, start : start + size].astype(np.float32)
    return images, getattr(keras.applications, MODULES[name]).preprocess_input(crops)


def computed(model, layer, inputs):
    return np.array(keras.Model(model.inputs[0], model.get_layer(layer).output)(inputs, training=False))


@pytest.mark.numerical
@pytest.mark.parametrize(
    ("name", "top"),
    [
        *(full("vgg_16", False), full("vgg_16", True), full("vgg_19", True), full("vgg_19", False)),
        *(full("inception_v3", True), full("inception_v3", False)),
    ],
)
def test_hosted_files_to_slim_and_back(folder, capsys, name, top):
    """Every value is where it belongs, the end points are Keras', and the weights come back to the bit."""
    model = replica(name, top=top)
    source = host(model, name, folder / "hosted.h5")
    assert main(["convert", str(source), str(folder / "slim.ckpt"), "--report", str(folder / "report.json")]) == 0
    printed = capsys.readouterr().out
    report = json.loads((folder / "report.json").read_text())
    options = {"create_aux_logits": False} if name == "inception_v3" and top else {}
    assert (report["network"], report["num_classes"], report["options"]) == (name, CLASSES if top else 0, options)
    assert (report["folded"], report["left_out"], report["image_size"]) == ([], [], SIZES[name])
    assert max(report["differences"].values()) < 3e-5
    assert "pooling" not in printed
    assert_same_bits(stored(folder / "slim.ckpt"), by_hand(model, name))
    images, inputs = in_both(name)
    alias, layer = LAST[name]
    ends_early = name.startswith("vgg") and not top
    assert report["lacking"] == (["fc6", "fc7"] if ends_early else [])
    assert ("lacking       fc6, fc7: `slimnets features` computes what is before them" in printed) == ends_early
    exclude = [f"{name}/fc?/*"] if ends_early else []
    result = features(folder / "slim.ckpt", [alias], images, SIZES[name], exclude=exclude)[alias]
    assert_alike(result, computed(model, layer, inputs))
    if top:
        result = features(folder / "slim.ckpt", ["predictions"], images, SIZES[name])["predictions"]
        assert_alike(result, computed(model, "predictions", inputs))
    found = diagnose(folder / "slim.ckpt")
    assert (found.network.name, found.usable, found.input_known) == (name, not ends_early, True)
    convert(folder / "slim.ckpt", folder / "back.keras")
    assert_same_models(model, keras.saving.load_model(folder / "back.keras"))


@pytest.mark.full
@pytest.mark.numerical
@pytest.mark.parametrize("name", THREE)
def test_slim_to_keras_and_back(folder, name):
    """Keras computes slim's predictions, from pixels through each side's own preprocessing, and nothing is folded."""
    values = slim(folder / "slim.ckpt", name, CLASSES)
    done = convert(folder / "slim.ckpt", folder / "model.keras")
    left_out = {key for key in values if "AuxLogits" in key}
    assert {*done.left_out} == left_out
    assert len(left_out) == (10 if name == "inception_v3" else 0)
    assert (done.num_classes, done.folded, done.lacking) == (CLASSES, (), ())
    assert max(done.differences.values()) < 3e-5
    model = keras.saving.load_model(folder / "model.keras", safe_mode=True)
    assert model.input_shape == (None, SIZES[name], SIZES[name], 3)
    assert_same_bits(by_hand(model, name), {key: value for key, value in values.items() if key not in left_out})
    images, inputs = in_both(name)
    expected = features(folder / "slim.ckpt", ["predictions"], images, SIZES[name])["predictions"]
    assert_alike(model.predict(inputs, verbose=0), expected)
    convert(folder / "model.keras", folder / "back.npz")
    with np.load(folder / "back.npz") as back:
        assert_same_bits(dict(back), {key: value for key, value in values.items() if key not in left_out})


def slim(path, name, classes, **options):
    """Saves random weights of a network by TensorFlow's own saver, and returns them."""
    with tf.Graph().as_default(), v1.Session() as session:
        images = v1.placeholder(tf.float32, [1, SIZES[name], SIZES[name], 3])
        nets_factory.get_network_fn(name, classes)(images, **options)
        assign_in_parts(session)
        variables = v1.global_variables()
        v1.train.Saver(variables).save(session, str(path), write_meta_graph=False, write_state=False)
        return {each.op.name: value_of(each) for each in variables}


@pytest.mark.full
@pytest.mark.parametrize("ending", ["weights only.h5", "model.h5", ".weights.h5", ".keras"])
@pytest.mark.parametrize(("name", "top"), [("inception_v3", True), ("inception_v3", False), ("vgg_16", False)])
def test_layouts_of_later_models_of_a_session(folder, name, top, ending):
    """Keras' own reading of the file agrees: the first model's layers have no such numbers."""
    keras.backend.clear_session()
    # A model before, whose layers Keras counts too.
    images = keras.Input((8, 8, 3))
    keras.layers.BatchNormalization()(keras.layers.Conv2D(2, 3)(keras.layers.Conv2D(2, 3)(images)))
    with without_clearing():
        model = replica(name, top=top)
    assert name.startswith("vgg") or {"conv2d_2", "conv2d_95"} <= {layer.name for layer in model.layers}
    source = save(model, folder / "source", ending)
    convert(source, folder / "slim.ckpt")
    assert_same_bits(stored(folder / "slim.ckpt"), by_hand(model, name))
    if "weights" in source.name:
        other = replica(name, top=top)
        other.load_weights(source)
        assert_same_bits(stored(folder / "slim.ckpt"), by_hand(other, name))


@contextlib.contextmanager
def without_clearing():
    """Keeps Keras from beginning to count anew."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keras.backend, "clear_session", lambda: None)
        yield


@pytest.mark.full
@pytest.mark.parametrize("pooling", ["avg", "max"])
@pytest.mark.parametrize("name", ["inception_v3", "vgg_16"])
def test_a_pooling_in_the_place_of_the_top(folder, name, pooling):
    keras.backend.clear_session()
    model = getattr(keras.applications, THREE[name])(weights=None, include_top=False, pooling=pooling)
    done = convert(save(model, folder / "source"), folder / "slim.ckpt")
    assert (done.network, done.num_classes) == (name, 0)
    done = convert(folder / "source.keras", folder / "plain.keras")
    assert (done.source_kind, done.target_kind, done.folded, done.left_out) == ("keras", "keras", (), ())
    plain = keras.saving.load_model(folder / "plain.keras")
    assert plain.layers[-1].name == LAST[name][1]
    assert_same_bits(by_hand(plain, name), by_hand(model, name))


@pytest.mark.full
def test_published_classes_of_inception_v3(folder, capsys):
    """1001 classes lose the background and get it back; the auxiliary logits have to be left out of a graph."""
    values = slim(folder / "slim.ckpt", "inception_v3", 1001)
    assert main(["convert", str(folder / "slim.ckpt"), str(folder / "a.keras"), "--num-classes", "1000"]) == 0
    printed = capsys.readouterr().out
    assert "left out      AuxLogits (10 variables), which Keras' network does not have\n" in printed
    assert "network       inception_v3, create_aux_logits=False, 1000 classes\n" in printed
    convert(folder / "a.keras", folder / "back.ckpt", num_classes=1001, to_scope="mine/v3")
    back = stored(folder / "back.ckpt")
    np.testing.assert_array_equal(
        back["mine/v3/Logits/Conv2d_1c_1x1/weights"][..., 1:],
        values["InceptionV3/Logits/Conv2d_1c_1x1/weights"][..., 1:],
    )
    assert diagnose(folder / "back.ckpt").options == {"create_aux_logits": False}
    for exclude in ((), "mine/v3/AuxLogits/*"):
        with tf.Graph().as_default(), v1.Session() as session:
            images = v1.placeholder(tf.float32, [1, 299, 299, 3])
            nets_factory.get_network_fn("inception_v3", 1001, is_training=True)(images, scope="mine/v3")
            words = (
                r"the file has no auxiliary logits; build with create_aux_logits=False, or give exclude='mine/v3/Aux"
            )
            with contextlib.nullcontext() if exclude else pytest.raises(CheckpointMismatch, match=words):
                assert len(restore(session, folder / "back.ckpt", exclude=exclude).loaded) == len(back)
    done = convert(folder / "slim.ckpt", folder / "none.keras", num_classes=0)
    assert (done.num_classes, done.options, len(done.left_out)) == (0, {}, 8)
    assert keras.saving.load_model(folder / "none.keras").layers[-1].name == "mixed10"


@pytest.mark.full
def test_averages_and_a_vgg_without_its_top(folder, capsys):
    """Keras' VGG without logits has no fully connected layers either, and the averages are taken."""
    values = slim(folder / "slim.ckpt", "vgg_16", CLASSES)
    kept = {key: value for key, value in values.items() if "/fc" not in key}
    averages = {f"{key}/ExponentialMovingAverage": value * np.float32(1.25) for key, value in values.items()}
    np.savez(folder / "averages.npz", **averages)
    del averages
    arguments = [str(folder / "averages.npz"), str(folder / "model.keras"), "--ema", "--num-classes", "0"]
    assert main(["convert", *arguments]) == 0
    assert "left out      fc6, fc7 (4 variables), which Keras' network does not have\n" in capsys.readouterr().out
    model = keras.saving.load_model(folder / "model.keras")
    assert_same_bits(by_hand(model, "vgg_16"), {key: value * np.float32(1.25) for key, value in kept.items()})


@pytest.mark.parametrize(
    ("name", "change", "arguments", "words"),
    [
        ("vgg_a", {}, {}, "would hold vgg_a, which keras.applications does not have: it has resnet_v1_50, "),
        ("inception_v1", {}, {}, "would hold inception_v1, which keras.applications does not have"),
        ("inception_v2", {}, {}, "would hold inception_v2, which keras.applications does not have"),
        ("alexnet_v2", {}, {}, "would hold alexnet_v2, which keras.applications does not have"),
        full("overfeat", {}, {}, "resnet_v2_152, vgg_16, vgg_19, inception_v3."),
        ("vgg_16", {}, {"image_size": 300}, "is for images of 300 rows and columns, and Keras' VGG16 computes slim's"),
        ("vgg_19", {}, {"image_size": 223}, "vgg_19 with logits at 224 to 255: state such a size, image_size=224"),
        ("inception_v3", {}, {"image_size": 331}, "with logits at 75 to 330: state such a size, image_size=299, or"),
        (
            "vgg_16",
            {},
            {"image_size": 31, "num_classes": 0},
            "VGG16 takes at least 32: state such a size",
        ),
        ("inception_v3", {}, {"image_size": 74, "num_classes": 0}, "InceptionV3 takes at least 75: state such a size"),
        full("vgg_16", {}, {"to_scope": "mine"}, "to_scope='mine' applies to slim's names, which"),
        full("vgg_16", {}, {"num_classes": 1001, "only": ["*"]}, "only and exclude select a part of a network"),
        ("inception_v3", {"gamma": "beta"}, {}, "no complete network of the table, as its batch norms have a gamma"),
        ("vgg_16", {"fc5": "fc6"}, {}, "holds no complete network of the table, as it is incomplete, and lacks 1 of"),
    ],
)
def test_networks_and_options_that_keras_does_not_have(tmp_path, name, change, arguments, words):
    """The variables have no values: nothing is read before that is known."""
    shapes = shapes_of(name)
    for new, old in change.items():
        more = {key.replace(old, new): shape for key, shape in shapes.items() if old in key}
        shapes = (shapes if new == "gamma" else {key: each for key, each in shapes.items() if old not in key}) | more
    save_shapes(tmp_path / "slim.ckpt", shapes)
    before = {*tmp_path.iterdir()}
    with pytest.raises(ValueError) as caught:
        convert(tmp_path / "slim.ckpt", tmp_path / "model.keras", **arguments)
    assert words in str(caught.value)
    assert {*tmp_path.iterdir()} == before


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def replace(path, group, number, change):
    with h5py.File(path, "r+") as file:
        variables = file[f"layers/{group}/vars"]
        value = variables[number][()]
        del variables[number]
        variables[number] = change(value)


@pytest.mark.full
@pytest.mark.parametrize(
    ("ending", "damage", "words"),
    [
        (".keras", cut, "cut short or damaged"),
        ("weights only.h5", cut, "is damaged or cut short"),
        (
            ".weights.h5",
            lambda path: replace(path, "conv2d_3", "0", lambda value: value[..., 1:]),
            "1 of its layers have other widths (",
        ),
        (
            ".weights.h5",
            lambda path: replace(path, "conv2d", "0", lambda value: value[:, :2]),
            "Conv2d_1a_3x3 has a kernel of 3x2, and inception_v3's has 3x3",
        ),
        (
            ".weights.h5",
            lambda path: replace(path, "batch_normalization_5", "2", lambda value: value[:-1]),
            "so that some are of another shape",
        ),
        (
            ".weights.h5",
            lambda path: replace(path, "batch_normalization_5", "2", lambda value: -value),
            "does it hold NaNs, or variances below 0?",
        ),
    ],
)
def test_damaged_files_of_inception_v3_are_refused(folder, capsys, ending, damage, words):
    source = save(replica("inception_v3", top=False), folder / "source", ending)
    damage(source)
    assert main(["convert", str(source), str(folder / "slim.ckpt")]) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert str(source) in error
    assert words in error
    assert [*folder.iterdir()] == [source]


@pytest.mark.full
def test_other_connections_are_refused(folder, capsys):
    """Two layers of one shape have exchanged their places, which only the model's configuration tells."""
    model = replica("inception_v3", top=False)
    source = save(model, folder / "source")
    with zipfile.ZipFile(source) as archive:
        config = json.loads(archive.read("config.json"))
        weights = archive.read("model.weights.h5")
    layers = {layer["config"]["name"]: layer for layer in config["config"]["layers"]}
    first, second = layers["conv2d_8"], layers["conv2d_15"]  # of Mixed_5b and Mixed_5c
    first["inbound_nodes"], second["inbound_nodes"] = second["inbound_nodes"], first["inbound_nodes"]
    with zipfile.ZipFile(source, "w") as archive:
        archive.writestr("config.json", json.dumps(config))
        archive.writestr("model.weights.h5", weights)
    assert main(["convert", str(source), str(folder / "slim.ckpt")]) == 1
    assert "(Conv2D) that differs from that of InceptionV3: convert one of Keras' own" in capsys.readouterr().err


@pytest.mark.parametrize("ending", [".keras", full(".weights.h5")])
def test_inspect_offers_to_convert(folder, capsys, ending):
    path = save(replica("vgg_16", top=False), folder / "model", ending)
    assert main(["inspect", str(path)]) == 1
    assert "make a checkpoint of it by `slimnets convert`" in capsys.readouterr().out
