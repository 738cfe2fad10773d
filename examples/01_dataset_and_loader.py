"""A dataset of one's own over image files, and every argument of the loader."""

import multiprocessing
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import lampwork as lw


class Digits(torch.utils.data.Dataset):
    def __init__(self, folder):
        self.files = sorted(Path(folder).glob("*.png"))  # 042-7.png is number 42 and shows a 7

    def __len__(self):
        return len(self.files)

    def __getitem__(self, index):
        with Image.open(self.files[index]) as image:
            return np.array(image, dtype=np.float32) / 16, int(self.files[index].stem[-1])


def refused(error, function, *args, **options):
    try:
        return not function(*args, **options)
    except error:
        return True


if __name__ == "__main__":  # workers that are spawned import this file and shall not run it
    with tempfile.TemporaryDirectory() as folder:
        from sklearn.datasets import load_digits  # here, as spawned workers import the top

        digits = load_digits()
        for i, label in enumerate(digits.target[:100]):
            Image.fromarray(digits.images[i].astype(np.uint8)).save(f"{folder}/{i:03}-{label}.png")
        assert lw.data.check(Digits(folder)) == []  # or what is wrong with it, and the cure
        load = partial(lw.DataLoader, dataset=Digits(folder))
        assert len(next(iter(load(batch_size=64, shuffle=True)))[0]) == 64  # a loader is iterable
        assert refused(TypeError, next, load())  # but it is no iterator
        assert [len(y) for _, y in load(batch_size=64, drop_last=False)] == [64, 36]
        assert [len(y) for _, y in load(batch_size=64, drop_last=True)] == [64]
        for also in ({"batch_size": 2}, {"shuffle": True}, {"sampler": [0]}, {"drop_last": True}):
            assert refused(ValueError, load, batch_sampler=[[3, 1], [4]], **also)
        assert refused(ValueError, load, sampler=[3, 1, 4], shuffle=True)
        assert refused(ValueError, load, timeout=-1)
        numbers = multiprocessing.get_context("spawn").SimpleQueue()  # each worker puts its own
        how = {"num_workers": 2, "worker_init_fn": numbers.put, "timeout": 60, "in_order": True}
        how |= {"multiprocessing_context": "spawn", "prefetch_factor": 2}
        how |= {"persistent_workers": True, "pin_memory": torch.cuda.is_available()}
        how |= {"generator": torch.Generator(), "collate_fn": torch.utils.data.default_collate}
        loader = load(batch_size=32, shuffle=True, **how)
        assert sum(len(labels) for _, labels in loader) == 100
        assert {numbers.get(), numbers.get()} == {0, 1}
        print(loader.stats())
