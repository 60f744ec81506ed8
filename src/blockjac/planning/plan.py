"""A plan: what an elimination will do and cost, before anything runs; to print and to keep."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from blockjac.base.html import table
from blockjac.devices import in_bytes
from blockjac.errors import FileFormatError, Loss, PlanMismatchError
from blockjac.planning.figures import Figures as Figures
from blockjac.planning.figures import Step as Step
from blockjac.planning.pictures import draw_plan
from blockjac.planning.tables import aligned, in_a_cell

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMAT = "blockjac plan 1"


@dataclass(frozen=True)
class Plan:
    """The order of an elimination, with its cost; for `order=` of the transforms.

    Attributes:
        function: the name of the function.
        inputs: types of the differentiated inputs.
        results: types of the results.
        dense: whether the answer is written out.
        method: how the order was found, as `order=` was given.
        order: the vertices, in the order of elimination.
        figures: what it costs: `plan.multiplications` and the others are short for its entries.
        values: scalar operations of the function itself.
        derivatives: scalar operations of the local derivatives.
        steps: the eliminations one by one.
        comparison: the same answer by other orders, and by JAX's dense passes.
        fingerprint: of the traced function that the plan is for.
        losses: the equations at which structure is lost that the Jacobian as Blocks would have
            kept, each with its source line, the reason and what to do; the largest first.
        device: the kind of device whose rates the predicted times are by; "" in a plan that was
            saved by an earlier version.
        system: how a linear system with the Jacobian would be solved; "" where it was not asked.
        blocks: the answer's tree with Blocks that hold shapes in place of arrays; None in a plan
            that was loaded from a file.

    Examples:
        >>> import jax, jax.numpy as jnp
        >>> import blockjac
        >>> x = jax.ShapeDtypeStruct((3,), jnp.float32)
        >>> plan = blockjac.plan(lambda x: jnp.tanh(x) ** 2)(x)
        >>> plan.order, plan.multiplications
        ((2, 1), 3)
        >>> plan.blocks.structure
        "δ[i,i'] A[i]"
    """

    function: str
    inputs: tuple[str, ...]
    results: tuple[str, ...]
    dense: bool
    method: str
    order: tuple[int, ...]
    figures: Figures
    values: int
    derivatives: int
    steps: tuple[Step, ...]
    comparison: Mapping[str, Figures]
    fingerprint: str
    losses: tuple[Loss, ...] = ()
    device: str = ""
    system: str = ""
    blocks: Any = field(default=None, repr=False, compare=False, hash=False)

    def __hash__(self) -> int:
        return hash((self.fingerprint, self.order))

    @property
    def multiplications(self) -> int:
        """Scalar products of numbers; those by 1, -1 and masks are free."""
        return self.figures.multiplications

    @property
    def additions(self) -> int:
        """Scalar sums."""
        return self.figures.additions

    @property
    def edge_products(self) -> int:
        """The literature's count: each product of two edges counts one for each element."""
        return self.figures.edge_products

    @property
    def flops(self) -> int:
        """All scalar operations of the elimination."""
        return self.figures.flops

    @property
    def bytes(self) -> int:
        """What is read and written, each operation's operands and result once."""
        return self.figures.bytes

    @property
    def peak_bytes(self) -> int:
        """Arguments, results and what is stored on the way, together at most."""
        return self.figures.peak_bytes or 0

    def check_fits(self, fingerprint: str, name: str) -> None:
        """Raise unless the plan is for this traced function.

        Raises:
            PlanMismatchError: says what the plan is for, and what to do.
        """
        if fingerprint != self.fingerprint:
            raise PlanMismatchError(
                f"this plan was made for {self.function!r} of {', '.join(self.inputs)} "
                f"(traced as {self.fingerprint}), but {name!r} was called with another program or "
                f"other shapes (traced as {fingerprint}); plan again: blockjac.plan(fun)(*args)"
            )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the plan to a JSON file, for another process.

        Args:
            path: of the file; it is replaced.

        Raises:
            OSError: where it cannot be written.
        """
        content = {"format": FORMAT, **asdict(replace(self, blocks=None))}
        del content["blocks"]
        Path(path).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")

    @staticmethod
    def load(path: str | os.PathLike[str]) -> Plan:
        """Read a plan that `save` has written.

        Args:
            path: of the file.

        Raises:
            FileFormatError: if the file holds no plan.
            OSError: where it cannot be read.
        """
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"))
            content = cast("dict[str, Any]", content) if isinstance(content, dict) else {}
            version = content.pop("format", None)
            if version != FORMAT:
                raise FileFormatError(
                    f"{os.fspath(path)!r} holds no plan: its format is {version!r}, wanted "
                    f"{FORMAT!r}; write one with plan.save(path)"
                )
            return _restored(content)
        except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
            raise FileFormatError(
                f"{os.fspath(path)!r} holds no plan ({error}); write one with plan.save(path)"
            ) from error

    def __repr__(self) -> str:
        return str(self)  # what a notebook or a prompt shows

    def __str__(self) -> str:
        head = [
            f"Plan of {self.function} with respect to {', '.join(self.inputs)}: "
            f"{'dense' if self.dense else 'blocks'} of {', '.join(self.results)}",
            f"order: {self.method}, {len(self.order)} vertices"
            + (f", for {self.device}" if self.device else ""),
            f"{self.multiplications:,} multiplications, {self.additions:,} additions, "
            f"{self.edge_products:,} edge products, {in_bytes(self.bytes)} moved, "
            f"{in_bytes(self.peak_bytes)} at most",
            f"apart from these: the function's own values {self.values:,} operations, local "
            f"derivatives {self.derivatives:,}, operators {self.figures.operator_operations:,}",
        ]
        lost = [f"  {loss}" for loss in self.losses]
        told = ["structure is lost:", *lost] if lost else ["structure is lost nowhere"]
        told += [f"a linear system with it: {self.system}"] if self.system else []
        tables = [*aligned(self._step_rows()), "", *aligned(self._rows())]
        return "\n".join([*head, "", *tables, "", *told])

    def _repr_html_(self) -> str:
        """What notebooks show: the figures and both tables, with what is lost."""
        head, _, rest = str(self).partition("\n\n")
        told = rest.rpartition("\n\n")[2]
        parts = [f"<p>{escape(line)}</p>" for line in head.splitlines()]
        parts += [table(self._rows()), table(self._step_rows())]
        return "\n".join([*parts, f"<pre>{escape(told)}</pre>"])

    def plot(self) -> Figure:
        """Draw what each order costs, and how the cost of this one adds up.

        Returns:
            A figure of matplotlib; `plan.plot().savefig("plan.png")` keeps it.

        Raises:
            MissingExtraError: without matplotlib (`pip install 'blockjac[app]'`).
        """
        costs = {
            name: figures.multiplications + figures.operator_operations
            for name, figures in self.comparison.items()
        }
        steps = [
            (f"{step.vertex} {step.primitive}", step.multiplications + step.operator_operations)
            for step in self.steps
        ]
        by = ", ".join(self.inputs)
        return draw_plan(f"{self.function} with respect to {by}", costs, steps)

    def _step_rows(self) -> list[list[str]]:
        """The table of the steps."""
        rows = [["vertex", "primitive", "in", "out", "mult", "add", "moved", "source"]]
        for step in self.steps:
            operations = step.multiplications + step.operator_operations
            rows.append(
                [
                    str(step.vertex),
                    step.primitive,
                    in_a_cell(step.entering),
                    in_a_cell(step.leaving),
                    f"{operations:,}",
                    f"{step.additions:,}",
                    in_bytes(step.bytes),
                    step.source,
                ]
            )
        return rows

    def _rows(self) -> list[list[str]]:
        """The table that compares orders."""
        rows = [["order", "mult", "add", "edge products", "moved", "at most", "predicted"]]
        for name, figures in self.comparison.items():
            peak = figures.peak_bytes
            rows.append(
                [
                    name,
                    f"{figures.multiplications + figures.operator_operations:,}",
                    f"{figures.additions:,}",
                    f"{figures.edge_products:,}",
                    in_bytes(figures.bytes),
                    "" if peak is None else in_bytes(peak),
                    f"{figures.seconds * 1e6:,.1f} us",
                ]
            )
        return rows


def _restored(content: dict[str, Any]) -> Plan:
    """The plan that a file holds, from what `asdict` made of it."""
    content["steps"] = tuple(
        _restored_step(step) for step in cast("list[dict[str, Any]]", content["steps"])
    )
    content["comparison"] = {
        name: Figures(**figures)
        for name, figures in cast("dict[str, dict[str, Any]]", content["comparison"]).items()
    }
    content["figures"] = Figures(**content["figures"])
    losses = cast("list[dict[str, Any]]", content.get("losses", []))
    content["losses"] = tuple(Loss(**loss) for loss in losses)
    for name in ("inputs", "results", "order"):
        content[name] = tuple(content[name])
    return Plan(**content)


def _restored_step(step: dict[str, Any]) -> Step:
    """A step that a file holds."""
    for name in ("entering", "leaving"):
        step[name] = tuple(step[name])
    return Step(**step)
