"""Relative URLs of the pages and images of a report: files in a folder, and the same paths on a server.

    index.html                    all runs
    r0/l1/index.html              layer 1 of run 0
    r0/l1/u12.html                unit 12 of that layer
    r0/l1/units.js                rows of all its units, if not all have a page
    terms.html                    definitions of the terms
    concepts/index.html           all concepts
    training.html                 concepts over a training
    interventions.html            units of a generator that were changed, and the areas of concepts
    concepts/c7.html              concept 7 of `netdissect.report.layer_tables.concept_indices`
    images/0/345.webp             image 345 of data set 0
    images/0/345.js               the masks of its concepts, if a page shows one of them
    static/report.css, report.js  style and script of every page

Paths contain numbers only, never the name of a layer, concept or image.
"""

import re

INDEX = "index.html"
CONCEPTS = "concepts/index.html"
TERMS = "terms.html"
TRAINING = "training.html"
INTERVENTIONS = "interventions.html"
STYLE = "static/report.css"
SCRIPT = "static/report.js"
NUMBERED_FILE = re.compile(
    r"r\d+/l\d+/(index\.html|u\d+\.html|units\.js)|(concepts/c|matched/r)\d+\.html|images/\d+/\d+\.(webp|js)"
)


def layer(run: int, index: int) -> str:
    """Return the page of a layer."""
    return f"r{run}/l{index}/index.html"


def unit(run: int, layer_index: int, unit_index: int) -> str:
    """Return the page of a unit.

    >>> unit(0, 1, 12)
    'r0/l1/u12.html'
    """
    return f"r{run}/l{layer_index}/u{unit_index}.html"


def unit_rows(run: int, layer_index: int) -> str:
    """Return the script with a row for each unit of a layer."""
    return f"r{run}/l{layer_index}/units.js"


def concept(index: int) -> str:
    """Return the page of a concept."""
    return f"concepts/c{index}.html"


def matched_units(run: int) -> str:
    """Return the page of units of the first run that are matched with those of another one."""
    return f"matched/r{run}.html"


def image(data_index: int, image_index: int) -> str:
    """Return the file of an image."""
    return f"images/{data_index}/{image_index}.webp"


def concept_masks(image_url: str) -> str:
    """Return the script with the masks of the concepts in the image at a URL of `image`.

    >>> concept_masks("images/0/345.webp")
    'images/0/345.js'
    """
    return image_url.removesuffix(".webp") + ".js"


def image_index(url: str) -> int:
    """Return the index of the image at a URL of `image`.

    >>> image_index("images/0/345.webp")
    345
    """
    return int(url.rpartition("/")[2].removesuffix(".webp"))


def root_of(url: str) -> str:
    """Return the relative URL from a page to the folder of the report.

    >>> root_of("r0/l1/u12.html")
    '../../'
    """
    return "../" * url.count("/")


def is_report_file(name: str) -> bool:
    """Return whether a file name belongs to a report.

    >>> is_report_file("r0/l1/u12.html"), is_report_file("../notes.html")
    (True, False)
    """
    return (
        name in {INDEX, CONCEPTS, TERMS, TRAINING, INTERVENTIONS, STYLE, SCRIPT}
        or NUMBERED_FILE.fullmatch(name) is not None
    )
