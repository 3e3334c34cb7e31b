"""Which concept of a run a label is: by its name, a synonym, its spelling, or a table that the user gives.

ConceptNames.of(concepts, synonyms, mapping).match(label) -> LabelMatch

exact      the name itself
synonym    a synonym that the data set lists, in any spelling
spelling   the name up to case, plural, spaces, hyphens, underscores, and the suffixes -s of scenes and -c of colors
mapping    as the user's table says, which comes before all others
unmatched  no concept, or more than one; similar names are offered and never taken
"""

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Literal

import polars as pl

from netdissect.close_matches import did_you_mean
from netdissect.concepts.build.synonyms import NOT_MERGED, SUFFIXES, singular
from netdissect.errors import ResultError
from netdissect.evaluation.label_files import read_rows

How = Literal["exact", "synonym", "spelling", "mapping", "unmatched"]
OFFERED = 3
CANDIDATES = 20  # names that share most letters with a label, among which similar ones are looked for


@dataclass(frozen=True)
class LabelMatch:
    """The concept of a label.

    Attributes
    ----------
    concept
        Its name; None: unmatched.
    how
        How it was found.
    near
        Similar names, if it was not.
    """

    concept: str | None
    how: How
    near: tuple[str, ...] = ()


@dataclass(frozen=True)
class ConceptNames:
    """The names of the concepts of a run, as labels are matched to them.

    Attributes
    ----------
    names
        The concepts.
    mapping
        Concept by label, from the user; None: the label is none of the run's.
    synonyms, spellings, folded_synonyms
        Concepts by synonym, by folded name and by folded synonym.
    trigrams
        Concepts by three neighboring letters of their folded names.
    """

    names: tuple[str, ...]
    mapping: Mapping[str, str | None]
    synonyms: Mapping[str, frozenset[str]]
    spellings: Mapping[str, frozenset[str]]
    folded_synonyms: Mapping[str, frozenset[str]]
    trigrams: Mapping[str, frozenset[str]]

    @classmethod
    def of(
        cls,
        names: Iterable[str],
        synonyms: Mapping[str, Iterable[str]] | None = None,
        mapping: Mapping[str, str | None] | None = None,
    ) -> "ConceptNames":
        """Index names.

        Parameters
        ----------
        names
            The concepts of the run.
        synonyms
            Other names of some concepts. Words that lexicons list in a rare sense are left out; see
            `netdissect.concepts.build.synonyms.NOT_MERGED`.
        mapping
            Concept by label.

        Raises
        ------
        ResultError
            If the mapping names a concept that is none.
        """
        known = tuple(names)
        for label, concept in (mapping or {}).items():
            if concept is not None and concept not in known:
                raise ResultError(
                    f"the mapping gives the label {label!r} the concept {concept!r}, which the run does not have."
                    f"{did_you_mean(concept, known)} Expected a name that 'netdissect show RUN --concepts' prints, or "
                    "nothing for a label that is no concept."
                )
        others = [
            (word, name)
            for name in known
            for word in (synonyms or {}).get(name, ())
            if word not in NOT_MERGED and word not in known
        ]
        return cls(
            known,
            mapping or {},
            _index(others),
            _index((folded(name), name) for name in known),
            _index((folded(word), name) for word, name in others),
            _index((gram, name) for name in known for gram in _trigrams(folded(name))),
        )

    def match(self, label: str) -> LabelMatch:
        """Return the concept of a label."""
        if label in self.mapping:
            concept = self.mapping[label]
            return LabelMatch(concept, "unmatched" if concept is None else "mapping")
        if label in self.names:
            return LabelMatch(label, "exact")
        key = folded(label)
        tables: tuple[tuple[How, frozenset[str]], ...] = (
            ("synonym", self.synonyms.get(label, frozenset())),
            ("spelling", self.spellings.get(key, frozenset())),
            ("synonym", self.folded_synonyms.get(key, frozenset())),
        )
        for how, found in tables:
            # "Street" is the object street, not the scene street-s.
            plain = {name for name in found if not name.endswith(tuple(SUFFIXES.values()))} or found
            if len(plain) == 1:
                return LabelMatch(next(iter(plain)), how)
            if plain:
                return LabelMatch(None, "unmatched", tuple(sorted(plain)))
        return LabelMatch(None, "unmatched", self._near(key))

    def _near(self, key: str) -> tuple[str, ...]:
        shared = Counter(name for gram in _trigrams(key) for name in self.trigrams.get(gram, ()))
        candidates = {
            folded(name): name for name, _ in sorted(shared.items(), key=lambda one: (-one[1], one[0]))[:CANDIDATES]
        }
        return tuple(candidates[close] for close in get_close_matches(key, list(candidates), OFFERED, 0.75))


def folded(name: str) -> str:
    """Return what spellings of one name share: lower case, singular words, no spaces or marks, no suffix -s or -c.

    >>> [folded(name) for name in ("Traffic_Lights", "traffic light", "living_room-s", "Living-Room", "red-c")]
    ['trafficlight', 'trafficlight', 'livingroom', 'livingroom', 'red']
    """
    text = unicodedata.normalize("NFKC", name).casefold()
    for suffix in SUFFIXES.values():
        text = text.removesuffix(suffix)
    return "".join(singular(word) for word in re.findall(r"[^\W_]+", text))


def read_mapping(path: str | Path) -> dict[str, str | None]:
    """Read a table of the user: the columns label and concept; an empty concept: the label is none of the run's.

    Raises
    ------
    ResultError
        If it cannot be read, lacks a column, or gives a label two concepts.
    """
    found: dict[str, str | None] = {}
    for line, row in read_rows(Path(path), (("label",), ("concept",))):
        label, concept = row["label"].strip(), row["concept"].strip() or None
        if found.setdefault(label, concept) != concept:
            raise ResultError(
                f"{path}, line {line} gives the label {label!r} the concept {concept!r}; an earlier line gave it "
                f"{found[label]!r}. Keep one of them."
            )
    return found


MATCHES: Mapping[str, type[pl.DataType]] = {
    "method": pl.String,
    "label": pl.String,
    "units": pl.Int64,  # that have the label
    "concept": pl.String,  # null: unmatched
    "how": pl.String,
    "near": pl.List(pl.String),  # type: ignore[dict-item]
}


def match_labels(labels: Mapping[str, pl.DataFrame], names: ConceptNames) -> pl.DataFrame:
    """Match the labels of all methods: a row for each method and distinct label, the most frequent first.

    Parameters
    ----------
    labels
        Frames with a column ``label``, by method.
    names
        Of the run.

    Returns
    -------
    DataFrame
        The columns `MATCHES`.
    """
    known: dict[str, LabelMatch] = {}

    def rows() -> Iterator[tuple[object, ...]]:
        for method, frame in labels.items():
            for label, units in Counter(frame["label"]).most_common():
                if label not in known:
                    known[label] = names.match(label)
                match = known[label]
                yield method, label, units, match.concept, match.how, list(match.near)

    return pl.DataFrame(list(rows()), schema=dict(MATCHES), orient="row")


def _index(pairs: Iterable[tuple[str, str]]) -> dict[str, frozenset[str]]:
    found = defaultdict(set)
    for key, name in pairs:
        found[key].add(name)
    return {key: frozenset(names) for key, names in found.items() if key}


def _trigrams(text: str) -> set[str]:
    return {text[start : start + 3] for start in range(max(len(text) - 2, 1))}
