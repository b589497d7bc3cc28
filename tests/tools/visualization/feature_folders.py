"""Writes folders of features whose values a test chooses."""

import json
from pathlib import Path

import numpy as np

from tools.features.formats import IndexRow, Layout, npy

__all__ = ["write_features"]


def write_features(folder, rows, labels=None, paths=None, run=None, alias="global_pool") -> Path:
    """Writes a complete folder with one end point, as ``extract`` would. Rows of NaN are of damaged images."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = np.asarray(rows, np.float32)
    failed = np.isnan(rows).reshape(len(rows), -1).any(axis=1)
    labels = labels or [""] * len(rows)
    paths = paths or [f"{row}.png" for row in range(len(rows))]
    entries = [
        IndexRow(row, str(path), "failed" if bad else "ok", "damaged" if bad else "", 8, 8, label)
        for row, (path, bad, label) in enumerate(zip(paths, failed, labels, strict=True))
    ]
    with npy.Writer(folder, Layout({alias: rows.shape[1:]}, "float32"), len(rows)) as writer:
        writer.append(entries, {alias: rows})
    record = {
        "inputs": {"images": len(rows), "sha256": "0"},
        "checkpoint": {"path": "none.ckpt", "format": "V2", "sha256": {}, "scope": None, "exclude": [], "ema": False},
        "net": "resnet_v2_tiny",
        "num_classes": 10,
        "end_points": {alias: {"name": alias, "shape": list(rows.shape[1:])}},
        "preprocessing": "inception",
        "image_size": 32,
        "pool": "none",
        "precision": "float32",
        "batch_size": 32,
        "format": "npy",
        "dtype": "float32",
        "shards": 1,
    }
    (folder / "run.json").write_text(json.dumps({**record, **(run or {})}))
    return folder
