"""Makes the mistakes that people reported, one per test, and asserts the message that they now get.

The numbers are those of the threads in github.com/tensorflow/models unless another repository is named.
"""

import http.server
import tarfile
import threading

import numpy as np
import pytest
import tensorflow as tf
import tf_slim as slim
from PIL import Image

from checkpoints import CheckpointError, CheckpointMismatch, diagnose, note, open_checkpoint, restore
from checkpoints.errors import DownloadError
from checkpoints.published import CATALOG, download, imagenet_labels
from nets import guards, nets_factory, resnet_v1, resnet_v2
from nets.endpoint_info import UnknownEndPointError, resolve
from tests.helpers.corpus import published, save_v1, save_v2, weights
from tools.cli import main
from tools.features import FeatureExtractor

v1 = tf.compat.v1

TINY = "resnet_v2_tiny"


def images(size=32):
    return v1.placeholder(tf.float32, [None, size, size, 3])


def build(classes=10, name=TINY, **kwargs):
    return nets_factory.get_network_fn(name, classes)(images(), **kwargs)


def refused(path, **options):
    """Returns the message of a refused restore, after checking that it changed nothing."""
    with v1.Session() as session:
        session.run(v1.global_variables_initializer())
        before = session.run(v1.global_variables())
        with pytest.raises(CheckpointMismatch) as caught:
            restore(session, path, **options)
        assert all(np.array_equal(a, b) for a, b in zip(before, session.run(v1.global_variables()), strict=True))
    return str(caught.value)


@pytest.fixture(autouse=True)
def graph():
    with tf.Graph().as_default() as graph:
        yield graph


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return save_v2(tmp_path_factory.mktemp("tiny") / "model.ckpt", weights())


# Restoring.


def test_arg_scope_forgotten_so_biases_are_sought(tmp_path):
    """3124, 5436."""
    path = published(tmp_path, "resnet_v1_50", 1000)
    resnet_v1.resnet_v1_50(images(64), 1000, is_training=False)
    sentence = refused(path)
    assert "the graph was built without its arg scope; build it under slim.arg_scope(resnet_arg_scope())" in sentence
    assert "resnet_v1_50/conv1/biases" in sentence


@pytest.mark.parametrize(("here", "there", "what"), [(1000, 1001, "drops the"), (1001, 1000, "adds a")])
def test_1000_classes_against_1001(tmp_path, here, there, what):
    """7176, 4001, 6933."""
    path = save_v1(tmp_path / "model.ckpt", weights(classes=there))
    build(here)
    sentence = refused(path)
    assert f"the graph has {here} classes and the file {there}; build the network with num_classes={there}" in sentence
    assert f"or give num_classes={here}, which {what} background" in sentence
    with v1.Session() as session:
        assert restore(session, path, num_classes=here).missing == ()


def test_every_key_is_missing_because_of_a_prefix(tmp_path):
    """5003, 8396."""
    path = save_v1(tmp_path / "model.ckpt", weights(scope="tower_0/resnet_v2_tiny"))
    build()
    sentence = refused(path)
    assert "the file has the network under the scope 'tower_0/resnet_v2_tiny', and the graph under" in sentence
    assert "give scope='tower_0/resnet_v2_tiny'" in sentence
    with v1.Session() as session:
        assert len(restore(session, path, scope="tower_0/resnet_v2_tiny").loaded) == 78


def test_optimizer_slots_are_missing(tiny):
    """The same threads: all variables of a training graph are restored from a file without the optimizer's."""
    logits, _ = build()
    v1.train.MomentumOptimizer(0.1, 0.9).minimize(tf.reduce_sum(logits), v1.train.get_or_create_global_step())
    sentence = refused(tiny, variables=v1.global_variables())
    assert "give variables=slim.get_model_variables() for the network's, and run the" in sentence
    with v1.Session() as session:
        assert restore(session, tiny, variables=slim.get_model_variables()).missing == ()


@pytest.mark.parametrize("part", ["", ".index", ".data-00000-of-00001"])
def test_a_file_without_an_index(tmp_path, part):
    """8338: a V1 checkpoint is one file, although today's scripts ask for several parts."""
    save_v1(tmp_path / "resnet_v2_tiny.ckpt", weights())
    assert open_checkpoint(tmp_path / f"resnet_v2_tiny.ckpt{part}").format == "V1"


def test_a_name_without_its_step(tmp_path):
    save_v2(tmp_path / "model.ckpt-20000", weights())
    with pytest.raises(CheckpointError, match=r"There is no checkpoint at .*; there is model\.ckpt-20000\."):
        open_checkpoint(tmp_path / "model.ckpt")


def test_an_archive_that_was_not_unpacked(tmp_path):
    """tensorflow/tensorflow 27980, where this ends in a DataLossError."""
    save_v1(tmp_path / "resnet_v2_50.ckpt", weights())
    archive = tmp_path / "resnet_v2_50_2017_04_14.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(tmp_path / "resnet_v2_50.ckpt", "resnet_v2_50.ckpt")
    with pytest.raises(CheckpointError, match=r"is a tar\.gz archive .* unpack it \(tar -xzf resnet_v2_50_2017_04_14"):
        open_checkpoint(archive)


def test_a_checkpoint_is_not_ignored_in_silence(tmp_path):
    """Some training scripts find nothing to restore, say nothing, and begin from scratch."""
    path = save_v1(tmp_path / "vgg_16.ckpt", {"vgg_16/conv1/weights": np.ones((3, 3, 3, 64), np.float32)})
    build()
    assert "holds the weights of none of the known networks" in refused(path)
    with pytest.raises(CheckpointError, match="There is no checkpoint at"), v1.Session() as session:
        restore(session, tmp_path / "train_dir" / "model.ckpt")


# Inference.


@pytest.mark.parametrize(
    ("options", "asked"), [({"preprocessing": "vgg"}, "vgg at 32"), ({"image_size": 48}, "inception at 48")]
)
def test_another_preprocessing_or_size_than_the_weights(tmp_path, options, asked):
    """1497, 2217, 10420: slim's factory preprocesses for the published v2 weights by vgg at 224."""
    path = save_v1(tmp_path / "resnet_v2_tiny.ckpt", weights())
    note(path, preprocessing="inception", image_size=32)
    sentence = f"The weights go with preprocessing inception at 32, and {asked} was asked for"
    with pytest.warns(guards.InferenceWarning, match=sentence):
        extractor = FeatureExtractor(path, ["logits"], **options)
    extractor.close()
    assert [warning.startswith(sentence) for warning in extractor.warnings] == [True]


def test_is_training_left_on_in_evaluation(tiny):
    """3556, tf-slim 14 and 15."""

    def network(pictures):
        with slim.arg_scope(resnet_v2.resnet_arg_scope()):
            return resnet_v2.resnet_v2_tiny(pictures, 10, is_training=True)

    with pytest.warns(guards.InferenceWarning, match=r"in training mode .* build it with is_training=False") as said:
        FeatureExtractor(tiny, ["logits"], net=network, image_size=32, preprocessing="inception").close()
    assert len(said) == 1


def test_moving_averages_are_never_updated(tmp_path, capsys):
    """tensorflow/tensorflow 7469: first the script that makes the mistake, then the user of its checkpoint."""
    with slim.arg_scope(resnet_v2.resnet_arg_scope()):
        logits, _ = resnet_v2.resnet_v2_tiny(images(), 10, is_training=True)
    loss = tf.reduce_mean(logits**2)
    train_op = v1.train.GradientDescentOptimizer(0.01).minimize(loss)
    with pytest.warns(guards.InferenceWarning, match=r"26 of 26 updates in tf\.GraphKeys\.UPDATE_OPS.*create_train_op"):
        guards.check_train_op(train_op)
    with v1.Session() as session:
        session.run(v1.global_variables_initializer())
        v1.train.Saver().save(session, str(tmp_path / "model"))
    sentence = "The moving statistics of 13 of 13 batch norms are still at their initial values"
    with tf.Graph().as_default(), v1.Session() as session:
        build()
        with pytest.warns(guards.InferenceWarning, match=sentence):
            report = restore(session, tmp_path / "model")
    assert report.warnings[0].startswith(sentence)
    assert main(["inspect", str(tmp_path / "model"), "--check"]) == 1
    assert sentence in capsys.readouterr().out


def test_an_end_point_of_another_depth(tiny):
    """KeyError: 'resnet_v2_50/block4/unit_3'."""
    sentence = r"block4/unit_3.*did you mean.*block4/unit_1|block4/unit_3.*there is"
    with pytest.raises(UnknownEndPointError, match=sentence):
        FeatureExtractor(tiny, ["block4/unit_3"])


def test_an_end_point_under_an_outer_scope():
    """KeyError: 'resnet_v2_tiny/block3' of a network that is under another scope."""
    with v1.variable_scope("outer"):
        _, end_points = build()
    assert "resnet_v2_tiny/block3" not in end_points
    assert resolve("block3", end_points)[0] == "outer/resnet_v2_tiny/block3"


def test_logits_with_two_axes_too_many():
    """690: [N, 1, 1, classes] where a loss wants [N, classes]."""
    logits, _ = build()
    assert logits.shape.as_list() == [None, 10]
    with pytest.raises(ValueError, match=r"spatial_squeeze=True needs logits of 1x1.*set spatial_squeeze=False"):
        build(name="resnet_v2_50", classes=1001, global_pool=False, output_stride=4)


def test_resnet_18_and_34():
    """1195, 2347: slim does not have them; here they belong to a family of their own."""
    for name in ("resnet_v1_18", "resnet_v2_34"):
        depth = name[-2:]
        with pytest.raises(ValueError, match=f"unknown: '{name}'; did you mean resnet_basic_{depth} or"):
            nets_factory.get_network(name)


def test_from_an_index_to_a_label():
    """1469; with a background class every index is one higher."""
    names = imagenet_labels(1000)
    assert [names[i] for i in (0, 207, 281, 999)] == [
        "tench, Tinca tinca",
        "golden retriever",
        "tabby, tabby cat",
        "toilet tissue, toilet paper, bathroom tissue",
    ]
    assert imagenet_labels(1001) == ["background", *names]


def test_the_host_answers_403(tmp_path, monkeypatch):
    """13561, 13610."""

    class Refusing(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_error(403)

        def log_message(self, *arguments):
            pass

    entry = CATALOG["resnet_v1_50"]
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/{entry.archive}"
        monkeypatch.setitem(CATALOG, entry.key, entry._replace(url=url))
        with pytest.raises(DownloadError) as caught:
            download(entry.key, tmp_path)
        server.shutdown()
    sentence = str(caught.value)
    assert "answered 403 Forbidden: the file may be hosted elsewhere" in sentence
    assert "91a0dc25289e7ef648df304b15f06c43ce6f4446d08eb0168479dd2295101c73" in sentence
    assert "`slimnets download resnet_v1_50 --from FILE`" in sentence
    assert list(tmp_path.iterdir()) == []


def test_a_published_file_is_classified_with_names(tmp_path, capsys):
    """Classifies from file to name: only one class can win, and it is the first after the background."""
    values = weights(classes=1001)
    values["resnet_v2_tiny/logits/weights"][:] = 0
    values["resnet_v2_tiny/logits/biases"][:] = 0
    values["resnet_v2_tiny/logits/biases"][208] = 5
    save_v1(tmp_path / "resnet_v2_tiny.ckpt", values)
    Image.fromarray(np.zeros((40, 30, 3), np.uint8)).save(tmp_path / "dog.png")
    arguments = ["classify", str(tmp_path / "dog.png"), "--checkpoint", str(tmp_path / "resnet_v2_tiny.ckpt")]
    for classes, number in ((None, "208"), ("1000", "207")):
        assert main([*arguments, "--top", "1", *(["--num-classes", classes] if classes else [])]) == 0
        row = capsys.readouterr().out.splitlines()[2].split()
        # All logits but one are 0, of 1001 or of 1000.
        expected = np.exp(5) / (np.exp(5) + int(classes or 1001) - 1)
        assert row[1:] == [f"{expected:.4f}", number, "golden", "retriever"]


def test_the_diagnosis_knows_the_shipped_checkpoint():
    found = diagnose("checkpoints/resnet_v2_tiny_digits.ckpt", check=True)
    assert (found.network.name, found.problems) == (TINY, ())
