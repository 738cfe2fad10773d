"""The Trainer of transformers with our loader, by itself or inside of what accelerate prepares."""

import functools
import os

import pytest
import torch
import torch.utils.data as reference

from lampwork.data import DataLoader
from tests.frameworks.conftest import LOADERS, loads_with_ours

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # read when the module is imported
transformers = pytest.importorskip("transformers")
pytest.importorskip("accelerate")

pytestmark = [
    pytest.mark.usefixtures("fresh_accelerate"),
    # Python warns of forking beside other threads, such as the one that watches a test's time.
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
    # torch warns where the machine has fewer cores than a test has workers.
    pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning"),
]

SIZE, BATCH, BATCHES = 11, 2, 6


class Sentences(reference.Dataset):
    """Four tokens each, of which the first tells the number of the sample."""

    def __len__(self):
        return SIZE

    def __getitem__(self, index):
        tokens = torch.arange(4) + index
        return {"input_ids": tokens, "labels": tokens}


def language_model():
    """A GPT-2 of some thousand parameters, always the same."""
    torch.manual_seed(7)
    return transformers.GPT2LMHeadModel(
        transformers.GPT2Config(
            vocab_size=16,
            n_positions=8,
            n_embd=8,
            n_layer=1,
            n_head=1,
            bos_token_id=0,
            eos_token_id=0,
        )
    )


class Trainer(transformers.Trainer):
    """Trains and evaluates with loaders that `make_loader` makes, and notes what it trains on."""

    make_loader = None

    def get_train_dataloader(self):
        if self.make_loader is None:
            return super().get_train_dataloader()
        return self.make_loader(self, self.train_dataset, shuffle=True)

    def get_eval_dataloader(self, eval_dataset=None):
        if self.make_loader is None:
            return super().get_eval_dataloader(eval_dataset)
        return self.make_loader(self, self.eval_dataset)

    def training_step(self, model, inputs, *args):
        self.trained.append(inputs["input_ids"][:, 0].tolist())
        return super().training_step(model, inputs, *args)


def bare(cls, workers, trainer, dataset, **options):
    """The loader itself: the Trainer moves batches to the device, and shards nothing."""
    return cls(
        dataset,
        batch_size=BATCH,
        collate_fn=trainer.data_collator,
        num_workers=workers,
        **options,
    )


def prepared(cls, workers, trainer, dataset, **options):
    """The loader as accelerate prepares it for any number of processes."""
    loader = bare(cls, workers, trainer, dataset, **options)
    made = trainer.accelerator.prepare(loader)
    return loads_with_ours(made, loader) if cls is DataLoader else made


@pytest.fixture
def fit(tmp_path):
    """Trains for two epochs; tells what was trained on, the weights, and the trainer."""

    def run(make_loader=None, resume=None, **options):
        arguments = transformers.TrainingArguments(
            output_dir=str(tmp_path),
            num_train_epochs=2,
            per_device_train_batch_size=BATCH,
            per_device_eval_batch_size=BATCH,
            learning_rate=0.01,
            report_to=[],
            disable_tqdm=True,
            use_cpu=True,
            logging_strategy="no",
            **{"save_strategy": "no", **options},
        )
        trainer = Trainer(
            model=language_model(),
            args=arguments,
            train_dataset=Sentences(),
            eval_dataset=Sentences(),
        )
        trainer.make_loader, trainer.trained = make_loader, []
        trainer.train(resume_from_checkpoint=resume)
        parameters = [p.detach().flatten() for p in trainer.model.parameters()]
        return trainer.trained, torch.cat(parameters).tolist(), trainer

    return run


def test_the_trainer_itself_trains(fit):
    """Left alone, the Trainer learns from every sample in each epoch: the ground we stand on."""
    trained, _, trainer = fit()
    for epoch in (trained[:BATCHES], trained[BATCHES:]):
        assert sorted(index for rows in epoch for index in rows) == list(range(SIZE))
    loss = trainer.evaluate()["eval_loss"]
    trainer.model.load_state_dict(language_model().state_dict())
    assert loss < trainer.evaluate()["eval_loss"]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("way", [bare, prepared])
def test_trains_as_with_torchs(fit, way, workers):
    """Batches, weights and evaluation are those of torch's loader, and our engine loads."""
    theirs, ours = (fit(functools.partial(_loader, way, cls, workers)) for cls in LOADERS)
    assert ours[:2] == theirs[:2]
    assert ours[2].evaluate()["eval_loss"] == theirs[2].evaluate()["eval_loss"]
    loader = ours[2].callback_handler.train_dataloader
    assert loader.stats().engine == ("arena" if workers else "inline")
    assert loader.stats().samples == SIZE


def _loader(way, cls, workers, trainer, dataset, **options):
    return way(cls, workers, trainer, dataset, **options)


@pytest.mark.parametrize(("step", "workers"), [(2, 0), (8, 2)])
def test_resumes_to_the_same_weights(fit, tmp_path, step, workers):
    """Resumed from a checkpoint in mid-epoch, training ends with the weights of an unbroken run."""
    make = functools.partial(_loader, prepared, DataLoader, workers)
    trained, end, _ = fit(make, save_strategy="steps", save_steps=step)
    torch.manual_seed(99)
    rest, again, trainer = fit(make, resume=str(tmp_path / f"checkpoint-{step}"))
    assert rest == trained[step:]
    assert again == end
    loader = trainer.callback_handler.train_dataloader
    assert loader.stats().batches == (BATCHES if step < BATCHES else 0)


def test_a_resumed_epoch_loads_with_torchs_engine(fit, tmp_path, monkeypatch):
    """To skip what was trained on, the Trainer makes a loader of torch's class for that epoch."""
    classes = []
    skip = transformers.trainer.skip_first_batches

    def noting(loader, count):
        skipped = skip(loader, count)
        classes.append(type(skipped.base_dataloader))
        return skipped

    monkeypatch.setattr(transformers.trainer, "skip_first_batches", noting)
    make = functools.partial(_loader, prepared, DataLoader, 0)
    fit(make, save_strategy="steps", save_steps=2)
    fit(make, resume=str(tmp_path / "checkpoint-2"))
    assert classes == [reference.DataLoader]
