from . import console_tables as console_tables
from . import reproduce_page as reproduce_page
from .notebook import show_unit as show_unit
from .write import report as report
