"""Tests what ``open_checkpoint`` takes besides a Saver's files: keys of the catalog, and object-based checkpoints."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tf_slim as slim

from checkpoints import CheckpointError, diagnose, open_checkpoint, restore
from checkpoints.files.object_graph import OBJECT_GRAPH
from checkpoints.frameworks import read_weights
from checkpoints.published import CATALOG
from tests.checkpoints.test_formats import build
from tests.checkpoints.test_restore import TINY, held, network, open_session, weights
from tests.helpers.corpus import save_v1, save_v2
from tests.helpers.reference import random_values
from tools.cli import main
from tools.features import FeatureExtractor

v1 = tf.compat.v1

SHIPPED = "resnet_v2_tiny_digits"
KEY = "resnet_v2_50"


# Keys.


def test_a_key_goes_wherever_a_path_goes(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    path = Path(open_checkpoint.__code__.co_filename).with_name(f"{SHIPPED}.ckpt")
    for key in (SHIPPED, Path(SHIPPED)):
        reader = open_checkpoint(key)
        assert reader.path == path
        assert reader.files() == open_checkpoint(path).files()
    assert (diagnose(SHIPPED).network.name, diagnose(SHIPPED).problems) == (TINY, ())
    assert read_weights(SHIPPED).network.name == TINY
    with open_session(network().graph) as session:
        assert len(restore(session, SHIPPED).loaded) == 78
        found = held(session)
    assert all(np.array_equal(found[name], reader.read(name)) for name in reader.shapes)


def test_what_exists_goes_before_a_key(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    save_v2(tmp_path / SHIPPED, weights(classes=3))
    assert diagnose(SHIPPED).num_classes == 3
    (tmp_path / KEY).mkdir()
    save_v1(tmp_path / KEY / "model.ckpt", weights(classes=4))
    assert diagnose(KEY).num_classes == 4


def test_a_key_that_is_not_downloaded(monkeypatch, tmp_path):
    """The message has the command that fetches it, with the folder if one was given."""
    monkeypatch.setenv("SLIMNETS_CHECKPOINTS", str(tmp_path))
    fetch = f"The weights {KEY} are not in {tmp_path}: fetch them with `slimnets download {KEY}"
    for use in (open_checkpoint, lambda key: restore(None, key)):
        with pytest.raises(CheckpointError) as caught:
            use(KEY)
        assert str(caught.value) == f"{fetch}`."
    [problem] = diagnose(KEY).problems
    assert (problem.kind, problem.sentence) == ("missing", f"{fetch}`.")
    with pytest.raises(CheckpointError) as caught:
        open_checkpoint(KEY, checkpoint_dir=tmp_path)
    assert str(caught.value) == f"{fetch} --to {tmp_path}`."


def test_a_key_in_a_folder_that_is_given(tmp_path):
    place = tmp_path / KEY
    place.mkdir()
    path = save_v1(place / CATALOG[KEY].checkpoint, weights(classes=5))
    reader = open_checkpoint(KEY, checkpoint_dir=tmp_path)
    assert (reader.path, diagnose(reader).num_classes) == (path, 5)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (None, r"is None, which tf\.train\.latest_checkpoint returns for a folder without one: give a path"),
        (7, "must be a path or a key of the catalog, and is 7"),
        (["a.ckpt"], r"must be a path or a key of the catalog, and is \['a\.ckpt'\]"),
        ("", "The checkpoint's path is empty"),
        ("resnet_v2_51", "There is no checkpoint at resnet_v2_51"),
    ],
)
def test_what_is_no_path_is_said(given, sentence):
    with pytest.raises(ValueError, match=sentence):
        open_checkpoint(given)
    with pytest.raises(ValueError, match=sentence):
        restore(None, given)


# Object-based checkpoints.


@pytest.fixture(scope="module")
def objects(tmp_path_factory):
    """Returns (path, values) of a training graph, saved by tf.compat.v1.train.Checkpoint with slots and counters."""
    path = tmp_path_factory.mktemp("objects") / "model"
    with tf.Graph().as_default() as graph, open_session(graph) as session:
        loss = tf.reduce_sum(build(training=True))
        step = v1.train.get_or_create_global_step()
        optimizer = v1.train.MomentumOptimizer(0.1, 0.9)
        optimizer.minimize(loss, step)
        values = random_values(slim.get_model_variables())
        session.run(v1.global_variables_initializer())
        for variable in slim.get_model_variables():
            session.run(variable.initializer, {variable.initializer.inputs[1]: values[variable.op.name]})
        saver = v1.train.Checkpoint(optimizer=optimizer, step=step, model=slim.get_model_variables())
        prefix = saver.save(str(path), session=session)
    return Path(prefix), values


def test_an_object_based_checkpoint_is_read_by_names(objects):
    path, values = objects
    reader = open_checkpoint(path)
    assert (reader.format, reader.object_based) == ("V2", True)
    for name, value in values.items():
        assert reader.shapes[name] == value.shape
        assert np.array_equal(reader.read(name), value)
    slots = {f"{name}/Momentum" for name in values if "/moving_" not in name}
    assert set(reader.shapes) == {*values, *slots, "global_step", "save_counter"}
    assert OBJECT_GRAPH not in reader.shapes


def test_an_object_based_checkpoint_is_restored_as_tensorflows_saver_does(objects):
    path, values = objects
    with tf.Graph().as_default() as graph, open_session(graph) as session:
        build()
        v1.train.Saver().restore(session, str(path))
        expected = held(session)
    with open_session(network().graph) as session:
        report = restore(session, path.parent)
        found = held(session)
    assert set(found) == set(expected) == set(values)
    assert all(np.array_equal(found[name], expected[name]) for name in expected)
    assert {"global_step", "save_counter"} < set(report.unused)


def test_an_object_based_checkpoint_is_inspected_and_converted(objects, tmp_path, capsys):
    path, values = objects
    found = diagnose(path, check=True)
    assert found.problems == ()
    assert {"global_step", "slots Momentum", "save_counter"} == set(found.contents.extras)
    assert main(["inspect", str(path)]) == 0
    assert "format        V2, object-based" in capsys.readouterr().out
    assert main(["convert", str(path), str(tmp_path / "plain.ckpt"), "--model-only"]) == 0
    plain = open_checkpoint(tmp_path / "plain.ckpt")
    assert (set(plain.shapes), plain.object_based) == (set(values), False)
    with FeatureExtractor(path, ["logits"]) as extractor:
        assert len(extractor.report.loaded) == 78


def module_of(values, **others):
    """Returns a TensorFlow 2 module, made eagerly, whose variables have slim's names."""
    module = tf.Module()
    module.variables_by_place = [tf.Variable(value, name=name) for name, value in values.items()]
    for attribute, variable in others.items():
        setattr(module, attribute, variable)
    return module


def test_a_saved_model_of_tensorflow_2(tmp_path):
    """The SavedModel's folder of variables is such a checkpoint, and may also be given itself."""
    values = weights()
    tf.saved_model.save(module_of(values), str(tmp_path / "saved"))
    for path in (tmp_path / "saved", tmp_path / "saved" / "variables"):
        with open_session(network().graph) as session:
            restore(session, path)
            found = held(session)
        assert all(np.array_equal(found[name], value) for name, value in values.items())


def test_names_that_two_variables_have(tmp_path):
    """Two variables of one name cannot be told apart: both keep their keys, and nothing else is lost."""
    others = {"one": tf.Variable([1.0], name="twice"), "two": tf.Variable([2.0], name="twice")}
    tf.train.Checkpoint(module_of(weights(), **others)).write(str(tmp_path / "model"))
    reader = open_checkpoint(tmp_path / "model")
    keys = {f"{name}/.ATTRIBUTES/VARIABLE_VALUE" for name in others}
    assert set(reader.shapes) == {*weights(), *keys}
    assert [reader.read(key).tolist() for key in sorted(keys)] == [[1.0], [2.0]]
    assert diagnose(reader).usable


def test_a_network_twice_under_its_names_is_refused(tmp_path):
    both = tf.train.Checkpoint(a=module_of(weights()), b=module_of(weights(seed=1)))
    both.write(str(tmp_path / "model"))
    [problem] = diagnose(tmp_path / "model").problems
    assert problem.kind == "object-based"


def test_keras_names_are_refused_as_before(tmp_path):
    model = tf.keras.Sequential([tf.keras.layers.Input((4,)), tf.keras.layers.Dense(3)])
    tf.train.Checkpoint(model).write(str(tmp_path / "keras"))
    with (
        open_session(network().graph) as session,
        pytest.raises(CheckpointError, match="is an object-based checkpoint"),
    ):
        restore(session, tmp_path / "keras")


def test_damage_in_the_graph_of_objects(objects, tmp_path):
    """A graph of objects that cannot be parsed is damage. If it lacks names, the keys stay."""
    save_v2(tmp_path / "model", {OBJECT_GRAPH: np.array(b"\x0a\xff\xff", object), "w": np.ones(1, np.float32)})
    with pytest.raises(CheckpointError, match="damaged or cut short where _CHECKPOINTABLE_OBJECT_GRAPH is stored"):
        open_checkpoint(tmp_path / "model")
    save_v2(tmp_path / "empty", {OBJECT_GRAPH: np.array(b"", object), **weights()})
    assert set(open_checkpoint(tmp_path / "empty").shapes) == set(weights())
