"""The parts of states."""

import numpy as np
import pytest

from keras_nlp_bridge.methods import Counts, Iterate, Progress, Status
from keras_nlp_bridge.methods.state import no_counts, verdict


def test_of_several_reasons_the_last_wins():
    yes, no = np.True_, np.False_
    reasons = {Status.STALLED: yes, Status.SMALL_STEP: yes, Status.UNBOUNDED: no}
    assert verdict(reasons) == Status.SMALL_STEP
    assert verdict(dict.fromkeys(reasons, no)) == Status.RUNNING
    assert verdict(reasons).dtype == np.int32


def test_evaluations_are_counted_and_taken_from_those_that_are_left():
    counts = no_counts(np.ones(2))._replace(left=np.int32(10))
    assert counts.plus(nfev=3, njev=2) == Counts(3, 2, 0, 7)
    assert counts.plus(nhev=4) == Counts(0, 0, 4, 10)


@pytest.mark.parametrize(
    ("accepted", "f", "gnorm", "idle"),
    [
        *[(True, 0.5, 3.0, 0), (True, 2.0, 1.0, 0), (True, 2.0, 3.0, 5)],
        *[(False, 0.5, 1.0, 5), (True, np.nan, np.nan, 5)],
    ],
)
def test_a_step_that_lowers_neither_f_nor_the_gradient_is_idle(
    accepted, f, gnorm, idle
):
    def at(f, gnorm):
        return Iterate(np.zeros(2), np.float64(f), np.zeros(2), np.float64(gnorm))

    progress = Progress.begin(at(1.0, 2.0))._replace(idle=np.int32(4))
    after = progress.after(np.bool_(accepted), at(f, gnorm))
    assert after.idle == idle
    assert after.f_best == (0.5 if accepted and f == 0.5 else 1.0)
    assert after.f_start == 1.0
