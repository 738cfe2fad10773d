"""Training inside of a framework's loop is watched by one line, and is the same as without."""

import os

import pytest
import torch

from lampwork.data import DataLoader
from lampwork.record.reader import Record
from tests.frameworks.conftest import BATCH, BATCHES, Noisy, loss_of, regression, weights

pytestmark = [
    pytest.mark.filterwarnings("ignore:.* does not have many workers:UserWarning"),
    pytest.mark.filterwarnings("ignore:.isinstance.treespec, LeafSpec.:FutureWarning"),
]


def lightning_module(pl):
    """A class, since only what the test has imported can be its base."""

    class Module(pl.LightningModule):
        """A regression that can be told to fail in its sixth step."""

        def __init__(self, fails=False):
            super().__init__()
            self.model = regression()
            self.fails, self.losses = fails, []

        def training_step(self, batch, number):
            if self.fails and self.global_step == 5:
                raise ArithmeticError("the sixth step")
            loss = loss_of(self.model, batch)
            self.losses.append(loss.item())
            self.log("train_loss", loss)
            return loss

        def validation_step(self, batch, number):
            self.log("held_out", loss_of(self.model, batch))

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.01)

    return Module


def fitted(pl, trainer, module, *callbacks, **options):
    """Fit for two epochs and give the module back."""
    loader = DataLoader(Noisy(), batch_size=BATCH)
    held_out = DataLoader(Noisy(), batch_size=BATCH)
    torch.manual_seed(0)
    fitting = trainer(*callbacks, log_every_n_steps=1, **options)
    fitting.fit(module, loader, held_out)
    return module


def test_lightning_is_watched_and_trains_the_same(trainer, tmp_path, capsys):
    """Rows, losses and logged numbers of every step are recorded, and the weights are equal."""
    pl = pytest.importorskip("pytorch_lightning")
    from lampwork.callbacks.lightning import WatchCallback

    Module = lightning_module(pl)
    bare = fitted(pl, trainer, Module())
    callback = WatchCallback(every=1, dir=tmp_path / "runs", name="fit")
    module = fitted(pl, trainer, Module(), callback)

    assert torch.equal(weights(bare), weights(module))
    record = Record(callback.run.path)
    assert record.meta["finished"]
    assert record.meta["steps"] == 2 * BATCHES
    assert list(record.steps) == list(range(2 * BATCHES))
    assert {"model"} <= {tensor.name for tensor in record.tensors if tensor.kind == "output"}
    assert record.scalar("loss")[1].tolist() == pytest.approx(module.losses)
    assert {"held_out", "train_loss"} <= set(record.scalar_names)
    assert f"lampwork report {callback.run.path}" in capsys.readouterr().err
    assert not any(part._forward_hooks for part in module.modules())


def test_lightning_sums_the_losses_of_accumulated_batches(trainer, tmp_path):
    """With two batches to a step, a step's loss is the sum of what `backward` was called on."""
    pl = pytest.importorskip("pytorch_lightning")
    from lampwork.callbacks.lightning import WatchCallback

    callback = WatchCallback(every=1, dir=tmp_path / "runs", quiet=True)
    module = lightning_module(pl)()
    fitted(pl, trainer, module, callback, accumulate_grad_batches=2)
    pairs = [sum(module.losses[i : i + 2]) / 2 for i in range(0, 2 * BATCHES, 2)]
    assert Record(callback.run.path).scalar("loss")[1].tolist() == pytest.approx(pairs)


def test_a_run_in_lightning_ends_with_an_exception(trainer, tmp_path):
    """The exception is the module's own, and the record is finished."""
    pl = pytest.importorskip("pytorch_lightning")
    from lampwork.callbacks.lightning import WatchCallback

    callback = WatchCallback(every=1, dir=tmp_path / "runs", quiet=True)
    with pytest.raises(ArithmeticError, match="the sixth step"):
        fitted(pl, trainer, lightning_module(pl)(fails=True), callback)
    record = Record(callback.run.path)
    assert record.meta["finished"]
    assert record.meta["steps"] == 5


def test_lightning_trains_on_where_nothing_can_be_recorded(trainer, tmp_path, caplog):
    """A folder that cannot be written costs the record, not the training."""
    pl = pytest.importorskip("pytorch_lightning")
    from lampwork.callbacks.lightning import WatchCallback

    (tmp_path / "runs").write_text("a file")
    callback = WatchCallback(dir=tmp_path / "runs")
    module = fitted(pl, trainer, lightning_module(pl)(), callback)
    assert len(module.losses) == 2 * BATCHES
    assert callback.run is None
    assert "this training is not watched" in caplog.text


def test_the_trainer_of_transformers_is_watched(fresh_accelerate, tmp_path, capsys):
    """What it logs is in the record beside the rows, and the weights are those without us."""
    transformers = pytest.importorskip("transformers")
    from lampwork.callbacks.transformers import WatchCallback
    from tests.frameworks.test_transformers import Sentences, language_model

    def trained(*callbacks):
        model = language_model()
        settings = transformers.TrainingArguments(
            output_dir=str(tmp_path / "out"),
            max_steps=6,
            per_device_train_batch_size=2,
            logging_steps=2,
            report_to=[],
            save_strategy="no",
            use_cpu=True,
            disable_tqdm=True,
        )
        trainer = transformers.Trainer(
            model, settings, train_dataset=Sentences(), callbacks=list(callbacks)
        )
        trainer.train()
        return model

    callback = WatchCallback(every=2, dir=tmp_path / "runs")
    bare, model = trained(), trained(callback)
    assert torch.equal(weights(bare), weights(model))
    record = Record(callback.run.path)
    assert record.meta["finished"]
    assert list(record.steps) == [0, 2, 4]
    assert len(record.scalar("loss")[1]) == 3
    assert "verdict:" in capsys.readouterr().err


def test_a_loop_with_accelerate_is_watched(fresh_accelerate, tmp_path, capsys):
    """From `init_trackers` to `end_training`, with what the loop logs."""
    accelerate = pytest.importorskip("accelerate")
    from lampwork.callbacks.accelerate import WatchTracker

    model = regression()
    tracker = WatchTracker(model, every=1, dir=tmp_path / "runs", name="loop")
    accelerator = accelerate.Accelerator(cpu=True, log_with=tracker)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    prepared, optimizer = accelerator.prepare(model, optimizer)
    accelerator.init_trackers("project", config={"lr": 0.01})
    losses = []
    for batch in DataLoader(Noisy(), batch_size=BATCH):
        loss = loss_of(prepared, batch)
        accelerator.backward(loss)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
        accelerator.log({"loss": losses[-1], "name": "not a number"})
    accelerator.end_training()

    record = Record(tmp_path / "runs" / "loop")
    assert record.meta["finished"]
    assert list(record.steps) == list(range(BATCHES))
    assert record.scalar("loss")[1].tolist() == pytest.approx(losses)
    assert os.listdir(tmp_path) == ["runs"]
    assert "verdict:" in capsys.readouterr().err
