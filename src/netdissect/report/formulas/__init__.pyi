from . import formula_tables as formula_tables
