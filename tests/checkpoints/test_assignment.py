"""Tests assignments to variables of every kind: TensorFlow 1's and 2's, with their own initializers and with others."""

import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from checkpoints import restore
from tests.checkpoints.test_restore import open_session, write

v1 = tf.compat.v1

KINDS = [
    f"{kind} {how}"
    for kind in ("resource", "reference")
    for how in ("nothing", "from_checkpoint", "grouped", "meta_graph")
]


@pytest.mark.parametrize("behavior", [pytest.param("v1", marks=pytest.mark.full), "v2"])
def test_variables_of_every_kind(tmp_path, behavior):
    """Tests finalized graphs, to which nothing can be added, with and without disable_v2_behavior."""
    program = [sys.executable, "-m", "tests.helpers.tensorflow_1_script", str(tmp_path), behavior]
    finished = subprocess.run(program, capture_output=True, text=True, timeout=300, check=False)
    assert finished.returncode == 0, finished.stderr[-3000:]
    assert finished.stdout.splitlines() == [f"{behavior} {kind}" for kind in KINDS]


@pytest.fixture
def unassignable(tmp_path):
    """Returns (path, graph) of a variable that no op of its graph assigns a value that can be fed."""
    path = write(tmp_path / "model", {"w": np.float32([1, 2])})
    with tf.Graph().as_default() as graph:
        initial = tf.zeros([2])
        variable = v1.get_variable("w", initializer=initial)
        graph.prevent_feeding(variable.initializer.inputs[1])
    return path, graph


def test_an_assignment_is_added_where_there_is_none(unassignable):
    """Adds the assignment once, however often the variable is restored."""
    path, graph = unassignable
    count = len(graph.get_operations())
    with open_session(graph) as session:
        restore(session, path)
        added = len(graph.get_operations())
        assert added > count
        restore(session, path)
        assert len(graph.get_operations()) == added
        assert session.run("w/Read/ReadVariableOp:0").tolist() == [1, 2]


def test_an_assignment_that_cannot_be_added_is_said(unassignable):
    path, graph = unassignable
    graph.finalize()
    sentence = "^w has no initializer that can be fed a value, and the graph is finalized, .* before the graph is"
    with open_session(graph) as session, pytest.raises(ValueError, match=sentence):
        restore(session, path)


def test_a_variable_without_a_shape_is_refused(tmp_path):
    path = write(tmp_path / "model", {"w": np.float32([1, 2])})
    with tf.Graph().as_default() as graph:
        v1.Variable(v1.placeholder(tf.float32, None), validate_shape=False, name="w")
    with open_session(graph) as session, pytest.raises(ValueError, match="w has no complete shape"):
        restore(session, path)


def test_one_variable_may_be_given_by_itself(tmp_path):
    path = write(tmp_path / "model", {"w": np.float32([1, 2]), "v": np.float32([3])})
    with tf.Graph().as_default() as graph:
        variable = v1.get_variable("w", [2])
        v1.get_variable("v", [1])
    with open_session(graph) as session:
        assert restore(session, path, variables=variable).loaded == ("w",)
