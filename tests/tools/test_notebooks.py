"""Runs the notebook, and compares it with the outputs that it keeps."""

import re

import pytest

from tests.helpers.processes import ROOT

TOUR = ROOT / "tools" / "notebooks" / "tour.ipynb"


def outputs_of(cell):
    """Returns the kinds of a cell's outputs: 'stdout', 'stderr', 'image/png'."""
    return [output.get("name") or sorted(output.data)[0] for output in cell.get("outputs", [])]


def printed(notebook):
    return "".join(output.text for cell in notebook.cells for output in cell.get("outputs", []) if "text" in output)


def check_findings(notebook):
    """Checks what the notebook says about features, and where Grad-CAM finds the classes."""
    text = printed(notebook)
    good, poor = (float(value) for value in re.findall(r"silhouette=(-?[\d.]+)", text))
    assert good > 0.4 > poor
    for digit in "038":
        [found] = re.findall(rf"{digit} -> \[(.*)\]", text)
        assert found.count(f"'{digit}'") >= 6
    assert "Grad-CAM is the positive part of CAM: True" in text
    for name in ("astronaut", "cat", "coffee", "rocket"):
        [share] = re.findall(rf"^{name}: .*?(\d+) % in {name}", text, re.MULTILINE)
        assert int(share) > 60


@pytest.mark.full
def test_the_tour_runs_and_keeps_its_outputs(tmp_path):
    import nbformat
    from nbclient import NotebookClient

    kept = nbformat.read(TOUR, 4)
    check_findings(kept)
    fresh = nbformat.read(TOUR, 4)
    NotebookClient(fresh, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    check_findings(fresh)
    for cell, other in zip(kept.cells, fresh.cells, strict=True):
        assert outputs_of(cell) == outputs_of(other), cell.source
    assert list(tmp_path.iterdir()) == []
