"""Tests how stored names are classified where they could be mistaken for something else."""

import pytest

from checkpoints import diagnose
from checkpoints.diagnosis import sort_names, structures_in
from tests.helpers.corpus import save_v2, weights
from tools.commands.inspect import record
from tools.terminal.option_names import as_options

AVERAGE = "ExponentialMovingAverage"


@pytest.mark.parametrize(
    "others", [[f"net/w/{AVERAGE}_1"], [f"train/net/w/{AVERAGE}"], [f"a/net/w/{AVERAGE}", f"train/net/w/{AVERAGE}"]]
)
def test_of_several_averages_the_plain_one_counts(others):
    """tf.train.ExponentialMovingAverage.variables_to_restore chooses the same."""
    contents = sort_names(["net/w", f"net/w/{AVERAGE}", *others])
    assert contents.variables == ("net/w",)
    assert contents.shadows == {"net/w": f"net/w/{AVERAGE}"}


def test_averages_under_another_name():
    """Tests averages of all model variables, which are not an optimizer's slots."""
    names = ["net/w", "net/bn/moving_mean", "net/w/Smooth", "net/bn/moving_mean/Smooth", "net/w/Momentum"]
    contents = sort_names(names)
    assert contents.shadows == {"net/w": "net/w/Smooth", "net/bn/moving_mean": "net/bn/moving_mean/Smooth"}
    assert contents.extras == {"slots Momentum": ("net/w/Momentum",)}


def test_what_corrects_the_bias_of_moving_statistics_is_no_average_of_the_model():
    """Tests variables of zero_debias_moving_mean, beside averages of the trainable variables."""
    names = ["net/w", f"net/w/{AVERAGE}", *(f"net/bn/moving_mean{end}" for end in ("", "/biased", "/local_step"))]
    contents = sort_names(names)
    assert contents.shadows == {"net/w": f"net/w/{AVERAGE}"}
    assert set(contents.extras) == {"slots biased", "slots local_step"}


def test_a_short_name_claims_nobody_elses_weights():
    names = ["logits", "conv1", *weights()]
    contents = sort_names(names)
    assert set(contents.variables) == set(names)
    assert contents.extras == {}


def test_averages_count_as_what_they_are_of(tmp_path):
    """521,418 parameters: the statistics were saved as they are, and the rest as averages."""
    values = weights()
    stored = {name if "moving_" in name else f"{name}/{AVERAGE}": value for name, value in values.items()}
    save_v2(tmp_path / "model", stored)
    said = record(diagnose(tmp_path / "model"), checked=False, variables=False)
    assert said["parameters"] == 521_418
    assert [found.faults for found in structures_in({name: v.shape for name, v in stored.items()})] == [()]


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        ("give ema=True.", "give --ema."),
        ("build with num_classes=10, or not.", "build with --num-classes 10, or not."),
        ("give exclude='net/logits/*'.", "give --exclude 'net/logits/*'."),
        ("give exclude=['a/*'].", "give --exclude 'a/*'."),
        ("give exclude=['a/*', 'b/*'], or not.", "give --exclude 'a/*' --exclude 'b/*', or not."),
        (
            "only='logits' fits nothing: give only='net/logits/*'.",
            "--only 'logits' fits nothing: give --only 'net/logits/*'.",
        ),
        ("choose one, scope='a/net'.", "choose one, --scope a/net."),
        ("runs/num_classes=10,ema=True/model.ckpt is empty.", "runs/num_classes=10,ema=True/model.ckpt is empty."),
        ("sweep/scope='a'/model is gone.", "sweep/scope='a'/model is gone."),
    ],
)
def test_arguments_are_written_as_options_and_paths_are_left_alone(sentence, expected):
    assert as_options(sentence) == expected
