from . import outcomes as outcomes
from . import paper as paper
from . import plot as plot
from . import tables as tables
from .notebook import unit as unit
from .reporting import report as report
