from . import console_tables as console_tables
from . import reproduce_page as reproduce_page
from .notebook import unit as unit
from .write import report as report
