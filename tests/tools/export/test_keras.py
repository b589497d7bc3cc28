"""Tests exports to models of Keras' own layers, which take the network's input."""

import zipfile

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.helpers.exports import expected, in_one_process, pictures
from tests.helpers.float64 import assert_as_exact
from tests.helpers.numpy_preprocessing import preprocessed
from tests.tools.export.test_broken_exports import WEIGHTS, changing
from tools.errors import InputError
from tools.export import export

POINTS = ("global_pool", "predictions")

IMAGES = [pictures(2, 75, 91), pictures(1, 27, 41, seed=1)]


@pytest.mark.numerical
def test_a_small_network(tiny, tmp_path):
    """Keras opens the file by itself, and prints its layers."""
    target = tmp_path / "network.keras"
    with in_one_process():
        done = export(tiny, target, end_points=POINTS)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["network.keras", "network.keras.slimnets.json"]
    assert done.description.images.shape == (None, 32, 32, 3)
    model = keras.models.load_model(target)
    lines = []
    model.summary(print_fn=lines.append)
    assert lines
    for images, wanted in zip(IMAGES, expected(tiny, "resnet_v2_tiny", POINTS, IMAGES, 32), strict=True):
        values = model(preprocessed(images, "inception", 32).astype(np.float32), training=False)
        assert sorted(values) == sorted(POINTS)
        for end_point, one in wanted.items():
            assert_as_exact(np.array(values[end_point]), one)


@pytest.mark.full
def test_one_changed_weight(tiny, tmp_path, monkeypatch):
    bias = tf.train.load_checkpoint(str(tiny)).get_tensor(WEIGHTS)
    before, after = (np.where(np.arange(10) == 3, bias * factor, bias).astype("<f4").tobytes() for factor in (1, 2))

    def change(target):
        with zipfile.ZipFile(target) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        assert sum(content.count(before) for content in members.values()) == 1
        with zipfile.ZipFile(target, "w") as archive:
            for name, content in members.items():
                archive.writestr(name, content.replace(before, after))

    changing(monkeypatch, change)
    (tmp_path / "out").mkdir()
    with pytest.raises(InputError, match="The keras file computes predictions with a difference of"):
        export(tiny, tmp_path / "out" / "network.keras", end_points=POINTS)
    assert list((tmp_path / "out").iterdir()) == []


def test_what_keras_has_no_layer_for(tiny, tmp_path):
    with pytest.raises(InputError, match=r"^The format keras cannot have the output 'classes': take 'predictions'\.$"):
        export(tiny, tmp_path / "network.keras", end_points="classes")
    assert list(tmp_path.iterdir()) == []
