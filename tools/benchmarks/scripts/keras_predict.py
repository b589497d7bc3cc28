"""Keras' own way from files to features: ``python -m tools.benchmarks.scripts.keras_predict FOLDER SIZE BATCH_SIZE``.

Reads a number of images from each line, predicts that many, and prints the seconds it took.
"""

import sys
import time
from collections.abc import Sequence

__all__ = ["main"]


def main(argv: Sequence[str]) -> None:
    import keras

    folder, size, batch_size = argv[0], int(argv[1]), int(argv[2])
    model = keras.applications.ResNet50V2(weights=None, include_top=False, pooling="avg", input_shape=[size, size, 3])
    files = keras.utils.image_dataset_from_directory(
        folder, labels=None, image_size=(size, size), batch_size=batch_size, shuffle=False, verbose=False
    )
    files = files.map(keras.applications.resnet_v2.preprocess_input)
    for line in sys.stdin:
        start = time.perf_counter()
        model.predict(files.take(int(line) // batch_size), verbose=0)
        print(time.perf_counter() - start, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
