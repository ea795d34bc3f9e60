"""Test functions with derivatives, starts and known minima.

`basic` serves the contract tests.  `classic` (More, Garbow and Hillstrom) and `shaped`
are the part on which defaults may be chosen; `chains`, `small` and `learning` are the
part that confirms them.  `bounded` are those with bounds.
"""

from problems.basic import EASY as EASY
from problems.basic import HARD as HARD
from problems.basic import SOLVERTEST as SOLVERTEST
from problems.basic import rosenbrock as rosenbrock
from problems.bounded import BOUNDED as BOUNDED
from problems.chains import CHAINS
from problems.classic import CLASSIC
from problems.learning import LEARNING
from problems.shape import Problem as Problem
from problems.shape import quadratic as quadratic
from problems.shaped import SHAPED
from problems.small import SMALL

CHOSEN_ON = [*CLASSIC, *SHAPED]
HELD_OUT = [*CHAINS, *SMALL, *LEARNING]
