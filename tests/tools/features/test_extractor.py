"""Tests ``slimnets features`` from its arguments to the files it leaves, and ``FeatureExtractor``.

The values are compared with a graph that is built and run here, and restored by TensorFlow's own Saver. Pillow decodes
its images. The weights are random: see tests/conftest.py.
"""

import csv
import errno
import functools
import hashlib
import importlib.metadata
import json
import os
import platform
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tf_slim as slim
from PIL import Image

from checkpoints import CheckpointError, CheckpointMismatch
from nets import nets_factory, resnet_v2
from nets.endpoint_info import UnknownEndPointError
from nets.preprocessing import preprocess
from tests.conftest import CLASSES
from tests.helpers import bfloat16
from tests.helpers.corpus import save_v2, weights
from tests.helpers.float64 import assert_as_exact, references
from tests.helpers.reference import assign, random_values
from tools.cli import main
from tools.errors import ImageError, InputError
from tools.features import FeatureExtractor, extract, load
from tools.features.computing import arithmetic

v1 = tf.compat.v1

# Random weights fit any input.
pytestmark = pytest.mark.filterwarnings("ignore:The weights go with:nets.guards.InferenceWarning")

SIZE = 32
SCOPE = "resnet_v2_tiny"


def noise(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def write_picture(path, height=40, width=50, seed=0):
    Image.fromarray(noise(height, width, 3, seed=seed)).save(path)
    return str(path)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Returns eight images, upright and wide, smaller and larger than the network's input."""
    folder = tmp_path_factory.mktemp("pictures")
    sizes = [(40, 50), (61, 33), (32, 32), (8, 20), (100, 30), (33, 90), (57, 57), (20, 9)]
    return [write_picture(folder / f"{i}.png", *size, seed=i) for i, size in enumerate(sizes)]


@pytest.fixture(params=["tiny_checkpoint", "tiny_checkpoint_v1"])
def checkpoint(request):
    """Yields a checkpoint in each of the two formats."""
    return request.getfixturevalue(request.param)


def by_hand(checkpoint, paths, preprocessing="inception", size=SIZE):
    """Returns all end points, and some layers that are not in the network's dict, in float32 and in float64."""
    return _by_hand(str(checkpoint), tuple(paths), preprocessing, size)


@functools.cache
def _by_hand(checkpoint, paths, preprocessing, size):
    with tf.Graph().as_default(), v1.Session() as session:
        picture = v1.placeholder(tf.uint8, [1, None, None, 3])
        preprocessed = preprocess(picture, preprocessing, size)
        images = v1.placeholder(tf.float32, [None, size, size, 3])
        with slim.arg_scope(resnet_v2.resnet_arg_scope()):
            _, end_points = resnet_v2.resnet_v2_tiny(images, 10, is_training=False)
        graph = images.graph
        for layer, op in {
            "pool1": "pool1/MaxPool",
            "block3/unit_1/bottleneck_v2/preact": "block3/unit_1/bottleneck_v2/preact/Relu",
            "postnorm": "postnorm/Relu",
        }.items():
            end_points[f"{SCOPE}/{layer}"] = graph.get_tensor_by_name(f"{SCOPE}/{op}:0")
        v1.train.Saver(slim.get_model_variables()).restore(session, checkpoint)
        inputs = []
        for path in paths:
            with Image.open(path) as image:
                inputs.append(session.run(preprocessed, {picture: np.asarray(image.convert("RGB"))[np.newaxis]}))
        return references(session, end_points, {images: np.concatenate(inputs)})


@pytest.fixture
def cli(capfd):
    """Returns a function from a command's arguments to its exit status, stdout and stderr."""

    def run(*arguments):
        capfd.readouterr()
        try:
            status = main([str(argument) for argument in arguments])
        except SystemExit as exit:
            status = exit.code
        return status, *capfd.readouterr()

    return run


def features_arguments(checkpoint, output, inputs, **options):
    options = {"checkpoint": checkpoint, "output": output, "end_points": "global_pool", **options}
    named = [f"--{name.replace('_', '-')}={value}" for name, value in options.items() if value is not None]
    return ["features", *inputs, *named]


# What the command writes.

NAMES = {
    "block1/unit_1/conv1": f"{SCOPE}/block1/unit_1/bottleneck_v2/conv1",
    "block2/unit_1": f"{SCOPE}/block2/unit_1/bottleneck_v2",
    "block3": f"{SCOPE}/block3",
    "block3/unit_1/preact": f"{SCOPE}/block3/unit_1/bottleneck_v2/preact",
    "conv1": f"{SCOPE}/conv1",
    "global_pool": "global_pool",
    "logits": f"{SCOPE}/logits",
    "pool1": f"{SCOPE}/pool1",
    "postnorm": f"{SCOPE}/postnorm",
    "predictions": "predictions",
}


@pytest.mark.numerical
def test_values_are_those_of_the_plain_graph(cli, tmp_path, checkpoint, pictures):
    output = tmp_path / "features"
    arguments = features_arguments(checkpoint, output, pictures, end_points=",".join(NAMES), batch_size=8)
    status, stdout, stderr = cli(*arguments)
    assert status == 0
    assert stdout == f"8 images done, 0 failed: {output}\n"
    assert "78 variables loaded" in stderr
    assert f"{SCOPE}, preprocessing inception at 32" in stderr
    expected = by_hand(checkpoint, pictures)
    files = {alias.replace("/", ".") + ".npy" for alias in NAMES}
    assert {file.name for file in output.iterdir()} == files | {"images.npz", "index.csv", "run.json"}
    for alias, name in NAMES.items():
        array = np.load(output / (alias.replace("/", ".") + ".npy"))
        wanted = expected[name]
        assert_as_exact(array, wanted[:, 0, 0] if wanted.shape[1:3] == (1, 1) else wanted)


# Of the other families: network, image size, end points.
OTHERS = {
    "resnet_v1_50": (64, {"block2": "{}/block2", "logits": "{}/logits"}),
    "resnet_basic_34": (64, {"block2/unit_1": "{}/block2/unit_1/basic", "predictions": "predictions"}),
    "resnet_keras_18": (64, {"block1/unit_2": "{}/block1/unit_2/basic_keras", "global_pool": "global_pool"}),
    "resnet_keras_18_digits": (28, {"block4/unit_2": "{}/block4/unit_2/identity", "logits": "{}/logits"}),
    "resnet_cifar_20": (32, {"unit_2_0": "unit_2_0", "unit_last": "unit_last", "logits": "logits"}),
}


@pytest.mark.numerical
@pytest.mark.parametrize("name", OTHERS)
def test_values_of_other_networks_are_those_of_the_plain_graph(cli, tmp_path, pictures, name):
    size, end_points = OTHERS[name]
    network = nets_factory.get_network(name)
    with tf.Graph().as_default(), v1.Session() as session:
        picture = v1.placeholder(tf.uint8, [1, None, None, 3])
        preprocessed = preprocess(picture, network.preprocessing, size)
        images = v1.placeholder(tf.float32, [None, *preprocessed.shape[1:]])
        with slim.arg_scope(network.arg_scope()):
            options = {"shortcut": "first_unit"} if name.startswith("resnet_basic") else {}
            _, tensors = network.builder(images, CLASSES, is_training=False, **options)
        if name.startswith("resnet_v1"):
            # Extras and format of the published v1 files.
            v1.get_variable(f"{name}/mean_rgb", [3])
            v1.get_variable("global_step", [])
        assign(session, random_values(v1.global_variables()))
        version = v1.train.SaverDef.V1 if name.startswith("resnet_v1") else v1.train.SaverDef.V2
        v1.train.Saver(write_version=version).save(session, str(tmp_path / "other.ckpt"), write_meta_graph=False)
        wanted = {key: tensors[full.format(name)] for key, full in end_points.items()}
        inputs = []
        for path in pictures:
            with Image.open(path) as image:
                inputs.append(session.run(preprocessed, {picture: np.asarray(image.convert("RGB"))[np.newaxis]}))
        expected = references(session, wanted, {images: np.concatenate(inputs)})
    arguments = features_arguments(
        tmp_path / "other.ckpt", tmp_path / "features", pictures, end_points=",".join(end_points), image_size=size
    )
    status, stdout, stderr = cli(*arguments)
    assert (status, stdout) == (0, f"8 images done, 0 failed: {tmp_path / 'features'}\n"), stderr
    assert f"{name}, preprocessing {network.preprocessing} at {size}" in stderr
    for key, array in load(tmp_path / "features").arrays.items():
        assert_as_exact(array, expected[key].reshape(array.shape))


@pytest.mark.numerical
@pytest.mark.parametrize("preprocessing", ["cifar", "vgg"])
def test_another_preprocessing(cli, tmp_path, tiny_checkpoint, pictures, preprocessing):
    arguments = features_arguments(tiny_checkpoint, tmp_path / "out", pictures, preprocessing=preprocessing)
    assert cli(*arguments)[0] == 0
    result = np.load(tmp_path / "out" / "global_pool.npy")
    assert_as_exact(result, by_hand(tiny_checkpoint, pictures, preprocessing)["global_pool"][:, 0, 0])
    assert json.loads((tmp_path / "out" / "run.json").read_text())["preprocessing"] == preprocessing


def test_index(cli, tmp_path, tiny_checkpoint, pictures):
    """The index has the order of the inputs for any batch size, and decoded width before height."""
    cli(*features_arguments(tiny_checkpoint, tmp_path / "out", pictures[::-1], batch_size=3))
    with (tmp_path / "out" / "index.csv").open(newline="") as stream:
        rows = list(csv.reader(stream))
    assert rows[0] == ["row", "path", "status", "error", "width", "height", "label"]
    for i, (row, path) in enumerate(zip(rows[1:], pictures[::-1], strict=True)):
        with Image.open(path) as image:
            assert row == [str(i), path, "ok", "", str(image.width), str(image.height), ""]


def test_run_record(cli, tmp_path, checkpoint, pictures):
    files = [checkpoint] if checkpoint.is_file() else sorted(checkpoint.parent.glob(f"{checkpoint.name}.*"))
    options = {"end_points": f"{SCOPE}/block3,logits", "batch_size": 5, "image_size": 48}
    cli(*features_arguments(os.path.relpath(checkpoint), tmp_path / "out", pictures, **options))
    run = json.loads((tmp_path / "out" / "run.json").read_text())
    seconds = run.pop("seconds")
    assert run.pop("images_per_second") == 8 / seconds
    assert run == {
        "inputs": {
            "images": 8,
            "sha256": hashlib.sha256("".join(f"{path}\0" for path in pictures).encode()).hexdigest(),
        },
        "checkpoint": {
            "path": str(checkpoint.resolve()),
            "format": "V1" if checkpoint.is_file() else "V2",
            "sha256": {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files},
            "scope": SCOPE,
            "exclude": [],
            "ema": False,
        },
        "net": SCOPE,
        "num_classes": 10,
        "options": {},
        "end_points": {
            "block3": {"name": f"{SCOPE}/block3", "shape": [2, 2, 256]},
            "logits": {"name": f"{SCOPE}/logits", "shape": [10]},
        },
        "preprocessing": "inception",
        "image_size": 48,
        "pool": "none",
        "precision": "float32",
        "engine": "tensorflow",
        "batch_size": 5,
        "format": "npy",
        "dtype": "float32",
        "shards": 1,
        "warnings": [
            "The weights go with preprocessing inception at 32 (assumed: nothing in the file says so), and inception "
            "at 48 was asked for: features and classes will be worse, unless the weights were trained so."
        ],
        "versions": {
            "numpy": np.__version__,
            "pillow": importlib.metadata.version("pillow"),
            "slimnets": importlib.metadata.version("slimnets"),
            "tf-slim": "1.1.0",
            "python": platform.python_version(),
            "tensorflow": tf.__version__,
        },
        "counts": {"images": 8, "done": 8, "failed": 0, "reasons": {}},
        "resumed_from": 0,
    }


def test_load(cli, tmp_path, tiny_checkpoint, pictures):
    cli(*features_arguments(tiny_checkpoint, tmp_path / "out", pictures, end_points="block2/unit_1,logits"))
    features = load(tmp_path / "out")
    assert list(features.arrays) == ["block2/unit_1", "logits"]
    assert [array.shape for array in features.arrays.values()] == [(8, 2, 2, 128), (8, 10)]
    for alias, array in features.arrays.items():
        assert isinstance(array, np.memmap)
        assert not array.flags.writeable
        assert np.array_equal(array, np.load(tmp_path / "out" / (alias.replace("/", ".") + ".npy")))
    assert [(row.row, row.path, row.status, row.error) for row in features.index] == [
        (i, path, "ok", "") for i, path in enumerate(pictures)
    ]
    assert (features.index[1].width, features.index[1].height) == (33, 61)
    assert features.run == json.loads((tmp_path / "out" / "run.json").read_text())


def test_load_of_another_folder(tmp_path):
    with pytest.raises(InputError, match=r"holds no features: it has no run\.json"):
        load(tmp_path)


@pytest.mark.parametrize("options", [{}, {"end_points": "block3,postnorm", "preprocessing": "cifar"}])
def test_a_row_does_not_depend_on_how_many_come_after_it(cli, tmp_path, tiny_checkpoint, pictures, options):
    for count in (5, 8):
        output = tmp_path / str(count)
        arguments = features_arguments(tiny_checkpoint, output, pictures[:count], batch_size=4, **options)
        assert cli(*arguments)[0] == 0
    eight = load(tmp_path / "8").arrays
    for alias, five in load(tmp_path / "5").arrays.items():
        assert five.tobytes() == eight[alias][:5].tobytes()


def test_all_batches_are_computed_at_one_size(tiny_checkpoint, pictures):
    """Shows what the test above assumes, with a network whose feature is the number of images in its batch."""

    def count(images):
        tf.compat.v1.get_variable("resnet_v2_tiny/logits/biases", [10])  # something to restore
        return images, {"count": tf.fill([tf.shape(images)[0], 1], tf.cast(tf.shape(images)[0], tf.float32))}

    options = {"net": count, "image_size": SIZE, "preprocessing": "inception", "batch_size": 3}
    with FeatureExtractor(tiny_checkpoint, ["count"], **options) as extractor:
        assert extractor(pictures)["count"].tolist() == [[3]] * 8


def test_failed_images(cli, tmp_path, tiny_checkpoint, pictures):
    """Failed images have NaN rows, do not change the others, and set the exit status."""
    damaged = tmp_path / "damaged.png"
    damaged.write_bytes(Path(pictures[4]).read_bytes()[:500])
    text = tmp_path / "notes.txt"
    text.write_text("no image")
    inputs = [*pictures[:2], str(damaged), *pictures[3:5], str(text), *pictures[6:]]
    failed = [2, 5]
    status, stdout, stderr = cli(*features_arguments(tiny_checkpoint, tmp_path / "out", inputs, batch_size=4))
    assert status == 1
    assert stdout == f"6 images done, 2 failed: {tmp_path / 'out'}\n"
    assert "slimnets: error" not in stderr
    features = load(tmp_path / "out")
    reasons = {"the image cannot be decoded": 1, "the file is not an image of a known format": 1}
    assert features.run["counts"] == {"images": 8, "done": 6, "failed": 2, "reasons": reasons}
    assert [row.row for row in features.index if row.status == "failed"] == failed
    assert [row.row for row in features.index if row.status == "ok"] == [0, 1, 3, 4, 6, 7]
    assert "cannot be decoded" in features.index[2].error
    assert features.index[5] == (5, str(text), "failed", "the file is not an image of a known format", None, None, "")
    array = features.arrays["global_pool"]
    assert np.isnan(array[failed]).all()
    cli(*features_arguments(tiny_checkpoint, tmp_path / "all", pictures, batch_size=4))
    whole = load(tmp_path / "all").arrays["global_pool"]
    assert np.isfinite(whole).all()
    others = [0, 1, 3, 4, 6, 7]
    assert array[others].tobytes() == whole[others].tobytes()


def test_list_with_missing_files(cli, tmp_path, tiny_checkpoint, pictures):
    (tmp_path / "list.txt").write_text(f"{pictures[0]}\n{tmp_path}/gone.png\n{pictures[1]}\n")
    status, stdout, _ = cli(*features_arguments(tiny_checkpoint, tmp_path / "out", [f"@{tmp_path}/list.txt"]))
    assert (status, stdout) == (1, f"2 images done, 1 failed: {tmp_path / 'out'}\n")
    features = load(tmp_path / "out")
    assert features.index[1] == (1, f"{tmp_path}/gone.png", "failed", "there is no such file", None, None, "")
    assert np.isnan(features.arrays["global_pool"]).all(axis=1).tolist() == [False, True, False]


@pytest.mark.numerical
def test_no_preprocessing(cli, tmp_path, tiny_checkpoint, pictures):
    """Pixels are taken as they are; images that do not have the network's size fail."""
    arguments = features_arguments(tiny_checkpoint, tmp_path / "out", pictures[1:3], preprocessing="none")
    assert cli(*arguments)[0] == 1
    features = load(tmp_path / "out")
    assert features.index[0].error == "the image is 33x61, and without preprocessing must be 32 on each side"
    assert (features.index[0].width, features.index[0].height) == (33, 61)
    assert features.index[1].status == "ok"
    assert_as_exact(
        features.arrays["global_pool"][1:], by_hand(tiny_checkpoint, pictures[2:3], "none")["global_pool"][:, 0, 0]
    )


def test_folders_that_are_inputs_and_outputs(cli, tmp_path, tiny_checkpoint, pictures):
    """Reads a folder of images; writes to an empty folder, to one whose parents are made, and to one behind a link."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "target").mkdir()
    (tmp_path / "link").symlink_to("target")
    for output in ("empty", "new/deep/er", "link"):
        arguments = features_arguments(tiny_checkpoint, tmp_path / output, [Path(pictures[0]).parent])
        assert cli(*arguments)[0] == 0
        assert [row.path for row in load(tmp_path / output).index] == pictures
    assert (tmp_path / "link").is_symlink()
    assert {path.name for path in tmp_path.iterdir()} == {"empty", "link", "new", "target"}
    assert sorted(path.name for path in (tmp_path / "target").iterdir()) == [
        "global_pool.npy",
        "images.npz",
        "index.csv",
        "run.json",
    ]


def test_a_name_that_is_not_utf8(cli, tmp_path, tiny_checkpoint, pictures):
    name = os.fsencode(tmp_path / "pict") + b"\xe9.png"
    Path(os.fsdecode(name)).write_bytes(Path(pictures[0]).read_bytes())
    assert cli(*features_arguments(tiny_checkpoint, tmp_path / "out", [os.fsdecode(name)]))[0] == 0
    assert os.fsencode(load(tmp_path / "out").index[0].path) == name


# What the command refuses: one line that names the fault, and no new file.


@pytest.fixture
def refusal(cli, tmp_path, tiny_checkpoint, pictures):
    """Returns a function from options that differ from a valid command's to the one line of error; nothing is left."""

    def run(inputs=None, **options):
        options = {"checkpoint": tiny_checkpoint, "output": tmp_path / "out", **options}
        before = sorted(tmp_path.rglob("*"))
        status, stdout, stderr = cli(*features_arguments(inputs=pictures if inputs is None else inputs, **options))
        assert status == 1
        assert stdout == ""
        assert stderr.startswith("slimnets: error: ")
        assert stderr.count("\n") == 1
        assert stderr.endswith("\n")
        assert sorted(tmp_path.rglob("*")) == before
        return stderr

    return run


def test_missing_checkpoint(refusal, tmp_path):
    path = tmp_path / "missing.ckpt"
    assert refusal(checkpoint=path) == (
        f"slimnets: error: There is no checkpoint at {path}: no such file, and no .index file of that name.\n"
    )


def copied(checkpoint, folder):
    """Returns a copy of a checkpoint's files, to be damaged."""
    for file in checkpoint.parent.glob(f"{checkpoint.name}*"):
        shutil.copy(file, folder)
    return folder / checkpoint.name


def test_an_unknown_argument_is_named(tiny_checkpoint):
    with pytest.raises(TypeError, match="unexpected keyword argument 'pooling'"):
        FeatureExtractor(tiny_checkpoint, ["block3"], pooling="mean")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"weights: none\n", "is a text file"),
        (b"", "is empty"),
        (bytes(range(256)) * 10, "is no checkpoint"),
        (b"\x89HDF\r\n\x1a\n" + bytes(100), "an HDF5 file"),
        (b"PK\x03\x04" + bytes(100), "a zip archive cut short or damaged"),
    ],
)
def test_file_that_is_no_checkpoint(refusal, tmp_path, content, words):
    path = tmp_path / "weights.ckpt"
    path.write_bytes(content)
    line = refusal(checkpoint=path)
    assert str(path) in line
    assert words in line


def test_archive(refusal, tmp_path, tiny_checkpoint_v1):
    path = tmp_path / "resnet.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        archive.add(tiny_checkpoint_v1, "resnet.ckpt")
    assert f"{path} is a tar.gz archive that was not unpacked" in refusal(checkpoint=path)


@pytest.mark.parametrize("share", [0.001, 0.5, 0.999])
def test_v1_file_cut_short(refusal, tmp_path, tiny_checkpoint_v1, share):
    path = copied(tiny_checkpoint_v1, tmp_path)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    line = refusal(checkpoint=path)
    assert str(path) in line
    assert "cut short" in line


@pytest.mark.parametrize("file", ["", ".data-00000-of-00001"])
def test_damage_in_the_middle(refusal, tmp_path, tiny_checkpoint, tiny_checkpoint_v1, file):
    path = copied(tiny_checkpoint if file else tiny_checkpoint_v1, tmp_path)
    damaged = Path(f"{path}{file}")
    content = bytearray(damaged.read_bytes())
    # At several places: a V1 file also has the optimizer's slots, which are not read.
    for place in range(100_000, len(content), 100_000):
        content[place] ^= 1
    damaged.write_bytes(content)
    assert f"{path} is damaged or cut short" in refusal(checkpoint=path)


@pytest.mark.parametrize("share", [0, 0.5, 0.999])
def test_v2_data_cut_short(refusal, tmp_path, tiny_checkpoint, share):
    path = copied(tiny_checkpoint, tmp_path)
    data = Path(f"{path}.data-00000-of-00001")
    content = data.read_bytes()
    data.write_bytes(content[: int(share * len(content))])
    assert ("is cut short" if share else "is empty") in refusal(checkpoint=path)


def test_v2_index_cut_short(refusal, tmp_path, tiny_checkpoint):
    path = copied(tiny_checkpoint, tmp_path)
    index = Path(f"{path}.index")
    index.write_bytes(index.read_bytes()[:-100])
    line = refusal(checkpoint=path)
    assert str(path) in line
    assert "cut short" in line


@pytest.mark.parametrize("given", ["", ".index"])
def test_v2_without_its_data(refusal, tmp_path, tiny_checkpoint, given):
    path = copied(tiny_checkpoint, tmp_path)
    Path(f"{path}.data-00000-of-00001").unlink()
    line = refusal(checkpoint=f"{path}{given}")
    assert f"The checkpoint {path}{given} lacks its file {path.name}.data-00000-of-00001" in line


@pytest.mark.parametrize("given", ["", ".data-00000-of-00001"])
def test_v2_without_its_index(refusal, tmp_path, tiny_checkpoint, given):
    path = copied(tiny_checkpoint, tmp_path)
    Path(f"{path}.index").unlink()
    assert f"file {path.name}.index is missing" in refusal(checkpoint=f"{path}{given}")


def test_folder_without_a_checkpoint(refusal, tmp_path):
    (tmp_path / "models").mkdir()
    assert f"The folder {tmp_path}/models holds no checkpoint" in refusal(checkpoint=tmp_path / "models")


def test_checkpoint_of_something_else(refusal, tmp_path):
    with tf.Graph().as_default(), v1.Session() as session:
        v1.get_variable("dense/kernel", initializer=np.zeros(3, np.float32))
        session.run(v1.global_variables_initializer())
        v1.train.Saver().save(session, str(tmp_path / "other.ckpt"), write_meta_graph=False, write_state=False)
    line = refusal(checkpoint=tmp_path / "other.ckpt")
    assert "none of the known networks (1 variables, under dense)" in line


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"net": "resnet_v2_5"}, ["'resnet_v2_5'", "did you mean", "resnet_v2_50"]),
        ({"net": "mobilenet"}, ["'mobilenet'", "there is resnet_v1_50"]),
        ({"net": "resnet_v2_50"}, ["the file holds a resnet_v2_tiny with 10 classes, and the graph resnet_v2_50"]),
        ({"num_classes": 11}, ["the graph has 11 classes and the file 10", "--num-classes 10"]),
        ({"num_classes": -1}, ["--num-classes must be", "-1"]),
        ({"end_points": "blok3"}, ["Unknown end point 'blok3'", "did you mean", "block3"]),
        ({"end_points": "global_pool,xyzzy"}, ["Unknown end point 'xyzzy'", "block1", "predictions"]),
        ({"end_points": ""}, ["Unknown end point ''"]),
        ({"end_points": "block3,global_pool, block3"}, ["'block3' more than once"]),
        ({"end_points": f"block3,{SCOPE}/block3"}, [f"The end points block3 and {SCOPE}/block3 are the same"]),
        ({"preprocessing": "imagenet"}, ["'imagenet'", "cifar, grayscale, inception, none, torchvision, vgg"]),
    ],
)
def test_option_that_cannot_be_honoured(refusal, options, words):
    line = refusal(**options)
    for word in words:
        assert word in line


def test_logits_of_a_network_without_classes(refusal):
    assert "Unknown end point 'logits'" in refusal(num_classes=0, end_points="logits")


def test_no_images(refusal, tmp_path):
    (tmp_path / "empty").mkdir()
    assert f"No images found in {tmp_path}/empty" in refusal(inputs=[tmp_path / "empty"])


def test_missing_image(refusal, tmp_path, pictures):
    assert f"no file or folder {tmp_path}/gone.png" in refusal(inputs=[pictures[0], tmp_path / "gone.png"])


def test_missing_list(refusal, tmp_path):
    assert f"The list {tmp_path}/list.txt cannot be read" in refusal(inputs=[f"@{tmp_path}/list.txt"])


def test_output_that_is_not_empty(refusal, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("kept")
    assert f"The output folder {tmp_path}/full is not empty" in refusal(output=tmp_path / "full")


def test_output_that_is_a_file(refusal, tmp_path):
    (tmp_path / "file").write_text("kept")
    assert f"The output {tmp_path}/file is a file" in refusal(output=tmp_path / "file")
    assert (tmp_path / "file").read_text() == "kept"


def test_output_under_a_file(cli, tmp_path, tiny_checkpoint, pictures):
    """The error comes after the network is restored, which is reported before it."""
    (tmp_path / "file").write_text("kept")
    output = tmp_path / "file" / "out"
    status, stdout, stderr = cli(*features_arguments(tiny_checkpoint, output, pictures))
    assert (status, stdout) == (1, "")
    assert stderr.splitlines()[-1].startswith(f"slimnets: error: {output} cannot be written (")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"batch_size": 0}, "argument --batch-size: 0 is not a positive number"),
        ({"batch_size": "many"}, "argument --batch-size: invalid positive number value: 'many'"),
        ({"image_size": -32}, "argument --image-size: -32 is not a positive number"),
        ({"num_classes": "ten"}, "argument --num-classes: invalid int value: 'ten'"),
        ({"precision": "int4"}, "argument --precision: invalid choice: 'int4'"),
        ({"checkpoint": None}, "the following arguments are required: --checkpoint"),
        ({"output": None}, "the following arguments are required: --output"),
        ({"end_points": None}, "the following arguments are required: --end-points"),
        ({"inputs": []}, "the following arguments are required: INPUT"),
        ({"verbose": 1}, "unrecognized arguments: --verbose=1"),
    ],
)
def test_wrong_usage(cli, tmp_path, tiny_checkpoint, pictures, options, words):
    options = {"checkpoint": tiny_checkpoint, "output": tmp_path / "out", "inputs": pictures, **options}
    status, stdout, stderr = cli(*features_arguments(**options))
    assert (status, stdout) == (2, "")
    assert stderr.startswith("usage: slimnets")
    assert words in stderr.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_left_of_a_run_that_fails_in_between(tmp_path, tiny_checkpoint, pictures, monkeypatch):
    with FeatureExtractor(tiny_checkpoint, ["global_pool"], batch_size=2) as extractor:
        batches = extractor.batches

        def failing(*arguments):
            yield next(batches(*arguments))
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(extractor, "batches", failing)
        with pytest.raises(InputError, match="cannot be written"):
            extract(pictures, tmp_path / "out", extractor)
    assert list(tmp_path.iterdir()) == []


# The Python interface.


@pytest.fixture(scope="module")
def extractor(tiny_checkpoint):
    with FeatureExtractor(tiny_checkpoint, ["block1", f"{SCOPE}/logits", "global_pool"], batch_size=4) as extractor:
        yield extractor


def test_what_an_extractor_says_of_itself(extractor):
    assert (extractor.net, extractor.num_classes) == (SCOPE, 10)
    assert (extractor.preprocessing, extractor.image_size) == ("inception", SIZE)
    assert extractor.shapes == {"block1": (4, 4, 64), f"{SCOPE}/logits": (10,), "global_pool": (512,)}
    assert len(extractor.report.loaded) == 78
    assert extractor.report.missing == ()


@pytest.mark.numerical
def test_paths_and_arrays(extractor, tmp_path, tiny_checkpoint):
    """Compares the features of images of one size, under the requested names; seven are one batch and a part."""
    images = noise(7, 45, 38, 3)
    paths = []
    for i, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / f"{i}.png")
        paths.append(tmp_path / f"{i}.png")
    of_paths, of_arrays = extractor(paths), extractor(images)
    expected = by_hand(tiny_checkpoint, paths)
    assert list(of_paths) == list(of_arrays) == ["block1", f"{SCOPE}/logits", "global_pool"]
    for name, full_name in zip(of_paths, (f"{SCOPE}/block1", f"{SCOPE}/logits", "global_pool"), strict=True):
        wanted = expected[full_name].reshape(of_paths[name].shape)
        assert_as_exact(of_paths[name], wanted)
        assert_as_exact(of_arrays[name], wanted)
    assert of_arrays["global_pool"].shape == (7, 512)
    assert of_arrays[f"{SCOPE}/logits"].shape == (7, 10)


def test_nothing_to_compute(extractor):
    for nothing in ([], np.zeros([0, 40, 40, 3], np.uint8)):
        assert {name: array.shape for name, array in extractor(nothing).items()} == {
            name: (0, *shape) for name, shape in extractor.shapes.items()
        }


@pytest.mark.parametrize(
    "images",
    [
        np.zeros([2, 40, 40, 3], np.float32),
        np.zeros([2, 40, 40, 3], np.int64),
        np.zeros([2, 40, 40], np.uint8),
        np.zeros([2, 40, 40, 4], np.uint8),
        np.zeros([2, 3, 40, 40], np.uint8),
    ],
)
def test_array_of_another_kind(extractor, images):
    with pytest.raises(ValueError, match=r"images must be uint8 \[N, height, width, 3\]") as error:
        extractor(images)
    assert str(images.dtype) in str(error.value)
    assert str(list(images.shape)) in str(error.value)


def test_path_of_no_image(extractor, pictures, tmp_path):
    with pytest.raises(ImageError, match=r"gone\.png: there is no such file"):
        extractor([*pictures, tmp_path / "gone.png"])


def test_batches(extractor, pictures, tmp_path):
    """Batches keep the order and the batch size, and have statuses instead of errors."""
    batches = list(extractor.batches([*pictures[:5], tmp_path / "gone.png"]))
    assert [len(batch.statuses) for batch in batches] == [4, 2]
    assert [status.path for batch in batches for status in batch.statuses] == [*pictures[:5], f"{tmp_path}/gone.png"]
    assert [array.shape for array in batches[1].features.values()] == [(2, 4, 4, 64), (2, 10), (2, 512)]
    assert batches[1].statuses[1].error == "there is no such file"
    assert np.isnan(batches[1].features["global_pool"]).all(axis=1).tolist() == [False, True]


@pytest.mark.numerical
def test_no_preprocessing_of_arrays(tiny_checkpoint, tmp_path):
    """Takes any float values as they are: here the network's input that pixels would have given."""
    Image.fromarray(noise(SIZE, SIZE, 3)).save(tmp_path / "a.png")
    images = noise(1, SIZE, SIZE, 3).astype(np.float64)
    with FeatureExtractor(tiny_checkpoint, ["logits"], preprocessing="none") as extractor:
        expected = by_hand(tiny_checkpoint, [tmp_path / "a.png"], "none")[f"{SCOPE}/logits"][:, 0, 0]
        assert_as_exact(extractor(images)["logits"], expected)
        assert_as_exact(extractor([tmp_path / "a.png"])["logits"], expected)
        with pytest.raises(ValueError, match=r"images must be float .*'none', and is uint8"):
            extractor(images.astype(np.uint8))
        with pytest.raises(ValueError, match=r"must be 32x32, and are 31x32: resize them, or set image_size"):
            extractor(images[:, 1:])


def tiny_network(images):
    with slim.arg_scope(resnet_v2.resnet_arg_scope()):
        return resnet_v2.resnet_v2_tiny(images, 10, is_training=False, output_stride=8)


@pytest.mark.numerical
def test_network_that_a_function_builds(tiny_checkpoint, pictures):
    """Tests a network that is in no table: the same weights, atrous, so that features are four times as dense."""
    with FeatureExtractor(
        tiny_checkpoint, ["block4"], net=tiny_network, image_size=64, preprocessing="inception"
    ) as extractor:
        assert (extractor.net, extractor.num_classes, extractor.image_size) == ("tiny_network", None, 64)
        dense = extractor(pictures)["block4"]
    sparse = by_hand(tiny_checkpoint, pictures, size=64)[f"{SCOPE}/block4"]
    assert (dense.shape, sparse.shape) == ((8, 8, 8, 512), (8, 2, 2, 512))
    assert_as_exact(np.ascontiguousarray(dense[:, ::4, ::4]), sparse)


@pytest.mark.parametrize(
    "options",
    [
        {"preprocessing": "inception"},
        {"image_size": 32},
        {"image_size": 32, "preprocessing": "inception", "num_classes": 10},
    ],
)
def test_function_without_what_it_needs(tiny_checkpoint, options):
    with pytest.raises(ValueError, match="give image_size and preprocessing, and not num_classes"):
        FeatureExtractor(tiny_checkpoint, ["block4"], net=tiny_network, **options)


@pytest.mark.numerical
def test_network_under_another_scope(tiny_checkpoint, tmp_path, pictures):
    """The scope is read from the file, and is not part of the aliases."""
    path = tmp_path / "outer.ckpt"
    reader = tf.train.load_checkpoint(str(tiny_checkpoint))
    with tf.Graph().as_default(), v1.Session() as session:
        for name in reader.get_variable_to_shape_map():
            v1.get_variable(f"outer/{name}", initializer=reader.get_tensor(name))
        session.run(v1.global_variables_initializer())
        v1.train.Saver().save(session, str(path), write_meta_graph=False, write_state=False)
    with FeatureExtractor(path, ["block3", f"outer/{SCOPE}/block4", "global_pool"]) as extractor:
        features = extractor(pictures)
        assert [point.alias for point in extractor.end_points.values()] == ["block3", "block4", "global_pool"]
    expected = by_hand(tiny_checkpoint, pictures)
    assert_as_exact(features["block3"], expected[f"{SCOPE}/block3"][:, 0, 0])
    assert_as_exact(features["global_pool"], expected["global_pool"][:, 0, 0])


@pytest.mark.numerical
def test_checkpoint_without_the_logits_that_are_there(tiny_checkpoint, pictures):
    with FeatureExtractor(tiny_checkpoint, ["postnorm"], num_classes=0) as extractor:
        assert extractor.num_classes == 0
        assert extractor.report.unused == (f"{SCOPE}/logits/biases", f"{SCOPE}/logits/weights")
        assert_as_exact(
            extractor(pictures)["postnorm"], by_hand(tiny_checkpoint, pictures)[f"{SCOPE}/postnorm"][:, 0, 0]
        )


def test_without_end_points_it_computes_the_first(tiny_checkpoint, pictures):
    with FeatureExtractor(tiny_checkpoint, None, freeze=False) as extractor:
        assert extractor.tensor("block3").shape[-1] == 256
        found = extractor(pictures)
    assert list(found) == [f"{SCOPE}/conv1"]
    assert_as_exact(found[f"{SCOPE}/conv1"], by_hand(tiny_checkpoint, pictures)[f"{SCOPE}/conv1"])


@pytest.mark.parametrize(
    ("end_points", "options", "error", "words"),
    [
        ("blok3", {}, UnknownEndPointError, "did you mean block3"),
        ([], {}, ValueError, "must be a list of at least one name"),
        (["block3", "block3"], {}, ValueError, "'block3' more than once"),
        (["blok3"], {}, UnknownEndPointError, "did you mean block3"),
        (["block3"], {"batch_size": 0}, ValueError, "batch_size must be at least 1, and is 0"),
        (["block3"], {"image_size": 0}, ValueError, "image size must be at least 1, and is 0"),
        (["block3"], {"precision": "int4"}, ValueError, "float32, bfloat16, float16, but is 'int4'"),
        (["block3"], {"precision": "int8"}, ValueError, "engine='tensorflow' does not compute in precision='int8'"),
        (["block3"], {"preprocessing": "vg"}, ValueError, "Unknown preprocessing 'vg'"),
        (["block3"], {"pool": "avg"}, ValueError, "pool must be one of none, mean, max, and is 'avg'"),
        (["block3"], {"net": "resnet_v2_tin"}, ValueError, "did you mean resnet_v2_tiny"),
        (["block3"], {"num_classes": 1001}, CheckpointMismatch, "1001 classes and the file 10"),
    ],
)
def test_argument_that_cannot_be_honoured(tiny_checkpoint, end_points, options, error, words):
    with pytest.raises(error, match=words):
        FeatureExtractor(tiny_checkpoint, end_points, **options)


def test_checkpoint_that_is_none(tmp_path):
    with pytest.raises(CheckpointError, match="There is no checkpoint at"):
        FeatureExtractor(tmp_path / "missing", ["block3"])


def test_closed(tiny_checkpoint):
    with FeatureExtractor(tiny_checkpoint, ["logits"]) as extractor:
        assert extractor(noise(1, 32, 32, 3))["logits"].shape == (1, 10)
    with pytest.raises(RuntimeError, match=r"logits .* is closed: use it inside its `with` block, or make another one"):
        extractor(noise(1, 32, 32, 3))


@pytest.mark.numerical
def test_bfloat16(tiny_checkpoint):
    """Values are near float32's but differ if TensorFlow computes in bfloat16; otherwise bfloat16 is refused."""
    images = noise(8, 64, 64, 3)
    with FeatureExtractor(tiny_checkpoint, ["block4", "global_pool"], image_size=64) as extractor:
        exact = extractor(images)
    if bfloat16.convolutions():
        with FeatureExtractor(
            tiny_checkpoint, ["block4", "global_pool"], image_size=64, precision="bfloat16"
        ) as extractor:
            rounded = extractor(images)
        for name, wanted in exact.items():
            assert rounded[name].dtype == np.float32
            assert not np.array_equal(rounded[name], wanted)
            for one, other in zip(rounded[name].reshape(8, -1), wanted.reshape(8, -1), strict=True):
                assert one @ other > 0.99 * np.linalg.norm(one) * np.linalg.norm(other)
    else:
        with pytest.raises(ValueError, match="TensorFlow computes no bfloat16 here: use float32"):
            FeatureExtractor(tiny_checkpoint, ["block4"], precision="bfloat16")


def test_a_picture_that_cannot_be_preprocessed_has_failed(tmp_path, tiny_checkpoint):
    """Preprocessing by vgg scales the shorter side up: 1 by 12 million pixels would exceed the size of a tensor."""
    Image.new("L", (12_000_000, 1)).save(tmp_path / "line.png")
    with FeatureExtractor(tiny_checkpoint, ["block3"], preprocessing="vgg", image_size=224) as extractor:
        (batch,) = extractor.batches([tmp_path / "line.png"])
    (status,) = batch.statuses
    assert status.error.startswith("the image of 12000000x1 cannot be preprocessed")
    assert np.isnan(batch.features["block3"]).all()


@pytest.mark.numerical
@pytest.mark.parametrize("freeze", [False, True])
def test_freezing_changes_nothing_but_rounding(tiny_checkpoint, pictures, freeze):
    with FeatureExtractor(tiny_checkpoint, ["block3"], freeze=freeze) as extractor:
        result = extractor(pictures)["block3"]
    assert_as_exact(result, by_hand(tiny_checkpoint, pictures)[f"{SCOPE}/block3"][:, 0, 0])


@pytest.mark.numerical
def test_freezing_once_there_are_many(tiny_checkpoint, pictures, monkeypatch):
    """Freezes once there are many files or arrays, and then stays frozen."""
    monkeypatch.setattr(arithmetic, "_MANY", 6)
    expected = by_hand(tiny_checkpoint, pictures)[f"{SCOPE}/block2"]
    with FeatureExtractor(tiny_checkpoint, ["block2"]) as extractor:
        kinds = []
        for some in (pictures[:5], pictures, pictures[:5]):
            assert_as_exact(extractor(some)["block2"], expected[: len(some)])
            kinds.append("FusedBatchNormV3" in {op.type for op in extractor._session.graph.get_operations()})
    assert kinds == [True, False, False]
    with FeatureExtractor(tiny_checkpoint, ["block2"], freeze=False) as extractor:
        assert_as_exact(extractor(pictures)["block2"], expected)
        assert "VarHandleOp" in {op.type for op in extractor._session.graph.get_operations()}


@pytest.mark.parametrize(("num_images", "freeze"), [(1, False), (199, False), (200, None), (999, None), (1000, True)])
def test_what_pays(num_images, freeze):
    assert arithmetic.freeze_for(num_images) is freeze


def test_another_checkpoint_takes_the_place_of_the_first(tmp_path, tiny_checkpoint, pictures):
    """Equals to the bit what a new extractor computes; weights that do not fit change nothing."""
    other = save_v2(tmp_path / "other", weights(seed=7))
    with FeatureExtractor(other, ["logits"], freeze=False) as extractor:
        expected = extractor(pictures)["logits"]
    with FeatureExtractor(tiny_checkpoint, ["logits"], freeze=False) as extractor:
        first = extractor(pictures)["logits"]
        with pytest.raises(CheckpointMismatch):
            extractor.reload(save_v2(tmp_path / "three", weights(classes=3)))
        assert str(extractor.reader.path) == str(tiny_checkpoint)
        np.testing.assert_array_equal(extractor(pictures)["logits"], first)
        extractor.reload(other)
        np.testing.assert_array_equal(extractor(pictures)["logits"], expected)
        assert (extractor.reader.path, extractor.report.path) == (other, other)


def test_frozen_weights_stay(tiny_checkpoint):
    with (
        FeatureExtractor(tiny_checkpoint, ["logits"], freeze=True) as extractor,
        pytest.raises(ValueError, match=r"were frozen into the graph.*make the extractor with freeze=False"),
    ):
        extractor.reload(tiny_checkpoint)


@pytest.mark.numerical
@pytest.mark.parametrize("freeze", [False, True])
@pytest.mark.parametrize("pool", ["mean", "max"])
def test_end_points_are_pooled(tiny_checkpoint, pictures, pool, freeze):
    """Pools [N, height, width, channels] to [N, channels], as NumPy reduces them; other shapes stay."""
    expected = by_hand(tiny_checkpoint, pictures)
    with FeatureExtractor(tiny_checkpoint, ["block2", "logits"], pool=pool, freeze=freeze) as extractor:
        assert extractor.shapes == {"block2": (128,), "logits": (10,)}
        features = extractor(pictures)
    assert_as_exact(
        features["block2"], expected[f"{SCOPE}/block2"].map(functools.partial(getattr(np, pool), axis=(1, 2)))
    )
    assert_as_exact(features["logits"], expected[f"{SCOPE}/logits"][:, 0, 0])


def test_pooled_features_in_a_folder(cli, tmp_path, tiny_checkpoint, pictures):
    arguments = features_arguments(tiny_checkpoint, tmp_path / "out", pictures, end_points="block2", pool="mean")
    assert cli(*arguments)[0] == 0
    arrays, _, run = load(tmp_path / "out")
    assert arrays["block2"].shape == (len(pictures), 128)
    assert run["pool"] == "mean"
    assert run["end_points"]["block2"]["shape"] == [128]


def test_batches_are_gone_through_one_after_another(extractor, pictures):
    first = extractor.batches(pictures)
    next(first)
    (*_, last) = extractor.batches(pictures[:2])
    assert [status.path for status in last.statuses] == [str(path) for path in pictures[:2]]
    with pytest.raises(RuntimeError, match="one after another"):
        next(first)


def test_batches_that_were_left(extractor, pictures):
    """Work in progress on abandoned batches does not affect the next ones."""
    expected = [batch.features["global_pool"] for batch in extractor.batches(pictures[:4])]
    left = extractor.batches(pictures[4:])
    next(left)
    left.close()
    (batch,) = extractor.batches(pictures[:4])
    assert np.array_equal(batch.features["global_pool"], expected[0])


def test_files_for_a_network_of_one_channel_are_refused(tmp_path):
    with tf.Graph().as_default(), v1.Session() as session:
        nets_factory.get_network_fn("resnet_keras_18_digits", 10)(v1.placeholder(tf.float32, [None, 28, 28, 1]))
        assign(session, random_values(v1.global_variables()))
        path = v1.train.Saver().save(session, str(tmp_path / "model.ckpt"))
    options = {"preprocessing": "none", "freeze": False}
    with FeatureExtractor(path, ["logits"], **options) as extractor:
        assert extractor(noise(2, 28, 28, 1).astype(np.float32))["logits"].shape == (2, 10)
        with pytest.raises(ValueError, match="decoded to 3 channels, and resnet_keras_18_digits takes 1: give arrays"):
            extractor([tmp_path / "a.png"])


def test_paths_may_come_from_an_iterator(tiny_checkpoint, pictures):
    with FeatureExtractor(tiny_checkpoint, ["global_pool"]) as extractor:
        assert np.array_equal(extractor(iter(pictures))["global_pool"], extractor(pictures)["global_pool"])
