"""Tests networks that a module's function builds, by the name module:function."""

import json

import numpy as np
import pytest

from tests.helpers.processes import ROOT
from tools.cli import main
from tools.digits import HELD_OUT
from tools.features import FeatureExtractor
from tools.features.network_choice import imported_network

DIGITS = "resnet_v2_tiny_digits"
MODULE = """
import tf_slim as slim
from nets import resnet_v2

def tiny(images, num_classes=10, is_training=True):
    with slim.arg_scope(resnet_v2.resnet_arg_scope()):
        return resnet_v2.resnet_v2_tiny(images, num_classes, is_training)

def two(images, other):
    return images, {}

number = 3
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Writes a module into the current folder, and returns its name."""
    name = f"networks_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(MODULE)
    (tmp_path / f"{name}_broken.py").write_text("import nothing_of_this_name\n")
    (tmp_path / f"{name}_wrong.py").write_text("1 / 0\n")
    monkeypatch.chdir(tmp_path)
    return name


def test_features_equal_those_of_the_network_by_its_own_name(module):
    """The function is built for inference, although its own default is to train."""
    images = np.random.default_rng(0).integers(0, 256, [3, 32, 32, 3]).astype(np.uint8)
    given = {"image_size": 32, "preprocessing": "inception"}
    with FeatureExtractor(DIGITS, ["global_pool"], net=f"{module}:tiny", **given) as extractor:
        features = extractor(images)
        assert (extractor.net, extractor.num_classes, extractor.warnings) == (f"{module}:tiny", None, ())
    with FeatureExtractor(DIGITS, ["global_pool"]) as extractor:
        assert np.array_equal(features["global_pool"], extractor(images)["global_pool"])


def test_commands_that_name_classes(module, tmp_path, capfd):
    """The network, which is not in the table, tells how many classes it has."""
    image = str(sorted(HELD_OUT.glob("*_3.png"))[0])
    options = ["--checkpoint", DIGITS, "--net", f"{module}:tiny", "--image-size", "32", "--preprocessing", "inception"]
    assert main(["show", image, *options, "--cam", "--output", str(tmp_path / "shown"), "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["images"][0]["label"] == "3"
    assert main(["classify", image, *options, "--top", "1", "--json"]) == 0
    assert json.loads(capfd.readouterr().out)[0]["classes"][0]["label"] == "3"


def test_the_number_of_classes_is_passed_on(module):
    assert imported_network(f"{module}:tiny", 7).keywords == {"is_training": False, "num_classes": 7}


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("{}:nothing", "net='{}:nothing' names no function of {}: it has tiny, two."),
        ("{}:number", "net='{}:number' names no function of {}: it has tiny, two."),
        ("{}:two", "must be a function of images .*missing a required argument: 'other'.: give defaults to its other"),
        ("{}_none:f", "names the module {}_none, and there is none in .* or on Python's path: run from the folder"),
        ("{}_broken:f", "net='{}_broken:f' cannot be imported: No module named 'nothing_of_this_name'."),
        ("{}_wrong:f", "net='{}_wrong:f' cannot be imported .ZeroDivisionError: division by zero.: mend it."),
        ("{}:", "net='{}:' must be the name of a network, or module:function."),
        (":f", "net=':f' must be the name of a network, or module:function."),
        ("a b:f", "net='a b:f' must be the name of a network, or module:function."),
    ],
)
def test_a_name_of_no_function(module, name, sentence):
    with pytest.raises(ValueError, match=sentence.replace("{}", module)):
        imported_network(name.format(module))


def test_a_command_names_its_options(module, capsys):
    image = str(ROOT / "checkpoints/digits/heldout/1437_2.png")
    arguments = ["features", image, "--checkpoint", DIGITS, "--end-points", "logits", "--output", "features"]
    assert main([*arguments, "--net", f"{module}:tiny"]) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error == "slimnets: error: With a function as net, give image_size and preprocessing."
