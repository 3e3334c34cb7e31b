"""The images of a dissection, for a data set that is given as a folder or opened."""

from pathlib import Path

from netdissect.concepts import ConceptData
from netdissect.concepts.dataset import Subset
from netdissect.config import DissectConfig
from netdissect.errors import ConfigError


def sample_images(
    concepts: ConceptData | str | Path, config: DissectConfig, cache: Path | None = None
) -> tuple[ConceptData, DissectConfig]:
    """Open a data set, or restrict an open one, as a configuration says.

    Parameters
    ----------
    concepts
        A data set, or its folder.
    config
        Its `categories`, `split`, `max_images` and `sample_seed` restrict the data set further.
    cache
        Folder of cached file digests; see `ConceptData`.

    Returns
    -------
    ConceptData, DissectConfig
        The images, and the configuration that describes the choice: it opens the same images from the folder.

    Raises
    ------
    ConfigError
        If the configuration contradicts how the data set was opened, or restricts images that were chosen in Python.
    ConceptsError
        If no image is left, or a table cannot be read.
    """
    requested = Subset(config.categories, config.split, config.max_images, config.sample_seed)
    if not isinstance(concepts, ConceptData):
        return ConceptData.open(concepts, **requested._asdict(), cache=cache), config
    if concepts.subset is None:
        given = [f"{name}={value!r}" for name, value in requested._asdict().items() if value and name != "sample_seed"]
        if given:
            raise ConfigError(
                f"the configuration asks for {', '.join(given)} of a data set whose {len(concepts):,} images were "
                "chosen in Python. Choose them all in Python, or open the data set with ConceptData.open."
            )
        return concepts, config
    subset = concepts.subset.narrowed(requested)
    if subset != concepts.subset:
        concepts = ConceptData.open(concepts.root, **subset._asdict(), cache=concepts.cache or cache)
    return concepts, config.model_copy(update=subset._asdict())
