"""Rewrites sentences that name Python arguments, so that they name the options of a command."""

import re
from collections.abc import Callable

__all__ = ["as_options"]


def _repeated(found: re.Match[str]) -> str:
    """Returns an argument with several values as an option that is repeated for each."""
    return " ".join(f"--{found[1]} '{value}'" for value in re.findall(r"'([^']*)'", found[2]))


def _dashed(argument: str) -> str:
    return f"--{argument.replace('_', '-')}"


# Arguments in the library's sentences that are strings, and those that are numbers.
_STRINGS = (
    "format|names|mode|device|precision|dtype|input|scope|preprocessing|net|checkpoint|augmentation|trainable|"
    "pool|method|engine"
)
_NUMBERS = "|".join(
    (
        *("num_classes", "image_size", "images", "batch_size", "threads", "steps", "epochs", "learning_rate"),
        *("warmup_steps", "end_learning_rate", "decay_factor", "decay_steps", "power", "momentum", "adam_beta1"),
        *("adam_beta2", "rmsprop_decay", "opt_epsilon", "weight_decay", "label_smoothing", "batch_norm_decay", "seed"),
        *("eval_steps", "save_seconds", "checkpoint_seconds", "keep", "tolerance", "min_cosine", "calibrate"),
        "sample",
    )
)

# Arguments in the library's sentences that are also options of a command.
_OPTIONS: tuple[tuple[str, str | Callable[[re.Match[str]], str]], ...] = (
    (r"(ema|overwrite|update|xla|feed|freeze)=True", r"--\1"),
    (r"(freeze_batch_norm|new_head)=True", lambda found: _dashed(found[1])),
    (r"(flip|color)=False", r"--no-\1"),
    (rf"({_STRINGS})='([^']*)'", r"--\1 \2"),
    (r"to_scope='([^']*)'", r"--to-scope \1"),
    (r"end_point='([^']*)'", r"--end-point \1"),
    (r"num_classes=None", "--num-classes 0"),
    (r"net=function", "--net module:function"),
    (r"(exclude|only)=('[^']*')", r"--\1 \2"),
    (r"(exclude|only)=\[('[^']*'(?:, '[^']*')*)\]", _repeated),
    (r"exclude=\[\.\.\.\]", "--exclude"),
    (rf"({_NUMBERS})=([-\d.e]*\d|N)", lambda found: f"{_dashed(found[1])} {found[2]}"),
    (r"label_offset=(-?\d+|N)", r"--label-offset \1"),
    (r"labels=FILE", "--labels FILE"),
    (r"calibrate=IMAGES", "--calibrate IMAGES"),
    (r"val=DATA", "--val DATA"),
)
# An argument at the beginning of a sentence.
_FIRST = re.compile(
    rf"(checkpoint_dir|device|{_NUMBERS}|ema|optimizer|schedule|augmentation|precision|boundaries|labels|calibrate|engine)"
    r"(?= (?:must be|must rise|goes with|requires|applies|is a setting|does nothing|has) )"
)
# Only whole words, because names of folders may contain such text.
_WORDS = tuple((re.compile(rf"(?<![^\s(]){argument}(?![^\s.,;:)])"), option) for argument, option in _OPTIONS)


def as_options(sentence: str) -> str:
    """Returns the sentence with arguments replaced by options: ``ema=True`` becomes ``--ema``."""
    for pattern, option in _WORDS:
        sentence = pattern.sub(option, sentence)
    if begins := _FIRST.match(sentence):
        sentence = f"{_dashed(begins[1])}{sentence[begins.end() :]}"
    return sentence
