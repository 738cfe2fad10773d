"""A dataset of one's own over image files, and every argument of the loader."""

import tempfile
from contextlib import suppress
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
            pixels = torch.from_numpy(np.array(image, dtype=np.float32))
        return pixels[None] / 16, int(self.files[index].stem[-1])


def leave_a_note(folder, worker_id):
    Path(folder, f"worker-{worker_id}").touch()


def main(folder):
    from sklearn.datasets import load_digits  # here: spawned workers import the top of this file

    digits = load_digits()
    for i, label in enumerate(digits.target[:100]):
        Image.fromarray(digits.images[i].astype(np.uint8)).save(f"{folder}/{i:03}-{label}.png")

    dataset = Digits(folder)
    assert lw.data.check(dataset) == []
    loader = lw.DataLoader(dataset, batch_size=64, shuffle=True)
    images, labels = next(iter(loader))  # a loader is iterable, iter() makes the iterator
    assert images.shape == (64, 1, 8, 8)
    with suppress(TypeError):
        raise AssertionError(next(loader))  # not reached: the loader itself is no iterator

    assert [len(y) for _, y in lw.DataLoader(dataset, batch_size=64, drop_last=False)] == [64, 36]
    assert [len(y) for _, y in lw.DataLoader(dataset, batch_size=64, drop_last=True)] == [64]
    assert [len(y) for _, y in lw.DataLoader(dataset, batch_size=9, sampler=[3, 1, 4])] == [3]
    assert [len(y) for _, y in lw.DataLoader(dataset, batch_sampler=[[3, 1], [4]])] == [2, 1]
    with_batches = ({"batch_size": 2}, {"shuffle": True}, {"sampler": [0]}, {"drop_last": True})
    wrong = [{"batch_sampler": [[0]], **also} for also in with_batches]
    for options in [*wrong, {"sampler": [0], "shuffle": True}, {"timeout": -1}]:
        with suppress(ValueError):
            raise AssertionError(lw.DataLoader(dataset, **options))  # not reached: refused

    loader = lw.DataLoader(
        dataset=dataset,
        batch_size=32,
        shuffle=True,
        generator=torch.Generator().manual_seed(0),  # of the order and of the workers' seeds
        collate_fn=torch.utils.data.default_collate,  # a list of samples becomes a batch
        num_workers=2,
        multiprocessing_context="spawn",
        worker_init_fn=partial(leave_a_note, folder),
        prefetch_factor=2,  # batches that each worker loads ahead
        persistent_workers=True,  # the same workers load the next epoch
        pin_memory=torch.cuda.is_available(),  # faster copies to a GPU; useless without one
        timeout=60,  # seconds to wait for a batch; 0 is for ever
        in_order=True,
    )
    for _ in range(2):
        labels = torch.cat([labels for _, labels in loader])
        assert torch.equal(labels.bincount(), torch.tensor(digits.target[:100]).bincount())
    assert {note.name for note in Path(folder).glob("worker-*")} == {"worker-0", "worker-1"}
    print(loader.stats())


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        main(folder)
