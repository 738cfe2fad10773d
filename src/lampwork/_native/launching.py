"""Starting a compiled Triton kernel through the CUDA driver, without Triton's own launcher.

That launcher binds and checks the arguments of each call in Python, for some 40 µs of the host;
a training step of a large model is read by hundreds of calls. Here the kernel is compiled and first
run by Triton, and then started by the driver's `cuLaunchKernel`. What makes this safe is asked of
the driver: how the kernel's arguments lie. Where anything is not as expected (no C kernels, a
driver before CUDA 12.4, another Triton, not NVIDIA's), `handle` is None, and whoever asks goes on
with Triton's launcher.
"""

from __future__ import annotations

import ctypes
import logging
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

try:
    from lampwork._native._kernels import launch as _launch
except ImportError:  # built without a compiler, or an older build
    _launch = None

log = logging.getLogger("lampwork")

_SPARE = 4  # pointers that launch.c adds behind the arguments
_SHARED = 48 << 10  # bytes; more would have to be asked for


class Driver(NamedTuple):
    """What is called of the CUDA driver.

    Attributes:
        launch: address of `cuLaunchKernel`.
        parameter: `cuFuncGetParamInfo`.
    """

    launch: int
    parameter: Callable[..., int]


class Handle(NamedTuple):
    """A compiled kernel that the driver can start.

    Attributes:
        driver: address of `cuLaunchKernel`.
        function: the driver's handle of it, on one device.
        threads: of each program.
        shared: bytes of shared memory of each program.
        compiled: what keeps it loaded.
    """

    driver: int
    function: int
    threads: int
    shared: int
    compiled: Any


@cache
def _driver() -> Driver:
    library = ctypes.CDLL("libcuda.so.1")
    address = ctypes.cast(library.cuLaunchKernel, ctypes.c_void_p).value
    assert address is not None
    return Driver(address, library.cuFuncGetParamInfo)


def handle(compiled: Any, arguments: int) -> Handle | None:
    """The handle of a compiled kernel all whose arguments are int64.

    Args:
        compiled: what launching it by Triton returned.
        arguments: how many it has.
    """
    if _launch is None:
        return None
    try:
        return _handle(_driver(), compiled, arguments)
    except Exception as error:  # names of Triton's own, that may change; no such library
        log.debug("kernels are started by Triton: %s", error)
        return None


def _handle(driver: Driver, compiled: Any, arguments: int) -> Handle | None:
    facts = compiled.metadata
    function, shared = compiled.function, facts.shared
    unusual = (
        facts.num_ctas != 1
        or facts.launch_cooperative_grid
        or facts.launch_pdl
        or facts.global_scratch_size
        or facts.profile_scratch_size
        or shared > _SHARED
        or type(function) is not int
    )
    if unusual or not _lie_in_a_row(driver, function, arguments):
        return None
    return Handle(driver.launch, function, 32 * facts.num_warps, shared, compiled)


def _lie_in_a_row(driver: Driver, function: int, arguments: int) -> bool:
    """Whether a kernel takes so many numbers of 8 bytes, and at most a few more."""
    sizes = []
    for i in range(arguments + _SPARE + 1):
        offset, size = ctypes.c_size_t(), ctypes.c_size_t()
        status = driver.parameter(
            ctypes.c_void_p(function), ctypes.c_size_t(i), ctypes.byref(offset), ctypes.byref(size)
        )
        if status != 0:
            break
        if offset.value != 8 * i:
            return False
        sizes.append(size.value)
    return arguments <= len(sizes) <= arguments + _SPARE and set(sizes) == {8}


def start(kernel: Handle, stream: int, programs: int, constants: bytes, *numbers: int) -> bool:
    """Start a kernel on a stream of the current device; whether the driver took it.

    Args:
        kernel: what to start.
        stream: the driver's handle of the stream.
        programs: how many.
        constants: the last arguments, as int64.
        numbers: the arguments before them.
    """
    assert _launch is not None
    driver, function, threads, shared, _ = kernel
    return not _launch(driver, function, stream, programs, threads, shared, constants, *numbers)
