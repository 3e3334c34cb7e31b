"""Formulas of concepts: ((c1 op c2) op c3) with OR, AND and AND NOT."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np

from netdissect.compose_config import OPERATORS, Operator
from netdissect.scoring.formulas.label_set_table import Bools, LabelSetTable


@dataclass(frozen=True)
class Formula:
    """A left-deep formula ((c1 op c2) op c3) of one or more concepts, of which the first two differ.

    Attributes
    ----------
    label_ids
        Of its concepts, n of them.
    operators
        The n - 1 operators between them; `and-not` negates the concept that follows.

    Examples
    --------
    >>> formula = Formula((3, 2, 1), ("or", "and-not"))
    >>> formula.text({1: "blue-c", 2: "river", 3: "water"})
    '(water OR river) AND NOT blue-c'
    >>> formula.normal_form()
    Formula(label_ids=(2, 3, 1), operators=('or', 'and-not'))
    """

    label_ids: tuple[int, ...]
    operators: tuple[Operator, ...] = ()

    def __len__(self) -> int:
        """Count its concepts."""
        return len(self.label_ids)

    @property
    def order(self) -> tuple[object, ...]:
        """What decides between formulas of equal IoU: the smallest is preferred.

        Fewer concepts; then fewer AND NOT; then label ids in order; then operators, OR before AND before AND NOT.
        """
        operators = tuple(OPERATORS.index(operator) for operator in self.operators)
        return len(self), self.operators.count("and-not"), self.label_ids, operators

    def normal_form(self) -> Self:
        """Sort neighbors that commute by label id: those of OR, and those of AND and AND NOT."""
        sorted_steps: list[tuple[int, Operator]] = []
        for run in self._runs():
            first = [] if sorted_steps else [min(step for step in run if step[1] != "and-not")]
            sorted_steps += first + sorted(step for step in run if step not in first)
        label_ids, operators = zip(*sorted_steps, strict=True)
        return type(self)(label_ids, operators[1:])

    def text(self, names: Mapping[int, str]) -> str:
        """Write the formula with the names of its concepts, by label id."""
        text = names[self.label_ids[0]]
        for position, (label_id, operator) in enumerate(zip(self.label_ids[1:], self.operators, strict=True)):
            if position and (operator == "or") != (self.operators[position - 1] == "or"):
                text = f"({text})"
            text = f"{text} {operator.upper().replace('-', ' ')} {names[label_id]}"
        return text

    def covers(self, table: LabelSetTable) -> Bools:
        """Tell which rows of a table the formula covers, bool (R,)."""
        covered = table.has_label(self.label_ids[0])
        for label_id, operator in zip(self.label_ids[1:], self.operators, strict=True):
            has_label = table.has_label(label_id)
            if operator == "or":
                covered = covered | has_label
            else:
                covered = covered & (has_label if operator == "and" else ~has_label)
        return np.asarray(covered)

    def categories(self, table: LabelSetTable) -> int:
        """Return the primary categories of its concepts, negated ones too, as bits."""
        return sum({1 << int(table.category_of[label_id]) for label_id in self.label_ids})

    def _runs(self) -> list[list[tuple[int, Operator]]]:
        """Split concepts, each with the operator before it, where OR and AND change; the first goes with the second."""
        steps = list(zip(self.label_ids[1:], self.operators, strict=True))
        kind: Operator = "or" if not steps or steps[0][1] == "or" else "and"
        runs = [[(self.label_ids[0], kind)]]
        for step in steps:
            if (step[1] == "or") == (runs[-1][-1][1] == "or"):
                runs[-1].append(step)
            else:
                runs.append([step])
        return runs
