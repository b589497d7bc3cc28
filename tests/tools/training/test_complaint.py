"""Tests the complaint heard most about slim from end to end: it is named, mended, and never made.

After 200 steps under slim's decay of 0.997, inference is at chance and the statistics of the batches are not.
"""

import json

import pytest

from tests.helpers.finetuned_digits import finetuned_digits
from tools.cli import main
from tools.training import fit


@pytest.fixture(scope="module")
def finetuned(tmp_path_factory):
    return finetuned_digits(tmp_path_factory.mktemp("finetuned"))


@pytest.fixture(scope="module")
def measured(finetuned):
    """Returns what ``slimnets evaluate --json`` prints on the fine-tuned checkpoint."""
    return evaluated(finetuned.checkpoint, finetuned.held_out)


def evaluated(checkpoint, data):
    import contextlib
    import io

    with contextlib.redirect_stdout(io.StringIO()) as out:
        assert main(["evaluate", str(data), "--checkpoint", str(checkpoint), "--json"]) == 0
    return json.loads(out.getvalue())


@pytest.mark.numerical
def test_evaluate_names_the_cause(measured):
    assert measured["top_1"]["value"] < 0.5
    assert measured["batch_statistics"]["top_1"]["value"] > 0.8
    [advice] = [sentence for sentence in measured["advice"] if "recalibrate" in sentence]
    assert "moving statistics" in advice


@pytest.mark.numerical
def test_recalibrate_mends_it(finetuned, measured, tmp_path):
    output = tmp_path / "mended.ckpt"
    assert main(["recalibrate", str(finetuned.checkpoint), str(finetuned.train), "--output", str(output)]) == 0
    mended = evaluated(output, finetuned.held_out)
    assert mended["top_1"]["value"] >= measured["batch_statistics"]["top_1"]["value"] - 0.02
    assert not [sentence for sentence in mended["advice"] if "recalibrate" in sentence]


@pytest.mark.numerical
def test_train_does_not_make_it(finetuned, measured, tmp_path):
    options = {"checkpoint": "resnet_v2_tiny_digits", "steps": 200, "batch_size": 16}
    fit(finetuned.train, tmp_path / "o", **options)
    ours = evaluated(tmp_path / "o", finetuned.held_out)
    assert ours["top_1"]["value"] >= measured["batch_statistics"]["top_1"]["value"] - 0.02
    assert ours["top_1"]["value"] >= ours["batch_statistics"]["top_1"]["value"] - 0.02
