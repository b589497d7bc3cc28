"""Tests that operations without a kernel are found, on the processor, whose kernels every build has."""

import pytest
from tensorflow.core.framework import kernel_def_pb2, node_def_pb2
from tensorflow.python.framework import kernels as registry

from tools.benchmarks.scripts import kernels

TINY = "resnet_v2_tiny"


def test_the_processor_has_all_kernels():
    assert kernels.missing_kernels("CPU", [TINY]) == []


@pytest.mark.parametrize(("removed", "dtypes"), [(None, ["float16", "float32"]), ("float16", ["float16"])])
def test_missing_kernels_are_named(monkeypatch, removed, dtypes):
    """Without any kernel of an operation, and without that of one type."""
    of_op = registry.get_registered_kernels_for_op

    def fewer(name):
        found = of_op(name)
        if name != "Conv2D":
            return found
        kept = kernel_def_pb2.KernelList()
        for kernel in found.kernel if removed else ():
            types = [value for constraint in kernel.constraint for value in constraint.allowed_values.list.type]
            if kernels.HALF not in types:
                kept.kernel.append(kernel)
        return kept

    monkeypatch.setattr(registry, "get_registered_kernels_for_op", fewer)
    found = kernels.missing_kernels("CPU", [TINY])
    assert [(one.op, one.dtype, one.networks) for one in found] == [("Conv2D", dtype, (TINY,)) for dtype in dtypes]


@pytest.mark.parametrize(
    ("op", "device", "missing"),
    [
        ("TPUExecute", "CPU", True),
        ("DecodeJpeg", "GPU", True),  # no build decodes images on a GPU
        ("DecodeJpeg", "CPU", False),
        ("Reshape", "GPU", False),  # registered by every build
        ("Const", "GPU", False),  # by the kernels for every device
        ("VarHandleOp", "GPU", False),
    ],
)
def test_an_operation_on_a_device(op, device, missing):
    node = node_def_pb2.NodeDef(name="node", op=op)
    for name in ("T", "dtype"):
        node.attr[name].type = kernels.FLOAT
    found = {dtype for _, dtype in kernels.without_kernels([node], device)}
    assert found == ({"float16", "float32"} if missing else set())


def test_a_list_of_types_fits_as_a_whole():
    kernel = kernel_def_pb2.KernelDef(op="Fake", device_type="CPU")
    kernel.constraint.add(name="T").allowed_values.list.type.append(kernels.FLOAT)
    node = node_def_pb2.NodeDef(name="node", op="Fake")
    node.attr["T"].list.type.extend([kernels.FLOAT, kernels.HALF])
    assert not kernels._fits(kernel, kernels._types(node))
    del node.attr["T"].list.type[1]
    assert kernels._fits(kernel, kernels._types(node))
    kernel.label = "experimental"
    assert not kernels._fits(kernel, kernels._types(node))


def test_summaries_do_not_count():
    """The CIFAR networks keep histograms of their activations, which only the processor can."""
    assert "HistogramSummary" not in {node.op for node in kernels.operations("resnet_cifar_20", is_training=True)}


def test_a_build_without_kernels_for_the_device(capsys):
    assert kernels.main(["TPU"]) == 1
    assert "is a build without kernels for TPU: install tensorflow[and-cuda]" in capsys.readouterr().out


def test_some_networks(capsys):
    assert kernels.main(["CPU", TINY, "resnet_cifar_20"]) == 0
    stdout, stderr = capsys.readouterr()
    assert stdout.endswith(": 2 networks, 0 operations without a kernel\n")
    assert stderr == f"{TINY} ...\nresnet_cifar_20 ...\n"


def test_a_missing_kernel_fails(monkeypatch, capsys):
    monkeypatch.setattr(kernels, "_fits", lambda kernel, types: kernel.op != "MaxPool")
    assert kernels.main(["CPU", TINY]) == 1
    assert f"MaxPool in float32 has no kernel for CPU: {TINY}\n" in capsys.readouterr().out


def test_an_unknown_network(capsys):
    assert kernels.main(["CPU", "resnet"]) == 2
    assert capsys.readouterr().err.startswith("There is no network resnet: choose from resnet_v1_50, ")


@pytest.mark.full
def test_all_networks(capsys):
    assert kernels.main(["CPU"]) == 0
