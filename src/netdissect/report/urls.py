"""Where each page and image of a report stands: the files of a folder, and the same paths on a server.

    index.html                  all runs
    r0/l1/index.html            layer 1 of run 0
    r0/l1/u12.html              unit 12 of that layer
    concepts/index.html         all concepts
    concepts/c7.html            concept 7 of the list of `netdissect.report.views.concept_numbers`
    images/0/345.webp         the image of index row 345 of data set 0
    look/report.css, report.js  style and script of every page

Paths are made of numbers alone: no name of a layer, concept or image ever becomes part of one.
"""

import re

INDEX = "index.html"
CONCEPTS = "concepts/index.html"
STYLE = "look/report.css"
SCRIPT = "look/report.js"
NUMBERED = re.compile(r"r\d+/l\d+/(index|u\d+)\.html|concepts/c\d+\.html|images/\d+/\d+\.webp")


def layer(run: int, index: int) -> str:
    """Return the page of a layer."""
    return f"r{run}/l{index}/index.html"


def unit(run: int, index: int, number: int) -> str:
    """Return the page of a unit.

    >>> unit(0, 1, 12)
    'r0/l1/u12.html'
    """
    return f"r{run}/l{index}/u{number}.html"


def concept(number: int) -> str:
    """Return the page of a concept."""
    return f"concepts/c{number}.html"


def image(data: int, row: int) -> str:
    """Return the file of an image."""
    return f"images/{data}/{row}.webp"


def root_of(address: str) -> str:
    """Return what leads from a page back to the root.

    >>> root_of("r0/l1/u12.html")
    '../../'
    """
    return "../" * address.count("/")


def is_address(name: str) -> bool:
    """Say whether a name is that of a file of a report, and not of something else in its folder.

    >>> is_address("r0/l1/u12.html"), is_address("../notes.html")
    (True, False)
    """
    return name in {INDEX, CONCEPTS, STYLE, SCRIPT} or NUMBERED.fullmatch(name) is not None
