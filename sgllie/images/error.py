"""What can be wrong with the bytes of an image."""

from typing import Literal

ImageErrorType = Literal["empty", "not_an_image", "truncated", "corrupt", "too_large", "multi_frame", "unsupported"]

ERROR_TYPES: dict[str, str] = {
    "empty": "The file has no bytes.",
    "not_an_image": "The bytes are not those of an image, whatever the name says.",
    "truncated": "The file ends before its image does.",
    "corrupt": "The file has its full length, but its content is damaged.",
    "too_large": "The image has more pixels than --max-pixels, or more than the output format or the network takes.",
    "multi_frame": "The file holds several images: an animation or several pages.",
    "unsupported": "The file is an image of a kind that is not handled, or that the output format cannot hold.",
}
"""The kinds of failure, as they stand in the statistics, and what each means."""


class ImageError(Exception):
    """An image that cannot be decoded or encoded. Its text says why in one sentence, without the path."""

    def __init__(self, error_type: ImageErrorType, sentence: str) -> None:
        super().__init__(sentence)
        self.error_type = error_type

    def __reduce__(self) -> tuple:
        return ImageError, (self.error_type, str(self))
