"""Lightning's Trainer and Fabric with our loader: they train as with torch's."""

import gc
import multiprocessing

import pytest
import torch
import torch.utils.data as reference

from lampwork.data import DataLoader, DistributedOrder
from tests.frameworks.conftest import (
    BATCH,
    BATCHES,
    LOADERS,
    SIZE,
    WORKERS,
    Noisy,
    loss_of,
    regression,
    shown,
    weights,
)

pl = pytest.importorskip("pytorch_lightning")
fabric = pytest.importorskip("lightning_fabric")
pl_data = pytest.importorskip("pytorch_lightning.utilities.data")

pytestmark = [
    # Python warns of forking beside other threads, such as the one that watches a test's time.
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
    # torch and Lightning have opinions on how many workers the machine that runs this should have.
    pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning"),
    pytest.mark.filterwarnings("ignore:.* does not have many workers:UserWarning"),
    # Lightning 2.6 asks torch 2.13 in a way that is on its way out.
    pytest.mark.filterwarnings("ignore:.isinstance.treespec, LeafSpec.:FutureWarning"),
    # Lightning says that it turns shuffling off for overfit_batches, which is asked for here.
    pytest.mark.filterwarnings("ignore:You requested to overfit:UserWarning"),
]

EXTRAS = {"parallel": "sample", "rng": "keyed", "on_error": "skip", "arena_bytes": 1 << 20}


class Module(pl.LightningModule):
    """Trains a regression and writes down which samples it saw, as (epoch, indices)."""

    def __init__(self):
        super().__init__()
        self.model = regression()
        self.trained = []

    def training_step(self, batch, number):
        self.trained.append((self.current_epoch, batch[1].tolist()))
        return loss_of(self.model, batch)

    def predict_step(self, batch, number):
        return batch[1]

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.01)


class Validated(Module):
    """The same, and what it was validated on."""

    def __init__(self):
        super().__init__()
        self.validated = []

    def validation_step(self, batch, number):
        self.validated.append(batch[1].tolist())


@pytest.mark.parametrize("workers", WORKERS)
def test_trains_as_with_torchs(trainer, workers):
    """Two epochs with validation show the same batches and end with the same weights."""
    ends, loader = [], None
    for cls in LOADERS:
        module = Validated()
        loader = cls(Noisy(), batch_size=BATCH, shuffle=True, **workers)
        held_out = cls(Noisy(), batch_size=5, **workers)
        torch.manual_seed(0)
        trainer().fit(module, loader, held_out)
        ends.append((module.trained, module.validated, weights(module).tolist()))
    theirs, ours = ends
    assert ours == theirs
    assert len(ours[0]) == 2 * BATCHES
    assert isinstance(loader, DataLoader)
    assert loader.stats().batches == BATCHES
    assert loader.stats().engine == ("arena" if workers["num_workers"] else "inline")


def test_seeds_workers_as_with_torchs(trainer):
    """`seed_everything(workers=True)` reaches our workers: Lightning adds a worker_init_fn."""
    ends = []
    for cls in LOADERS:
        loader = cls(Noisy(), batch_size=BATCH, shuffle=True, num_workers=2)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PL_SEED_WORKERS", "1")
            patch.setenv("PL_GLOBAL_SEED", "3")
            module = Module()
            pl.seed_everything(3, workers=True, verbose=False)
            trainer().fit(module, loader)
        assert loader.worker_init_fn is not None
        ends.append((module.trained, weights(module).tolist()))
    assert ends[0] == ends[1]


@pytest.mark.parametrize("workers", WORKERS)
def test_leaves_no_workers_behind(trainer, workers):
    """With the loaders their workers end, as after any epoch; `fit` does not hold on to them."""
    before = set(multiprocessing.active_children())
    loader = DataLoader(Noisy(), batch_size=BATCH, **workers)
    held_out = DataLoader(Noisy(), batch_size=BATCH, **workers)
    trainer().fit(Validated(), loader, held_out)
    assert loader._iterator is None
    del loader, held_out
    gc.collect()
    assert set(multiprocessing.active_children()) <= before


def test_keeps_what_is_ours_when_made_anew():
    """With another sampler, Lightning makes a loader of our class with all that we added."""
    dataset = Noisy()
    for make_anew in (pl_data._update_dataloader, fabric.utilities.data._update_dataloader):
        loader = DataLoader(
            dataset, batch_size=BATCH, shuffle=True, num_workers=1, device="cpu", **EXTRAS
        )
        sampler = reference.DistributedSampler(dataset, num_replicas=2, rank=1, shuffle=False)
        again = make_anew(loader, sampler)
        assert type(again) is DataLoader
        assert {name: getattr(again, name) for name in EXTRAS} == EXTRAS
        assert (again.device, again.num_workers) == (torch.device("cpu"), 1)
        assert shown(again) == [[1, 3, 5], [7, 9, 0]]


@pytest.mark.parametrize("options", [EXTRAS, {"num_workers": "auto"}])
def test_keeps_what_is_ours_when_made_in_a_hook(trainer, options):
    """The same where Lightning recorded the arguments as the module's own hook passed them."""

    class Own(Module):
        def train_dataloader(self):
            return DataLoader(Noisy(), BATCH, shuffle=True, **options)

    module = Own()
    # `overfit_batches` puts another sampler in, as distributed training does.
    fitted = trainer(overfit_batches=2)
    fitted.fit(module)
    assert type(fitted.train_dataloader) is DataLoader
    asked = DataLoader(Noisy(), **options)
    assert {name: getattr(fitted.train_dataloader, name) for name in options} == {
        name: getattr(asked, name) for name in options
    }
    assert module.trained == [(e, rows) for e in (0, 1) for rows in ([0, 1, 2], [3, 4, 5])]


def test_shares_no_workers_with_its_original():
    """A loader that was used in the hook and is then made anew shows its own batches.

    Lightning records attributes that are set while a hook runs, and sets them on the new loader.
    """
    with fabric.utilities.data._replace_dunder_methods(reference.DataLoader, "dataset"):
        loader = DataLoader(Noisy(), batch_size=BATCH, num_workers=2)
        whole = shown(loader)
    again = pl_data._update_dataloader(loader, reference.SequentialSampler(range(SIZE)))
    fresh = DataLoader(Noisy(), batch_size=BATCH, num_workers=2)
    assert again.state_dict() == fresh.state_dict()
    ours, its = iter(loader), iter(again)
    pairs = [(next(ours)[1].tolist(), next(its)[1].tolist()) for _ in range(BATCHES)]
    assert pairs == [(rows, rows) for rows in whole]


@pytest.mark.parametrize("workers", [0, 2])
def test_predicts_every_sample(trainer, workers):
    """`predict` makes the loader anew without drop_last, and knows the indices of each batch."""
    told = []

    class Keep(pl.callbacks.BasePredictionWriter):
        def write_on_epoch_end(self, trainer, module, predictions, batch_indices):
            told.append(batch_indices)

    loader = DataLoader(Noisy(), batch_size=4, drop_last=True, num_workers=workers)
    predicted = trainer(Keep("epoch")).predict(Module(), loader)
    rows = [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10]]
    assert [batch.tolist() for batch in predicted] == rows
    assert told == [[rows]]


@pytest.mark.parametrize("workers", [0, 2])
def test_fabric_shows_what_torchs_shows(workers):
    """Fabric's wrapper yields torch's batches from our loader, epoch after epoch."""
    seen = []
    for cls in LOADERS:
        loader = cls(Noisy(), batch_size=BATCH, shuffle=True, num_workers=workers)
        wrapped = fabric.Fabric(accelerator="cpu", devices=1).setup_dataloaders(loader)
        torch.manual_seed(0)
        seen.append([[x.tolist(), y.tolist()] for _ in range(2) for x, y in wrapped])
    assert seen[0] == seen[1]


class ByEpoch(reference.Sampler):
    """Another order in each epoch, as it is told with `set_epoch`."""

    epoch = 0

    def set_epoch(self, epoch):
        self.epoch = epoch

    def __iter__(self):
        generator = torch.Generator().manual_seed(self.epoch)
        return iter(torch.randperm(SIZE, generator=generator).tolist())

    def __len__(self):
        return SIZE


def dealt():
    """Torch's sampler of that kind."""
    return reference.DistributedSampler(Noisy(), num_replicas=1, rank=0)


@pytest.mark.parametrize("sampler", [ByEpoch, dealt])
def test_the_epoch_may_be_told_after_iter(sampler):
    """Without workers, `set_epoch` between `iter` and the first batch still counts, as in torch."""
    seen = []
    for cls in LOADERS:
        order = sampler()
        iterator = iter(cls(Noisy(), batch_size=BATCH, sampler=order))
        order.set_epoch(3)
        seen.append(shown(iterator))
    assert seen[0] == seen[1]


def test_our_order_over_ranks_is_dealt_once():
    """Lightning sees that a `DistributedOrder` is sharded already, and leaves it alone."""
    order = DistributedOrder(Noisy(), num_replicas=2, rank=0)
    loader = DataLoader(Noisy(), batch_size=BATCH, sampler=order)
    connector = pl.Trainer(
        accelerator="cpu", devices=1, logger=False, enable_checkpointing=False
    )._data_connector
    with pytest.MonkeyPatch.context() as patch:
        kind = type(connector.trainer._accelerator_connector)
        patch.setattr(kind, "is_distributed", property(lambda self: True))
        assert not connector._requires_distributed_sampler(loader)
