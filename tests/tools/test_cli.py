"""Tests the ``slimnets`` command: its listings, and how it ends if its environment is broken.

The parameter counts are those of the published networks, 1001 classes included; the receptive fields those of
Araujo, Norris, Sim, Distill 2019. Tests that concern a whole process start one.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from tests.helpers.processes import COMMAND, ROOT, environment, run
from tools.cli import main

# Trainable parameters, and with the moving statistics.
PARAMETERS = {
    "resnet_v2_50": (25_570_409, 25_615_849),
    "resnet_v2_101": (44_579_945, 44_677_609),
    "resnet_v2_152": (60_238_953, 60_382_697),
    "resnet_v2_200": (64_728_169, 64_896_489),
}


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    path = tmp_path_factory.mktemp("image") / "a.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)).save(path)
    return path


# Listings.


def test_networks(capsys):
    assert main(["nets"]) == 0
    stdout, stderr = capsys.readouterr()
    assert stderr == ""
    rows = {line.split()[0]: line.split() for line in stdout.splitlines() if line.strip()}
    for name, (trainable, total) in PARAMETERS.items():
        assert rows[name] == [name, "1,001", f"{trainable:,}", f"{total:,}", "299", "inception"]


def test_networks_as_json(capsys):
    assert main(["nets", "--json"]) == 0
    stdout, stderr = capsys.readouterr()
    assert stderr == ""
    rows = {row["name"]: row for row in json.loads(stdout)}
    for name, (trainable, total) in PARAMETERS.items():
        assert rows[name] == {
            "name": name,
            "classes": 1001,
            "trainable_parameters": trainable,
            "parameters": total,
            "image_size": 299,
            "preprocessing": "inception",
        }


def test_networks_and_published_weights_agree_on_the_input(capsys):
    assert main(["nets", "--json"]) == 0
    networks = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert main(["weights", "--json"]) == 0
    for row in json.loads(capsys.readouterr().out):
        network = networks[row["network"]]
        assert (network["preprocessing"], network["image_size"]) == (row["preprocessing"], row["image_size"])


def test_end_points_of_a_network():
    """Only the result is on stdout, and nothing is on stderr."""
    process = run("nets", "resnet_v2_50", "--json")
    assert process.returncode == 0
    assert process.stderr == ""
    rows = {row["alias"]: row for row in json.loads(process.stdout)}
    for alias, shape, size, stride, padding in [
        ("conv1", [112, 112, 64], 7, 2, 3),
        ("block1", [28, 28, 256], 35, 8, 15),
        ("block4", [7, 7, 2048], 483, 32, 239),
        ("postnorm", [7, 7, 2048], 483, 32, 239),
    ]:
        assert rows[alias] == {
            "name": f"resnet_v2_50/{alias}",
            "alias": alias,
            "shape": shape,
            "stride": [stride, stride],
            "channels": shape[-1],
            "receptive_field": {"size": [size, size], "stride": [stride, stride], "padding": [padding, padding]},
        }
    assert rows["block3/unit_2/conv1"]["name"] == "resnet_v2_50/block3/unit_2/bottleneck_v2/conv1"
    assert rows["global_pool"]["receptive_field"] == {"size": [224, 224], "stride": None, "padding": [0, 0]}
    assert rows["predictions"]["shape"] == [1001]


def test_end_points_of_a_network_as_a_table(capsys):
    assert main(["nets", "resnet_v2_tiny"]) == 0
    stdout, stderr = capsys.readouterr()
    assert stderr == ""
    header, _, *lines = stdout.splitlines()
    assert re.split(r"  +", header.strip()) == [
        "name", "alias", "shape at 32", "stride", "channels", "receptive field", "padding",
    ]  # fmt: skip
    rows = {line.split()[1]: line.split() for line in lines}
    assert rows["block1"] == ["resnet_v2_tiny/block1", "block1", "4x4x64", "8", "64", "19", "7"]
    assert rows["logits"] == ["resnet_v2_tiny/logits", "logits", "1x1x10", "-", "10", "image", "-"]
    assert rows["predictions"] == ["predictions", "predictions", "10", "-", "10", "image", "-"]


def test_layers_of_a_network(capsys):
    """Calculated by hand: a 7x7 convolution from 3 channels to 64 has 9,408 weights and, only here in v2, 64 biases."""
    assert main(["nets", "resnet_v2_tiny", "--layers", "--json"]) == 0
    stdout, stderr = capsys.readouterr()
    assert stderr == ""
    rows = json.loads(stdout)
    assert rows[:5] == [
        {"name": name, "kind": kind, "scope": scope, "shape": shape, "parameters": parameters}
        for name, kind, scope, shape, parameters in (
            ("input_layer", "InputLayer", "images", [32, 32, 3], 0),
            ("zero_padding2d", "ZeroPadding2D", "resnet_v2_tiny/Pad", [38, 38, 3], 0),
            ("conv2d", "Conv2D", "resnet_v2_tiny/conv1", [16, 16, 64], 9472),
            ("max_pooling2d", "MaxPooling2D", "resnet_v2_tiny/pool1/MaxPool", [8, 8, 64], 0),
            (
                "batch_normalization",
                "BatchNormalization",
                "resnet_v2_tiny/block1/unit_1/bottleneck_v2/preact",
                [8, 8, 64],
                256,
            ),
        )
    ]
    assert [row["kind"] for row in rows[-4:]] == ["GlobalAveragePooling2D", "Conv2D", "Flatten", "Softmax"]
    assert sum(row["parameters"] for row in rows) == 521_418


@pytest.mark.parametrize("name", ["resnet_v1_50", "resnet_basic_34", "resnet_cifar_20"])
def test_layers_have_all_parameters(capsys, name):
    assert main(["nets", name, "--layers", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert main(["nets", "--json"]) == 0
    (network,) = (row for row in json.loads(capsys.readouterr().out) if row["name"] == name)
    assert sum(row["parameters"] for row in rows) == network["parameters"]
    assert len({row["name"] for row in rows}) == len(rows)


def test_unknown_network(capsys):
    assert main(["nets", "resnet_v2_51"]) == 1
    stdout, stderr = capsys.readouterr()
    assert stdout == ""
    assert stderr.count("\n") == 1
    assert stderr.startswith("slimnets: error: ")
    assert "'resnet_v2_51'; did you mean resnet_v2_50" in stderr


def test_control_characters_of_names_reach_no_terminal(tmp_path, tiny_checkpoint, image, capfd):
    """The first name would clear the terminal, and the second one begin another row."""
    for name in ("a\x1b[2Jb.png", "c\nd.png"):
        shutil.copy(image, tmp_path / name)
    (tmp_path / "broken\x1b]0;title\x07.png").write_bytes(b"no image")
    assert main(["classify", str(tmp_path), "--checkpoint", str(tiny_checkpoint), "--top", "1"]) == 1
    missing = str(tmp_path / "no\x1b[2J.ckpt")
    assert main(["inspect", missing]) == 1
    assert main(["classify", str(image), "--checkpoint", missing]) == 1
    stdout, stderr = capfd.readouterr()
    assert not {"\x1b", "\x07"} & {*stdout, *stderr}
    assert "a\\x1b[2Jb.png" in stdout
    assert "c\\x0ad.png" in stdout
    assert "broken\\x1b]0;title\\x07.png" in stdout
    assert "no\\x1b[2J.ckpt" in stdout
    assert "no\\x1b[2J.ckpt" in stderr


WRONG = ([], ["teach"], ["nets", "--yaml"], ["nets", "--layers"], ["nets", "resnet_v2_50", "resnet_v2_101"])


@pytest.mark.parametrize("arguments", WRONG)
def test_wrong_usage(capsys, arguments):
    with pytest.raises(SystemExit) as exit:
        main(arguments)
    assert exit.value.code == 2
    stdout, stderr = capsys.readouterr()
    assert stdout == ""
    assert stderr.startswith("usage: slimnets")


def test_help_needs_no_tensorflow():
    code = """
import sys
from tools.cli import main
try:
    main(["--help"])
finally:
    print("tensorflow" in sys.modules)
"""
    process = run(code=code)
    assert (process.returncode, process.stderr) == (0, "")
    *text, imported = process.stdout.splitlines()
    assert {"nets", "features", "demo"} <= {word for line in text for word in line.split()[:1]}
    assert imported == "False"


def test_features_say_what_they_do_and_no_more(tmp_path, tiny_checkpoint_v1, image):
    """The command reports the restore, the network and the progress on stderr, but none of TensorFlow's messages."""
    output = tmp_path / "out"
    process = run("features", image, f"--checkpoint={tiny_checkpoint_v1}", "--end-points=block3", f"--output={output}")
    assert process.returncode == 0
    assert process.stdout == f"1 images done, 0 failed: {output}\n"
    patterns = [
        re.escape(f"{tiny_checkpoint_v1} (V1): 78 variables loaded"),
        "  0 missing",
        "  0 mismatched",
        r"  53 unused: global_step, \S+/Momentum, .*, and 48 more",
        r"resnet_v2_tiny, preprocessing inception at 32 \(assumed: nothing in the file says so; --preprocessing, or "
        r"slimnets note\)",
        r"features: 1/1, \d+\.\d images/s",
        r"1 images in \d+\.\d s, \d+\.\d images/s",
    ]
    for pattern, line in zip(patterns, process.stderr.splitlines(), strict=True):
        assert re.fullmatch(pattern, line)


# Environments.


@pytest.mark.parametrize(
    "arguments",
    [
        ["nets"],
        ["nets", "resnet_v2_50", "--json"],
        ["features", "a.png", "--checkpoint=a", "--end-points=block3", "--output=out"],
        ["demo"],
    ],
)
def test_without_tensorflow(tmp_path, arguments):
    """A ``None`` entry in sys.modules tells Python that there is no module of that name."""
    image = tmp_path / "a.png"
    image.write_bytes(b"an image")
    process = run(*arguments, code=f"import sys; sys.modules['tensorflow'] = None\n{COMMAND}", cwd=tmp_path)
    assert process.returncode == 1
    assert process.stdout == ""
    assert process.stderr == (
        "slimnets: error: TensorFlow is not installed: install slimnets with one of its extras, "
        "pip install 'slimnets[cpu]' or pip install 'slimnets[gpu]'.\n"
    )
    assert list(tmp_path.iterdir()) == [image]


def test_import_without_tensorflow():
    code = """
import sys
sys.modules["tensorflow"] = None
try:
    import nets
except ModuleNotFoundError as error:
    print(error.name, error)
"""
    process = run(code=code)
    assert (process.returncode, process.stderr) == (0, "")
    assert process.stdout.startswith("tensorflow TensorFlow is not installed")
    assert "slimnets[cpu]" in process.stdout
    assert "slimnets[gpu]" in process.stdout


def test_tensorflow_that_does_not_load(tmp_path):
    """Its output before the failure is the only hint, and must not be lost."""
    package = tmp_path / "tensorflow"
    package.mkdir()
    (package / "__init__.py").write_text(
        "import os; os.write(2, b'this processor is too old\\n'); raise ImportError('libtensorflow.so does not load')"
    )
    process = run("nets", before=[tmp_path])
    assert process.returncode == 1
    assert process.stdout == ""
    assert process.stderr == "this processor is too old\nslimnets: error: libtensorflow.so does not load\n"


@pytest.mark.parametrize("file", ["nets.py", "nets/__init__.py"])
def test_another_project_s_nets(tmp_path, file):
    """A checkout of tensorflow/models has packages of the same names."""
    foreign = tmp_path / file
    foreign.parent.mkdir(exist_ok=True)
    foreign.write_text("raise RuntimeError('imported')")
    for command in ([sys.executable, "-c", COMMAND, "nets"], [sys.executable, "-m", "tools", "nets"]):
        process = subprocess.run(
            command, env=environment(tmp_path), cwd=tmp_path, capture_output=True, text=True, timeout=120
        )
        assert process.returncode == 1
        assert process.stdout == ""
        (line,) = process.stderr.splitlines()
        assert line.startswith(
            f"slimnets: error: The package 'nets' that Python finds is {foreign}, "
            f"and not slimnets' own in {ROOT / 'nets'}"
        )


def run_without_a_reader(*arguments):
    """Runs the command with a reader like ``| head`` that may have gone before the first line is written."""
    read_end, write_end = os.pipe()
    os.close(read_end)
    with os.fdopen(write_end, "wb") as stdout:
        return run(*arguments, capture_output=False, stdout=stdout, stderr=subprocess.PIPE)


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_reader_that_has_gone(options):
    process = run_without_a_reader("nets", "resnet_v2_tiny", *options)
    assert (process.returncode, process.stderr) == (1, "")


def test_reader_that_has_gone_before_a_single_line(tmp_path, tiny_checkpoint, image):
    """One line stays in the buffer, and must not fail during Python's own cleanup."""
    options = [f"--checkpoint={tiny_checkpoint}", "--end-points=block3", f"--output={tmp_path / 'out'}"]
    process = run_without_a_reader("features", image, *options)
    assert process.returncode == 1
    assert process.stderr.splitlines()[-1].startswith("1 images in ")
    assert (tmp_path / "out" / "run.json").is_file()


@pytest.mark.parametrize("moment", ["writing", "loading"])
def test_interrupt(tmp_path, tiny_checkpoint, image, moment):
    """Sends Ctrl-C when some of very many images are done, or while TensorFlow is still being imported."""
    (tmp_path / "list.txt").write_text(f"{image}\n" * 200_000)
    options = [f"--checkpoint={tiny_checkpoint}", "--end-points=block3", f"--output={tmp_path / 'out'}", "--shards=1"]
    code = COMMAND if moment == "writing" else IMPORT_TELLS + COMMAND
    command = [sys.executable, "-c", code, "features", f"@{tmp_path}/list.txt", *options]
    with subprocess.Popen(
        command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        if moment == "writing":
            wait_for(lambda: any(file.stat().st_size > 10_000 for file in tmp_path.glob(".out.*/block3.npy")))
        else:
            assert process.stdout.readline() == "importing tensorflow\n"
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 1
    assert stdout == ""
    *report, sentence = stderr.splitlines()
    assert sentence == "slimnets: interrupted; unfinished work is not kept"
    if moment == "loading":
        assert report == []
    else:
        assert all(re.match(rf"{tiny_checkpoint} |  \d+ |resnet_v2_tiny, |features: ", line) for line in report)
    assert [path.name for path in tmp_path.iterdir()] == ["list.txt"]


# Reports the start of TensorFlow's import, with a message like TensorFlow's, and gives the signal time to arrive.
IMPORT_TELLS = """
import os, sys, time
class Tells:
    def find_spec(self, name, path=None, target=None):
        if name == "tensorflow.python":
            os.write(2, b"this processor has a great many features\\n")
            print("importing tensorflow", flush=True)
            time.sleep(60)
sys.meta_path.insert(0, Tells())
"""


def wait_for(condition, timeout=60):
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)
