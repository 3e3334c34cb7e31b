"""The table of label sets adds up over images in any order."""

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from netdissect.scoring.formulas import ActiveRows, LabelSetTable

CATEGORY_OF = np.array([-1, 0, 0, 0, 1, 1])
ROWS = st.lists(
    st.tuples(st.lists(st.integers(0, 5), max_size=4), st.integers(0, 3), st.integers(1, 9), st.integers(0, 1)),
    max_size=12,
)


def table_of(rows: list[tuple[list[int], int, int, int]]) -> tuple[LabelSetTable, ActiveRows]:
    """Make the table of one image after another, and the active pixels of a unit."""
    table, active = LabelSetTable.zeros(CATEGORY_OF), ActiveRows.of([], [])
    for labels, annotated, pixels, share in rows:
        image = LabelSetTable.of(CATEGORY_OF, [labels], [annotated], np.array([pixels]))
        table, (old, new) = LabelSetTable.merge([table, image])
        active = active.moved(old).plus(ActiveRows.of(new, [share * pixels]))
    return table, active


def contents(table: LabelSetTable, active: ActiveRows) -> list[tuple[tuple[int, ...], int, int, int]]:
    """List label ids, annotated categories, pixels and active pixels of each row."""
    counts = dict(zip(active.rows.tolist(), active.active.tolist(), strict=True))
    return [
        (
            tuple(table.label_ids[table.offsets[row] : table.offsets[row + 1]].tolist()),
            int(table.annotated[row]),
            int(table.pixels[row]),
            counts.get(row, 0),
        )
        for row in range(len(table))
    ]


@given(rows=ROWS, seed=st.integers(0, 99))
def test_any_order_and_any_split_of_the_images_gives_the_same_table(
    rows: list[tuple[list[int], int, int, int]], seed: int
) -> None:
    pixels: Counter[tuple[tuple[int, ...], int]] = Counter()
    active_pixels: Counter[tuple[tuple[int, ...], int]] = Counter()
    for labels, annotated, number, share in rows:
        key = (tuple(sorted(set(labels) - {0})), annotated)
        pixels[key] += number
        active_pixels[key] += share * number
    expected = sorted(
        ((*key, pixels[key], active_pixels[key]) for key in pixels), key=lambda row: (len(row[0]), *row[:2])
    )
    shuffled = [rows[index] for index in np.random.default_rng(seed).permutation(len(rows))]
    assert contents(*table_of(rows)) == contents(*table_of(shuffled)) == expected
    half = len(rows) // 2
    (left, left_active), (right, right_active) = table_of(rows[:half]), table_of(rows[half:])
    table, (of_left, of_right) = LabelSetTable.merge([left, right])
    assert contents(table, left_active.moved(of_left).plus(right_active.moved(of_right))) == expected
    assert (left + right).pixels.tolist() == table.pixels.tolist()


@given(rows=ROWS, label_id=st.integers(1, 5), categories=st.integers(0, 3))
def test_a_row_has_its_labels_and_its_annotated_categories(
    rows: list[tuple[list[int], int, int, int]], label_id: int, categories: int
) -> None:
    table, active = table_of(rows)
    listed = contents(table, active)
    assert table.has_label(label_id).tolist() == [label_id in labels for labels, *_ in listed]
    assert table.is_annotated(categories).tolist() == [
        annotated & categories == categories for _, annotated, *_ in listed
    ]
    assert active.mask_pixels == sum(count for *_, count in listed)
