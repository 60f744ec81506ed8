"""The solvers of `scipy.optimize.minimize`, over trees and with gradients of blockjac."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, cast, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from blockjac.base.compat import is_traced
from blockjac.engine.run import compiled_at
from blockjac.errors import InvalidOptionError
from blockjac.optimize.minimize_loop import Rules, State, Task
from blockjac.optimize.minimize_pauses import Pauses, result_of
from blockjac.optimize.minimize_result import MinimizeResult, MinimizeTrace
from blockjac.optimize.parameters import check_finite_start
from blockjac.optimize.stops import Stop
from blockjac.transforms.first_order import value_and_grad
from blockjac.transforms.hessians import hvp

Method = Literal["L-BFGS-B", "BFGS", "CG", "TNC", "SLSQP", "Newton-CG", "trust-ncg", "trust-krylov"]

BY_PRODUCTS = ("Newton-CG", "trust-ncg", "trust-krylov")
"""Methods that multiply the Hessian by vectors."""

OWN_TESTS = {
    "L-BFGS-B": {"ftol": 0.0, "gtol": 0.0, "maxfun": 10**9, "maxls": 50},
    "BFGS": {"gtol": 0.0},
    "CG": {"gtol": 0.0},
    "TNC": {"ftol": 0.0, "gtol": 0.0, "xtol": 0.0, "maxfun": 10**9},
    "SLSQP": {"ftol": 1e-300},
    "Newton-CG": {"xtol": 0.0},
    "trust-ncg": {"gtol": 0.0},
    "trust-krylov": {"gtol": 0.0},
}
"""Options that leave scipy's own tests out: `minimize` has the same for all solvers."""


@dataclass(frozen=True)
class SciPy:
    """A method of `scipy.optimize.minimize`, with values and gradients from one compiled program.

    Methods that use the Hessian get its products with vectors. The parameters travel as one vector
    in float64. SciPy runs outside of JAX, so that it is not for functions under `jit`.

    Args:
        method: `"L-BFGS-B"`, `"BFGS"`, `"CG"`, `"TNC"`, `"SLSQP"`, `"Newton-CG"`, `"trust-ncg"`
            or `"trust-krylov"`.
        options: Of the method, as SciPy takes them, such as `{"maxcor": 30}`. Tolerances and limits
            are those of `minimize`.

    Raises:
        InvalidOptionError: For another method.

    Examples:
        >>> import jax.numpy as jnp
        >>> from blockjac import optimize
        >>> bowl = lambda p: jnp.sum((p - 2.0) ** 2)
        >>> optimize.minimize(bowl, jnp.zeros(3), solver=optimize.SciPy("BFGS")).success
        True
    """

    method: Method = "L-BFGS-B"
    options: dict[str, Any] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        if self.method not in get_args(Method):
            names = ", ".join(map(repr, get_args(Method)))
            raise InvalidOptionError(f"method is {self.method!r}; wanted one of {names}")

    def run(self, task: Task, params: Any, data: tuple[Any, ...], pauses: Pauses) -> MinimizeResult:
        """Minimize, step by step.

        Raises:
            InvalidOptionError: inside `jit`.
            NonFiniteLossError: if the loss at the start is not finite.
        """
        if is_traced((params, data)):
            raise InvalidOptionError("SciPy runs outside of JAX: call minimize outside jit")
        from scipy import optimize

        search = Search(task, params, data, pauses)
        further: dict[str, Any] = {"hessp": search.hvp} if self.method in BY_PRODUCTS else {}
        limits = {} if self.method == "TNC" else {"maxiter": 10 * task.rules.max_steps + 10}
        with contextlib.suppress(_StoppedError):
            search.begin()
            cast("Any", optimize).minimize(
                search.value_and_grad,
                search.x,
                method=self.method,
                jac=True,
                callback=search.stepped,
                options={**OWN_TESTS[self.method], **limits, **self.options},
                **further,
            )
        return search.result()


class _StoppedError(Exception):
    """Ends a search of SciPy from inside of one of its calls."""


@dataclass
class Row:
    """A row of the trace."""

    loss: float
    gradient_norm: float
    step_norm: float
    trials: int
    metrics: Any


class Search:
    """What SciPy is given, and what it has found."""

    def __init__(self, task: Task, params: Any, data: tuple[Any, ...], pauses: Pauses) -> None:
        flat, self.rebuilt = ravel_pytree(params)
        self.dtype = flat.dtype
        self.task, self.data, self.pauses = task, data, pauses
        self.x = np.asarray(flat, np.float64)
        self.evaluations = 0
        self.status = Stop.NO_STEP
        self.rows: list[Row] = []
        self._compiled = compiled_at(partial(_value_and_grad, task.loss, self.rebuilt), flat, data)
        self._products = jax.jit(partial(_hvp, task.loss, self.rebuilt))
        self._metrics = jax.jit(partial(_metrics, task, self.rebuilt))
        self._reported = 0
        self._seen: dict[bytes, tuple[float, np.ndarray]] = {}
        self._counted = 0
        self.loss, self.gradient = self.value_and_grad(self.x)
        self.best, self.best_x, self.initial = self.loss, self.x, self.loss
        check_finite_start(self.loss)

    @property
    def gradient_norm(self) -> float:
        """The largest absolute entry of the gradient."""
        return float(np.max(np.abs(self.gradient), initial=0.0))

    def begin(self) -> None:
        """Stop at the start where there is nothing to do."""
        stop = self._at_point(self.task.rules)
        if stop is not None:
            self.status = stop
            raise _StoppedError

    def value_and_grad(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        """The loss and its gradient; the last two points are remembered."""
        key = x.tobytes()
        if key not in self._seen:
            if self.evaluations >= (self.task.rules.max_evaluations or np.inf):
                self.status = Stop.MAX_EVALUATIONS
                raise _StoppedError
            value, gradient = self._compiled(jnp.asarray(x, self.dtype), self.data)
            self.evaluations += 1
            while len(self._seen) > 1:
                self._seen.pop(next(iter(self._seen)))
            self._seen[key] = self._finite(float(value), np.asarray(gradient, np.float64))
            if self.evaluations > 1 and float(value) < self.best:
                self.best, self.best_x = float(value), x.copy()
        return self._seen[key]

    def _finite(self, value: float, gradient: np.ndarray) -> tuple[float, np.ndarray]:
        """A high and flat place in the stead of one that is not finite.

        The line searches of SciPy step back from it; nan would end them.
        """
        if self.evaluations == 1 or (np.isfinite(value) and np.all(np.isfinite(gradient))):
            return value, gradient
        return self.loss + 10 * (1 + abs(self.loss)), np.zeros_like(gradient)

    def hvp(self, x: np.ndarray, tangent: np.ndarray) -> np.ndarray:
        """The Hessian by a vector."""
        arrays = jnp.asarray(x, self.dtype), jnp.asarray(tangent, self.dtype)
        return np.asarray(self._products(*arrays, self.data), np.float64)

    def stepped(self, intermediate_result: Any) -> None:
        """Look whether to stop after a step."""
        x = np.array(getattr(intermediate_result, "x", intermediate_result))
        value, gradient = self.value_and_grad(x)
        step_norm = float(np.linalg.norm(x - self.x))
        if step_norm == 0:  # a trust region was shrunk
            return
        trials = self.evaluations - self._counted
        self.rows.append(Row(value, self.gradient_norm, step_norm, trials, self._metrics_at(x)))
        before, self._counted = self.loss, self.evaluations
        self.x, self.loss, self.gradient = x, value, gradient
        stop = self._tested(self.task.rules, before, step_norm)
        if len(self.rows) % self.pauses.most == 0:
            asked = self._asked(Stop.RUNNING)
            stop = asked if stop is None else stop
        if stop is not None:
            self.status = stop
            raise _StoppedError

    def _asked(self, status: Stop) -> Stop | None:
        """Report the steps since the last report; why to stop, if somebody asks for it."""
        rows, self._reported = self.rows[self._reported :], len(self.rows)
        state = self.pauses.asked(self._state(status), self._trace(rows))
        return None if state.status == Stop.RUNNING else Stop(int(state.status))

    def _metrics_at(self, x: np.ndarray) -> Any:
        """What `metrics` gives at a point."""
        return cast("Any", self._metrics)(jnp.asarray(x, self.dtype), self.data)

    def _tested(self, rules: Rules, before: float, step_norm: float) -> Stop | None:
        """The test that a step reached."""
        at_point = self._at_point(rules)
        if at_point is Stop.NON_FINITE:
            return at_point
        is_flat = abs(before - self.loss) < rules.ftol * abs(before)
        is_short = step_norm < rules.xtol * (rules.xtol + np.linalg.norm(self.x))
        tests = (
            (is_flat and is_short, Stop.FTOL_AND_XTOL),
            (is_flat, Stop.FTOL),
            (is_short, Stop.XTOL),
            (at_point is not None, at_point),
            (len(self.rows) >= rules.max_steps, Stop.MAX_STEPS),
        )
        return next((stop for is_so, stop in tests if is_so), None)

    def _at_point(self, rules: Rules) -> Stop | None:
        """What the loss and its gradient say."""
        norm = self.gradient_norm
        if not (np.isfinite(norm) and np.isfinite(self.loss)):
            return Stop.NON_FINITE
        return Stop.GTOL if norm < rules.gtol or norm == 0 else None

    def _state(self, status: Stop) -> State:
        """Where the search stands."""
        return State(
            step=jnp.int32(len(self.rows)),
            params=self.rebuilt(jnp.asarray(self.x, self.dtype)),
            loss=jnp.asarray(self.loss, self.dtype),
            best_params=self.rebuilt(jnp.asarray(self.best_x, self.dtype)),
            best_loss=jnp.asarray(self.best, self.dtype),
            initial_loss=jnp.asarray(self.initial, self.dtype),
            gradient_norm=jnp.asarray(self.gradient_norm, self.dtype),
            reached=jnp.int32(0),
            status=jnp.int32(status),
            evaluations=jnp.int32(self.evaluations),
            memory=None,
        )

    def _trace(self, rows: list[Row]) -> MinimizeTrace:
        """Rows of the trace as columns."""

        def column(name: str) -> Any:
            return np.array([getattr(row, name) for row in rows], self.dtype)

        trials = np.array([row.trials for row in rows], np.int32)
        metrics = [row.metrics for row in rows]
        stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *metrics) if metrics else None
        return MinimizeTrace(
            column("loss"),
            column("gradient_norm"),
            column("step_norm"),
            cast("Any", trials),
            stacked,
        )

    def result(self) -> MinimizeResult:
        """What was found."""
        if len(self.rows) > self._reported:
            self._asked(self.status)
        return result_of(self._state(self.status), self._trace(self.rows))


def _value_and_grad(loss: Any, rebuilt: Any, x: jax.Array, data: tuple[Any, ...]) -> Any:
    """The loss and its gradient, by a vector."""

    def of_vector(x: jax.Array) -> Any:
        return loss(rebuilt(x), *data)

    return value_and_grad(of_vector)(x)


def _hvp(loss: Any, rebuilt: Any, x: jax.Array, tangent: jax.Array, data: tuple[Any, ...]) -> Any:
    """The Hessian by a vector, by a vector."""

    def of_vector(x: jax.Array) -> Any:
        return loss(rebuilt(x), *data)

    return hvp(of_vector, x, tangent)


def _metrics(task: Task, rebuilt: Any, x: jax.Array, data: tuple[Any, ...]) -> Any:
    """What `metrics` gives."""
    return None if task.metrics is None else task.metrics(rebuilt(x), *data)
