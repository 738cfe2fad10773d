"""The functions of csrc/, one file after the other; pointers are plain ints."""

from typing_extensions import Buffer

# copy.c
def stack(to: int, addresses: Buffer, size: int, /) -> None: ...
