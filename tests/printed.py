"""What a figure prints: every text that is drawn, its type size, and its box on the canvas."""

from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

SMALLEST = 6.0
"""Points."""
TOUCH = 0.6
"""Pixels by which boxes may overlap: they are a little larger than the letters."""


@dataclass
class Printed:
    """Texts of a figure with their boxes (left, bottom, right, top), in pixels, and the problems of its type."""

    width: float
    height: float
    texts: list[tuple[str, float, tuple[float, float, float, float]]] = field(default_factory=list)

    def problems(self) -> list[str]:
        """Return a line for each text that is too small, leaves the canvas or covers another one."""
        found = [f"{text!r} has {size} points" for text, size, _ in self.texts if size < SMALLEST]
        for text, _, (left, bottom, right, top) in self.texts:
            if min(left, bottom, self.width - right, self.height - top) < -TOUCH:
                found.append(f"{text!r} leaves the canvas")
        for (one, _, first), (other, _, second) in combinations(self.texts, 2):
            gaps = (first[0] - second[2], second[0] - first[2], first[1] - second[3], second[1] - first[3])
            if max(gaps) < -TOUCH:
                found.append(f"{one!r} covers {other!r}")
        return found


def printed(figure: Figure) -> Printed:
    """Draw a figure and return its texts."""
    width, height = figure.canvas.get_width_height()
    page = Printed(width, height)

    class Recorder(RendererAgg):
        """Keeps what is drawn."""

        def draw_text(self, *drawn: Any, mtext: Text | None, **_options: Any) -> None:
            _gc, x, y, text, font, *_ = drawn
            if mtext is None:  # one of several lines
                wide, high, descent = self.get_text_width_height_descent(text, font, ismath=False)
                box = Bbox.from_bounds(x, height - y - descent, wide, high)
            else:  # of an annotation, the box without its arrow
                box = Text.get_window_extent(mtext, self)
            page.texts.append((text, font.get_size_in_points(), (box.x0, box.y0, box.x1, box.y1)))

    figure.draw(Recorder(width, height, figure.dpi))
    return page
