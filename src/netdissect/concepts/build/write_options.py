"""The options of a data set that is written: sizes, formats, colors, and which labels are merged and dropped."""

import re
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ModelWrapValidatorHandler, ValidationError, model_validator

from netdissect.config import Resize
from netdissect.config_fields import Config
from netdissect.errors import ConfigError

CATEGORY_SPELLING = re.compile(r"[a-z][a-z0-9_]*")


class WriteOptions(Config):
    """Options of writing images and label maps, and of merging and dropping labels."""

    size: int = Field(224, ge=2, description="Images become this square; label maps half of it.")
    resize: Resize = Field(
        "stretch",
        description=(
            "How an image becomes a square. stretch: the whole image, as Broden. crop: the middle of its longer "
            "side. pad: the whole image on a black, unlabeled square."
        ),
    )
    colors: bool = Field(False, description="Name the color of every pixel, as the category 'color'.")
    color_table: Path | None = Field(None, description="A published 32x32x32 table of color names; None: our model.")
    image_format: Literal["jpeg", "png"] = Field("jpeg", description="jpeg: of the quality below; png: lossless.")
    quality: int = Field(92, ge=1, le=95, description="JPEG quality, without chroma subsampling.")
    copy_images: bool = Field(
        False, description="Copy the file of an image that already has the size, instead of encoding it again."
    )
    merge_variants: bool = Field(
        False, description="Merge singular and plural, 'left arm' and 'arm', 'fire place' and 'fireplace'."
    )
    min_images: int = Field(0, ge=0, description="Drop labels of fewer images; Broden: 10.")
    min_coverage: float = Field(
        0.0, ge=0, description="Drop labels of less coverage, in images, summed over all; Broden: 0.5."
    )

    @model_validator(mode="wrap")
    @classmethod
    def _explain(cls, values: Any, handler: ModelWrapValidatorHandler["WriteOptions"]) -> "WriteOptions":
        try:
            return handler(values)
        except ValidationError as error:
            first = error.errors()[0]
            name = ".".join(map(str, first["loc"]))
            described = cls.model_fields[name].description if name in cls.model_fields else None
            raise ConfigError(
                f"the option {name!r} of a data set was {first['input']!r}: {first['msg'].lower()}. "
                + (f"It means: {described} Correct it." if described else "Correct it.")
            ) from error

    @property
    def map_size(self) -> int:
        """Height and width of the label maps."""
        return self.size // 2
