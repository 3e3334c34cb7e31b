"""The commands of `netdissect experiment`; each is imported, with torch and its options, when it is asked for."""

from importlib import import_module
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

HELP = {
    "rotate": "Rotate the units of one layer, step by step, and dissect each step.",
    "layer-profile": "Detectors by category over all convolutions of one network.",
    "compare": "Compare the detectors of several networks or runs with each other, and with published counts.",
    "training-dynamics": "Follow detectors over training: counts by category, and units that changed category.",
    "seeds": "Train one recipe from several seeds: the same counts, by other units?",
    "dropout": "Train with and without dropout.",
    "batchnorm": "Train with and without batch normalization.",
    "width": "Train with a narrower and a wider last convolution.",
    "depth": "Train with fewer and with more convolutions.",
    "supervision": "Train one network on supervised and self-supervised tasks, and compare what its units detect.",
    "linear-probe": "Accuracy of a linear SVM on the features of layers, against the unique object detectors there.",
    "rater-agreement": "Which labels people accept, by layer, how well they agree, and whether IoU predicts it.",
    "attribution": "Attribution to the classes that a network names, and to its decision on single images.",
    "ablate": "Ablate units: one at a time, the best and worst for a class, all but the best, and as many at random.",
}
"""Name -> what `netdissect experiment --help` says of it."""


class LazyCommand(TyperCommand):
    """A command whose function, and with it its options, is imported when it is called or its own help is read."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the options of the function."""
        if self.callback is None:
            module = MODULES.get(str(self.name), str(self.name).replace("-", "_"))
            alone = typer.Typer(add_completion=False)
            alone.command()(import_module(f"netdissect.cli.experiments.{module}").run)
            made = typer.main.get_command(alone)
            self.params, self.callback, self.help = made.params, made.callback, f"{self.help}\n\n{made.help}"
        return super().get_params(ctx)


MODULES = dict.fromkeys(("seeds", "dropout", "batchnorm", "width", "depth"), "training_conditions")
"""Name of a command -> module of `netdissect.cli.experiments`, where it is another."""


class ExperimentGroup(TyperGroup):
    """All experiments, none of them imported yet."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.commands = {name: LazyCommand(name, help=text, rich_markup_mode="markdown") for name, text in HELP.items()}


app = typer.Typer(cls=ExperimentGroup, no_args_is_help=True)


@app.callback()
def _experiments() -> None:
    pass
