"""Kernels that the driver starts; without a device, a driver that runs Triton's interpreter."""

import ctypes
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from lampwork._native.collected import Collected

pytest.importorskip("triton")
pytest.importorskip("lampwork._native._kernels")
from lampwork._native import launching, stats_cuda
from lampwork._native import stats_triton as kernels

ADDRESS, STREAM = ctypes.c_void_p, ctypes.c_void_p
LAUNCH = ctypes.CFUNCTYPE(
    ctypes.c_int,
    ADDRESS,
    *[ctypes.c_uint] * 7,
    STREAM,
    ctypes.POINTER(ctypes.POINTER(ctypes.c_int64)),
    ADDRESS,
)
needs_interpreter = pytest.mark.skipif(
    torch.cuda.is_available(), reason="the kernels are compiled for the device"
)


class Driver:
    """Runs what it is told to start, and keeps how it was started."""

    def __init__(self, monkeypatch, status=0):
        self.status, self.started = status, []
        self.call = LAUNCH(self.launch)
        self.variants = {}
        monkeypatch.setattr(stats_cuda, "_plans", {})
        monkeypatch.setattr(stats_cuda, "_variants", {})

    def launch(self, function, x, y, z, width, height, depth, shared, stream, arguments, extra):
        self.started.append((function, (x, y, z), (width, height, depth), shared, stream, extra))
        if self.status == 0:
            count = stats_cuda._ARGUMENTS
            numbers = [arguments[i][0] for i in range(count)]
            assert [arguments[count + i][0] for i in range(4)] == [0] * 4
            variant = self.variants[function]
            kernels.read_one[(x,)](*numbers, **variant.options, num_warps=stats_cuda.WARPS)
        return self.status

    def take_over(self):
        """All kernels that have been built are started here from now on."""
        address = ctypes.cast(self.call, ctypes.c_void_p).value
        for number, variant in enumerate(stats_cuda._variants.values(), start=7):
            self.variants[number] = variant
            variant.handle = launching.Handle(address, number, 256, 512, None)


def tensors():
    """Different types and layouts: aligned or not, with channels and without."""
    x = torch.randn(3, 5, 4, 7, generator=torch.Generator().manual_seed(0))
    x[:, 2] = 0
    yield x, 1
    yield x.to(memory_format=torch.channels_last).bfloat16(), 1
    yield x.flatten()[1:200].double(), None
    yield torch.arange(-70, 50), None
    yield x[:, :, 0, :5], 1  # with gaps, of which a copy is read


def rows_and_flags():
    """Of all tensors, brought here."""
    found = [stats_cuda.read(tensor, dim) for tensor, dim in tensors()]
    collected = Collected([row for row, _ in found], [f for _, f in found if f is not None])
    return collected.rows(), [flags.tolist() for flags in collected.flags()]


@needs_interpreter
def test_the_driver_gets_what_triton_gets(monkeypatch):
    """A kernel that is started by the driver has the arguments that Triton gives it."""
    driver = Driver(monkeypatch)
    rows, flags = rows_and_flags()
    assert not driver.started
    driver.take_over()
    again, flags_again = rows_and_flags()
    assert len(driver.started) == len(rows) == 5
    np.testing.assert_array_equal(again, rows)
    assert flags == flags_again
    assert flags[0] == [True, True, False, True, True]
    for function, grid, block, shared, _, extra in driver.started:
        assert (block, shared, extra) == ((256, 1, 1), 512, None)
        assert function in driver.variants
        assert grid[0] >= 2
        assert grid[1:] == (1, 1)


@needs_interpreter
def test_what_the_driver_refuses_is_started_by_triton(monkeypatch):
    """Without a context on this thread the driver refuses; no row is lost."""
    driver = Driver(monkeypatch, status=201)
    rows, flags = rows_and_flags()
    driver.take_over()
    again, flags_again = rows_and_flags()
    assert len(driver.started) == 5
    np.testing.assert_array_equal(again, rows)
    assert flags == flags_again


METADATA = {
    "num_ctas": 1,
    "num_warps": 8,
    "shared": 512,
    "launch_cooperative_grid": False,
    "launch_pdl": False,
    "global_scratch_size": 0,
    "profile_scratch_size": 0,
}


def handle(monkeypatch, sizes, *, function=99, **metadata):
    """Of a kernel whose arguments have these sizes, as its driver tells."""

    def parameter(its, i, offset, size):
        assert its.value == function
        if i.value >= len(sizes):
            return 1
        offset._obj.value, size._obj.value = sum(sizes[: i.value]), sizes[i.value]
        return 0

    monkeypatch.setattr(launching, "_driver", lambda: launching.Driver(1234, parameter))
    compiled = SimpleNamespace(metadata=SimpleNamespace(**(METADATA | metadata)), function=function)
    return launching.handle(compiled, 15)


@pytest.mark.parametrize("spare", [0, 2, 4])
def test_a_kernel_of_numbers_has_a_handle(monkeypatch, spare):
    """Fifteen numbers, and the few null pointers that Triton puts behind them."""
    found = handle(monkeypatch, [8] * (15 + spare))
    assert found[:4] == (1234, 99, 256, 512)


@pytest.mark.parametrize(
    ("sizes", "facts"),
    [
        ([8] * 14, {}),
        ([8] * 20, {}),
        ([8] * 14 + [4], {}),
        ([4] + [8] * 14, {}),
        ([8] * 15 + [128], {}),
        ([8] * 17, {"global_scratch_size": 64}),
        ([8] * 17, {"num_ctas": 2}),
        ([8] * 17, {"launch_pdl": True}),
        ([8] * 17, {"shared": 100_000}),
        ([8] * 17, {"function": "another kind of handle"}),
    ],
)
def test_an_unexpected_kernel_has_none(monkeypatch, sizes, facts):
    """What does not lie as expected, or asks for more, is left to Triton."""
    assert handle(monkeypatch, sizes, **facts) is None


def test_without_a_driver_there_is_no_handle(monkeypatch):
    """Neither a missing library nor another Triton is an error."""

    def missing():
        raise OSError("libcuda.so.1: cannot open shared object file")

    monkeypatch.setattr(launching, "_driver", missing)
    assert launching.handle(SimpleNamespace(metadata=None), 15) is None


def test_too_many_arguments_are_an_error():
    """Nothing is written behind the table of arguments."""
    with pytest.raises(ValueError, match="at most 32"):
        launching._launch(0, 0, 0, 1, 1, 0, bytes(8 * 30), 1, 2, 3)
    with pytest.raises(TypeError, match="at least 7"):
        launching._launch(0, 0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_device_s_driver_starts_all_kernels(monkeypatch):
    """Rows are the same bits whoever starts the kernel, on other streams and threads too."""
    monkeypatch.setattr(stats_cuda, "_variants", {})
    monkeypatch.setattr(stats_cuda, "_plans", {})
    given = [(x.cuda(), dim) for x, dim in tensors()]

    def rows():
        return Collected([stats_cuda.read(x, dim)[0] for x, dim in given]).rows()

    by_triton = rows()
    assert all(variant.handle is not None for variant in stats_cuda._variants.values())
    monkeypatch.setattr(stats_cuda, "_run_by_triton", None)
    np.testing.assert_array_equal(rows(), by_triton)
    torch.cuda.synchronize()
    with torch.cuda.stream(torch.cuda.Stream()), ThreadPoolExecutor(1) as other:
        np.testing.assert_array_equal(rows(), by_triton)
        monkeypatch.undo()  # on a thread without a context Triton makes one
        np.testing.assert_array_equal(other.submit(rows).result(), by_triton)
