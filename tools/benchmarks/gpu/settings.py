"""The settings that are measured on a GPU, each with the peer that it takes turns with."""

import json
from typing import NamedTuple, Self

__all__ = ["MIXED", "OUT_OF_MEMORY", "PRECISIONS", "Group", "Setting", "files", "forward", "headline", "train"]

# Precisions in which a network is built, apart from TF32, which is float32 with faster products.
PRECISIONS = ("float32", "TF32", "bfloat16", "float16")

# Before the name of a precision: the network is built in float32, and TensorFlow's optimizer casts it, as with
# ``precision='float16'`` of an extractor.
MIXED = "mixed "

# What the table says of a batch that does not fit.
OUT_OF_MEMORY = "out of memory"


class Setting(NamedTuple):
    """One setting of a network.

    net: name of the network.
    batch_size: number of images in a batch.
    mode: 'forward', 'train' (a training step), or 'files' (from JPEG files to features).
    precision: one of ``PRECISIONS``, or ``MIXED`` and a precision. TF32 is off except in 'TF32'.
    xla: whether XLA compiles the step as one.
    of: 'slimnets', or 'slim' for tf_slim's own graph.
    device: as in ``tools.timing.options.Options``; None for TensorFlow's choice.
    images: folder of the files, if the mode is 'files'.
    """

    net: str
    batch_size: int
    mode: str = "forward"
    precision: str = "float32"
    xla: bool = False
    of: str = "slimnets"
    device: str | None = None
    images: str | None = None

    @property
    def name(self) -> str:
        """Name of the setting in the table."""
        what = {"forward": "forward", "train": "training step", "files": "files to features"}[self.mode]
        parts = [self.net, what, f"batch {self.batch_size}", self.precision]
        return ", ".join([*parts, *["XLA"] * self.xla, *["slim's graph"] * (self.of == "slim")])

    def to_json(self) -> str:
        return json.dumps(self._asdict())

    @classmethod
    def from_json(cls, text: str) -> Self:
        return cls(**json.loads(text))


class Group(NamedTuple):
    """Settings that are measured against the same peer, ``base``."""

    base: Setting
    others: tuple[Setting, ...]


def _against_float32(base: Setting, precisions: tuple[str, ...], mixed: str | None = None) -> Group:
    """Returns a group for the precisions, each without and with XLA, the mixed one, and tf_slim's graph."""
    settings = [base._replace(precision=precision, xla=xla) for precision in precisions for xla in (False, True)]
    if mixed:
        settings.append(base._replace(precision=f"{MIXED}{mixed}"))
    settings.append(base._replace(of="slim"))
    return Group(base, tuple(setting for setting in settings if setting != base))


def forward(
    net: str = "resnet_v2_50",
    batch_sizes: tuple[int, ...] = (1, 8, 32, 128, 256),
    *,
    mixed: str = "float16",
    device: str | None = None,
) -> list[Group]:
    """Returns forward passes in every precision, against float32 without TF32 and XLA."""
    return [_against_float32(Setting(net, size, device=device), PRECISIONS, mixed) for size in batch_sizes]


def train(
    net: str = "resnet_v2_50",
    batch_sizes: tuple[int, ...] = (32, 64, 128),
    *,
    mixed: str = "float16",
    device: str | None = None,
) -> list[Group]:
    """Returns training steps in every precision, against float32 without TF32 and XLA."""
    return [_against_float32(Setting(net, size, "train", device=device), PRECISIONS, mixed) for size in batch_sizes]


def headline(net: str = "resnet_v2_152", batch_size: int = 32, *, device: str | None = None) -> list[Group]:
    """Returns the forward passes that a well-known script of TensorFlow 1 times, with which timing here began."""
    return [_against_float32(Setting(net, batch_size, device=device), ("float32", "TF32", "float16"))]


def files(
    images: str,
    net: str = "resnet_v2_50",
    batch_size: int = 32,
    *,
    precisions: tuple[str, ...] = ("float32", "TF32", f"{MIXED}float16"),
    device: str | None = None,
) -> list[Group]:
    """Returns the way from JPEG files to features, against the network alone in the same precision."""
    alone = [Setting(net, batch_size, precision=precision, device=device) for precision in precisions]
    return [Group(base, (base._replace(mode="files", images=images),)) for base in alone]
