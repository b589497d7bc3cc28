"""Tests exports of a process that has not imported TensorFlow: another one restores the network for it."""

import json

import pytest
import tensorflow as tf

from nets.guards import InferenceWarning
from tests.helpers.exports import in_one_process
from tests.helpers.processes import run
from tools.errors import InputError
from tools.export import export

# Exports, and tells how it went and whether that took TensorFlow.
EXPORTS = """
import json, sys, warnings
from tools.export import export
checkpoint, target, options = *sys.argv[1:3], json.loads(sys.argv[3])
said = {}
with warnings.catch_warnings(record=True) as heard:
    warnings.simplefilter("always")
    try:
        said["record"] = export(checkpoint, target, **options).record()
    except Exception as error:
        kind = type(error)
        said["error"] = [kind.__module__, kind.__qualname__, str(error), len(getattr(error, "missing", ""))]
said["warnings"] = [[one.category.__name__, str(one.message)] for one in heard]
said["imported"] = "tensorflow" in sys.modules
print(json.dumps(said))
"""


def exported(checkpoint, target, **options):
    done = run(checkpoint, target, json.dumps(options), code=EXPORTS)
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


def test_the_same_file_without_tensorflow(tiny, tmp_path):
    said = exported(tiny, tmp_path / "there.pb", end_points=["block1", "classes"])
    assert not said["imported"]
    assert said["warnings"] == []
    with in_one_process():
        done = export(tiny, tmp_path / "here.pb", end_points=["block1", "classes"])
    there, here = (tf.compat.v1.GraphDef.FromString((tmp_path / name).read_bytes()) for name in ("there.pb", "here.pb"))
    assert list(there.node) == list(here.node)
    assert said["record"]["description"] == json.loads(json.dumps(done.record()["description"]))


def test_a_warning(tiny, tmp_path):
    options = {"image_size": 40, "end_points": "global_pool"}
    said = exported(tiny, tmp_path / "there.pb", **options)
    with in_one_process(), pytest.warns(InferenceWarning) as heard:
        export(tiny, tmp_path / "here.pb", **options)
    assert said["warnings"] == [["InferenceWarning", str(one.message)] for one in heard]


@pytest.mark.parametrize(
    "options", [{"end_points": "blok1"}, {"net": "resnet_v2_50"}, {"preprocessing": "none"}, {"image_size": 0}]
)
def test_an_error(tiny, tmp_path, options):
    """It has the same type, the same sentence and the same attributes."""
    said = exported(tiny, tmp_path / "network.pb", **options)
    with pytest.raises(ValueError, match=r"\w") as caught:
        export(tiny, tmp_path / "network.pb", **options)
    error = caught.value
    kind = type(error)
    assert said["error"] == [kind.__module__, kind.__qualname__, str(error), len(getattr(error, "missing", ""))]
    assert list(tmp_path.iterdir()) == []


def test_a_preparation_that_is_killed(tiny, tmp_path):
    (tmp_path / "first").mkdir()
    code = "import os, signal, sys\nif 'prepare' in sys.orig_argv: os.kill(os.getpid(), signal.SIGKILL)\n"
    (tmp_path / "first" / "sitecustomize.py").write_text(code)
    done = run(tiny, tmp_path / "network.pb", "{}", code=EXPORTS, before=[tmp_path / "first"])
    module, name, sentence, _ = json.loads(done.stdout)["error"]
    assert (module, name) == (InputError.__module__, InputError.__qualname__)
    assert sentence.startswith("The network cannot be restored (its process was ended by SIGKILL): check the checkp")
