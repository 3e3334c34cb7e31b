from .run_dissection import dissect as dissect
