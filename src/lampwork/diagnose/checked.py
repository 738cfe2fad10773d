"""Pages of the codes that no rule over a record raises, but `Plan.verify` does.

`lampwork.init` finds them in one forward and backward pass, before any training; their text stands
here, since pages are read where there is no torch. The form is that of a rule's docstring.
"""

from __future__ import annotations

UNWRITTEN = """`init-unwritten`: a tensor that was never given values.

It holds what no initialisation gives: NaN, numbers beyond any scheme, a negative variance, or the
scale of a normalisation that has nothing of a scale. That is memory as it was allocated, by
`to_empty` or `torch.empty`, and never written since.

Known limits: memory that happens to hold zeros or plausible numbers looks written.

Source: torch.nn.Module.to_empty; torch.device("meta"), "Idioms for working with meta tensors".

Cure: apply a plan, which makes and writes every parameter and buffer.

    plan = lampwork.init.plan(model, x)
    plan.apply(seed=0)
"""

UNTIED = """`init-untied`: tensors that were tied are no longer one.

Names that were one tensor when the plan was made are several now, as `to_empty` and `deepcopy` of
parts leave them: each is trained on its own.

Known limits: tensors that were never tied, but should have been, are not known.

Source: Press & Wolf 2017, "Using the Output Embedding to Improve Language Models".

Cure: tie them again, after the model was materialised or copied.

    model.head.weight = model.embedding.weight
"""

OFF_PLAN = """`init-off-plan`: a weight that is not as its plan says.

Mean, spread or range of the values are not those of the scheme that was applied or asked for, so an
initialiser did something else than was meant: it skipped the layer, read the fans off the wrong
sides, or copied one layer into another. Layers and directions of one recurrent module are compared
with one another.

Known limits: only rows that a plan binds are held against it; small tensors must be far off.

Source: He et al. 2015, "Delving Deep into Rectifiers", on fan-in and fan-out.

Cure: apply the plan after all else that writes weights, or change its rules to what is meant.

    plan = lampwork.init.plan(model, x, rules=[("head.weight", ("normal", {"std": 0.02}))])
    plan.apply(seed=0)
"""

CHECKED = (UNWRITTEN, UNTIED, OFF_PLAN)
