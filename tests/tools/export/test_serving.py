"""Tests a SavedModel that reads encoded images, and serves it over HTTP from a process that knows only TensorFlow."""

import http.client
import json
import subprocess
import sys

import numpy as np
import pytest

from tests.helpers.exports import in_one_process, opened
from tests.helpers.processes import environment
from tools.cli import main
from tools.export import export
from tools.export.proof_inputs import pictures as files

LABELS = [f"Klasse {number} 数" for number in range(10)]

SERVER = """
import sys
for name in ("checkpoints", "nets", "tools"):
    sys.modules[name] = None
import http.server, json
import tensorflow as tf
try:
    import nets
except ImportError:
    pass
else:
    raise SystemExit("the server must not have slimnets")

network = tf.saved_model.load(sys.argv[1]).signatures["serving_default"]

class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        encoded = self.rfile.read(int(self.headers["Content-Length"]))
        outputs = network(images=tf.constant([encoded]))
        answer = {
            "labels": [label.decode() for label in outputs["labels"].numpy()[0].tolist()],
            "probabilities": outputs["probabilities"].numpy()[0].tolist(),
        }
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass

server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
print(server.server_port, flush=True)
server.serve_forever()
"""


@pytest.fixture(scope="module")
def served(tiny, tmp_path_factory):
    """Returns a SavedModel, and the file of its labels."""
    folder = tmp_path_factory.mktemp("served")
    labels = folder / "labels.txt"
    labels.write_text("".join(f"{label}\n" for label in LABELS), encoding="utf-8")
    with in_one_process():
        export(tiny, folder / "model", input="encoded", end_points=["global_pool", "classes"], labels=labels)
    return folder / "model", labels


@pytest.fixture(scope="module")
def classified(tiny, served):
    """Returns what `slimnets classify` says of the pictures: labels and probabilities of each."""
    output = served[0].with_name("classified.json")
    with pytest.MonkeyPatch.context() as patch, output.open("w", encoding="utf-8") as stream:
        patch.setattr(sys, "stdout", stream)
        command = ["classify", *map(str, files()), "--checkpoint", str(tiny), "--labels", str(served[1]), "--json"]
        assert main(command) == 0
    return [
        ([one["label"] for one in row["classes"]], [one["probability"] for one in row["classes"]])
        for row in json.loads(output.read_text(encoding="utf-8"))
    ]


def check(labels, probabilities, wanted):
    assert labels == wanted[0]
    assert set(labels) <= set(LABELS)
    # Two computations in float32, of probabilities up to 1.
    assert np.abs(np.subtract(probabilities, wanted[1])).max() < 1e-4


def test_encoded_images(served, classified):
    """They have different sizes in one batch."""
    assert (served[0] / "assets" / "labels.txt").read_text(encoding="utf-8").splitlines() == LABELS
    encoded = np.array([path.read_bytes() for path in files()], object)
    outputs = opened(served[0])(encoded)
    assert outputs["global_pool"].shape == (8, 512)
    for labels, probabilities, wanted in zip(
        outputs["labels"].tolist(), outputs["probabilities"], classified, strict=True
    ):
        check([label.decode() for label in labels], probabilities, wanted)


@pytest.mark.full
def test_a_server(served, classified, tmp_path):
    settings = {name: value for name, value in environment().items() if name != "PYTHONPATH"}
    command = [sys.executable, "-I", "-c", SERVER, str(served[0])]
    with subprocess.Popen(command, env=settings, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as server:
        try:
            port = int(server.stdout.readline())
            for path, wanted in zip(files(), classified, strict=True):
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
                connection.request("POST", "/", path.read_bytes(), {"Content-Type": "image/jpeg"})
                response = connection.getresponse()
                assert response.status == 200
                answer = json.loads(response.read())
                connection.close()
                check(answer["labels"], answer["probabilities"], wanted)
        finally:
            server.kill()
