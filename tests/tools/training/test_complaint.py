"""Tests the complaint heard most about slim from end to end: it is named, mended, and never made.

After 200 steps under slim's decay of 0.997, inference is far worse than the statistics of the batches.
"""

import json

import numpy as np
import pytest

from tests.helpers.finetuned_digits import finetuned_digits
from tools.cli import main
from tools.evaluation import evaluate
from tools.evaluation.batch_statistics import mixed_rows
from tools.features import FeatureExtractor
from tools.training import fit

# What counts as the same accuracy.
POINTS = 0.02


@pytest.mark.full
@pytest.mark.numerical
def test_the_complaint_is_named_mended_and_not_made(tmp_path, capsys):
    # One test, because each worker would fine-tune the network anew.
    finetuned = finetuned_digits(tmp_path)
    held_out = str(finetuned.held_out)

    assert main(["evaluate", held_out, "--checkpoint", str(finetuned.checkpoint), "--json"]) == 0
    measured = json.loads(capsys.readouterr().out)
    by_batches = measured["batch_statistics"]["top_1"]["value"]
    assert measured["top_1"]["value"] < by_batches - 0.1
    [advice] = measured["advice"]
    assert "the moving statistics in the checkpoint do not fit its weights" in advice
    assert "`slimnets recalibrate" in advice

    mended = tmp_path / "mended.ckpt"
    command = ["recalibrate", str(finetuned.checkpoint), str(finetuned.train), "--output", str(mended)]
    assert main([*command, "--json"]) == 0
    captured = capsys.readouterr()
    assert "preprocessing inception at 32 (assumed: nothing in the file says so; --preprocessing" in captured.err
    record = json.loads(captured.out)
    assert (record["images"], record["batches"], record["failed"], record["measured"]) == (577, 19, 0, 512)
    assert len(record["layers"]) == 13
    check_accuracies(record, finetuned, mended)
    after = evaluate(held_out, mended)
    assert after.metrics.top_1.value >= by_batches - POINTS
    assert after.advice == ()

    fit(finetuned.train, tmp_path / "ours", checkpoint="resnet_v2_tiny_digits", steps=200, batch_size=16)
    ours = evaluate(held_out, tmp_path / "ours")
    assert ours.metrics.top_1.value >= ours.batch_statistics.top_1.value - POINTS
    assert ours.metrics.top_1.value > 0.9
    assert ours.advice == ()


def check_accuracies(record, finetuned, mended):
    """Holds the accuracies before and after against those of an extractor's logits."""
    files = sorted(finetuned.train.rglob("*.png"))
    chosen = [files[row] for row in mixed_rows(577)[:512]]
    with FeatureExtractor(finetuned.checkpoint, "logits", freeze=False) as extractor:
        before = accuracy(extractor, chosen)
        extractor.reload(mended)
        after = accuracy(extractor, chosen)
    for name, expected in (("top_1_before", before), ("top_1_after", after)):
        assert record[name]["value"] == pytest.approx(expected)
        assert record[name]["low"] < expected < record[name]["high"]


def accuracy(extractor, files):
    """Returns the share of files whose folder's name is the class with the highest logit."""
    predicted = extractor([str(file) for file in files])["logits"].argmax(axis=1)
    return np.mean(predicted == [int(file.parent.name) for file in files])
