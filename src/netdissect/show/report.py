"""Write a run as a page that opens from disk: no server, no network, no script from elsewhere.

    OUT/index.html        everything to read, with its style and script
    OUT/charts/*.svg      charts, light and dark
    OUT/units/L/N.webp    top images of unit N of layer L, loaded when they are looked at

File names are numbers: names of layers, concepts and images never become paths, and in the page they
are escaped text.
"""

from collections.abc import Iterator
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from matplotlib.figure import Figure

from netdissect.config import Progress
from netdissect.errors import ResultError
from netdissect.result import Result
from netdissect.result.files import write_whole
from netdissect.show import plot
from netdissect.show.pictures import Tiles, sheet, unit_masks
from netdissect.show.views import LayerView, UnitView, concept_views, layer_view, legend
from netdissect.sweep import ahead

PAGE = "index.html"
GENERATOR = "netdissect report"
TEMPLATES = Path(__file__).parent / "templates"

SHOWN_IMAGES = 6
# Pillow decodes and encodes without the interpreter lock.
DRAWING_THREADS = 2
COLUMNS = 3
# At this quality a sheet of six takes about 20 kB, and the masks' outlines stay clean.
QUALITY = 72
DARK_INK = "#E4E6E9"


def report(
    result: Result,
    out: str | Path,
    *,
    images: str | Path | None = None,
    progress: Progress | None = None,
) -> Path:
    """Write a run as a folder of plain files to look at.

    Parameters
    ----------
    result
        A finished run, for example from `netdissect.result.load_result`.
    out
        Folder to write; an earlier report there is replaced.
    images
        The data set's folder, or its ``images/``, if it has moved since the run. Without the pictures the
        report is written all the same, and says so.
    progress
        Called with the stage and the number of units done and in all.

    Returns
    -------
    Path
        Of ``index.html``.

    Raises
    ------
    ResultError
        If `out` holds a page that is no report, or cannot be written.
    """
    out = Path(out)
    _refuse_foreign(out)
    try:
        (out / "charts").mkdir(parents=True, exist_ok=True)
        layers = [layer_view(result, index, SHOWN_IMAGES) for index in range(len(result.layers))]
        tiles = Tiles(_image_folder(result, images))
        _draw_units(result, layers, tiles, out, progress)
        overview = _draw_charts(result, layers, out)
        text = _page(result, layers, tiles, overview)
        write_whole(out / PAGE, lambda file: file.write(text.encode()))
    except OSError as error:
        raise ResultError(
            f"the report cannot be written to {out} ({error}). Nothing there is complete; free space or choose "
            "another folder."
        ) from error
    return out / PAGE


def _refuse_foreign(out: Path) -> None:
    page = out / PAGE
    if not page.exists():
        return
    try:
        with page.open(encoding="utf-8", errors="replace") as file:
            ours = GENERATOR in file.read(2000)
    except OSError:
        ours = False
    if not ours:
        raise ResultError(
            f"{page} exists and is no report of netdissect; it would be overwritten. Name another folder."
        )


def _image_folder(result: Result, images: str | Path | None) -> Path:
    root = Path(result.info.data.root if images is None else images)
    inner = root / "images"
    return inner if images is None or inner.is_dir() else root


def _draw_units(result: Result, layers: list[LayerView], tiles: Tiles, out: Path, progress: Progress | None) -> None:
    total = sum(len(layer.units) for layer in layers)
    done = 0
    for layer in layers:
        folder = out / "units" / str(layer.index)
        folder.mkdir(parents=True, exist_ok=True)
        draw = partial(_draw_unit, result, layer, tiles=tiles, folder=folder)
        for place, unit in enumerate(ahead(draw, list(layer.units), DRAWING_THREADS, 4 * DRAWING_THREADS)):
            layer.units[place] = unit
            done += 1
            if progress:
                progress("report", done, total)


def _draw_unit(result: Result, layer: LayerView, unit: UnitView, tiles: Tiles, folder: Path) -> UnitView:
    """Write the sheet of one unit's top images; a unit none of whose pictures can be read has none."""
    small = [tiles.tile(name) for name in unit.images]
    if all(tile is None for tile in small):
        return unit
    maps = result.layers[layer.info.name].top_maps[unit.unit, : len(small)]
    info = result.info
    masks = unit_masks(maps, unit.threshold, layer.info, info.network.size, info.config.protocol.anchor)
    page = sheet(small, masks, COLUMNS)
    name = f"{unit.unit}.webp"
    page.save(folder / name, quality=QUALITY, method=4)
    return unit.with_picture(f"units/{layer.index}/{name}", page.size)


def _draw_charts(result: Result, layers: list[LayerView], out: Path) -> dict[str, str]:
    """Write every chart in ink for light and for dark pages, of layers with detectors; return the whole run's."""
    shown = [layer for layer in layers if layer.detectors]
    for layer in shown:
        name = layer.info.name
        layer.charts["bars"] = _write_chart(plot.bars(result, layers=[name]), out, f"layer-{layer.index}-bars")
        layer.charts["concepts"] = _write_chart(plot.concepts(result, name), out, f"layer-{layer.index}-concepts")
    if len(layers) < 2 or not shown:
        return {}
    return {"bars": _write_chart(plot.bars(result), out, "layers")}


def _write_chart(figure: Figure, out: Path, name: str) -> str:
    plot.save_svg(figure, out / "charts" / f"{name}.svg")
    plot.save_svg(figure, out / "charts" / f"{name}-dark.svg", ink=DARK_INK)
    return f"charts/{name}"


def _page(result: Result, layers: list[LayerView], tiles: Tiles, overview: dict[str, str]) -> str:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    environment.filters["number"] = lambda value: f"{value:,}"
    environment.filters["iou"] = lambda value: f"{value:.3f}"
    environment.filters["percent"] = lambda value: f"{100 * value:.3g} %"
    values: dict[str, Any] = {
        "generator": GENERATOR,
        "info": result.info,
        "data_name": Path(result.info.data.root).name,
        "layers": layers,
        "concepts": concept_views(result),
        "colors": legend(result),
        "overview": overview,
        "missing": sorted(tiles.missing),
        "pictured": any(unit.picture for unit in _units(layers)),
        "expected": any(unit.images for unit in _units(layers)),
        "shown_images": SHOWN_IMAGES,
        "version": version("netdissect"),
        "style": (TEMPLATES / "report.css").read_text(encoding="utf-8"),
        "script": (TEMPLATES / "report.js").read_text(encoding="utf-8"),
    }
    return environment.get_template("report.html.j2").render(values)


def _units(layers: list[LayerView]) -> Iterator[UnitView]:
    return (unit for layer in layers for unit in layer.units)
