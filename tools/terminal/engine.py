"""Prepares the engine of a job, and says which one it is and how well it agrees with TensorFlow."""

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tools.features.computing import Extractor
    from tools.images import Inputs

__all__ = ["prepare_engine", "say_engine"]


def prepare_engine(extractor: "Extractor", images: "Inputs", *, before: tuple[str, str | None] | None = None) -> None:
    """Prepares the engine for a job, as ``FeatureExtractor.prepare``, and says so on stderr: it takes a while."""
    if extractor.engine == "tensorflow":
        return
    print(f"preparing the engine {extractor.engine} ...", file=sys.stderr)
    extractor.prepare(images, before=before)
    say_engine(extractor)


def say_engine(extractor: "Extractor") -> None:
    """Prints a line about an engine that was chosen, and a line about a model, on stderr."""
    if extractor.engine_rates:
        rates = ", ".join(f"{name} {rate:.1f}" for name, rate in extractor.engine_rates.items())
        print(f"engine {extractor.engine}, the fastest here: {rates} images/s", file=sys.stderr)
    if (model := extractor.engine_model) is None:
        return
    if model.precision == "float32":
        said = [f"{name} {one['difference']:.1e}" for name, one in model.agreements.items()]
        what = "largest differences"
    else:
        said = [_fidelity(name, one) for name, one in model.agreements.items()]
        what = "cosine"
    print(
        f"{model.engine} {model.version}, {model.precision}; {what} to TensorFlow's float32: {', '.join(said)}",
        file=sys.stderr,
    )


def _fidelity(name: str, one: dict[str, float | None]) -> str:
    said = f"{name} -" if one["cosine"] is None else f"{name} {one['cosine']:.4f}"
    return said if one["top_1"] is None else f"{said} ({100 * one['top_1']:.1f} % the same class)"
