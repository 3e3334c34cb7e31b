from . import console_tables as console_tables
from . import evaluation_tables as evaluation_tables
from . import reproduce_page as reproduce_page
from .formulas import formula_tables as formula_tables
from .notebook import show_unit as show_unit
from .write import report as report
