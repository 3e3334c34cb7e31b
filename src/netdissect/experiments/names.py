"""Names that the command line offers, apart from everything that needs torch."""

from typing import Literal, get_args

ScaleName = Literal["tiny", "small"]
VariantsName = Literal["seeds", "dropout", "batchnorm", "width", "depth"]

SCALE_NAMES: tuple[ScaleName, ...] = get_args(ScaleName)
VARIANTS: tuple[VariantsName, ...] = get_args(VariantsName)
