"""Findings about what the batches hold: their values, their classes, their order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from lampwork.diagnose.criterion import batches, criteria, targets
from lampwork.diagnose.curve import training_loss
from lampwork.diagnose.finding import Finding, plain
from lampwork.diagnose.layers import is_norm
from lampwork.record.reader import Loader, Record
from lampwork.record.schema import Tensor

UNSCALED = 20.0
"""Root mean square of an input from which on no usual initialisation is meant for it."""
SEEN_BINARY, SEEN = 1000, 256
"""Targets of one class only that have to be seen, of two classes and of more."""
FEW_CLASSES = 0.6
"""Classes in a batch, over those expected of it: below this the batches are no random ones."""

Told = Mapping[str, Any]


def nonfinite(record: Record) -> Iterator[Finding]:
    """`data-nonfinite`: NaN or infinity in what goes into the model.

    The usual source is a table with gaps, a division by a standard deviation of 0, or a logarithm
    of 0 in preprocessing; one such value in a batch spoils all weights in one step. Demanded is
    that an output of the same step is spoiled too.

    Not accused: models that take NaN for "missing" and fill it themselves; minus infinity, which
    is a mask.

    Known limits: only the batches of recorded steps are looked at. What one in between spoils is
    named by the first module whose output shows it (`act-nonfinite`), on the CPU.

    Source: sklearn.utils.validation.check_array, which refuses such input for the same reason.

    Cure: find the samples, and fill or drop them.

        bad = [i for i, (x, _) in enumerate(dataset) if not torch.isfinite(x).all()]
    """
    outputs = record.of_kind("output")
    for step in _spoiled_steps(record, record.of_kind("input"), of_model=True):
        bad = [t for t in record.of_kind("input") if not t.name and _spoiled(record, t)[step] > 0]
        if outputs and not any(_spoiled(record, t)[step] > 0 for t in outputs):
            continue
        summary = record.summary(bad[0])
        yield _nonfinite(
            record,
            int(record.steps[step]),
            {
                "nonfinite": int(_spoiled(record, bad[0])[step]),
                "nan": int(summary.nan[step]),
                "of": int(summary.count[step]),
                "input": bad[0].part,
            },
        )
        return


def unscaled(record: Record) -> Iterator[Finding]:
    """`data-unscaled`: inputs of a scale that no layer expects.

    Every usual initialisation assumes inputs of zero mean and unit variance; larger ones make first
    outputs, gradients and steps as many times larger. Accused is a root mean square of 20 and more,
    the median over recorded steps, of what the first layer with weights is given, as pixels from 0
    to 255 have. It fails where the loss has not fallen, and else warns.

    Not accused: what is scaled or normalised on its way to that layer, and a layer right after
    which a normalisation takes the scale away. Integers are looked up and not multiplied.

    Known limits: what comes between that layer and a normalisation as a function is not seen.

    Source: LeCun et al. 1998, "Efficient BackProp", section 4.3.

    Cure: subtract the mean and divide by the standard deviation of the training data.

        x = (x - mean) / std  # per channel or feature; for pixels x / 255 will do
    """
    for tensor in record.of_kind("input"):
        layer = tensor.name or tensor.facts.get("feeds")
        if layer is None or _normalised(record, layer):
            continue
        summary = record.summary(tensor)
        rms, mean = (
            np.nanmedian(n) if np.isfinite(n).any() else 0 for n in (summary.rms, summary.mean)
        )
        if rms < UNSCALED:
            continue
        curve = training_loss(record)
        yield Finding(
            "data-unscaled",
            "fail" if curve is not None and curve.fallen < 0.1 else "warn",
            dataset(record),
            int(record.steps[0]),
            {
                "layer": layer,
                "mean": plain(mean),
                "std": plain(np.sqrt(max(rms**2 - mean**2, 0.0))),
                "min": plain(np.nanmin(summary.min)),
                "max": plain(np.nanmax(summary.max)),
            },
            f"What goes into {layer} is {rms:.3g} in the root mean square, and layers expect about "
            "1: subtract the mean and divide by the standard deviation of the training data.\n"
            "x = (x - mean) / std  # per channel or feature; for pixels x / 255 will do",
        )
        return


def repeated(record: Record) -> Iterator[Finding]:
    """`data-repeated`: the same batch or sample comes again and again.

    Three ways are known. All samples of each batch are one and the same, as of a dataset that
    ignores its index. The batch is the same at each recorded step although the loader, whose
    dataset is longer than a batch, handed over one after the other: `next(iter(loader))` in the
    loop, or a variable of another loop. Each batch of an `IterableDataset` comes as often as there
    are workers, none of which takes a share of its own.

    Not accused: training on the whole set at once, one batch that was taken once to be learnt by
    heart, steps that use a batch several times, constant inputs.

    Known limits: a batch that is cut out of a tensor by hand cannot be told from one that is all
    there is.

    Source: torch.utils.data.IterableDataset, on `num_workers > 0`.

    Cure: loop over the loader, use the index in `__getitem__`, share a stream out among workers.

        for x, y in loader:
            loss = loss_fn(model(x), y)
    """
    seen = batches(record)
    if len(seen) >= 3 and all(told.get("alike") for _, told in seen):
        evidence = {"way": "same sample", "batch_size": seen[0][1].get("size")}
        yield _repeated(record, seen[0][0], evidence, "All samples of a batch are the same one")
        return
    names = {told.get("fingerprint") for _, told in seen}
    loader = _hands_over(record, int(seen[0][1].get("size", 0))) if seen else None
    if len(seen) >= 3 and len(names) == 1 and loader is not None:
        evidence = {
            "way": "same batch",
            "recorded_steps": len(seen),
            "handed_over": _total(loader),
            "dataset_length": loader.stats.get("length"),
        }
        yield _repeated(record, seen[0][0], evidence, "Each step trains on the very same batch")
        return
    echo = _echo(record)
    if echo is not None:
        evidence = {"way": "each worker the same", "times": echo}
        text = f"Each batch comes {echo} times, once from each worker"
        yield _repeated(record, 0, evidence, text)


def single_class(record: Record) -> Iterator[Finding]:
    """`data-single-class`: all targets are of one class.

    The model learns to say that class whatever comes in, and the loss goes to 0 without anything
    learnt. Seen are the targets of the first 64 steps and of all recorded ones; asked for are 256
    of them, or 1000 where there are two classes only, one of which may be rare.

    Not accused: targets that the method makes up, as contrastive and adversarial losses do: they
    are not computed on the model's own output.

    Known limits: soft labels, one-hot labels and labels of pixels or words are not looked at; a set
    sorted by class whose first class the run never left looks the same.

    Source: Zinkevich, "Rules of Machine Learning", on checking the data before the model.

    Cure: look how labels are read, and which part of the set is loaded.

        print(torch.stack([torch.as_tensor(y) for _, y in dataset]).unique(return_counts=True))
    """
    direct = [told.get("direct") for _, told in criteria(record)]
    steps = _steps(record)
    met = _classes(steps)
    seen = sum(met.values())
    classes = max((told.get("classes") or 2 for _, told in criteria(record)), default=2)
    asked = SEEN_BINARY if classes == 2 else SEEN
    # Of the very first pass it is not known where the model was met only in the middle of it.
    if len(met) != 1 or seen < asked or True not in direct or False in direct:
        return
    yield Finding(
        "data-single-class",
        "fail",
        dataset(record),
        int(record.steps[0]),
        {"class": next(iter(met)), "targets": seen, "classes_of_model": classes},
        f"All {seen} targets seen are {next(iter(met))}: look how labels are read, and which part "
        "of the set is loaded.\n"
        "print(torch.stack([torch.as_tensor(y) for _, y in dataset]).unique(return_counts=True))",
    )


def not_shuffled(record: Record) -> Iterator[Finding]:
    """`data-not-shuffled`: samples come sorted by class.

    Each step then pulls towards one class and undoes the last. Accused are batches of four and more
    that hold fewer than 0.6 of the classes that random ones of the same frequencies would (half of
    all batches do), with the targets of nearly all of them in rising or falling order; of the first
    64 steps and the recorded ones at least eight, of at least two classes.

    Not accused: batches put together by a sampler (by pairs, episodes, length), which are not
    sorted within, the whole set at once, unequal frequencies.

    Known limits: batches of fewer samples, tasks of one class each on purpose, targets that are no
    classes, order by anything else than the class.

    Source: Bengio 2012, "Practical Recommendations for Gradient-Based Training of Deep
    Architectures", on the order of examples.

    Cure: shuffle the samples anew each epoch.

        loader = DataLoader(dataset, batch_size=64, shuffle=True)
    """
    steps = [told for told in _steps(record) if told.get("size", 0) >= 4 and "counts" in told]
    met = _classes(steps)
    own = [told for _, told in targets(record)]
    if len(steps) < 8 or len(met) < 2 or not own:
        return
    found = np.array([told["distinct"] / _expected(met, told["size"]) for told in steps])
    order = np.mean([bool(told.get("sorted")) for told in steps])
    if np.median(found) >= FEW_CLASSES or order < 0.9:
        return
    loaders = [loader.stats.get("order") for loader in record.loaders]
    yield Finding(
        "data-not-shuffled",
        "warn",
        dataset(record),
        int(record.steps[0]),
        {
            "classes_in_a_batch": plain(np.median([told["distinct"] for told in steps])),
            "expected": plain(np.median([_expected(met, told["size"]) for told in steps])),
            "classes": len(met),
            "batches": len(steps),
            **({"order": loaders[0]} if len(loaders) == 1 else {}),
        },
        "The samples come sorted by class, so each step unlearns what the last one taught: shuffle "
        "them anew each epoch.\n"
        "loader = DataLoader(dataset, batch_size=64, shuffle=True)",
    )


def dataset(record: Record) -> str | None:
    """The class of the dataset, where the loaders of the run know only one."""
    names = {loader.dataset for loader in record.loaders}
    return names.pop() if len(names) == 1 else None


def _nonfinite(record: Record, step: int, evidence: dict[str, Any]) -> Finding:
    return Finding(
        "data-nonfinite",
        "fail",
        dataset(record),
        step,
        evidence,
        "NaN or infinite values go into the model, so nothing that comes out can be a number: find "
        "the samples, and fill or drop them.\n"
        "bad = [i for i, (x, _) in enumerate(dataset) if not torch.isfinite(x).all()]",
    )


def _repeated(record: Record, step: int, evidence: dict[str, Any], text: str) -> Finding:
    cure = {
        "same sample": "let the dataset use its index.\nreturn self.x[index]  # in __getitem__",
        "same batch": "loop over the loader and use what it gives.\nfor x, y in loader: ...",
        "each worker the same": "give each worker its share of the stream.\n"
        "mine = itertools.islice(stream, info.id, None, info.num_workers)  # get_worker_info()",
    }
    advice = f"{text}: {cure[evidence['way']]}"
    return Finding("data-repeated", "fail", dataset(record), step, evidence, advice)


def _spoiled_steps(record: Record, tensors: Sequence[Tensor], *, of_model: bool) -> list[int]:
    found = [_spoiled(record, t) > 0 for t in tensors if not (of_model and t.name)]
    return np.flatnonzero(np.any(found, axis=0)).tolist() if found else []


def _spoiled(record: Record, tensor: Tensor) -> Any:
    """How many elements are NaN or plus infinity, at each recorded step."""
    summary = record.summary(tensor)
    return np.nan_to_num(summary.nan) + np.nan_to_num(summary.column("posinf"))


def _normalised(record: Record, layer: str) -> bool:
    """Whether a layer is a normalisation, or the module that ran right after it is one."""
    outputs = [t for t in record.of_kind("output") if t.call == 1 and t.part == 0]
    names = [tensor.name for tensor in outputs]
    if layer not in names:
        return False
    place = names.index(layer)
    return any(is_norm(str(t.facts.get("module", ""))) for t in outputs[place : place + 2])


def _hands_over(record: Record, size: int) -> Loader | None:
    """The loader of batches of this size that handed over nearly one for each step."""
    steps = int(record.meta.get("steps") or record.steps[-1] + 1)
    for loader in record.loaders:
        length = loader.stats.get("length")
        fits = loader.stats.get("batch_size") == size and length is not None and length >= 2 * size
        if fits and _total(loader) >= 0.8 * steps:
            return loader
    return None


def _total(loader: Loader) -> int:
    return int((loader.stats.get("total") or loader.stats).get("batches", 0))


def _echo(record: Record) -> int | None:
    """How many times each batch of a stream comes, where that is the number of workers."""
    names = [told.get("fingerprint") for told in record.meta.get("first_steps") or [] if told]
    if len(names) < 8 or len(set(names)) < 2:
        return None
    ends = [i for i in range(1, len(names)) if names[i] != names[i - 1]]
    lengths = set(np.diff([0, *ends]).tolist())
    steps = int(record.meta.get("steps") or len(names))
    for loader in record.loaders:
        workers = int(loader.stats.get("workers") or 0)
        is_stream = workers > 1 and loader.stats.get("stream")
        if is_stream and lengths == {workers} and _total(loader) >= 0.8 * steps:
            return workers
    return None


def _steps(record: Record) -> list[Told]:
    """The targets of the first steps and of the recorded ones, each step once."""
    first = record.meta.get("first_steps") or []
    later = [told for step, told in targets(record) if step >= len(first)]
    return [told for told in (*first, *later) if told and told.get("size")]


def _classes(steps: Sequence[Told]) -> Counter[str]:
    """How often each class was met; more than the one that is asked for where they are unknown."""
    met: Counter[str] = Counter()
    for told in steps:
        met.update(told.get("counts") or {f"one of {told['distinct']}": told["size"], "others": 1})
    return met


def _expected(met: Counter[str], size: int) -> float:
    """How many classes a random batch of this size would hold."""
    shares = np.array([*met.values()]) / sum(met.values())
    return float(np.sum(1 - (1 - shares) ** size))
