"""Strips of augmented images: what each arm's net sees."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from harness.analysis import Analysis
from harness.report.document import Strip, Strips
from harness.report.material import Material, thumbnail
from harness.text import plural

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_STRIP_IMAGES = 8
_STRIP_ARMS = 16


def strips(material: Material, analysis: Analysis) -> Strips:
    """Return a strip of images for every arm that has samples, the first ``_STRIP_ARMS`` of them."""
    items: list[Strip] = []
    for arm in analysis.arms:
        images_KHWC = material.samples.get(arm.name)
        if images_KHWC is None or len(items) == _STRIP_ARMS:
            continue
        png, width, height = _row_of_images(images_KHWC[:_STRIP_IMAGES])
        count = min(len(images_KHWC), _STRIP_IMAGES)
        items.append(
            Strip(
                arm.name,
                png,
                width,
                height,
                f"{plural(count, 'training image')} as the arm {arm.name} sees them",
            )
        )
    left = sum(arm.name in material.samples for arm in analysis.arms) - len(items)
    caption = "The same training images as each arm's net sees them, drawn by the pipeline that trained it."
    if left:
        caption += f" {plural(left, 'arm')} more in samples.png."
    return Strips(tuple(items), caption)


def _row_of_images(images_KHWC: npt.NDArray[np.uint8]) -> tuple[bytes, int, int]:
    """Return images side by side as PNG, and the size to show it at: whole multiples of a pixel."""
    import numpy as np
    from PIL import Image

    pad = 1
    images_KHWC = np.stack([thumbnail(image) for image in images_KHWC])
    padded = np.pad(images_KHWC, ((0, 0), (0, 0), (0, pad), (0, 0)), constant_values=255)
    row = np.concatenate(list(padded), axis=1)[:, :-pad]
    picture = Image.fromarray(np.ascontiguousarray(row))
    if (row[..., 0] == row[..., 1]).all() and (row[..., 0] == row[..., 2]).all():
        picture = picture.convert("L")
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    # whole pixels stay square
    factor = max(1, 48 // row.shape[0])
    return buffer.getvalue(), factor * row.shape[1], factor * row.shape[0]
