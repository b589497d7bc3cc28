"""Tests the ways into an extractor's network, what it says once it is closed, and files that cannot be decoded."""

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from nets import resnet_v2
from nets.endpoint_info import UnknownEndPointError
from tools.errors import ImageError
from tools.features import FeatureExtractor

v1 = tf.compat.v1

pytestmark = pytest.mark.filterwarnings("ignore:The weights go with:nets.guards.InferenceWarning")

SCOPE = "resnet_v2_tiny"


def noise(*shape):
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


@pytest.fixture
def picture(tmp_path):
    Image.fromarray(noise(32, 32, 3)).save(tmp_path / "image.png")
    return tmp_path / "image.png"


def test_session_graph_and_tensors(tiny_checkpoint):
    """A stored bias and an end point that was not asked for, fetched from the session."""
    pixels = noise(2, 40, 50, 3)
    with FeatureExtractor(tiny_checkpoint, "logits", freeze=False) as extractor:
        assert extractor.session.graph is extractor.graph
        assert extractor.images.shape.as_list() == [None, 32, 32, 3]
        feed = {extractor.images: extractor.preprocess(pixels)}
        with extractor.graph.as_default():
            mean = tf.reduce_mean(extractor.tensor("global_pool"), [1, 2])
            biases = next(v for v in v1.global_variables() if v.op.name == f"{SCOPE}/logits/biases")
        assert np.array_equal(
            extractor.session.run(biases), tf.train.load_variable(str(tiny_checkpoint), f"{SCOPE}/logits/biases")
        )
        pooled, inner = extractor.session.run([mean, extractor.tensor("block3/unit_1/preact")], feed)
    with FeatureExtractor(tiny_checkpoint, ["global_pool", "block3/unit_1/preact"], freeze=False) as extractor:
        expected = extractor(pixels)
    assert np.array_equal(pooled, expected["global_pool"])
    assert np.array_equal(inner, expected["block3/unit_1/preact"])


def test_tensors_have_slims_names_and_shapes(tiny_checkpoint):
    with FeatureExtractor(tiny_checkpoint, "block2", pool="mean") as extractor:
        for name in ("block3", f"{SCOPE}/block3"):
            assert extractor.tensor(name).name == f"{SCOPE}/block3/unit_1/bottleneck_v2/add:0"
        assert extractor.tensor("global_pool").shape.as_list() == [None, 1, 1, 512]
        assert extractor.tensor("block2").shape.as_list() == [None, 2, 2, 128]
        with pytest.raises(UnknownEndPointError, match="did you mean block3"):
            extractor.tensor("blok3")


def test_gradients(tiny_checkpoint):
    """The gradient of a logit by the pooled features is a column of the stored weights of the logits."""
    with FeatureExtractor(tiny_checkpoint, "logits", freeze=False) as extractor:
        with extractor.graph.as_default():
            (gradient,) = v1.gradients(extractor.tensor("logits")[..., 3], extractor.tensor("global_pool"))
        found = extractor.session.run(gradient, {extractor.images: noise(1, 32, 32, 3).astype(np.float32)})
    weights = tf.train.load_variable(str(tiny_checkpoint), f"{SCOPE}/logits/weights")
    assert np.array_equal(found[0, 0, 0], weights[0, 0, :, 3])


def test_a_frozen_extractor_says_so(tiny_checkpoint):
    with FeatureExtractor(tiny_checkpoint, "logits", freeze=True) as extractor:
        assert extractor.session.graph is extractor.graph
        assert "FusedBatchNormV3" not in {op.type for op in extractor.graph.get_operations()}
        assert extractor.images.graph is extractor.graph
        with pytest.raises(ValueError, match=r"frozen into the graph, which has no tensor 'block3' any more: .*freeze"):
            extractor.tensor("block3")
        with pytest.raises(ValueError, match="has no other tensors any more"):
            extractor.tensors()


def closed_uses(extractor, path):
    pixels = noise(1, 32, 32, 3)
    return {
        "call": lambda: extractor(pixels),
        "call with files": lambda: extractor([path]),
        "batches": lambda: next(extractor.batches([path])),
        "preprocess": lambda: extractor.preprocess(pixels),
        "session": lambda: extractor.session,
        "graph": lambda: extractor.graph,
        "images": lambda: extractor.images,
        "tensor": lambda: extractor.tensor("block3"),
        "tensors": lambda: extractor.tensors(),
        "reload": lambda: extractor.reload(extractor.reader),
        "frozen": lambda: extractor.frozen(),
    }


@pytest.fixture(scope="module")
def closed(tiny_checkpoint):
    """Returns a closed extractor that has preprocessed arrays before."""
    with FeatureExtractor(tiny_checkpoint, ["logits"]) as extractor:
        assert extractor(noise(1, 40, 40, 3))["logits"].shape == (1, 10)
    extractor.close()  # again, which does nothing
    return extractor


@pytest.mark.parametrize("use", closed_uses(None, None))
def test_a_closed_extractor_is_named(tiny_checkpoint, closed, picture, use):
    with pytest.raises(
        RuntimeError, match=rf"FeatureExtractor of \S*{tiny_checkpoint.name}: .*logits \[10\]> is closed"
    ):
        closed_uses(closed, picture)[use]()


def test_closed_while_its_batches_are_gone_through(tiny_checkpoint, picture):
    extractor = FeatureExtractor(tiny_checkpoint, ["logits"], batch_size=1)
    batches = extractor.batches([picture, picture])
    next(batches)
    extractor.close()
    with pytest.raises(RuntimeError, match=r"logits .* is closed"):
        next(batches)


def test_files_that_cannot_be_decoded(tiny_checkpoint, tmp_path, picture):
    good, bad = picture, tmp_path / "bad.png"
    bad.write_text("no image")
    with FeatureExtractor(tiny_checkpoint, ["block2", "logits"], batch_size=2) as extractor:
        with pytest.raises(ImageError, match=r"bad\.png: the file is not an image"):
            extractor([good, bad, good])
        found = extractor([good, bad, good], errors="nan")
        alone = extractor([good, good])
        with pytest.raises(ValueError, match="errors must be 'raise' or 'nan', and is 'ignore'"):
            extractor([good], errors="ignore")
    for name, rows in found.items():
        assert np.isnan(rows[1]).all()
        assert np.array_equal(rows[[0, 2]], alone[name])


def test_the_network_of_the_table_is_the_graphs(tiny_checkpoint):
    """All end points of slim's dict can be had by name, with slim's tensors."""
    with tf.Graph().as_default():
        _, end_points = resnet_v2.resnet_v2_tiny(v1.placeholder(tf.float32, [None, 32, 32, 3]), 10, is_training=False)
    with FeatureExtractor(tiny_checkpoint, "logits") as extractor:
        for name, tensor in end_points.items():
            assert extractor.tensor(name).name == extractor.tensors()[name].name == tensor.name
        assert {*extractor.tensors()} > {*end_points}  # also layers that the dict leaves out
