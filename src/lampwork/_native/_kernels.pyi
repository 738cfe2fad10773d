"""The functions of csrc/, one file after the other; pointers are plain ints."""

from typing_extensions import Buffer

# copy.c
def stack(to: int, addresses: Buffer, size: int, /) -> None: ...

# stats.c
def summary(
    address: int,
    type: int,
    shape: tuple[int, ...],
    strides: tuple[int, ...],
    threads: int,
    dim: int,
    /,
) -> tuple[bytes, bytes | None]: ...

# batch.c
def summaries(jobs: Buffer, threads: int, /) -> bytes: ...
def same(jobs: Buffer, /) -> bytes: ...

# launch.c
def launch(
    driver: int,
    function: int,
    stream: int,
    programs: int,
    threads: int,
    shared: int,
    constants: bytes,
    /,
    *numbers: int,
) -> int: ...

# philox.c
def philox_fill(
    kind: int,
    type: int,
    address: int,
    key: int,
    stream: int,
    offset: int,
    sizes: list[int],
    strides: list[int],
    numbers: tuple[float, ...],
    threads: int,
    /,
) -> None: ...

# reflections.c
def multiply_reflections(
    drawn: int,
    size: int,
    to: int,
    rows: int,
    columns: int,
    row_step: int,
    column_step: int,
    threads: int,
    /,
) -> None: ...
