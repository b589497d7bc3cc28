"""Tests features by other engines: the same network, from a model that is proved, kept, and never used damaged."""

import importlib.util
import json
import re
import shutil
from itertools import product

import numpy as np
import pytest

from tests.helpers.digit_folders import held_out_digits
from tests.helpers.exports import random_checkpoint
from tests.helpers.float64 import assert_as_exact
from tests.tools.engines.conftest import POINTS
from tools.cli import main
from tools.digits import CHECKPOINT
from tools.engines import ENGINES, models
from tools.errors import InputError
from tools.features import FeatureExtractor, extract, load
from tools.features.computing import preparing

INT8 = {"precision": "int8", "min_cosine": 0.5}

ENGINE = pytest.mark.parametrize("engine", ENGINES)


def extractor_of(checkpoint, folder, engine="openvino", **options):
    return FeatureExtractor(checkpoint, POINTS, engine=engine, engine_dir=folder, batch_size=8, **options)


@pytest.mark.numerical
@ENGINE
def test_features_are_the_networks(tiny, models, reference, engine):
    """A batch that is not full, and images one by one, have the same features as in a plain graph."""
    images, wanted = reference
    with extractor_of(tiny, models, engine) as extractor:
        found = extractor(images)
        one = extractor(images[2])
        assert extractor.engine == engine
        assert list(found) == POINTS
        for name in POINTS:
            assert_as_exact(found[name], wanted[name])
            assert np.allclose(one[name][0], wanted[name].double[2], rtol=0, atol=1e-4 * np.abs(found[name]).max())


@ENGINE
def test_files_and_broken_files(tiny, models, images, engine):
    """Rows of broken files are NaN, and all others as TensorFlow computes them."""
    with FeatureExtractor(tiny, POINTS, batch_size=8) as extractor:
        wanted = extractor(images, errors="nan")
    with extractor_of(tiny, models, engine) as extractor:
        found = extractor(images, errors="nan")
    for name in POINTS:
        assert np.array_equal(np.isnan(found[name]), np.isnan(wanted[name]))
        assert np.isnan(found[name][[17, 50]]).all()
        assert np.nanmax(np.abs(found[name] - wanted[name])) <= 1e-5 * np.nanmax(np.abs(wanted[name]))


def test_a_model_is_made_once(tiny, models, reference, monkeypatch):
    with extractor_of(tiny, models) as extractor:
        wanted = extractor(reference[0])
        record = json.loads((extractor.engine_model.folder / "engine.json").read_text())
    assert record["agreements"].keys() == set(POINTS)
    assert all(one["difference"] < 1e-5 for one in record["agreements"].values())
    monkeypatch.setattr("tools.engines.models.run_module", lambda *given: pytest.fail("made again"))
    with extractor_of(tiny, models) as extractor:
        found = extractor(reference[0])
    assert all(np.array_equal(found[name], wanted[name]) for name in POINTS)


def changed_weight(folder):
    weights = folder / "model.bin"
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 0x40
    weights.write_bytes(content)


def cut_short(folder):
    weights = folder / "model.bin"
    weights.write_bytes(weights.read_bytes()[:-5])


def without_graph(folder):
    (folder / "model.xml").unlink()


def another_record(folder):
    record = json.loads((folder / "engine.json").read_text())
    (folder / "engine.json").write_text(json.dumps(record | {"key": "0" * 64}))


def no_record(folder):
    (folder / "engine.json").write_text("{")


OTHER_DAMAGE = [cut_short, without_graph, another_record, no_record]


@pytest.mark.parametrize(
    "damage", [changed_weight, *(pytest.param(each, marks=pytest.mark.full) for each in OTHER_DAMAGE)]
)
def test_a_damaged_model_is_noticed_and_made_again(tiny, models, reference, tmp_path, damage):
    with extractor_of(tiny, models) as extractor:
        wanted = extractor(reference[0])
        place = tmp_path / extractor.engine_model.folder.name
        shutil.copytree(extractor.engine_model.folder, place)
    before = {file.name: file.read_bytes() for file in place.iterdir()}
    damage(place)
    with (
        extractor_of(tiny, tmp_path) as extractor,
        pytest.warns(UserWarning, match=f"{place.name} is damaged, and is made again"),
    ):
        found = extractor(reference[0])
    assert all(np.array_equal(found[name], wanted[name]) for name in POINTS)
    assert (place / "model.bin").read_bytes() == before["model.bin"]
    with pytest.raises(InputError, match="holds no model of an engine, or a damaged one"):
        damage(place)
        extractor_of(tiny, tmp_path, engine_model=place)(reference[0])


@pytest.mark.full
def test_another_checkpoint_under_the_same_name(tmp_path, models, reference):
    """The model of the checkpoint before is not used."""
    path = random_checkpoint(tmp_path / "model.ckpt", "resnet_v2_tiny", 32)
    with extractor_of(path, models) as extractor:
        before = extractor(reference[0]), extractor.engine_model.key
    other = random_checkpoint(tmp_path / "other" / "model.ckpt", "resnet_v2_tiny", 32, num_classes=7)
    for file in other.parent.iterdir():
        shutil.copy(file, tmp_path)
    with FeatureExtractor(path, POINTS) as extractor:
        wanted = extractor(reference[0])
    with extractor_of(path, models) as extractor:
        found = extractor(reference[0])
        assert extractor.engine_model.key != before[1]
    for name in POINTS:
        assert np.abs(found[name] - wanted[name]).max() <= 1e-5 * np.abs(wanted[name]).max()


@pytest.mark.numerical
@pytest.mark.full
@ENGINE
@pytest.mark.parametrize("batch_size", [1, 3])
def test_int8_of_small_batches(tmp_path, engine, batch_size):
    """Batches of one image, and a last one that is not full, are as those of eight."""
    names = [str(path) for path in sorted(held_out_digits(tmp_path / "digits").rglob("*.png"))]
    options = {"engine": engine, "precision": "int8", "engine_dir": tmp_path / "models"}
    with FeatureExtractor(CHECKPOINT, "global_pool", batch_size=8, **options) as extractor:
        wanted = extractor(names)["global_pool"][:100]
        folder = extractor.engine_model.folder
    options["engine_model"] = folder
    with FeatureExtractor(CHECKPOINT, "global_pool", batch_size=batch_size, **options) as extractor:
        found = extractor(names[:100])["global_pool"]
    assert np.abs(found - wanted).max() <= 1e-4 * np.abs(wanted).max()


def test_an_engine_that_computes_something_else_is_refused(tiny, reference, tmp_path, monkeypatch):
    loaded = models.Model.load

    def wrong(self, **options):
        compute = loaded(self, **options)
        return lambda images: {name: values + (name == "logits") * 1e-3 for name, values in compute(images).items()}

    monkeypatch.setattr(models.Model, "load", wrong)
    sentence = r"openvino computes logits with a difference of .* more than 0\.0001: use engine='tensorflow'\."
    with extractor_of(tiny, tmp_path) as extractor, pytest.raises(InputError, match=sentence):
        extractor(reference[0])
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("engine", "options"),
    [
        ("openvino", INT8),
        *(
            pytest.param(*each, marks=pytest.mark.full)
            for each in product(ENGINES, [{}, INT8])
            if each != ("openvino", INT8)
        ),
    ],
)
def test_rows_do_not_depend_on_how_a_job_is_cut(tiny, models, images, tmp_path, engine, options):
    """A job of one shard, of several, and one that is stopped after the first shard have the same rows to the bit."""
    folders = [tmp_path / name for name in ("whole", "shards", "stopped")]
    with extractor_of(tiny, models, engine, **options) as extractor:
        extract(images, folders[0], extractor)
    with extractor_of(tiny, models, engine, **options) as extractor:
        extract(images, folders[1], extractor, shards=4)
    with extractor_of(tiny, models, engine, **options) as extractor:
        extract(images, folders[2], extractor, shards=3, shard_index=1)
    with extractor_of(tiny, models, engine, **options) as extractor:
        extract(images, folders[2], extractor, shards=3)
    whole, *others = map(load, folders)
    for name in POINTS:
        for other in others:
            assert np.array_equal(other.arrays[name], whole.arrays[name], equal_nan=True)
    record = json.loads((folders[0] / "run.json").read_text())
    assert record["engine"] == engine
    assert record["precision"] == options.get("precision", "float32")
    assert record["engine_model"]["agreements"].keys() == set(POINTS)


@pytest.mark.full
@pytest.mark.filterwarnings("ignore::DeprecationWarning:ray")
def test_workers_share_one_calibration(tiny, images, tmp_path, monkeypatch):
    """One process, two, and two of Ray compute the same rows to the bit."""
    monkeypatch.setenv("SLIMNETS_ENGINES", str(tmp_path / "models"))
    rows = []
    with_ray = [["2", "--distributor", "ray"]] if importlib.util.find_spec("ray") else []
    for workers in (["1"], ["2"], *with_ray):
        output = tmp_path / "-".join(workers)
        given = ["--checkpoint", tiny, "--end-points", "logits", "--batch-size", "8", "--shards", "4"]
        given += ["--engine", "openvino", "--precision", "int8", "--min-cosine", "0.5", "--threads", "1"]
        assert main(["features", *map(str, (images, "--output", output, *given)), "--workers", *workers]) == 1
        rows.append(load(output).arrays["logits"])
    assert all(np.array_equal(rows[0], one, equal_nan=True) for one in rows[1:])
    assert len([folder for folder in (tmp_path / "models").iterdir() if (folder / "engine.json").exists()]) == 1


def test_a_model_of_another_network_is_refused(tiny, models, reference, tmp_path):
    with extractor_of(tiny, models) as extractor:
        wanted = extractor(reference[0])
        folder = extractor.engine_model.folder
    with extractor_of(tiny, models, engine_model=folder) as extractor:
        found = extractor(reference[0])
    assert all(np.array_equal(found[name], wanted[name]) for name in POINTS)
    other = random_checkpoint(tmp_path / "other.ckpt", "resnet_v2_tiny", 32, num_classes=7)
    for checkpoint, options, what in ((other, {}, "checkpoint"), (tiny, {"pool": "max"}, "pool")):
        with (
            extractor_of(checkpoint, models, engine_model=folder, **options) as extractor,
            pytest.raises(InputError, match=f"was made for another {what}: omit it"),
        ):
            extractor(reference[0])


def test_an_update_keeps_the_ranges_of_the_first_images(tiny, models, images, tmp_path):
    folder = tmp_path / "images"
    shutil.copytree(images, folder)
    with extractor_of(tiny, models, **INT8) as extractor:
        extract(folder, tmp_path / "out", extractor)
        key = extractor.engine_model.key
    shutil.copy(folder / "003.png", folder / "999.png")
    with extractor_of(tiny, models, **INT8) as extractor:
        summary = extract(folder, tmp_path / "out", extractor, update=True)
        assert extractor.engine_model.key == key
    assert summary.reused == 98
    found = load(tmp_path / "out").arrays["logits"]
    assert np.abs(found[100] - found[3]).max() <= 1e-4 * np.nanmax(np.abs(found))


# The engine that is chosen.


def test_auto_is_tensorflow_for_few_images(tiny, models, images):
    with extractor_of(tiny, models, "auto") as extractor:
        extractor(images, errors="nan")
        assert (extractor.engine, extractor.engine_rates) == ("tensorflow", {})


@pytest.mark.parametrize("fastest", ["tensorflow", *ENGINES])
def test_auto_takes_the_fastest_and_a_resumed_job_the_same(tiny, models, images, tmp_path, monkeypatch, fastest):
    monkeypatch.setattr(preparing, "_WORTH_TIMING", 50)
    timed = preparing._timed
    monkeypatch.setattr(preparing, "_SECONDS", 0.01)
    monkeypatch.setattr(
        preparing, "_timed", lambda *given: {name: 1.0 - 0.5 * (name == fastest) for name in timed(*given)}
    )
    with extractor_of(tiny, models, "auto") as extractor:
        extract(images, tmp_path / "out", extractor, shards=2, shard_index=0)
        assert extractor.engine == fastest
        assert extractor.engine_rates == {name: 16.0 if name == fastest else 8.0 for name in ("tensorflow", *ENGINES)}
    monkeypatch.setattr(preparing, "_timed", lambda *given: pytest.fail("timed again"))
    with extractor_of(tiny, models, "auto") as extractor:
        extract(images, tmp_path / "out", extractor)
        assert extractor.engine == fastest
    assert json.loads((tmp_path / "out" / "run.json").read_text())["engine"] == fastest


# What is refused.


def test_engines_that_do_not_exist(tiny):
    sentence = "engine must be one of tensorflow, openvino, onnxruntime, auto, but is 'caffe'."
    with pytest.raises(ValueError, match=re.escape(sentence)):
        FeatureExtractor(tiny, "logits", engine="caffe")


@pytest.mark.parametrize(
    ("engine", "precision", "match"),
    [
        ("tensorflow", "int8", "engine='tensorflow' does not compute in precision='int8'"),
        ("onnxruntime", "bfloat16", "engine='onnxruntime' does not compute in precision='bfloat16'"),
        ("openvino", "float16", "engine='openvino' does not compute in precision='float16'"),
    ],
)
def test_precisions_that_an_engine_does_not_have(tiny, engine, precision, match):
    with pytest.raises(ValueError, match=match):
        FeatureExtractor(tiny, "logits", engine=engine, precision=precision)


@pytest.mark.parametrize(
    ("engine", "precision", "package", "extra"),
    [
        ("openvino", "float32", "openvino", "openvino"),
        ("openvino", "int8", "nncf", "openvino"),
        ("onnxruntime", "float32", "tf2onnx", "onnx"),
    ],
)
def test_a_missing_package(tiny, monkeypatch, engine, precision, package, extra):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == package else find_spec(name, *rest)
    )
    sentence = f"engine='{engine}' requires {package}: pip install 'slimnets[{extra}]'."
    with pytest.raises(ModuleNotFoundError, match=re.escape(sentence)):
        FeatureExtractor(tiny, "logits", engine=engine, precision=precision)


def test_freezing_is_tensorflows(tiny):
    with pytest.raises(ValueError, match="freeze=True applies only to engine='tensorflow'"):
        FeatureExtractor(tiny, "logits", engine="openvino", freeze=True)


def test_the_ways_into_tensorflow_are_closed(tiny, models, reference):
    with extractor_of(tiny, models) as extractor:
        extractor(reference[0])
        for use in (lambda: extractor.tensor("block1"), lambda: extractor.reload(tiny), extractor.frozen):
            with pytest.raises(ValueError, match=r"The network is in the engine openvino, .*with engine="):
                use()


@pytest.mark.parametrize("count", [1, 63])
def test_too_few_images_to_calibrate_with(tiny, models, images, count):
    paths = sorted(images.iterdir())[:count]
    with (
        extractor_of(tiny, models, precision="int8") as extractor,
        pytest.raises(InputError, match=f"at least 64 images of the job .*, but there are {count}: use float32"),
    ):
        extractor([str(path) for path in paths])


def test_images_that_do_not_vary(tiny, models):
    with (
        extractor_of(tiny, models, precision="int8") as extractor,
        pytest.raises(InputError, match="and these are all the same: use float32 or bfloat16"),
    ):
        extractor(np.full([80, 32, 32, 3], 7, np.uint8))


@pytest.mark.full
def test_images_that_cannot_be_decoded(tiny, tmp_path):
    paths = [tmp_path / f"{number}.png" for number in range(3)]
    for path in paths:
        path.write_bytes(b"\x89PNG\r\n\x1a\n and nothing more")
    with (
        extractor_of(tiny, tmp_path / "models") as extractor,
        pytest.raises(
            InputError, match=r"openvino cannot be checked on images of the job, .*: use engine='tensorflow'"
        ),
    ):
        extractor([str(path) for path in paths])
    assert not any((tmp_path / "models").iterdir())


def test_a_gpu_is_tensorflows(tiny, monkeypatch):
    monkeypatch.setattr("tools.runtime.sessions.has_gpu", lambda: True)
    with FeatureExtractor(tiny, "logits", engine="auto") as extractor:
        assert extractor.engine == "tensorflow"


def test_a_cosine_that_is_too_low(tiny, models, images):
    with (
        extractor_of(tiny, models, precision="int8", min_cosine=1.0) as extractor,
        pytest.raises(
            InputError, match=r"in int8 with a mean cosine of 0\.\d+ to float32, less than min_cosine=1: use"
        ),
    ):
        extractor(images, errors="nan")


def test_a_folder_that_cannot_be_written(tiny, reference, tmp_path):
    (tmp_path / "file").touch()
    with (
        extractor_of(tiny, tmp_path / "file") as extractor,
        pytest.warns(UserWarning, match="cannot be kept in .*: this one is made for this run only") as said,
    ):
        found = extractor(reference[0])
        extractor(reference[0])
    assert len(said) == 1
    assert_as_exact(found["logits"], reference[1]["logits"])


def test_a_job_of_another_engine_is_refused(tiny, models, images, tmp_path):
    with FeatureExtractor(tiny, POINTS, batch_size=8) as extractor:
        extract(images, tmp_path / "out", extractor)
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert record.pop("engine") == "tensorflow"
    # As earlier versions wrote it.
    (tmp_path / "out" / "run.json").write_text(json.dumps(record))
    with FeatureExtractor(tiny, POINTS, batch_size=8) as extractor:
        extract(images, tmp_path / "out", extractor)
    with (
        extractor_of(tiny, models) as extractor,
        pytest.raises(InputError, match="engine is openvino and was tensorflow"),
    ):
        extract(images, tmp_path / "out", extractor)


@pytest.mark.numerical
@pytest.mark.full
@ENGINE
def test_digits_in_int8(tmp_path, record_property, engine):
    """The shipped network makes at most two more errors, and its features keep their directions."""
    paths = sorted(held_out_digits(tmp_path / "digits").rglob("*.png"))
    names = [str(path) for path in paths]
    labels = np.array([int(path.parent.name) for path in paths])
    points = ["global_pool", "logits"]
    with FeatureExtractor(CHECKPOINT, points) as extractor:
        wanted = extractor(names)
    with FeatureExtractor(CHECKPOINT, points, engine=engine, precision="int8", engine_dir=tmp_path) as extractor:
        found = extractor(names)
    errors = [int(np.sum(values["logits"].argmax(1) != labels)) for values in (found, wanted)]
    first, second = (values["global_pool"] - values["global_pool"].mean(axis=0) for values in (found, wanted))
    norms = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    cosine = float(np.mean(np.sum(first * second, axis=1) / norms))
    print(f"{engine} int8: {errors[0]} errors, {errors[1]} in float32, cosine {cosine:.4f}")
    record_property("cosine", cosine)
    assert errors[0] <= errors[1] + 2
    assert cosine >= 0.99
