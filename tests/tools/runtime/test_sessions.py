"""Tests the precision and threads of sessions, and how well bfloat16 agrees with float32."""

import subprocess
import sys

import numpy as np
import pytest
import skimage.data
import tensorflow as tf

from nets import nets_factory
from tests.helpers import bfloat16
from tests.helpers.processes import environment
from tools.digits import CHECKPOINT, HELD_OUT
from tools.features import FeatureExtractor
from tools.images import open_inputs
from tools.runtime import sessions
from tools.runtime.random_weights import assign_random_weights
from tools.runtime.sessions import session_config

v1 = tf.compat.v1

pytestmark = pytest.mark.numerical

REFUSED = "TensorFlow computes no bfloat16 here: use float32"


def test_threads():
    config = session_config(threads=3)
    assert (config.intra_op_parallelism_threads, config.inter_op_parallelism_threads) == (3, 3)
    assert session_config().intra_op_parallelism_threads == 0


_COUNT_THREADS = """
import os
from tools.runtime.importing import import_tensorflow
import_tensorflow()
import tensorflow as tf
from tools.runtime.sessions import open_session, session_config
with tf.Graph().as_default() as graph:
    product = tf.constant([[2.0]]) @ tf.constant([[3.0]])
counts = []
sessions = []
for threads in (None, 1, 40, 20):
    sessions.append(open_session(graph, session_config(threads=threads)))
    assert sessions[-1].run(product) == 6
    counts.append(len(os.listdir("/proc/self/task")))
print(*counts)
"""


def test_every_session_has_its_own_number_of_threads():
    """By default all sessions share the threads of the first. The test counts the system's threads."""
    done = subprocess.run(
        [sys.executable, "-c", _COUNT_THREADS], env=environment(), capture_output=True, text=True, check=True
    )
    _, few, many, middle = map(int, done.stdout.split())
    assert many - few >= 40
    assert 20 <= middle - many < 50


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"precision": "float8"}, "precision must be one of float32, bfloat16, float16, but is 'float8'"),
        ({"precision": "bfloat16"}, f"requires TensorFlow's oneDNN and a processor with AVX-512, and {REFUSED}"),
        ({"precision": "float16"}, "requires a GPU, and TensorFlow finds none: use bfloat16 or float32"),
        (
            {"precision": "bfloat16", "optimize_graph": False},
            "requires the graph optimizer: leave optimize_graph",
        ),
    ],
)
def test_a_precision_that_cannot_be(monkeypatch, arguments, sentence):
    monkeypatch.setattr(sessions, "computes", lambda *_, **__: False)
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [])
    with pytest.raises(ValueError, match=sentence):
        session_config(**arguments)


def test_float16_on_a_gpu(monkeypatch):
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [kind])
    monkeypatch.setattr(sessions, "computes", lambda *_, **__: True)
    rewrites = session_config("float16").graph_options.rewrite_options
    assert rewrites.auto_mixed_precision == rewrites.ON


@pytest.mark.parametrize(("precision", "others"), [("float16", "float32"), ("bfloat16", "float16 or float32")])
def test_a_precision_that_the_gpu_does_not_compute(monkeypatch, precision, others):
    """TensorFlow itself decides: here it computes on the processor, although the test fakes a GPU."""
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [kind])
    monkeypatch.setattr(sessions, "computes", lambda *_, **__: False)
    with pytest.raises(
        ValueError, match=f"TensorFlow does not compute precision='{precision}' on .* GPU: use {others}"
    ):
        session_config(precision)
    monkeypatch.undo()
    config = session_config()
    config.graph_options.rewrite_options.auto_mixed_precision = 1
    assert not sessions.computes("float16", config)
    assert not sessions.computes("bfloat16", session_config())
    # A session can use the processor alone beside a GPU.
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [kind])
    with pytest.raises(ValueError, match="float16' requires a GPU"):
        session_config("float16", use_gpu=False)
    assert session_config(use_gpu=False).device_count == {"GPU": 0}


@pytest.mark.parametrize("options", [{}, {"frozen": True}, {"training": True}, {"use_gpu": False}, {"threads": 1}])
def test_bfloat16_is_computed_or_refused(options):
    """The values show whether TensorFlow computes in bfloat16."""
    if bfloat16.convolutions():
        rewrites = session_config("bfloat16", **options).graph_options.rewrite_options
        assert rewrites.auto_mixed_precision_onednn_bfloat16 == rewrites.ON
    else:
        with pytest.raises(ValueError, match=REFUSED):
            session_config("bfloat16", **options)


COMMANDS = {
    "time": ["time", "resnet_v2_tiny", "--steps", "1", "--burn-in", "0", "--mode", "train"],
    "features": ["features", HELD_OUT, "--checkpoint", CHECKPOINT, "--end-points", "logits", "--output", "out"],
    "classify": ["classify", HELD_OUT, "--checkpoint", CHECKPOINT],
}


@pytest.mark.parametrize(
    ("command", "setting"),
    [
        ("features", "TF_ENABLE_ONEDNN_OPTS=0"),
        ("time", "ONEDNN_MAX_CPU_ISA=AVX2"),
        ("classify", "ONEDNN_MAX_CPU_ISA=SSE41"),
        *(
            pytest.param(command, setting, marks=pytest.mark.full)
            for command in ("time", "features", "classify")
            for setting in ("TF_ENABLE_ONEDNN_OPTS=false", "DNNL_MAX_CPU_ISA=AVX2_VNNI")
        ),
    ],
)
def test_bfloat16_is_refused_under_a_setting_that_rules_it_out(tmp_path, command, setting):
    name, _, value = setting.partition("=")
    variables = {key: text for key, text in environment().items() if key not in sessions.ONEDNN_SETTINGS}
    done = subprocess.run(
        [sys.executable, "-m", "tools", *map(str, COMMANDS[command]), "--precision", "bfloat16"],
        env={**variables, name: value},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("slimnets: error: --precision bfloat16 requires TensorFlow's oneDNN")
    assert line.endswith(f"{REFUSED}, or try without {setting}.")
    assert list(tmp_path.iterdir()) == []


def assert_close_in_bfloat16(*arguments, classes, **options):
    """Asserts that nearly all top-1 classes are those of float32, and that features point the same way."""
    if not bfloat16.convolutions():
        with pytest.raises(ValueError, match=REFUSED):
            agreement(*arguments, **options)
        return
    agreeing, different, cosine = agreement(*arguments, **options)
    assert different >= classes
    assert agreeing >= 0.99
    assert cosine >= 0.999


def agreement(checkpoint, images, **options):
    """Returns how many top-1 classes agree, how many there are, and the least cosine of centered features."""
    results = []
    for precision in ("float32", "bfloat16"):
        with FeatureExtractor(checkpoint, ["logits", "global_pool"], precision=precision, **options) as extractor:
            results.append(extractor(images))
    classes = [result["logits"].argmax(axis=1) for result in results]
    features = [result["global_pool"] - results[0]["global_pool"].mean(axis=0) for result in results]
    one, other = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True) for vectors in features)
    assert not np.array_equal(*features), "bfloat16 changed nothing"
    return (classes[0] == classes[1]).mean(), len(set(classes[0].tolist())), (one * other).sum(axis=1).min()


@pytest.mark.parametrize("freeze", [False, True])
def test_bfloat16_on_digits(freeze):
    assert_close_in_bfloat16(CHECKPOINT, open_inputs([HELD_OUT]), classes=10, freeze=freeze)


def crops():
    """Returns forty crops of photographs, [40, 224, 224, 3] in [-1, 1]."""
    photographs = (skimage.data.astronaut(), skimage.data.chelsea(), skimage.data.coffee(), skimage.data.rocket())
    generator = np.random.default_rng(0)
    found = []
    for i in range(40):
        photograph = photographs[i % len(photographs)]
        top, left = (generator.integers(size - 223) for size in photograph.shape[:2])
        found.append(photograph[top : top + 224, left : left + 224] / 127.5 - 1)
    return np.stack(found)


@pytest.mark.full
@pytest.mark.parametrize("freeze", [False, True])
def test_bfloat16_on_resnet_50(tmp_path, freeze):
    """200 images of 40 kinds, each with a class of its own, keep their classes and features.

    With random weights and arbitrary moving statistics all images would be in one or two classes. So the statistics
    are those of the images, and the logits tell the kind with the nearest features. Residual branches are scaled by the
    root of their number, so that the network is as smooth as a trained one (S. De, S. Smith, arXiv:2002.10444).
    Otherwise rounding grows from unit to unit, and the cosine is 0.993 on average.
    """
    kinds = crops()
    noise = np.random.default_rng(1).normal(0, 0.05, [5, 1, 224, 224, 3])
    images = (kinds + noise).reshape([200, 224, 224, 3]).astype(np.float32)
    with tf.Graph().as_default(), v1.Session() as session:
        fed = v1.placeholder(tf.float32, [None, 224, 224, 3], name="images")
        logits, end_points = nets_factory.get_network_fn("resnet_v2_50", 40)(fed)
        branches = {v.op.name: 16**-0.5 for v in v1.global_variables() if v.op.name.endswith("conv3/weights")}
        assert len(branches) == 16
        assign_random_weights(session, fed, logits, images[:64], scales=branches)
        features = session.run(end_points["global_pool"], {fed: kinds})[:, 0, 0]
        centered = features - features.mean(axis=0)
        directions = (centered / np.linalg.norm(centered, axis=1, keepdims=True)).T
        values = {"weights": directions[np.newaxis, np.newaxis], "biases": -features.mean(axis=0) @ directions}
        for variable in v1.global_variables("resnet_v2_50/logits"):
            variable.load(values[variable.op.name.rpartition("/")[2]], session)
        path = v1.train.Saver().save(session, str(tmp_path / "model.ckpt"))
    assert_close_in_bfloat16(path, images, classes=20, preprocessing="none", image_size=224, freeze=freeze)
