"""Test functions with derivatives, starts and known minima.

`basic` serves the contract tests.  `classic` (More, Garbow and Hillstrom) and `shaped`
are the part on which defaults may be chosen; `chains`, `small` and `learning` are the
part that confirms them.
"""

from .basic import EASY as EASY
from .basic import HARD as HARD
from .basic import SOLVERTEST as SOLVERTEST
from .basic import rosenbrock as rosenbrock
from .shape import Problem as Problem
from .chains import CHAINS
from .classic import CLASSIC
from .learning import LEARNING
from .shaped import SHAPED
from .small import SMALL

CHOSEN_ON = [*CLASSIC, *SHAPED]
HELD_OUT = [*CHAINS, *SMALL, *LEARNING]
