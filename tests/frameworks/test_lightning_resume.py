"""Lightning's checkpoints with our loader: training goes on where it was, in mid-epoch too.

All of this rests on `DataLoader.state_dict` and `load_state_dict`, which Lightning saves and loads
with its checkpoints; torch's loader has none.
"""

import pytest
import torch
import torch.utils.data as reference

from lampwork.data import DataLoader
from tests.frameworks.conftest import BATCH, BATCHES, SIZE, Noisy
from tests.frameworks.test_lightning import ByEpoch, Module, Validated, dealt

pl = pytest.importorskip("pytorch_lightning")

pytestmark = [
    # Python warns of forking beside other threads, such as the one that watches a test's time.
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
    # torch and Lightning have opinions on how many workers the machine that runs this should have.
    pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning"),
    pytest.mark.filterwarnings("ignore:.* does not have many workers:UserWarning"),
    # Lightning 2.6 asks torch 2.13 in a way that is on its way out.
    pytest.mark.filterwarnings("ignore:.isinstance.treespec, LeafSpec.:FutureWarning"),
]


class SaveAt(pl.Callback):
    """Saves a checkpoint at one hook, once so many steps have been taken."""

    def __init__(self, hook, step, path):
        self.step, self.path = step, path
        setattr(self, hook, self._save)

    def _save(self, trainer, *args):
        if trainer.global_step == self.step:
            trainer.save_checkpoint(self.path)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("step", [1, 3, 6])
def test_resumes_within_an_epoch(trainer, tmp_path, workers, step):
    """From a checkpoint in mid-epoch exactly the rest of the epoch is trained on, then whole ones.

    The number of workers may be another one, and the random state is.
    """
    path = tmp_path / "mid.ckpt"
    loader = DataLoader(Noisy(), batch_size=BATCH, shuffle=True, num_workers=workers)
    whole = Module()
    trainer(SaveAt("on_train_batch_end", step, path), max_epochs=3).fit(whole, loader)
    torch.manual_seed(99)
    again = DataLoader(Noisy(), batch_size=BATCH, shuffle=True, num_workers=2 - workers)
    resumed = Module()
    trainer(max_epochs=3).fit(resumed, again, ckpt_path=path)
    assert_resumed(resumed, whole, step)


def assert_resumed(resumed, whole, step):
    """The rest of the epoch is the same, and each later epoch has every sample once."""
    epoch = step // BATCHES
    rest = BATCHES - step % BATCHES
    assert resumed.trained[:rest] == whole.trained[step:][:rest]
    later = resumed.trained[rest:]
    assert [e for e, _ in later] == [e for e in range(epoch + 1, 3) for _ in range(BATCHES)]
    for start in range(0, len(later), BATCHES):
        seen = [index for _, rows in later[start : start + BATCHES] for index in rows]
        assert sorted(seen) == list(range(SIZE))


EMPTY_REST = pytest.mark.xfail(reason="what is left after the last batch is an empty epoch")


@pytest.mark.parametrize(
    "hook",
    [
        pytest.param("on_train_batch_end", marks=EMPTY_REST),
        "on_validation_end",
        "on_train_epoch_end",
    ],
)
@pytest.mark.parametrize("workers", [0, 2])
def test_resumes_after_an_epoch(trainer, tmp_path, workers, hook):
    """From a checkpoint at the end of an epoch all later epochs are whole; none is skipped.

    Lightning counts batches: with its last batch an epoch is over, and the loader is not asked
    for more.
    """
    path = tmp_path / "end.ckpt"
    held_out = reference.DataLoader(Noisy())
    options = {"num_sanity_val_steps": 0}
    loader = DataLoader(Noisy(), batch_size=BATCH, shuffle=True, num_workers=workers)
    trainer(SaveAt(hook, BATCHES, path), **options).fit(Validated(), loader, held_out)
    resumed = Validated()
    again = DataLoader(Noisy(), batch_size=BATCH, shuffle=True, num_workers=workers)
    trainer(max_epochs=3, **options).fit(resumed, again, held_out, ckpt_path=path)
    assert [epoch for epoch, _ in resumed.trained] == [1] * BATCHES + [2] * BATCHES


@pytest.mark.parametrize(
    ("sampler", "workers"),
    [(dealt, 0), (dealt, 2), (ByEpoch, 0), (ByEpoch, 2)],
)
def test_resumes_the_order_of_its_epoch(trainer, tmp_path, sampler, workers):
    """A sampler with `set_epoch` resumes in its epoch, though Lightning tells it late which."""
    path = tmp_path / "mid.ckpt"
    step = BATCHES + 1
    whole, resumed = Module(), Module()
    loader = DataLoader(Noisy(), batch_size=BATCH, sampler=sampler(), num_workers=workers)
    trainer(SaveAt("on_train_batch_end", step, path)).fit(whole, loader)
    again = DataLoader(Noisy(), batch_size=BATCH, sampler=sampler(), num_workers=workers)
    trainer().fit(resumed, again, ckpt_path=path)
    assert resumed.trained == whole.trained[step:]
