"""Which images a dissection sees: what its configuration says, whether the data set comes as a folder or opened."""

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
        Its `categories`, `split`, `limit` and `seed` restrict the data set further.
    cache
        Folder that remembers what the files hold; see `ConceptData`.

    Returns
    -------
    ConceptData, DissectConfig
        The images, and the configuration that says which they are: it opens them again from the folder.

    Raises
    ------
    ConfigError
        If the configuration contradicts how the data set was opened, or restricts rows that were chosen by hand.
    ConceptsError
        If no image is left, or a table cannot be read.
    """
    wanted = Subset(config.categories, config.split, config.max_images, config.sample_seed)
    if not isinstance(concepts, ConceptData):
        return ConceptData.open(concepts, **wanted._asdict(), cache=cache), config
    if concepts.subset is None:
        asked = [f"{name}={value!r}" for name, value in wanted._asdict().items() if value and name != "sample_seed"]
        if asked:
            raise ConfigError(
                f"the configuration asks for {', '.join(asked)} of a data set whose {len(concepts):,} images were "
                "chosen in Python. Choose them all in Python, or open the data set with ConceptData.open."
            )
        return concepts, config
    subset = concepts.subset.narrowed(wanted)
    if subset != concepts.subset:
        concepts = ConceptData.open(concepts.root, **subset._asdict(), cache=concepts.cache or cache)
    return concepts, config.model_copy(update=subset._asdict())
