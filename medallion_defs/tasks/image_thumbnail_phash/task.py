"""`image.thumbnail_phash`: a small copy of an image in the derived folder, and a hash by which images that look alike are found.

The hash is dHash, 64 bits: is each of 8x8 places clearly darker than the one to its right? It needs Pillow alone (the package
imagehash would bring SciPy and PyWavelets). Two images look alike when few bits differ; `near_duplicates.sql` asks Postgres.
"""

from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field

from medallion_defs.labeling.contract import TaskContext, TaskSpec, WorkItem
from medallion_defs.labeling.per_item import item_processor
from medallion_defs.sources.media.files import Format, StoredPicture, medium_of, open_image, store_picture
from medallion_defs.sources.media.levels import to_rgb
from medallion_defs.sources.media.subjects import IMAGES

if TYPE_CHECKING:
    from PIL.Image import Image

_STRICT = ConfigDict(extra="forbid", strict=True, frozen=True)
_FORMATS_WITH_FRAMES = frozenset({"AVIF", "GIF", "PNG", "TIFF", "WEBP"})
_SIDE = 8
_NOISE = 2  # levels of 255: what lossy compression makes of an even surface


class Parameters(BaseModel):
    """The profile's parameters.

    Attributes:
        max_edge_px: the longer side of the thumbnail; a smaller image keeps its size.
        quality: of JPEG.
    """

    model_config = _STRICT

    max_edge_px: int = Field(ge=16, le=4_096)
    image_format: Format
    quality: int = Field(ge=1, le=95)


class Output(BaseModel):
    """One image.

    Attributes:
        width, height: pixels, as people see it (turned as its EXIF data say).
        format: Pillow's name, such as JPEG.
        frames: more than one for an animation, or the pages of a TIFF; thumbnail and hash are of the first.
        phash: 16 hexadecimal digits. An image of one colour has sixteen zeros, whatever the colour.
    """

    model_config = _STRICT

    width: int = Field(ge=1)
    height: int = Field(ge=1)
    format: str
    frames: int = Field(ge=1)
    thumbnail: StoredPicture
    phash: str = Field(pattern="^[0-9a-f]{16}$")


def get_spec() -> TaskSpec:
    return TaskSpec(
        task_key="image.thumbnail_phash",
        media_type="image",
        title="Thumbnail and perceptual hash of an image",
        description="Size, format, a thumbnail, and a 64 bit hash that is nearly the same for images that look alike.",
        domain="content",
        subjects=IMAGES,
        output_model=Output,
        processor=item_processor(Parameters, _describe),
        owners=("team:content",),
    )


def _describe(item: WorkItem, parameters: Parameters, context: TaskContext) -> Output:
    from PIL import ImageOps

    medium = medium_of(item.path, item.inputs.get("filename") or item.subject_key)
    with open_image(medium) as image:
        upright = to_rgb(ImageOps.exif_transpose(image), image)
        facts = {"width": upright.width, "height": upright.height, "format": _format(image), "frames": _frames(image)}
    phash = dhash(upright)
    upright.thumbnail((parameters.max_edge_px, parameters.max_edge_px))
    thumbnail = store_picture(upright, context.derived(item.task_id), parameters.image_format, parameters.quality)
    return Output.model_validate({**facts, "thumbnail": thumbnail, "phash": phash})


def _format(image: "Image") -> str:
    # A photograph with a second view, a depth map or a preview behind it: every program shows the JPEG.
    return "JPEG" if image.format == "MPO" else str(image.format)


def _frames(image: "Image") -> int:
    """Return the number of pictures that are shown one after the other; views of an MPO and layers of a PSD are not."""
    return int(getattr(image, "n_frames", 1)) if image.format in _FORMATS_WITH_FRAMES else 1


def dhash(image: "Image") -> str:
    """Return the difference hash of an image as 16 hexadecimal digits; the number of bits in which two differ is their distance."""
    from PIL.Image import Resampling

    grey = image.convert("L").resize((_SIDE + 1, _SIDE), Resampling.BOX)
    levels = grey.tobytes()
    rows = [levels[start : start + _SIDE + 1] for start in range(0, len(levels), _SIDE + 1)]
    bits = "".join("1" if row[place + 1] - row[place] > _NOISE else "0" for row in rows for place in range(_SIDE))
    return f"{int(bits, 2):016x}"
