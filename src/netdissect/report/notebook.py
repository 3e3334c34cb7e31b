"""Single units in a notebook: an object with an HTML view."""

import base64
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from netdissect.errors import ResultError
from netdissect.plots.category_colors import category_colors
from netdissect.plots.example_images import image_folder, read_image, webp
from netdissect.report.layer_tables import LayerTables, number_runs
from netdissect.report.views.unit_views import UnitView, unit_view
from netdissect.result import Result
from netdissect.result.queries import only_layer
from netdissect.scoring.number_text import iou_text

TOP_IMAGES = 10

_BOX = (
    '<div style="font-family:system-ui,sans-serif;max-width:60em"><p style="margin:0 0 6px">'
    '<b style="font-size:1.3em">{label}</b> <span style="border-left:4px solid {color};padding-left:6px">{category}'
    '</span> unit {unit}, IoU {iou} of {max_attainable_iou:.3f} attainable</p><div style="display:grid;'
    'grid-template-columns:repeat(5,1fr);gap:3px">{tiles}</div><p style="margin:6px 0">{runners_up}</p></div>'
)
_TILE = (
    '<svg viewBox="0 0 {width} {height}" preserveAspectRatio="none" style="aspect-ratio:1" fill-rule="evenodd" '
    'role="img" aria-label="{name}"><title>{name}</title>'
    '<image href="data:image/webp;base64,{data}" width="{width}" height="{height}" preserveAspectRatio="none"/>'
    '<path d="M0 0H{width}V{height}H0z{mask}" fill="#000" fill-opacity=".55"/>'
    '<path d="{mask}" fill="none" stroke="#fff" vector-effect="non-scaling-stroke"/></svg>'
)


@dataclass(frozen=True, repr=False)
class ShownUnit:
    """A unit with its top images, dimmed outside its masks: a notebook shows it as the last value of a cell.

    Attributes
    ----------
    view
        The values that are shown.
    folder
        Folder of the images.
    color
        Of its category.
    """

    view: UnitView
    folder: Path
    color: str

    def _repr_html_(self) -> str:
        view = self.view
        runners_up = ", ".join(f"{each.concept} {iou_text(each.iou, view.min_iou)}" for each in view.runners_up)
        return str(
            Markup(_BOX).format(  # noqa: S704 - the format is ours, and what is put in is escaped
                label="dead" if view.state == "dead" else view.label or "no concept",
                color=self.color,
                category=view.category or "",
                unit=view.unit,
                iou=iou_text(view.iou, view.min_iou, digits=4),
                max_attainable_iou=view.max_attainable_iou,
                tiles=Markup("").join(self._tiles()),
                runners_up=view.reason or (f"next: {runners_up}" if runners_up else ""),
            )
        )

    def _tiles(self) -> list[Markup]:
        tiles = []
        for image in self.view.top_images:
            pixels = read_image(self.folder, image.image)
            if pixels is not None:
                data = base64.b64encode(webp(pixels)).decode()
                height, width = 2 * image.size.height, 2 * image.size.width
                shown = {"name": image.image, "data": data, "mask": image.unit, "height": height, "width": width}
                tiles.append(Markup(_TILE).format(**shown))  # noqa: S704
        return tiles

    def __repr__(self) -> str:
        """Return number, label and IoU in a line."""
        iou = iou_text(self.view.iou, self.view.min_iou, digits=4)
        return f"unit {self.view.unit}: {self.view.label or 'no concept'}, IoU {iou}"


def show_unit(result: Result, layer: str | None, unit: int, *, data_root: str | Path | None = None) -> ShownUnit:
    """Show one unit in a notebook.

    Parameters
    ----------
    result
        A finished run.
    layer
        One of its layers; None: the only one.
    unit
        Its index, from 0.
    data_root
        The data set's folder, if it has moved since the run.

    Returns
    -------
    ShownUnit
        An HTML view in a notebook, a line of text elsewhere.

    Raises
    ------
    ResultError
        If there is no such layer or unit.
    """
    name = only_layer(result, layer)
    tables = LayerTables(number_runs([result])[0], list(result.layers).index(name))
    if unit not in tables.units:
        raise ResultError(f"layer {name} has no unit {unit}; its units are 0 to {len(tables.units) - 1}.")
    view = unit_view(tables, unit, TOP_IMAGES)
    color = category_colors(result.info.data.categories).get(view.category or "", "#7a7a7a")
    return ShownUnit(view, image_folder(result.info.data.root, data_root), color)
