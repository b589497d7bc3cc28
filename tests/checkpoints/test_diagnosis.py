"""Tests the diagnosis of each file of the corpus, of replicas of the published files, and of damaged values."""

import json
import subprocess
import sys

import pytest

from checkpoints import diagnose
from checkpoints.published import CATALOG
from tests.helpers import slim_corpus
from tests.helpers.corpus import make, published, save_v2, weights
from tools.cli import main
from tools.commands.inspect import record


def differences(case, folder):
    """Returns the differences between the expected and the actual diagnosis of a case."""
    found = diagnose(folder / case.path, check=case.check)
    said = {**record(found, checked=case.check, variables=False), "units": found.structure and found.structure.units}
    expected = {"usable": True, "problems": (), **case.said}
    words, kinds = expected.pop("words", ()), expected.pop("problems")
    wrong = {key: (said[key], value) for key, value in expected.items() if said[key] != value}
    here = tuple(problem.kind for problem in found.problems)
    if here != kinds:
        wrong["problems"] = (found.problems, kinds)
    sentences = " ".join(problem.sentence for problem in found.problems)
    wrong |= {word: sentences for word in words if word not in sentences}
    for problem in found.problems:
        # One sentence each that names the file or its content, and says what to do.
        if not problem.sentence.endswith(".") or not {":", ";"} & set(problem.sentence):
            wrong["sentence"] = problem.sentence
    return wrong


def test_every_file_of_the_corpus_is_told(tmp_path):
    cases = make(tmp_path)
    assert len(cases) >= 40
    wrong = {case.path: found for case in cases if (found := differences(case, tmp_path))}
    assert wrong == {}


def test_every_file_of_tf_slims_other_networks_is_told(tmp_path):
    cases = slim_corpus.make(tmp_path)
    assert len(cases) >= 30
    wrong = {case.path: found for case in cases if (found := differences(case, tmp_path))}
    assert wrong == {}


PUBLISHED = [key for key, entry in CATALOG.items() if entry.url]


@pytest.mark.parametrize(
    "key", [pytest.param(key, marks=() if key.endswith("_50") else pytest.mark.full) for key in PUBLISHED]
)
def test_replicas_of_the_published_files(tmp_path, key):
    """Names, shapes and extras are those of the published files; the catalog gives the expected diagnosis."""
    entry = CATALOG[key]
    path = published(tmp_path, key, entry.num_classes)
    try:
        said = record(diagnose(path), checked=False, variables=False)
    finally:
        path.unlink()
    assert said["problems"] == []
    scope = slim_corpus.SCOPES.get(entry.network, entry.network)
    assert (said["format"], said["net"], said["scope"]) == ("V1", entry.network, scope)
    assert (said["num_classes"], said["background_class"]) == (entry.num_classes, entry.num_classes == 1001)
    assert (said["preprocessing"], said["image_size"]) == (entry.preprocessing, entry.image_size)
    v1 = {"mean_rgb": 1} if entry.network.startswith("resnet_v1") else {}
    assert said["extras"] == {"global_step": 1, **v1}


@pytest.mark.parametrize(
    ("options", "kind", "words"),
    [
        ({"net": "resnet_v2_50"}, "another network", "holds resnet_v2_tiny and not resnet_v2_50"),
        ({"num_classes": 1000}, "classes", "num_classes=1000 drops the background"),
        ({"num_classes": 5}, "classes", "exclude='resnet_v2_tiny/logits/*'"),
        ({"scope": "other"}, "unknown scope", "it holds resnet_v2_tiny under 'resnet_v2_tiny'"),
    ],
)
def test_what_was_expected_and_is_not_there_is_a_problem(tmp_path, options, kind, words):
    save_v2(tmp_path / "model", weights(classes=1001))
    [problem] = diagnose(tmp_path / "model", **options).problems
    assert problem.kind == kind
    assert words in problem.sentence
    assert diagnose(tmp_path / "model", net="resnet_v2_tiny", num_classes=1001, scope="resnet_v2_tiny").usable


def test_of_several_networks_the_named_one_is_chosen(tmp_path):
    save_v2(tmp_path / "both", {**weights(scope="a/net"), **weights("resnet_cifar_20", scope="b")})
    assert diagnose(tmp_path / "both").problems[0].kind == "several networks"
    found = diagnose(tmp_path / "both", net="resnet_cifar_20")
    assert (found.network.name, found.scope, found.problems) == ("resnet_cifar_20", "b", ())
    assert diagnose(tmp_path / "both", scope="a/net").network.name == "resnet_v2_tiny"


def test_an_unknown_network_is_no_problem_of_the_file(tmp_path):
    with pytest.raises(ValueError, match="resnet_v2_51"):
        diagnose(tmp_path / "none", net="resnet_v2_51")


# Damage.


@pytest.mark.parametrize("places", [60, pytest.param(200, marks=pytest.mark.full)])
@pytest.mark.parametrize("version", ["V1", "V2"])
def test_damage_ends_in_the_right_values_or_in_an_error(tmp_path, version, places):
    """Changes or cuts a checkpoint at many places, each in a process of its own."""
    program = [sys.executable, "-m", "tests.helpers.damage", version, str(tmp_path), str(places)]
    finished = subprocess.run(program, capture_output=True, text=True, timeout=300, check=False)
    assert finished.returncode == 0, finished.stderr[-2000:]
    outcomes = json.loads(finished.stdout)
    assert outcomes.pop("count") == places
    assert set(outcomes) == {"error", "same"}
    # Most places are in values, which have checksums; a few are in bytes that nothing reads.
    assert outcomes["error"] > 0.75 * places


# The command.


def test_inspect_says_it_and_ends_in_0_or_1(tmp_path, capsys):
    save_v2(tmp_path / "good", {**weights(classes=1001), "global_step": weights()["resnet_v2_tiny/logits/biases"][:1]})
    assert main(["inspect", str(tmp_path / "good")]) == 0
    lines = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert lines["network"] == "resnet_v2_tiny"
    assert lines["classes"] == "1,001, class 0 is the background"
    assert lines["input"] == (
        "preprocessing inception at 32 (assumed: nothing in the file says so; --preprocessing, or slimnets note)"
    )
    assert lines["besides"] == "global_step (1)"
    (tmp_path / "page.ckpt").write_text("<html>Not Found</html>")
    assert main(["inspect", str(tmp_path / "page.ckpt")]) == 1
    captured = capsys.readouterr()
    assert "is an HTML page" in captured.out
    assert captured.err == ""


def test_inspect_lists_variables_and_prints_json(tmp_path, capsys):
    values = weights()
    save_v2(tmp_path / "good", values)
    assert main(["inspect", str(tmp_path / "good"), "--json", "--variables", "--check"]) == 0
    captured = capsys.readouterr()
    said = json.loads(captured.out)
    assert {row["name"]: tuple(row["shape"]) for row in said["variables"]} == {k: v.shape for k, v in values.items()}
    assert {row["dtype"] for row in said["variables"]} == {"float32"}
    assert said["checked"] is True
    assert "check: 78/78" in captured.err
    assert main(["inspect", str(tmp_path / "good"), "--variables"]) == 0
    assert "resnet_v2_tiny/conv1/weights" in capsys.readouterr().out


def test_inspect_takes_what_is_expected(tmp_path, capsys):
    save_v2(tmp_path / "good", weights())
    assert main(["inspect", str(tmp_path / "good"), "--net", "resnet_v2_tiny", "--num-classes", "10"]) == 0
    assert main(["inspect", str(tmp_path / "good"), "--num-classes", "7"]) == 1
    assert "has 10 classes and not 7" in capsys.readouterr().out
    assert main(["inspect", str(tmp_path / "good"), "--net", "resnet_v2_tiney"]) == 1
    assert "did you mean resnet_v2_tiny" in capsys.readouterr().err
    assert main(["inspect", "resnet_v2_tiny_digits", "--check"]) == 0
