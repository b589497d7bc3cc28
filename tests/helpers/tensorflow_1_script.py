"""Restores into graphs of TensorFlow 1's kinds, in its own process because ``disable_v2_behavior`` is permanent.

python -m tests.helpers.tensorflow_1_script FOLDER v1|v2
"""

import sys
from pathlib import Path

import numpy as np
import tensorflow as tf

from checkpoints import restore
from tests.checkpoints.test_restore import write
from tools.runtime.sessions import assign

v1 = tf.compat.v1

VALUES = {
    "net/a": np.float32([[1, 2], [3, 4]]),
    "net/b": np.float32([5, 6]),
    "net/c": np.float32([7, 8]),
    "net/p": np.arange(6, dtype=np.float32),
}


def variables(resource):
    """Makes four variables; the third starts with the second's initial value, and a partitioner cuts the fourth."""
    with v1.variable_scope("net", use_resource=resource):
        v1.get_variable("a", [2, 2])
        b = v1.get_variable("b", [2])
        v1.get_variable("c", initializer=b.initial_value if resource else b.initialized_value())
        v1.get_variable("p", [6], partitioner=v1.fixed_size_partitioner(2))
    return v1.global_variables()


def from_checkpoint(path, made):
    v1.train.init_from_checkpoint(str(path), {"/": "/"})


def grouped(path, made):
    """Wraps the initializers in groups, so that they are not assignments themselves."""
    for variable in made:
        variable._initializer_op = tf.group(variable.initializer)


def meta_graph(path, made):
    """Imports the graph by import_meta_graph."""
    exported = v1.train.export_meta_graph()
    graph = tf.Graph()
    with graph.as_default():
        v1.train.import_meta_graph(exported)
    return graph


def nothing(path, made):
    pass


def check(session, made):
    for variable in made:
        cut = variable._get_save_slice_info()
        expected = VALUES[variable.op.name if cut is None else cut.full_name]
        if cut is not None:
            expected = expected[cut.var_offset[0] : cut.var_offset[0] + cut.var_shape[0]]
        read = "Read/ReadVariableOp:0" if hasattr(variable, "handle") else "read:0"
        found = session.run(session.graph.get_tensor_by_name(f"{variable.op.name}/{read}"))
        assert np.array_equal(found, expected), (variable, found)


def fill(graph, path):
    """Fills the variables by ``restore``, and by the functions that the programs use for random weights."""
    made = graph.get_collection(v1.GraphKeys.GLOBAL_VARIABLES)
    with v1.Session(graph=graph) as session:
        restore(session, path, variables=made)
        check(session, made)
    with v1.Session(graph=graph) as session:
        assign(session, made[:2], VALUES)
        check(session, made[:2])


def main(folder, behavior):
    if behavior == "v1":
        v1.disable_v2_behavior()
        path = folder / "model"
        with tf.Graph().as_default(), v1.Session() as session:
            stored = [v1.Variable(value, name=name) for name, value in VALUES.items()]
            session.run(v1.global_variables_initializer())
            v1.train.Saver(stored).save(session, str(path), write_meta_graph=False)
    else:
        path = write(folder / "model", VALUES)
    for resource in (True, False):
        for prepare in (nothing, from_checkpoint, grouped, meta_graph):
            with tf.Graph().as_default() as graph:
                graph = prepare(path, variables(resource)) or graph
            graph.finalize()
            fill(graph, path)
            print(behavior, "resource" if resource else "reference", prepare.__name__)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
