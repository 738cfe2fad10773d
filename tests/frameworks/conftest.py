"""Data and models small enough to be trained in an instant, and torch's loader to compare with."""

import os

import pytest
import torch
import torch.utils.data as reference

from lampwork.data import DataLoader

SIZE = 11
BATCH = 3
BATCHES = 4  # of 3, 3, 3 and 2 samples

LOADERS = (reference.DataLoader, DataLoader)
WORKERS = [
    pytest.param({"num_workers": 0}, id="inline"),
    pytest.param({"num_workers": 2}, id="workers"),
    pytest.param({"num_workers": 2, "persistent_workers": True}, id="persistent"),
]


class Noisy(reference.Dataset):
    """Samples that their number can be told from, with noise from torch's generator."""

    def __len__(self):
        return SIZE

    def __getitem__(self, index):
        return torch.rand(4) + index, index


def regression():
    """A model whose weights tell, to the last bit, what it was trained on and in which order."""
    torch.manual_seed(7)
    return torch.nn.Linear(4, 1)


def loss_of(model, batch):
    """What the model is trained to make small: to tell the number of each sample."""
    x, y = batch
    return (model(x).squeeze(1) - y).square().mean()


def weights(model):
    """All parameters in one row."""
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def shown(batches):
    """The numbers of the samples, batch by batch."""
    return [y.tolist() for _, y in batches]


def loads_with_ours(prepared, loader):
    """Give what accelerate prepared the engine that it took away; any user can write this.

    `prepare` copies dataset, samplers and arguments into a loader of torch's own class, and keeps
    it as `base_dataloader`. One of ours takes its place, over the samplers that accelerate made.
    """
    base = DataLoader(
        prepared.dataset,
        batch_sampler=prepared.batch_sampler,
        num_workers=loader.num_workers,
        collate_fn=loader.collate_fn,
        generator=loader.generator,
        persistent_workers=loader.persistent_workers,
        rng=loader.rng,
        on_error=loader.on_error,
    )
    prepared.base_dataloader = base
    prepared.use_stateful_dataloader = True  # so that `save_state` asks for its state
    prepared.dl_state_dict = base.state_dict()
    return prepared


@pytest.fixture(autouse=True)
def one_thread():
    """Models as small as these are slowed down by threads, the more so beside workers."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def trainer(tmp_path):
    """Makes a quiet Lightning Trainer for two epochs on the CPU."""
    lightning = pytest.importorskip("pytorch_lightning")
    quiet = ("logger", "enable_progress_bar", "enable_model_summary", "enable_checkpointing")

    def make(*callbacks, **options):
        return lightning.Trainer(
            **{"max_epochs": 2, "accelerator": "cpu", "devices": 1, "callbacks": list(callbacks)}
            | {"default_root_dir": tmp_path}
            | dict.fromkeys(quiet, False)
            | options
        )

    return make


@pytest.fixture
def fresh_accelerate(monkeypatch):
    """Accelerate without the state that it keeps from one accelerator to the next, and offline."""
    state = pytest.importorskip("accelerate.state")
    monkeypatch.setitem(os.environ, "HF_HUB_OFFLINE", "1")
    monkeypatch.setitem(os.environ, "ACCELERATE_USE_CPU", "true")
    _forget(state)
    yield
    _forget(state)


def _forget(state):
    state.AcceleratorState._reset_state(reset_partial_state=True)
    state.GradientState._reset_state()
