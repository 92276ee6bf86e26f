"""Images reach their folder whole or not at all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from detr_d2.files import write_whole

#: Formats that images are written in, by the end of the file's name.
IMAGE_FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}


def save_image(image: np.ndarray | Image.Image, path: str | Path) -> Path:
    """Writes an image beside its place and renames it, so that nobody ever sees half of it.

    Args:
        image: (H, W, 3) uint8, RGB, or a Pillow image.
        path: where to; ``.png``, ``.jpg`` or ``.jpeg``. Its folder is made; a file that is there is replaced.

    Returns:
        ``path``.

    Raises:
        ValueError: the file's name ends in something else.
    """
    target = Path(path)
    file_format = IMAGE_FORMATS.get(target.suffix.lower())
    if file_format is None:
        raise ValueError(f"{target} ends in {target.suffix!r}; images are written as {', '.join(IMAGE_FORMATS)}.")
    # PNG's usual level 6 takes two and a half times as long for a file that is 6 % smaller.
    options = {"quality": 92} if file_format == "JPEG" else {"compress_level": 4}
    pixels = image if isinstance(image, Image.Image) else Image.fromarray(np.ascontiguousarray(image))
    return write_whole(target, lambda file: pixels.save(file, format=file_format, **options))
