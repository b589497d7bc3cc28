"""Tests the re-estimation of moving statistics, and ``slimnets recalibrate``.

The expected statistics come from the network in NumPy, and from tf_slim's own network in float64, in training mode on
the same batches.
"""

import resource
import shutil

import numpy as np
import pytest
import tensorflow as tf
import tf_slim as slim
from PIL import Image

from checkpoints import CheckpointError, CheckpointMismatch, note, open_checkpoint
from checkpoints.files import read_notes
from nets.preprocessing import preprocess
from tests.conftest import CLASSES
from tests.helpers import numpy_cifar
from tests.helpers.corpus import save_v1, save_v2, shadows, slots, weights
from tools.cli import main
from tools.digits import CHECKPOINT, HELD_OUT
from tools.errors import InputError
from tools.evaluation import recalibrate
from tools.evaluation.batch_statistics import mixed_rows
from tools.peers.slim_reference import tf_slim_builder, tf_slim_scope

v1 = tf.compat.v1

CIFAR = "resnet_cifar_20"
TINY = "resnet_v2_tiny"


def write_pictures(folder, count, size):
    """Writes noise as PNG files, and returns the pixels in the order of the names."""
    folder.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(count).integers(0, 256, (count, size, size, 3), dtype=np.uint8)
    # Of different brightness, so that batches have different statistics.
    pixels = (pixels * np.linspace(0.2, 1, count)[:, None, None, None]).astype(np.uint8)
    for i, image in enumerate(pixels):
        Image.fromarray(image).save(folder / f"{i:03}.png")
    return pixels


def values_in(path):
    reader = open_checkpoint(path)
    return {name: reader.read(name) for name in reader.shapes}


def over_batches(batches):
    """Returns the mean and the variance of all values, from (count, mean, variance) of each batch."""
    count = sum(count for count, _, _ in batches)
    mean = sum(count * mean for count, mean, _ in batches) / count
    # The squared distances inside of a batch, and those of the batches' means from the mean of all.
    squares = sum(count * (variance + (batch_mean - mean) ** 2) for count, batch_mean, variance in batches)
    return mean, squares / count


def assert_statistics(values, scope, expected, tolerance):
    mean, variance = expected
    scale = np.sqrt(variance.mean())
    np.testing.assert_allclose(values[f"{scope}/moving_mean"], mean, rtol=0, atol=tolerance * scale, err_msg=scope)
    np.testing.assert_allclose(
        values[f"{scope}/moving_variance"], variance, rtol=0, atol=tolerance * scale**2, err_msg=scope
    )


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


@pytest.mark.numerical
def test_statistics_are_those_of_numpy(tmp_path):
    """Images of 40x40 are cropped to 32x32 in the middle, and standardized one by one, in slim's way for CIFAR.

    The last file is no image, and must not get into a batch as a black one.
    """
    values = weights(CIFAR)
    pixels = write_pictures(tmp_path / "pictures", 10, 40)
    (tmp_path / "pictures" / "999.png").write_bytes(b"\x89PNG\r\n\x1a\n, and no more")
    save_v2(tmp_path / "model.ckpt", values)
    done = recalibrate(tmp_path / "model.ckpt", tmp_path / "pictures", tmp_path / "new.ckpt", batch_size=4)
    assert (done.network, done.images, done.failed, done.batches, len(done.layers)) == (CIFAR, 10, 1, 3, 19)

    rows = [row for row in mixed_rows(11) if row < 10]
    images = pixels[rows, 4:36, 4:36].astype(np.float64)
    images -= images.mean(axis=(1, 2, 3), keepdims=True)
    images /= np.maximum(images.std(axis=(1, 2, 3), keepdims=True), 3072**-0.5)
    first = numpy_cifar.convolution(images, values["init/init_conv/DW"].astype(np.float64))
    new = values_in(tmp_path / "new.ckpt")
    scope = "unit_1_0/shared_activation/init_bn"
    assert_statistics(new, scope, (first.mean((0, 1, 2)), first.var((0, 1, 2))), 1e-5)

    batches = [
        (len(batch), numpy_cifar.forward(values, batch, *numpy_cifar.SIZES[CIFAR], training=True).batch_statistics)
        for batch in np.split(images, [4, 7])
    ]
    changes = {layer.scope: layer for layer in done.layers}
    assert changes.keys() == batches[0][1].keys()
    for scope, change in changes.items():
        mean, variance = over_batches([(count, *statistics[scope]) for count, statistics in batches])
        assert_statistics(new, scope, (mean, variance), 1e-4)
        # Relative to the deviations and variances of the layer as a whole, which may have constant channels.
        old_mean, old_variance = values[f"{scope}/moving_mean"], values[f"{scope}/moving_variance"]
        assert change.mean == pytest.approx(np.sqrt(((mean - old_mean) ** 2).mean() / variance.mean()), rel=1e-3)
        relative = np.sqrt(((variance - old_variance) ** 2).mean() / (variance**2).mean())
        assert change.variance == pytest.approx(relative, rel=1e-3)


def by_tf_slim(checkpoint, name, num_classes, batches):
    """Returns the statistics over batches, of tf_slim's own network in float64 with decay 0."""
    found = []
    with tf.Graph().as_default(), v1.Session() as session:
        fed = v1.placeholder(tf.float64, [None, *batches[0].shape[1:]])
        with tf_slim_scope(batch_norm_decay=0.0), slim.arg_scope([slim.batch_norm], fused=False):
            parameters = slim.current_arg_scope()[slim.conv2d._key_op]["normalizer_params"] | {"decay": 0.0}
            with slim.arg_scope([slim.conv2d], normalizer_params=parameters):
                tf_slim_builder(name)(fed, num_classes=num_classes, is_training=True)
        variables = slim.get_model_variables()
        session.run(v1.global_variables_initializer())
        values = values_in(checkpoint)
        feeds = {variable.initializer.inputs[1]: values[variable.op.name] for variable in variables}
        session.run([variable.initializer for variable in variables], feeds)
        moving = {each.op.name: each for each in variables if "moving_" in each.op.name}
        for batch in batches:
            session.run(v1.get_collection(v1.GraphKeys.UPDATE_OPS), {fed: batch})
            found.append((len(batch), session.run(moving)))
    scopes = [name.removesuffix("/moving_mean") for name in moving if name.endswith("/moving_mean")]
    return {
        scope: over_batches([(n, of[f"{scope}/moving_mean"], of[f"{scope}/moving_variance"]) for n, of in found])
        for scope in scopes
    }


def preprocessed(pixels, name, size):
    with tf.Graph().as_default(), v1.Session() as session:
        return session.run(preprocess(tf.constant(pixels), name, size)).astype(np.float64)


@pytest.mark.numerical
@pytest.mark.parametrize(
    ("name", "num_classes", "count", "batch_size"),
    [(TINY, CLASSES, 11, 6), pytest.param("resnet_v2_50", 1000, 11, 6, marks=pytest.mark.full)],
)
def test_statistics_of_fused_layers_are_those_of_tf_slim(tmp_path, name, num_classes, count, batch_size):
    """With Bessel's correction the variances of the last layers of the tiny network would be a fifth larger."""
    checkpoint = save_v2(tmp_path / "model.ckpt", weights(name, classes=num_classes))
    size, preprocessing = (32, "inception") if name == TINY else (224, "vgg")
    pixels = write_pictures(tmp_path / "pictures", count, size)
    options = {"batch_size": batch_size, "image_size": size, "preprocessing": preprocessing}
    recalibrate(checkpoint, tmp_path / "pictures", tmp_path / "new.ckpt", images=count, **options)
    images = preprocessed(pixels, preprocessing, size)[mixed_rows(count)]
    expected = by_tf_slim(checkpoint, name, num_classes, [images[:batch_size], images[batch_size:]])
    new = values_in(tmp_path / "new.ckpt")
    for number, (scope, statistics) in enumerate(expected.items()):
        assert_statistics(new, scope, statistics, 1e-4 if number else 1e-5)


# What stays as it is.


def assert_only_changed(before, after, changed):
    assert before.keys() == after.keys()
    for name, value in before.items():
        assert (value.dtype, value.shape) == (after[name].dtype, after[name].shape)
        assert (value.tobytes() != after[name].tobytes()) == changed(name), name


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    write_pictures(folder, 6, 32)
    return folder


def is_statistic(name):
    return name.endswith(("moving_mean", "moving_variance"))


@pytest.mark.parametrize("kind", ["V1 with slots", "V2 with averages", "object-based"])
def test_everything_else_stays_as_it_is_to_the_bit(tmp_path, pictures, kind):
    source, values = tmp_path / "source.ckpt", weights(classes=CLASSES)
    if kind == "V1 with slots":
        save_v1(source, {**values, **slots(values, "RMSProp", "Momentum"), "global_step": np.array(7, np.int64)})
    elif kind == "V2 with averages":
        step = {"global_step": np.array(7, np.int64), "names": np.array([b"a", b"b"], object)}
        # Statistics of half precision keep it.
        half = {name: value.astype(np.float16) for name, value in values.items()}
        save_v2(source, {**half, **shadows(half), **slots(half, "Momentum"), **step})
    else:
        variables = {name: tf.Variable(value, name=name) for name, value in values.items()}
        tf.train.Checkpoint(**{name.replace("/", "."): each for name, each in variables.items()}).write(str(source))
    before = {file: file.read_bytes() for file in source.parent.iterdir()}
    recalibrate(source, pictures, tmp_path / "new.ckpt")
    assert {file: file.read_bytes() for file in before} == before
    assert open_checkpoint(tmp_path / "new.ckpt").format == "V2"
    assert_only_changed(values_in(source), values_in(tmp_path / "new.ckpt"), is_statistic)


@pytest.mark.full
def test_averaged_weights_get_statistics_of_their_own(tmp_path, pictures):
    """What ema=True restores afterwards are the statistics that the averaged weights alone lead to."""
    values, averages = weights(classes=CLASSES), weights(classes=CLASSES, seed=1)
    recalibrate(save_v2(tmp_path / "alone.ckpt", averages), pictures, tmp_path / "alone_new.ckpt")
    expected = {name: value for name, value in values_in(tmp_path / "alone_new.ckpt").items() if is_statistic(name)}
    trained = {name: value for name, value in averages.items() if not is_statistic(name)}
    for averaged, ending in ((averages, "/ExponentialMovingAverage"), (trained, "")):
        source = save_v2(tmp_path / "source.ckpt", {**values, **shadows(averaged)})
        done = recalibrate(source, pictures, tmp_path / "new.ckpt", ema=True, overwrite=True)
        assert done.ema
        new = values_in(tmp_path / "new.ckpt")
        changed = {name + ending for name in expected}
        assert_only_changed(values_in(source), new, changed.__contains__)
        for name, value in expected.items():
            np.testing.assert_array_equal(new[name + ending], value)


def test_notes_go_along(tmp_path, pictures):
    source = save_v2(tmp_path / "source.ckpt", weights(classes=3))
    note(source, preprocessing="vgg", image_size=64, labels=["a", "b", "c"])
    done = recalibrate(source, pictures, tmp_path / "new.ckpt")
    assert (done.preprocessing, done.image_size) == ("vgg", 64)
    notes = open_checkpoint(tmp_path / "new.ckpt").notes
    assert notes == open_checkpoint(source).notes
    assert notes.labels == ("a", "b", "c")
    # Without notes in the source, none of an overwritten checkpoint stay.
    bare = save_v2(tmp_path / "bare.ckpt", weights(classes=3))
    recalibrate(bare, pictures, tmp_path / "new.ckpt", overwrite=True)
    assert read_notes(tmp_path / "new.ckpt", tmp_path / "new.ckpt.index") is None
    assert not (tmp_path / "new.ckpt.slimnets.json").exists()


def test_a_scope_in_the_file_stays(tmp_path, pictures):
    both = {**weights(classes=3, scope="a/net"), **weights(classes=3, scope="b/net", seed=1)}
    source = save_v2(tmp_path / "source.ckpt", both)
    done = recalibrate(source, pictures, tmp_path / "new.ckpt", scope="b/net")
    assert {layer.scope.split("/block")[0] for layer in done.layers} == {"b/net", "b/net/postnorm"}
    new = values_in(tmp_path / "new.ckpt")
    assert_only_changed(both, new, lambda name: is_statistic(name) and name.startswith("b/"))


# The complaint.


def test_images_without_labels_have_no_accuracy(tmp_path, cli):
    status, stdout, stderr = cli("recalibrate", CHECKPOINT, HELD_OUT, "--output", tmp_path / "new.ckpt")
    assert status == 0
    assert "Accuracies were not computed, as the images have no labels." in stderr
    assert "13 re-estimated" in stdout
    assert "360 in 12 batches" in stdout
    assert "top-1" not in stdout


# What cannot be.


def test_unreadable_images_are_counted_and_left_out(tmp_path, cli, tiny_checkpoint, pictures):
    folder = shutil.copytree(pictures, tmp_path / "pictures")
    (folder / "999.png").write_bytes(b"\x89PNG\r\n\x1a\n, and no more")
    status, stdout, stderr = cli("recalibrate", tiny_checkpoint, folder, "--output", tmp_path / "new.ckpt")
    assert status == 1
    assert "6 in 1 batches; 1 failed and were left out" in stdout
    assert "failed, 1: the image cannot be decoded" in stderr


def refusal(kind, *arguments, **options):
    with pytest.raises(kind) as error:
        recalibrate(*arguments, **options)
    return str(error.value)


def test_refusals(tmp_path, tiny_checkpoint, pictures):
    new = tmp_path / "new.ckpt"
    (tmp_path / "one").mkdir()
    shutil.copy(pictures / "000.png", tmp_path / "one")
    sentence = refusal(InputError, tiny_checkpoint, tmp_path / "one", new)
    assert sentence == "Statistics require at least two images, and there is one: give more."
    (tmp_path / "one" / "broken.png").write_bytes(b"no image")
    sentence = refusal(InputError, tiny_checkpoint, tmp_path / "one", new)
    assert sentence == "Statistics require at least two images, and 1 of 2 can be read: give more."
    sentence = refusal(InputError, tiny_checkpoint, pictures, new, images=1)
    assert sentence.startswith("images=1 is too few: a single image has no variance in every layer")
    sentence = refusal(InputError, tiny_checkpoint, pictures, new, images=3, batch_size=2)
    assert sentence.startswith("batch_size must be larger, and is 2: 3 images then make batches of a single image")
    sentence = refusal(InputError, tiny_checkpoint, pictures, tiny_checkpoint, overwrite=True)
    assert sentence == f"{tiny_checkpoint} is the checkpoint itself, which is kept: give another name."
    sentence = refusal(InputError, tiny_checkpoint, pictures, tmp_path / "new.npz")
    assert sentence.startswith(f"{tmp_path}/new.npz would be a file of the kind npz by its ending")
    sentence = refusal(InputError, tiny_checkpoint, pictures, new, labels=_lines(tmp_path / "labels.txt", CLASSES))
    assert "The images have no labels" in sentence
    assert not list(tmp_path.glob("*new*"))
    (tmp_path / "new.ckpt.index").write_text("something else")
    sentence = refusal(FileExistsError, tiny_checkpoint, pictures, new)
    assert sentence == f"{new}.index exists: give another name, or overwrite=True."
    assert (tmp_path / "new.ckpt.index").read_text() == "something else"


def _lines(path, count):
    path.write_text("".join(f"class {i}\n" for i in range(count)))
    return path


def test_infinite_statistics_name_the_layer(tmp_path, pictures):
    values = weights(classes=CLASSES)
    name = f"{TINY}/block3/unit_1/bottleneck_v2/conv2/weights"
    values[name] = values[name] * np.nan
    source = save_v1(tmp_path / "source.ckpt", values)
    sentence = refusal(CheckpointError, source, pictures, tmp_path / "new.ckpt")
    assert f"not finite in {TINY}/block3/unit_1/bottleneck_v2/conv2/BatchNorm, the first such layer" in sentence
    assert not list(tmp_path.glob("*new*"))


def test_statistics_that_are_no_numbers_are_mended(tmp_path):
    """Before, no image has logits. One of the two classes comes out for every image of noise, or so."""
    values = {name: value * np.nan if is_statistic(name) else value for name, value in weights(classes=2).items()}
    for name in ("a", "b"):
        write_pictures(tmp_path / "pictures" / name, 4, 32)
    done = recalibrate(save_v2(tmp_path / "nan.ckpt", values), tmp_path / "pictures", tmp_path / "new.ckpt")
    assert done.measured == 8
    assert done.top_1_before is None
    assert 0 <= done.top_1_after.value <= 1
    assert done.record()["top_1_before"] is None
    assert np.isfinite(list(map(np.sum, values_in(tmp_path / "new.ckpt").values()))).all()


def test_a_checkpoint_without_batch_norms(tmp_path, pictures):
    values = {name: value for name, value in weights(classes=CLASSES).items() if "BatchNorm" not in name}
    source = save_v2(tmp_path / "source.ckpt", values)
    assert "use_batch_norm=False" in refusal(CheckpointMismatch, source, pictures, tmp_path / "new.ckpt")


def test_a_full_disk_leaves_nothing(tmp_path, tiny_checkpoint, pictures):
    """A limit on the size of files stands for a full disk. The checkpoint has 2 MB."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, limits[1]))
    try:
        sentence = refusal(OSError, tiny_checkpoint, pictures, tmp_path / "new.ckpt")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert sentence.startswith("new.ckpt cannot be written")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.filterwarnings("default::nets.guards.InferenceWarning")
def test_another_input_than_that_of_the_weights_is_doubtful(tmp_path, cli, tiny_checkpoint, pictures):
    command = ("recalibrate", tiny_checkpoint, pictures, "--output", tmp_path / "new.ckpt", "--preprocessing", "vgg")
    status, _, stderr = cli(*command)
    assert status == 0
    assert stderr.count("slimnets: warning: The weights go with preprocessing inception at 32") == 1
