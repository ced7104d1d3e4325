"""From any picture to one of 8 bits a channel that shows the same greys: what thumbnail and hash are made of.

Pillow's own conversion cuts off what is above 255: a picture of 16 bits a pixel becomes white.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL.Image import Image

_WIDE_MODES = ("I", "I;16", "I;16B", "I;16L", "I;16N", "F")
_BAND_ROWS = 256  # converted at a time: floats of a whole picture would take 800 MB
_TIFF_BITS_PER_SAMPLE, _TIFF_PHOTOMETRIC, _WHITE_IS_ZERO = 258, 262, 0


def to_rgb(image: "Image", source: "Image") -> "Image":
    """Return the image in RGB, its greys kept; what is transparent becomes white, for JPEG has no transparency.

    Args:
        image: the picture, perhaps turned.
        source: the picture as it was opened: its format knows what white is.
    """
    from PIL import Image

    if image.mode in _WIDE_MODES:
        return _to_8_bits(image, source).convert("RGB")
    if not image.has_transparency_data:
        return image.convert("RGB")
    picture = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")


def _to_8_bits(image: "Image", source: "Image") -> "Image":
    import numpy as np
    from PIL import Image

    black, white = _levels(image, source)
    grey = Image.new("L", image.size)
    for top, values in _bands(image):
        # Not a number, as in maps where nothing was measured, is black.
        levels = np.nan_to_num((values - black) * (255 / (white - black)), nan=0)
        grey.paste(Image.fromarray(np.clip(np.rint(levels), 0, 255).astype(np.uint8)), (0, top))
    return grey


def _levels(image: "Image", source: "Image") -> tuple[float, float]:
    """Return the values of black and of white.

    16 bits have the whole range. 32 bits and floats have no agreed white: values that are greys
    already, 0 to 1 (floats) or whole numbers to 255, are taken as such; others go from the least to
    the greatest.
    """
    tags: Any = getattr(source, "tag_v2", {})
    if image.mode.startswith("I;16"):
        [bits] = tags.get(_TIFF_BITS_PER_SAMPLE, (16,))[:1]
        black, white = 0.0, float(2**bits - 1)
    else:
        black, white = _range(image)
    return (white, black) if tags.get(_TIFF_PHOTOMETRIC) == _WHITE_IS_ZERO else (black, white)


def _range(image: "Image") -> tuple[float, float]:
    import numpy as np

    lows, highs, wholes = [], [], []
    for _, band in _bands(image):
        values = band[np.isfinite(band)]
        lows.append(values.min(initial=np.inf))
        highs.append(values.max(initial=-np.inf))
        wholes.append((values == np.rint(values)).all())
    least, greatest = float(min(lows)), float(max(highs))
    if image.mode == "F" and least >= 0 and greatest <= 1:
        return 0, 1
    if least >= 0 and greatest <= 255 and all(wholes):
        return 0, 255
    return least, greatest if greatest > least else least + 1


def _bands(image: "Image") -> Iterator[tuple[int, Any]]:
    """Yield the first row and the values of each part of the picture, as floats of 64 bits."""
    import numpy as np

    for top in range(0, image.height, _BAND_ROWS):
        band = image.crop((0, top, image.width, min(top + _BAND_ROWS, image.height)))
        yield top, np.asarray(band).astype(np.float64)
