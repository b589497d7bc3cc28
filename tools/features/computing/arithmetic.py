"""When freezing a network pays off, and what determines the last bits of a row."""

__all__ = ["arithmetic", "freeze_for", "is_optimized", "worth_freezing"]

# Optimizing the graph takes TensorFlow a third of a second, which pays off from _FEW images of a ResNet-50. Freezing
# takes some three seconds and saves 5 ms an image, which pays off from _MANY.
_FEW, _MANY = 200, 1000


def is_optimized(precision: str, freeze: bool | None) -> bool:
    """Returns whether an extractor that is made with these arguments has TensorFlow optimize its graph."""
    return freeze is not False or precision != "float32"


def arithmetic(
    num_images: int, batch_size: int, precision: str, freeze: bool | None, engine: str = "tensorflow"
) -> tuple[int, int]:
    """Returns what determines the last bits of a row besides the image.

    Args:
      num_images: of the job.
      batch_size, precision, freeze, engine: of the extractor that computes the rows.

    Returns:
      The size of the batches; and 0 for a graph as it was built, 1 for an optimized one, 2 for a frozen one, 3 for
      another engine.
    """
    if engine != "tensorflow":
        return min(batch_size, num_images), 3
    frozen = freeze or (freeze is None and worth_freezing(num_images))
    return min(batch_size, num_images), 2 if frozen else int(is_optimized(precision, freeze))


def freeze_for(num_images: int, engine: str = "tensorflow") -> bool | None:
    """Returns the best ``freeze`` of an extractor for a number of images and an engine."""
    if num_images < _FEW or engine not in ("tensorflow", "auto"):
        return False
    # 'auto' may leave TensorFlow before anything is frozen.
    return True if worth_freezing(num_images) and engine == "tensorflow" else None


def worth_freezing(num_images: int) -> bool:
    """Returns whether freezing pays off for that number of images."""
    return num_images >= _MANY
