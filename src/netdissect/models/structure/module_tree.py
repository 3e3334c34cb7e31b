"""The modules of a network that ran, as a tree: which ones repeat, and which ones only run others."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import pairwise

from torch import nn

from netdissect.models.receptive_field.trace import TracedModule

GENERIC = ("Sequential", "ModuleList", "ModuleDict", "Module", "GraphModule", "InterpreterModule")
"""Classes that tell nothing about what they do: such modules are of one kind if their parts are."""
ROOT = ""


class ModuleTree:
    """The modules that ran, each below the next outer one that ran.

    Parameters
    ----------
    traced
        In the order in which they finished.
    module
        The network, from which weights are read.

    Notes
    -----
    Modules that pass their input on are left out, and so are further names of one module.
    """

    def __init__(self, traced: Sequence[TracedModule], module: nn.Module) -> None:
        self.modules = dict(module.named_modules())
        self.nodes = {each.name: each for each in traced if each.name in self.modules and not each.passes_through}
        self.parents = {name: self._parent(name) for name in self.nodes}
        self.parts: dict[str, list[str]] = defaultdict(list)
        for name, parent in self.parents.items():
            self.parts[parent].append(name)
        self._kinds: dict[str, str] = {}
        self._containers: dict[str, bool] = {}

    def _parent(self, name: str) -> str:
        while name:
            name = name.rpartition(".")[0]
            if name in self.nodes:
                return name
        return ROOT

    def ancestors(self, name: str) -> Iterator[str]:
        """Yield the modules around a module, the innermost first."""
        while (name := self.parents[name]) != ROOT:
            yield name

    def is_leaf(self, name: str) -> bool:
        """Tell whether no part of a module ran."""
        return name not in self.parts

    def follows(self, name: str, before: str) -> bool:
        """Tell whether a module was given the output of another as it was."""
        return self.nodes[before].output in self.nodes[name].inputs

    def same_output(self, one: str, other: str) -> bool:
        """Tell whether two modules returned the same tensor, as the last block of a container and the container do."""
        return self.nodes[one].output == self.nodes[other].output

    def kind(self, name: str) -> str:
        """Return the class of a module, of a generic container with the kinds of its parts."""
        if name not in self._kinds:
            parts = ",".join(map(self.kind, self.parts.get(name, ())))
            of_class = self.nodes[name].type
            self._kinds[name] = f"{of_class}({parts})" if of_class in GENERIC else of_class
        return self._kinds[name]

    @cached_property
    def repeated(self) -> frozenset[str]:
        """Kinds of modules with parts of which one follows another directly, within one module."""
        return self.repeating([name for name in self.nodes if not self.is_leaf(name)])

    def repeating(self, names: Sequence[str]) -> frozenset[str]:
        """Return the kinds of which, among these modules, one follows another directly, within one module."""
        within: dict[str, list[str]] = defaultdict(list)
        for name in names:
            within[self.parents[name]].append(name)
        return frozenset(
            self.kind(first)
            for parts in within.values()
            for first, second in pairwise(parts)
            if self.kind(first) == self.kind(second) and self.follows(second, first)
        )

    def is_container(self, kind: str) -> bool:
        """Tell whether all modules of a kind do nothing but run repeated modules, and others, one after the other."""
        if kind not in self._containers:
            self._containers[kind] = False  # of a kind that contains itself
            self._containers[kind] = all(self._is_chain(name) for name in self.nodes if self.kind(name) == kind)
        return self._containers[kind]

    def _is_chain(self, name: str) -> bool:
        parts = self.parts.get(name)
        return (
            parts is not None
            and self.same_output(name, parts[-1])
            and all(self.follows(second, first) for first, second in pairwise(parts))
            and any(self._holds_blocks(part) for part in parts)
        )

    def _holds_blocks(self, name: str) -> bool:
        kind = self.kind(name)
        return kind in self.repeated or self.is_container(kind)
