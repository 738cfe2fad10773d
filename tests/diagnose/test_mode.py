"""Findings about the mode, on both sides."""

from __future__ import annotations

import pytest

from lampwork.diagnose import mode


@pytest.mark.parametrize(
    ("training", "accused"),
    [
        ([False, False], True),
        ([True, True, False, False], True),
        ([True, True, False], False),
        ([False, False, True], False),
        ([None, None], False),
    ],
)
def test_evaluation_mode_up_to_the_end_is_a_finding(synthetic, training, accused):
    """Two recorded steps in a row, at the end, in evaluation mode."""
    run = synthetic(steps=len(training), mode_modules=["BatchNorm1d", "Dropout"])
    run.layer("a").notes(training=training)
    found = [*mode.eval_in_training(run.read())]
    assert bool(found) is accused
    if found:
        assert (found[0].code, found[0].severity) == ("mode-eval-in-training", "warn")
        assert found[0].step == 10 * training.index(False)
        assert "BatchNorm1d" in found[0].advice
        assert "model.train()" in found[0].advice


def test_a_model_of_one_mode_cannot_be_in_the_wrong_one(synthetic):
    """Without dropout and batch normalisation evaluation mode is the same."""
    run = synthetic(mode_modules=[]).layer("a").notes(training=False)
    assert not [*mode.eval_in_training(run.read())]


@pytest.mark.parametrize(("first", "accused"), [("bn", 0), ("fc", 1)])
def test_a_backbone_held_in_evaluation_mode_is_fine(synthetic, first, accused):
    """Statistics before the first trained layer are protected on purpose."""
    run = synthetic(mode_modules=["BatchNorm1d"]).notes(training=False)
    run.layer("backbone", requires_grad=False, optimized=False, update=None)
    for name in (first, "fc" if first == "bn" else "bn"):
        if name == "fc":
            run.layer("fc")
        else:
            run.output("bn", run.row(), module="BatchNorm1d")
    assert len([*mode.eval_in_training(run.read())]) == accused
