"""The two places where steps happen: Python on NumPy arrays, compiled on a device."""

from collections.abc import Callable, Hashable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_nlp_bridge.arrays import Array, namespace
from keras_nlp_bridge.methods.box import Box
from keras_nlp_bridge.methods.method import Counting, Method, Oracle, projected
from keras_nlp_bridge.methods.minibatch.clocked import Clocked
from keras_nlp_bridge.methods.state import Status
from keras_nlp_bridge.minimizing.bounds import Ends
from keras_nlp_bridge.minimizing.device_oracle import (
    OnDevice,
    SampleOracle,
    box_of_problem,
    oracles,
)
from keras_nlp_bridge.minimizing.driver import Budget, Final, Report

__all__ = ["DeviceEngine", "HostEngine", "OnDevice"]


class HostEngine:
    """Steps in Python on NumPy arrays.

    Parameters
    ----------
    method : Method
        The method.
    oracle : Oracle
        Values and derivatives at ndarrays.  If it is `Counting`, that is believed about
        the evaluations, not the state: finite differences call f.
    sample_id : callable, optional
        Returns a number that changes whenever the sample of the oracle does.
    """

    # A step in Python costs more than looking at the result of one.
    stride, traced = 1, False

    def __init__(
        self, method: Method, oracle: Oracle, sample_id: Callable[[], Any] | None = None
    ) -> None:
        self._method, self._oracle = method, oracle
        self._leaves: list[NDArray[Any]] = []
        self._rejected = 0
        self._anew = False
        self._sample_id = sample_id or (lambda: 0)

    def start(self, x0: NDArray[Any]) -> Report:
        """Make the first state."""
        self._sample, method = self._sample_id(), self._method
        with np.errstate(all="ignore"):
            self._state = method.init(self._oracle, x0)
        if self._leaves:
            self._state = _taken_up(method, self._state, self._leaves, self._anew)
            self._leaves = []
        self._best = self._state.at
        return self._report()

    def advance(self, budget: Budget) -> tuple[int, Report]:
        """Take one step, on the present sample."""
        method, state = self._method, self._state
        with np.errstate(all="ignore"):
            if isinstance(method, Clocked):  # evaluates first whatever the sample
                state = method.with_clock(state, budget.elapsed, budget.tick)
            elif self._sample_id() != self._sample:
                state = method.refresh(self._oracle, state)
                self._best = state.at
            if method.limited:
                state = _limited(state, np.int32(budget.evaluations))
            self._sample = self._sample_id()
            self._state = method.step(self._oracle, state)
        if not self._state.at.f >= self._best.f:
            self._best = self._state.at
        self._rejected += not self._state.accepted
        return 1, self._report()

    def move(self, x: NDArray[Any]) -> Report:
        """Go on from another point."""
        at = self._state.at
        x = projected(self._oracle, x.astype(at.x.dtype))
        with np.errstate(all="ignore"):
            state = self._state._replace(at=at._replace(x=x))
            self._state = self._method.refresh(self._oracle, state)
        self._best, self._sample = self._state.at, self._sample_id()
        return self._report()

    def point(self) -> NDArray[Any]:
        """Return a copy of the present iterate."""
        return self._state.at.x.copy()

    def finish(self, converged: bool) -> Final:
        """Return the solution with f and g that belong to it.

        A decrease that was lost in rounding, or under a nonmonotone rule, may have been
        none: where the run has not converged, the best point of the sample is returned.
        """
        method, state = self._method, self._state
        if isinstance(method, Clocked) or self._sample_id() != self._sample:
            with np.errstate(all="ignore"):
                state = _at_solution(method, self._oracle, state)
                self._state = method.refresh(self._oracle, state)
        elif not converged and self._best.f < state.at.f:
            self._state = state._replace(at=self._best)
        at = self._state.at
        return Final(self._report(), at.x.copy(), at.g.copy())

    def leaves(self) -> list[NDArray[Any]]:
        """Return the state, as arrays."""
        return [np.array(leaf) for leaf in _leaves(self._state)]

    def resume(self, leaves: list[NDArray[Any]], anew: bool = False) -> None:
        """Let `start` go on from a state that `leaves` returned.

        Or, if `anew`, begin a run that takes over what its method has learned.
        """
        self._leaves, self._anew = leaves, anew

    def _report(self) -> Report:
        f, gnorm, accepted, stop, *counts = _parts(self._state)
        logs = self._method.logs(self._state)
        if isinstance(self._oracle, Counting):
            counts = self._oracle.counts()
        numbers = float(f), float(gnorm), bool(accepted), int(stop)
        shown = {name: float(value) for name, value in logs.items()}
        nfev, njev, nhev = map(int, counts)
        return Report(*numbers, nfev, njev, nhev, self._rejected, shown)


class DeviceEngine:
    """Steps in compiled calls; the state never leaves the device.

    Over a whole run x0 goes in, and x and the gradient come out in one copy; in between
    a few numbers per call.  The sample is an argument of the compiled functions, so a
    new one does not trace anew.

    Parameters
    ----------
    method : Method
        The method.
    problem : OnDevice
        The problem.
    stride : int
        Largest number of steps in one call.
    ends : Ends, optional
        Bounds of x, those of the problem among them.  They go in once, and stay.
    """

    def __init__(
        self,
        method: Method,
        problem: OnDevice,
        stride: int = 16,
        ends: Ends | None = None,
    ) -> None:
        self._method, self._problem, self.stride = method, problem, stride
        self._box: Box | None = None
        if ends is not None:
            self._box = box_of_problem(problem, ends)
        self._counted, self._rejected = (0, 0, 0), 0
        self._unchecked = 0  # steps since processes have compared their x
        self._shown: list[str] = []
        self._leaves: list[NDArray[Any]] = []
        self._anew = False
        self.traced = False

    def _compiled(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """Return a compiled function, and note whether it is new."""
        self.traced, key = False, (key, self._box is not None)

        def made() -> Any:
            self.traced = True
            return make()

        return self._problem.compiled(key, made)

    @property
    def _given(self) -> tuple[Any, Box | None]:
        """Arguments of compiled functions besides the state: the sample, and bounds."""
        return self._problem.sample, self._box

    def _oracles(self) -> Callable[[Any], SampleOracle]:
        """Return what makes an oracle of `_given`, in compiled functions."""
        return oracles(self._problem, apart=self._method.takes_l1)

    def start(self, x0: NDArray[Any]) -> Report:
        """Make the first state."""
        problem, method, oracle = self._problem, self._method, self._oracles()
        self.agree("start", x0)

        shown: list[str] = []

        def init(x: Array, given: Any) -> tuple[Any, Any]:
            state = method.init(oracle(given), x)
            shown[:] = method.logs(state)  # known when this has been traced
            return state, _numbers(method, state)

        run, self._shown = self._compiled(
            ("init", method), lambda: (problem.backend.compile(init), shown)
        )
        self._sample = problem.sample_id
        self._state, numbers = run(problem.to_device(x0), self._given)
        if self._leaves:
            there = [problem.backend.to_device(leaf) for leaf in self._leaves]
            self._state = _taken_up(method, self._state, there, self._anew)
            self._leaves = []
            numbers = _numbers(method, self._state)
        return self._report(problem.fetch(numbers))

    def advance(self, budget: Budget) -> tuple[int, Report]:
        """Take steps in one compiled call, on the present sample."""
        problem, method, oracle = self._problem, self._method, self._oracles()

        def run(state: Any, given: Any, knobs: Array) -> tuple[Any, Any]:
            state, *steps = _advanced(method, oracle(given), state, knobs)
            return state, _numbers(method, state, *steps)

        advance = self._compiled(
            ("advance", method), lambda: problem.backend.compile(run, donate=True)
        )
        stale = problem.sample_id != self._sample
        self._sample = problem.sample_id
        knobs = problem.backend.to_device(np.array([*budget, stale], problem.dtype))
        self._state, result = advance(self._state, self._given, knobs)
        *numbers, steps, rejected = problem.fetch(result)
        self._rejected += int(rejected)
        self._unchecked += int(steps)
        if self._unchecked >= _CHECKED and problem.backend.process()[1] > 1:
            self.agree("go on", problem.to_host(self._state.at.x))
            self._unchecked = 0
        return int(steps), self._report(numbers)

    def move(self, x: NDArray[Any]) -> Report:
        """Go on from another point."""
        problem, method, oracle = self._problem, self._method, self._oracles()
        self.agree("move", x)

        def run(state: Any, x: Array, given: Any) -> tuple[Any, Any]:
            here = oracle(given)
            state = state._replace(at=state.at._replace(x=projected(here, x)))
            state = method.refresh(here, state)
            return state, _numbers(method, state)

        move = self._compiled(("move", method), lambda: problem.backend.compile(run))
        self._sample = problem.sample_id
        self._state, numbers = move(self._state, problem.to_device(x), self._given)
        return self._report(problem.fetch(numbers))

    def point(self) -> NDArray[Any]:
        """Return a copy of the present iterate."""
        return self._problem.to_host(self._state.at.x)

    def finish(self, converged: bool) -> Final:
        """Return the solution with f and g that belong to it.

        Where the run has not converged, the best point that the method has kept.
        """
        problem, method, oracle = self._problem, self._method, self._oracles()
        again = isinstance(method, Clocked) or problem.sample_id != self._sample

        def final(state: Any, given: Any) -> tuple[Any, Any]:
            if again:
                state = _at_solution(method, oracle(given), state)
                state = method.refresh(oracle(given), state)
            elif not converged:
                state = state._replace(at=method.best(state))
            at = state.at
            both = namespace(at.x).concatenate([at.x, at.g], axis=0)
            return both, _numbers(method, state)

        run = self._compiled(
            ("final", method, again, converged), lambda: problem.backend.compile(final)
        )
        both, numbers = run(self._state, self._given)
        report, both = self._report(problem.fetch(numbers)), problem.to_host(both)
        x, g = both[: problem.n].copy(), both[problem.n :].copy()
        self.agree("end", x)
        return Final(report, x, g)

    def agree(self, doing: str, *vectors: NDArray[Any]) -> None:
        """Raise unless all processes do the same now; see `check_place`."""
        # Here, because it imports Keras, which functions of NumPy do not need.
        from keras_nlp_bridge.problem.processes import check_place

        check_place(doing, *vectors)

    def leaves(self) -> list[NDArray[Any]]:
        """Return the state, as arrays on the host."""
        read = self._problem.backend.to_host
        return [np.array(read(leaf)) for leaf in _leaves(self._state)]

    def resume(self, leaves: list[NDArray[Any]], anew: bool = False) -> None:
        """Let `start` go on from a state that `leaves` returned.

        Or, if `anew`, begin a run that takes over what its method has learned.
        """
        self._leaves, self._anew = leaves, anew

    def _report(self, numbers: Any) -> Report:
        f, gnorm, accepted, stop, *counts = numbers[:_COUNTED]
        shown = zip(self._shown, map(float, numbers[_COUNTED:]), strict=True)
        new = [int(c) - old for c, old in zip(counts, self._counted, strict=True)]
        self._problem.count(*new)
        nfev, njev, nhev = map(int, counts)
        self._counted = nfev, njev, nhev
        values = float(f), float(gnorm), bool(accepted), int(stop)
        return Report(*values, *self._counted, self._rejected, dict(shown))


# Steps after which several processes compare their x.
_CHECKED = 16

# Numbers of a state that every method has.
_COUNTED = 7


def _numbers(method: Method, state: Any, *more: Array) -> Any:
    """Return what `Report` is made of, and more, as one array if possible."""
    xp = namespace(state.at.x)
    numbers = *_parts(state), *method.logs(state).values(), *more
    if state.at.x.shape[0] <= len(numbers) + 1:  # that would pass for a vector
        return numbers
    return xp.stack([xp.cast(v, xp.wide) for v in numbers])


def _parts(state: Any) -> tuple[Array, ...]:
    at, counts = state.at, state.counts
    return at.f, at.gnorm, state.accepted, state.stop, *counts[:3]


def _leaves(state: Any) -> list[Any]:
    """Return the arrays of a state, which is made of named tuples."""
    if not isinstance(state, tuple):
        return [] if state is None else [state]
    return [leaf for part in state for leaf in _leaves(part)]


def _packed(like: Any, leaves: list[Any]) -> Any:
    """Return a state with the structure of another one and these arrays."""
    left = iter(leaves)

    def pack(part: Any) -> Any:
        if not isinstance(part, tuple):
            return None if part is None else next(left)
        parts = [pack(one) for one in part]
        return type(part)(*parts) if hasattr(part, "_fields") else tuple(parts)

    return pack(like)


def _taken_up(method: Method, first: Any, leaves: list[Any], anew: bool) -> Any:
    """Return the state that leaves are of, or a first one that goes on from it."""
    before = _packed(first, leaves)
    return method.continued(first, before) if anew else before


def _limited(state: Any, left: Array) -> Any:
    return state._replace(counts=state.counts._replace(left=left))


def _at_solution(method: Method, oracle: Oracle, state: Any) -> Any:
    return state._replace(at=state.at._replace(x=method.solution(oracle, state)))


def _advanced(
    method: Method, oracle: Oracle, state: Any, knobs: Array
) -> tuple[Any, Array, Array]:
    """Refresh if the sample is new, then step until the budget is used up; traced.

    Returns the state, the steps taken, and those rejected.
    """
    xp = namespace(state.at.x)
    steps, gtol, elapsed, tick, evaluations, stale = (knobs[i] for i in range(6))
    if isinstance(method, Clocked):
        state = method.with_clock(state, elapsed, tick)
    else:
        old = state
        state = xp.cond(stale > 0, lambda: method.refresh(oracle, old), lambda: old)
    if method.limited:
        state = _limited(state, xp.cast(evaluations, "int32"))

    def unfinished(loop: tuple[Array, Array, Any]) -> Array:
        count, _, state = loop
        going = (xp.cast(count, xp.dtype(steps)) < steps) & ~(state.at.gnorm <= gtol)
        if method.limited:
            going = going & (state.counts.left > 0)
        return going & (state.stop == int(Status.RUNNING))

    def body(loop: tuple[Array, Array, Any]) -> tuple[Array, Array, Any]:
        count, rejected, state = loop
        state = method.step(oracle, state)
        return count + 1, rejected + xp.cast(~state.accepted, "int32"), state

    zero = xp.scalar(0, "int32")
    count, rejected, state = xp.while_loop(unfinished, body, (zero, zero, state))
    return state, count, rejected
