"""Images reach their folder whole or not at all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from detr_d2.files import write_whole

#: Formats that images are written in, by the end of the file's name.
PICTURE_FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}


def save_picture(picture: np.ndarray | Image.Image, path: str | Path) -> Path:
    """Writes an image beside its place and renames it, so that nobody ever sees half of it.

    Args:
        picture: (H, W, 3) uint8, RGB, or a Pillow image.
        path: where to; ``.png``, ``.jpg`` or ``.jpeg``. Its folder is made; a file that is there is replaced.

    Returns:
        ``path``.

    Raises:
        ValueError: the file's name ends in something else.
    """
    target = Path(path)
    picture_format = PICTURE_FORMATS.get(target.suffix.lower())
    if picture_format is None:
        raise ValueError(f"{target} ends in {target.suffix!r}; pictures are written as {', '.join(PICTURE_FORMATS)}.")
    # PNG's usual level 6 takes two and a half times as long for a file that is 6 % smaller.
    options = {"quality": 92} if picture_format == "JPEG" else {"compress_level": 4}
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(np.ascontiguousarray(picture))
    return write_whole(target, lambda file: image.save(file, format=picture_format, **options))
