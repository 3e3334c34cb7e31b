from .run import dissect as dissect
