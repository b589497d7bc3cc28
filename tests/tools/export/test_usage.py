"""Tests what users get: files that open in their runtimes' own tools, descriptions, and lines of code that run."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from checkpoints import open_checkpoint
from checkpoints.files.graph import GraphFile
from tests.helpers.exports import TARGETS, expected, in_one_process, pictures
from tests.helpers.float64 import assert_as_exact
from tests.helpers.processes import environment, run
from tests.tools.export.conftest import POINTS
from tools.cli import main
from tools.export import export
from tools.export.staging import DESCRIPTION, INPUTS, write_batches
from tools.export.staging import OUTPUTS as OUTPUTS_FOLDER

IMAGES = pictures(2, 45, 37)

# Names of the outputs of the fixture's files, with the sizes after the batch, and the types.
OUTPUTS = {
    "block1/unit_1/conv1": ([8, 8, 16], np.float32),
    "global_pool": ([512], np.float32),
    "predictions": ([10], np.float32),
    "classes": ([5], np.int32),
    "probabilities": ([5], np.float32),
}

# Runs where this project is not installed.
ALONE = """
import sys
for name in ("checkpoints", "nets", "tools"):
    sys.modules[name] = None
import numpy as np
images = np.load(sys.argv[1])
"""

# Saves what the lines have computed: a list for ONNX Runtime, and mappings for the others.
SAVES = """
names = sys.argv[3:]
found = outputs if isinstance(outputs, list) else [outputs[name] for name in names]
np.savez(sys.argv[2], **{name: np.asarray(value) for name, value in zip(names, found, strict=True)})
"""


# Runs a file as the proof does, and prints which packages of the network's side it has imported.
PROOF = """
import sys
from tools.export.worker import main
assert main(["run", *sys.argv[1:]]) == 0
print([name for name in ("checkpoints.opening", "checkpoints.restoring", "nets", "tf_slim") if name in sys.modules])
"""


def run_alone(code, *arguments, cwd):
    settings = {name: value for name, value in environment().items() if name != "PYTHONPATH"}
    command = [sys.executable, "-I", "-c", ALONE + code, *map(str, arguments)]
    done = subprocess.run(command, cwd=cwd, env=settings, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.numerical
@pytest.mark.parametrize(
    "format", [one if one == "onnx" else pytest.param(one, marks=pytest.mark.full) for one in TARGETS]
)
def test_the_printed_lines(tiny, exported, tmp_path, format):
    """They are run as they are, in a process that knows nothing of this project, and in another folder."""
    done = exported(format)
    assert len(done.usage.splitlines()) == 3
    np.save(tmp_path / "images.npy", IMAGES)
    names = [output.name for output in done.description.outputs]
    run_alone(f"{done.usage}\n{SAVES}", tmp_path / "images.npy", tmp_path / "out.npz", *names, cwd=tmp_path)
    found = np.load(tmp_path / "out.npz")
    (wanted,) = expected(tiny, "resnet_v2_tiny", POINTS[:-1], [IMAGES], 32)
    for name, one in wanted.items():
        if format == "openvino":
            # Its default is bfloat16 on processors that have it, with 8 bits.
            assert np.abs(found[name] - one.double).max() <= 0.05 * np.abs(one.double).max()
        else:
            assert_as_exact(found[name], one)
    assert sorted(found) == sorted(names)


@pytest.mark.parametrize("format", ["pb", pytest.param("onnx", marks=pytest.mark.full)])
def test_lines_of_a_name_that_python_must_quote(tiny, exported, tmp_path, monkeypatch, format):
    """The target is relative, and other folders are on its way."""
    (tmp_path / "a folder").mkdir()
    monkeypatch.chdir(tmp_path)
    name = f'a folder/it\'s "Größe" {{0}} \\n{Path(TARGETS[format]).suffix}'
    with in_one_process():
        done = export(tiny, name, end_points="global_pool")
    assert sorted(done.files) == sorted([Path(name).name, f"{Path(name).name}.slimnets.json"])
    assert Path(name).is_file()
    scope = {"images": IMAGES}
    exec(done.usage, scope)
    (wanted,) = expected(tiny, "resnet_v2_tiny", ["global_pool"], [IMAGES], 32)
    found = scope["outputs"][0] if format == "onnx" else scope["outputs"]["global_pool"].numpy()
    assert_as_exact(found, wanted["global_pool"])


def test_onnx_in_its_own_tools(exported):
    import onnx

    model = onnx.load(exported("onnx").target)
    onnx.checker.check_model(model, full_check=True)
    (images,) = model.graph.input
    assert (images.name, images.type.tensor_type.elem_type) == ("images", onnx.TensorProto.UINT8)
    sizes = [size.dim_value or None for size in images.type.tensor_type.shape.dim]
    assert sizes == [None, None, None, 3]
    found = {
        one.name: (
            [size.dim_value or None for size in one.type.tensor_type.shape.dim],
            onnx.helper.tensor_dtype_to_np_dtype(one.type.tensor_type.elem_type),
        )
        for one in model.graph.output
    }
    assert found == {name: ([None, *shape], dtype) for name, (shape, dtype) in OUTPUTS.items()}


def test_openvino_in_its_own_tools(exported):
    import openvino

    model = openvino.Core().read_model(exported("openvino").target)
    (images,) = model.inputs
    assert (images.any_name, images.element_type.to_dtype()) == ("images", np.uint8)
    assert images.partial_shape == openvino.PartialShape([-1, -1, -1, 3])
    found = {one.any_name: (one.partial_shape, one.element_type.to_dtype()) for one in model.outputs}
    assert found == {name: (openvino.PartialShape([-1, *shape]), dtype) for name, (shape, dtype) in OUTPUTS.items()}


def test_tflite_in_its_own_tools(exported):
    interpreter = tf.lite.Interpreter(exported("tflite").target)
    ((name, signature),) = interpreter.get_signature_list().items()
    assert name == "serving_default"
    assert signature["inputs"] == ["images"]
    assert sorted(signature["outputs"]) == sorted(OUTPUTS)
    runner = interpreter.get_signature_runner()
    (images,) = runner.get_input_details().values()
    assert images["dtype"] == np.uint8
    assert images["shape_signature"].tolist() == [-1, -1, -1, 3]
    found = {name: (one["shape_signature"].tolist(), one["dtype"]) for name, one in runner.get_output_details().items()}
    assert {name: dtype for name, (_, dtype) in found.items()} == {name: dtype for name, (_, dtype) in OUTPUTS.items()}


def test_keras_in_its_own_tools(exported):
    import keras

    model = keras.models.load_model(exported("keras").target)
    lines = []
    model.summary(print_fn=lambda line, **options: lines.append(line))
    # The parameters of the network: see the table of networks.
    assert any("521,418" in line for line in lines)
    assert tuple(model.inputs[0].shape) == (None, 32, 32, 3)
    assert {name: (list(one.shape), one.dtype) for name, one in model.output.items()} == {
        name: ([None, *OUTPUTS[name][0]], "float32") for name in POINTS[:-1]
    }


def test_saved_model_in_its_own_tools(exported):
    done = exported("saved_model")
    loaded = tf.saved_model.load(done.target)
    signature = loaded.signatures["serving_default"]
    assert signature.structured_input_signature[1] == {
        "images": tf.TensorSpec([None, None, None, 3], tf.uint8, name="images")
    }
    types = {name: ([None, *shape], dtype) for name, (shape, dtype) in OUTPUTS.items()}
    types["labels"] = [None, 5], object
    found = {
        name: (one.shape.as_list(), one.dtype.as_numpy_dtype) for name, one in signature.structured_outputs.items()
    }
    assert found == types
    assert Path(done.target, "assets", "labels.txt").read_text(encoding="utf-8") == "".join(f"{i}\n" for i in range(10))


def test_the_weights_of_a_saved_model_are_variables(tiny, exported):
    """They have the names and values of the checkpoint, and take its place with notes."""
    done = exported("saved_model")
    stored, values = (tf.train.load_checkpoint(str(path)) for path in (Path(done.target, "variables/variables"), tiny))
    names = stored.get_variable_to_shape_map()
    assert names.keys() == values.get_variable_to_shape_map().keys()
    assert all(np.array_equal(stored.get_tensor(name), values.get_tensor(name)) for name in names)
    for format in ("saved_model", "pb"):
        notes = open_checkpoint(exported(format).target).notes
        assert (notes.network, notes.preprocessing, notes.image_size) == ("resnet_v2_tiny", "inception", 32)
    graph = GraphFile(done.target, Path(done.target, "saved_model.pb"), "SavedModel")
    assert not graph.shapes


def test_a_frozen_graph_is_imported_by_tensorflow_1s_function(exported):
    done = exported("pb")
    graph_def = tf.compat.v1.GraphDef.FromString(Path(done.target).read_bytes())
    placeholders = [node.name for node in graph_def.node if node.op == "Placeholder"]
    assert placeholders == ["images"]
    assert not [node.name for node in graph_def.node if "Variable" in node.op or node.device]


@pytest.mark.parametrize("format", TARGETS)
def test_the_description(tiny, exported, format):
    done = exported(format)
    target = Path(done.target)
    described = target / "saved_model.pb" if format == "saved_model" else target
    record = json.loads(Path(f"{described}.slimnets.json").read_text(encoding="utf-8"))
    weights = target / "variables" / "variables.index" if format == "saved_model" else target
    assert record.pop("file") == weights.name
    assert record.pop("sha256") == hashlib.sha256(weights.read_bytes()).hexdigest()
    assert record == json.loads(json.dumps(done.description.record()))
    parts = [tiny.with_name(f"{tiny.name}.{ending}") for ending in ("data-00000-of-00001", "index")]
    assert record["checkpoint"] == {part.name: hashlib.sha256(part.read_bytes()).hexdigest() for part in parts}
    assert {key: record[key] for key in ("format", "network", "input", "preprocessing", "image_size", "dtype")} == {
        "format": format,
        "network": "resnet_v2_tiny",
        "input": "pixels",
        "preprocessing": "inception",
        "image_size": 32,
        "dtype": "float32",
    }
    assert record["labels"] == [str(number) for number in range(10)]
    shapes = {name: [None, *shape] for name, (shape, _) in OUTPUTS.items()}
    if format in ("saved_model", "pb"):
        shapes["labels"] = [None, 5]
    assert {output["name"]: output["shape"] for output in record["outputs"]} == shapes
    assert record["images"]["shape"] == [None, None, None, 3]
    assert sum(done.files.values()) == sum(file.stat().st_size for file in target.parent.rglob("*") if file.is_file())


def test_what_the_command_prints(tiny, tmp_path, capsys):
    with in_one_process():
        assert main(["export", str(tiny), str(tmp_path / "a.pb"), "--batch", "2"]) == 0
    stdout, stderr = capsys.readouterr()
    lines = stdout.splitlines()
    assert lines[0].split("  ")[0] == "output"
    assert [line.split()[0] for line in lines[2:4]] == ["global_pool", "predictions"]
    for file in ("a.pb", "a.pb.slimnets.json"):
        assert f"written       {file}, {(tmp_path / file).stat().st_size:,} bytes" in lines
    assert (
        "input         images: uint8 [2, any, any, 3]; RGB, 0 to 255; preprocessing inception at 32 is part of the "
        "network" in lines
    )
    assert "output        global_pool: float32 [2, 512]" in lines
    assert lines[-3].startswith("import pathlib, tensorflow")
    steps = ["restoring the network ...", "writing the file ...", "running the file ..."]
    assert stderr.splitlines() == steps
    with in_one_process():
        assert main(["export", str(tiny), str(tmp_path / "b.pb"), "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert sorted(record["files"]) == ["b.pb", "b.pb.slimnets.json"]
    assert [one["output"] for one in record["agreements"]] == ["global_pool", "predictions"]
    assert record["tolerance"] == 1e-4


@pytest.mark.parametrize(
    "format", ["pb", *(pytest.param(name, marks=pytest.mark.full) for name in ("saved_model", "tflite", "onnx"))]
)
def test_the_proof_runs_a_file_without_our_networks(exported, tmp_path, format):
    done = exported(format)
    done.description.save(tmp_path / DESCRIPTION)
    write_batches(tmp_path / INPUTS, [IMAGES])
    found = run(tmp_path, done.target, code=PROOF)
    assert found.stdout == "[]\n", found.stderr
    with np.load(tmp_path / OUTPUTS_FOLDER / "00000.npz") as computed:
        assert {*computed.files} >= {"global_pool", "predictions"}
