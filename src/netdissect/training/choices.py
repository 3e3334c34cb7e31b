"""Names that the command line offers; nothing here needs torch."""

from typing import Literal, get_args

ScaleName = Literal["tiny", "small"]
SupervisedName = Literal["scene", "object"]
SelfSupervisedName = Literal["rotation", "context", "jigsaw", "colorization", "crosschannel", "inpainting", "simclr"]
TaskName = Literal[SupervisedName, SelfSupervisedName, "random"]
ConditionName = Literal["seeds", "dropout", "batchnorm", "width", "depth"]

SUPERVISED: tuple[SupervisedName, ...] = get_args(SupervisedName)
SELF_SUPERVISED: tuple[SelfSupervisedName, ...] = get_args(SelfSupervisedName)
RANDOM: Literal["random"] = "random"
TASKS: tuple[TaskName, ...] = (*SUPERVISED, *SELF_SUPERVISED, RANDOM)
