"""Tests that operations without a kernel are found, on the processor, whose kernels every build has."""

import pytest
from tensorflow.core.framework import kernel_def_pb2
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


def test_a_build_without_kernels_for_the_device(capsys):
    assert kernels.main(["TPU"]) == 1
    assert "is a build without kernels for TPU: install tensorflow[and-cuda]" in capsys.readouterr().out
