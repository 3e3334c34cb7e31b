"""What a cached file says of itself."""

from pydantic import BaseModel, ConfigDict, ValidationError


class CacheNote(BaseModel):
    """What a cached file says of itself to who lists the cache; nothing else reads it.

    Attributes
    ----------
    data
        Folder of the data set.
    images
        How many.
    detail
        Protocol, input size and the like.
    """

    model_config = ConfigDict(frozen=True)

    data: str | None = None
    images: int | None = None
    detail: str | None = None

    def written(self, limit: int = 2000) -> bytes:
        """Return the note as JSON of at most `limit` bytes; empty if it does not fit."""
        content = self.model_dump_json().encode()
        return content if len(content) <= limit else b""

    @classmethod
    def read(cls, content: bytes) -> "CacheNote":
        """Read a note; one that is damaged is empty."""
        try:
            return cls.model_validate_json(content)
        except ValidationError:
            return cls()
