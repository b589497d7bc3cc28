"""Changes and cuts a checkpoint at random places, and reads it each time in a process of its own.

python -m tests.helpers.damage V1|V2 FOLDER COUNT

Prints as JSON how often the values were right ('same'), how often a ``CheckpointError`` was raised ('error'), and
anything else that happened.
"""

import collections
import hashlib
import json
import os
import random
import sys
from pathlib import Path

from checkpoints import CheckpointError, open_checkpoint
from tests.helpers.corpus import save_v1, save_v2, weights


def digest(path: Path) -> str:
    """Returns a digest of everything that is read from a checkpoint."""
    reader = open_checkpoint(path)
    hashed = hashlib.sha256()
    for name, shape in reader.shapes.items():
        hashed.update(f"{name} {shape} {reader.dtypes[name]}".encode())
        hashed.update(reader.read(name).tobytes())
    return hashed.hexdigest()


def outcome(path: Path, right: str) -> str:
    """Returns the outcome of a process that reads the checkpoint."""
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            result = "same" if digest(path) == right else "wrong values"
        except CheckpointError:
            result = "error"
        except BaseException as error:
            result = f"{type(error).__name__}: {error}"
        os.write(write_end, result.encode()[:1000])
        os._exit(0)
    os.close(write_end)
    with os.fdopen(read_end, "rb") as stream:
        result = stream.read().decode()
    _, status = os.waitpid(child, 0)
    return result if status == 0 else f"ended with status {status}"


def damaged(content: bytes, generator: random.Random) -> bytes:
    """Changes a byte, anywhere or in the last hundred, or cuts off the end."""
    kind = generator.choice(("byte", "byte", "end", "cut"))
    place = generator.randrange(max(len(content) - 100, 0) if kind == "end" else 0, len(content))
    if kind == "cut":
        return content[:place]
    return content[:place] + bytes([content[place] ^ generator.randrange(1, 256)]) + content[place + 1 :]


def main(version: str, folder: Path, count: int) -> None:
    path = folder / "model.ckpt"
    {"V1": save_v1, "V2": save_v2}[version](path, weights())
    right = digest(path)
    files = [file for file in folder.iterdir() if file.name.startswith("model.ckpt")]
    generator = random.Random(version)
    outcomes = collections.Counter()
    for _ in range(count):
        file = generator.choice(files)
        content = file.read_bytes()
        try:
            file.write_bytes(damaged(content, generator))
            outcomes[outcome(path, right)] += 1
        finally:
            file.write_bytes(content)
    print(json.dumps({"count": sum(outcomes.values()), **outcomes}))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
