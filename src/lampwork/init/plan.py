"""The plan: for every tensor of a model what it is, what it gets and why. A plan is data."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from lampwork._core.errors import InputError
from lampwork.init.apply import place, write_rows
from lampwork.init.diff import Difference, difference
from lampwork.init.registry import LSUV, PLANNED, Scheme, parse
from lampwork.init.table import table
from lampwork.init.told import tell_check, tell_plan

if TYPE_CHECKING:
    from lampwork.init.check import Check

_SCHEMA = 2


@dataclass(frozen=True)
class Row:
    """What one parameter or buffer is, and what it gets.

    Attributes:
        name: dotted name; of a shared tensor the first one, of a parametrised weight the layer's.
        shape: its shape.
        role: weight, bias, norm, embedding, recurrent, packed, convolution, transposed, expert,
            buffer or other.
        fan_in: weights that meet in one output unit, of one part where matrices are stacked;
            None where it has no meaning.
        fan_out: weights through which one input unit acts.
        nonlinearity: the torch functional that consumes the layer's output, or `"linear"`.
        residual: whether the layer closes a residual branch; only an example can tell.
        scheme: the scheme's name; its options are in `scheme.options`.
        std: the standard deviation that the values will have, None where they are kept.
        reason: why, in words.
        tied: the other names of the same tensor.
        depth: how many layers the signal has gone through behind this one, on the longest way;
            None where no example told.
        parts: into how many equal blocks each leading dimension falls that are matrices of their
            own, e.g. `(3,)` for q, k and v; 0 where every index has its matrix, as with experts.
        chosen_by: `"rule"` where a rule names the tensor, `"scheme"` where the scheme or recipe for
            the whole model decides, else `"default"`.
    """

    name: str
    shape: tuple[int, ...]
    role: str
    fan_in: float | None
    fan_out: float | None
    nonlinearity: str
    residual: bool
    scheme: Scheme
    std: float | None
    reason: str
    tied: tuple[str, ...]
    depth: int | None = None
    parts: tuple[int, ...] = ()
    chosen_by: str = "default"


class Plan:
    """Rows, one per parameter and buffer, and the model they are for. `print(plan)` shows it."""

    def __init__(self, model: nn.Module, rows: Iterable[Row], example: Any = None) -> None:
        self.rows = list(rows)
        self._model = model
        self._example = example  # kept for rows that are scaled on it alone
        self._applied = False
        self._seed: int | None = None

    def apply(self, *, seed: int = 0, device: str | torch.device | None = None) -> None:
        """Writes the planned values into the model.

        A value depends on the seed, the tensor's name and its place in the whole tensor: not on
        the order of modules, other layers, dtype, device, memory layout, threads, sharding or
        torch's global random state. Drawn in float32, cast last. Of a DTensor each process writes
        its own shard, without communication. Tensors on meta are given memory first. A shared
        tensor is written once. Parametrised weights are written through `right_inverse`. Rows may
        be exchanged before. Rows of the scheme `lsuv` are scaled on the plan's example at the end.

        Args:
            seed: any integer.
            device: where tensors on meta are made; without it on the CPU, DTensors on the devices
                of their mesh.

        Raises:
            InputError: a model whose names or shapes are no longer the plan's, a buffer on meta
                that nothing fills, a quantised, sparse, integer or complex parameter, a
                parametrisation without an inverse, rows of `lsuv` in a plan that has no example or
                one that the model does not run on. Nothing has been written then, but where a
                parametrisation or the run fails.
        """
        fitted = [row.name for row in self.rows if row.scheme == LSUV]
        if fitted and self._example is None:
            raise InputError(
                f"{fitted[0]!r} is to be scaled on data, and a plan from JSON or with exchanged "
                "rows holds none: plan again with the example, or call lampwork.init.lsuv(model, x)"
            )
        write_rows(self.rows, self._model, seed, device)
        if fitted:
            from lampwork.init.data_driven import fit_rows  # late: it needs plans

            self.rows = fit_rows(self.rows, self._model, self._example)
        self._applied, self._seed = True, seed
        tell_plan(self._model, self.rows, seed)

    def verify(self, x: Any, y: Any = None, loss_fn: Any = None) -> Check:
        """Proves the values that the model holds by one forward and one backward pass.

        The values are held against the plan: all rows after `apply`; before it those that a rule,
        a scheme or a recipe asks for, so that a model that was initialised otherwise can be
        checked too. Parameters, gradients, buffers, modes and the random state are afterwards what
        they were. Normalisation over the batch runs as in training, dropout is off.

        Args:
            x: a batch of real data, as the model takes it: a tensor, a tuple (positional) or a
                dict (keyword); at least 16 samples, so that a silent unit can be told from chance.
            y: targets, for `loss_fn(model(x), y)`. Without `loss_fn` integers mean
                cross-entropy and floats mean squared error.
            loss_fn: gives a scalar, of the output and `y`, or of the output alone where `y` is
                None. Without both the model's own `.loss` counts, else a random projection.

        Returns:
            A check with `.ok`, `.findings` and `.rows`; `print(check)` shows it.

        Raises:
            InputError: a model on meta, of other names or shapes than the plan's, that does not
                run on `x`, or a loss that is no scalar.
        """
        from lampwork.init.verify import verify  # late: it needs Plan's rows

        check = verify(self.rows, self._model, x, y, loss_fn, applied=self._applied)
        tell_plan(self._model, self.rows, self._seed)
        tell_check(self._model, check)
        return check

    def diff(self, other: Plan) -> Difference:
        """What differs between two plans: `print(plan.diff(other))`; false where nothing does.

        Returns:
            `.changes`, each with the tensor's name, the field, and its value here and there.
        """
        return difference(self.rows, other.rows)

    def to_json(self) -> str:
        """The rows as JSON text, without the model."""
        return json.dumps({"schema": _SCHEMA, "rows": [_item(row) for row in self.rows]}, indent=1)

    @classmethod
    def from_json(cls, text: str, model: nn.Module) -> Plan:
        """The plan that `to_json` wrote, for a model of the same names and shapes.

        Raises:
            InputError: text that is no plan, or a model whose names or shapes differ; names them.
        """
        try:
            content = json.loads(text)
            schema, items = content["schema"], content["rows"]
            rows = [_row_from(item) for item in items] if schema == _SCHEMA else []
        except (ValueError, TypeError, KeyError) as error:
            raise InputError(
                f"the text is no plan ({type(error).__name__}: {error}): pass what to_json wrote"
            ) from error
        if schema != _SCHEMA:
            raise InputError(
                f"the plan is of schema {schema}, this lampwork reads {_SCHEMA}: plan again"
            )
        place(rows, model)
        return cls(model, rows)

    def __str__(self) -> str:
        return table(self.rows)

    def __repr__(self) -> str:
        return f"<Plan of {len(self.rows)} tensors of {type(self._model).__name__}>"


def _item(row: Row) -> dict[str, Any]:
    scheme = parse(row.scheme, known=PLANNED)
    return {**dataclasses.asdict(row), "scheme": str(scheme), "options": scheme.options}


def _row_from(item: dict[str, Any]) -> Row:
    item = dict(item)
    scheme = parse((item.pop("scheme"), item.pop("options")), known=PLANNED)
    item |= {key: tuple(item[key]) for key in ("shape", "tied", "parts")}
    return Row(**item, scheme=scheme)
