"""From image files to uint8 arrays: decode, resize, stack.

Shapes: N images, H and W pixels, C channels. A single image is HW (grey) or HWC (colour).
"""

from __future__ import annotations

import io
import os
import struct
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from harness.errors import DataError
from harness.text import plural
from harness.train.arrays import OnEvent, Pixels

if TYPE_CHECKING:
    from PIL.Image import Image as AnyImage

Named = tuple[str, Path | bytes]  # what an error calls the image, and its file or the bytes of one

_CHUNK = 64  # images a task: enough to hide the cost of handing it to a thread
_WAVE = 2048  # images in flight: bounds the memory that undecoded files take
_ORIENTATION = 0x0112  # EXIF's tag
_TURNS = range(2, 9)  # its values that turn or mirror an image
# values, of 256, that a part of a set uses at least: less is black to the eye and to a net
_LEAST_RANGE = 16
_HALF = 128  # of 256: below it, the highest bit is unused
# Pillow's own limit for a decompression bomb, as an error here and not a warning
_TOO_MANY_PIXELS = 178_956_970


class DecodingCount:
    """Counts decoded images over all files of a data set and says so about ten times."""

    def __init__(self, what: str, total: int, on_event: OnEvent) -> None:
        self._what, self._total, self._on_event = what, total, on_event
        self._done = 0

    def add(self, images: int) -> None:
        """Count ``images`` more."""
        before, self._done = self._done, self._done + images
        step = max(self._total // 10, 1)
        if self._total > _WAVE and self._done // step > before // step:
            self._on_event(f"{self._what}: {self._done:,} of {self._total:,} images decoded")


class Findings:
    """What decoding finds out about the images of a set, to be said to its user.

    Images of more than 8 bits are brought to 8 by what the whole set uses of them: a file of 16
    bits may hold 8, 10 or 12. The first such image makes all be looked through for the largest
    value.

    Args:
        images: gives every image of every part, from the start, each time it is called.

    Attributes:
        turned: images that were turned as their EXIF orientation says.
        plain: names of images of a single colour.
    """

    def __init__(self, images: Callable[[], Iterable[Named]]) -> None:
        self.turned = 0
        self.plain: list[str] = []
        self._images = images
        self._bits: int | None = None
        # a colour image of 16 bits a channel, and the largest of the upper 8 bits of all of them
        self._colour = ("", 0)
        self._lock = threading.Lock()

    def deep_colour(self, name: str, highest: int) -> None:
        """Take note of a colour image of 16 bits a channel, of which the upper 8 are kept."""
        with self._lock:
            self._colour = self._colour[0] or name, max(self._colour[1], highest)

    def shift(self) -> int:
        """Return by how many bits deep images are to be shifted down."""
        with self._lock:
            if self._bits is None:
                self._bits = max(
                    (_highest(name, source) for name, source in self._images()), default=0
                ).bit_length()
            return max(self._bits - 8, 0)

    @property
    def notes(self) -> tuple[str, ...]:
        """Return a sentence for each thing found."""
        notes = []
        if self._bits is not None:
            how = f"divided by {2 ** (self._bits - 8)}" if self._bits > 8 else "taken as they are"
            notes.append(
                f"its images of more than 8 bits use {self._bits} of them: their values are {how}"
            )
        if self._colour[0]:
            notes.append("its images of 16 bits with several channels are divided by 256")
        if self.turned:
            verb = "was" if self.turned == 1 else "were"
            notes.append(
                f"{plural(self.turned, 'image')} {verb} turned as the EXIF orientation says"
            )
        if self.plain:
            verb = "is" if len(self.plain) == 1 else "are"
            notes.append(
                f"{plural(len(self.plain), 'image')} {verb} of a single colour, the first: "
                f"{self.plain[0]}"
            )
        return tuple(notes)

    def look(self, images_NCHW: Pixels, name: Callable[[int], str]) -> None:
        """Look at the range of values of a part, and for images of a single colour.

        Raises:
            DataError: the part holds hardly any contrast, or colour images of 16 bits that use
                fewer; an image is named.
        """
        if self._colour[0] and self._colour[1] < _HALF:
            bits = 8 + self._colour[1].bit_length()
            raise DataError(
                f"{self._colour[0]} has 16 bits a channel, and the set uses {bits} of them at most: divided by 256, it would be dark",
                "save the images with 8 bits a channel, with values from 0 to 255",
            )
        if not len(images_NCHW):
            return
        rows_NP = images_NCHW.reshape(len(images_NCHW), -1)
        low_N, high_N = rows_NP.min(axis=1), rows_NP.max(axis=1)
        low, high = int(low_N.min()), int(high_N.max())
        if high - low < _LEAST_RANGE:
            spread = f"all have the value {low}" if low == high else f"lie between {low} and {high}"
            raise DataError(
                f"the pixels of {name(0)}, and of every other image of its part, {spread}, "
                "of 0 to 255",
                "they may be masks, or were saved in another scale: "
                "save them with values from 0 to 255",
            )
        self.plain += [name(int(k)) for k in np.flatnonzero(low_N == high_N)]


def decode_all(
    images: Iterable[Named], *, size: int, progress: DecodingCount, findings: Findings
) -> list[Pixels]:
    """Decode images in threads (Pillow releases the interpreter lock while it works), in order.

    Args:
        images: name and file or bytes of each.
        size: side in pixels of what is returned, 0 for the image's own.
        progress: receives how many are done.
        findings: of the set; says how deep images are read, and notes turned ones.

    Returns:
        One HW or HWC array an image.

    Raises:
        DataError: an unreadable image, by name.
    """
    from PIL import Image

    Image.init()  # loading the format plug-ins is not safe from several threads
    done: list[Pixels] = []
    with ThreadPoolExecutor(min(os.cpu_count() or 1, 16)) as pool:
        for wave in _waves(images, _WAVE):
            chunks = [wave[i : i + _CHUNK] for i in range(0, len(wave), _CHUNK)]
            for decoded in pool.map(
                lambda chunk: [_decode(name, source, size, findings) for name, source in chunk],
                chunks,
            ):
                done += [image for image, _ in decoded]
                findings.turned += sum(turned for _, turned in decoded)
            progress.add(len(wave))
    return done


def _waves(items: Iterable[Named], length: int) -> Iterator[list[Named]]:
    wave: list[Named] = []
    for item in items:
        wave.append(item)
        if len(wave) == length:
            yield wave
            wave = []
    if wave:
        yield wave


def _decode(name: str, source: Path | bytes, size: int, findings: Findings) -> tuple[Pixels, bool]:
    """Return an image, and whether it was turned as its EXIF orientation says."""
    with _opened(name, source) as image:
        colour = _is_deep_colour(image)  # Pillow forgets it when it loads the image
        turned = _turned(image)
        was_turned = turned is not image
        if turned.mode.startswith("I"):  # more than 8 bits a pixel: Pillow would clip at 255
            pixels = (_deep(name, turned) >> findings.shift()).astype(np.uint8)
        else:
            if turned.mode == "F":
                raise DataError(
                    f"{name} holds floating-point pixels", "save it with 8 or 16 bits a channel"
                )
            grey = turned.mode in ("1", "L", "LA", "La")
            if isinstance(turned.info.get("transparency"), bytes):
                turned = turned.convert(
                    "RGBA"
                )  # Pillow warns where a palette's alpha falls at once
            pixels = np.array(turned.convert("L" if grey else "RGB"), dtype=np.uint8)
        if colour:
            findings.deep_colour(name, int(pixels.max(initial=0)))
    return resize_image(pixels, size), was_turned


@contextmanager
def _opened(name: str, source: Path | bytes) -> Iterator[AnyImage]:
    from PIL import Image

    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
            if image.width * image.height > _TOO_MANY_PIXELS:
                raise DataError(
                    f"{name} has {image.width} x {image.height} pixels, too many for one image"
                )
            yield image
    except (
        OSError,
        SyntaxError,
        ValueError,
        EOFError,
        Image.DecompressionBombError,
        Image.DecompressionBombWarning,
    ) as error:
        raise DataError(
            f"could not read {name} as an image: {error}", "replace or remove it"
        ) from error


def _turned(image: AnyImage) -> AnyImage:
    """Return an image as its EXIF orientation says, or the same object where it says nothing."""
    from PIL import ImageOps

    image.load()
    try:
        orientation = image.getexif().get(_ORIENTATION, 1)
    except (
        SyntaxError,
        ValueError,
        KeyError,
        TypeError,
        struct.error,
    ):  # damaged EXIF says nothing; the pixels are sound
        return image
    return ImageOps.exif_transpose(image) if orientation in _TURNS else image


def _deep(name: str, image: AnyImage) -> npt.NDArray[np.int64]:
    """Return the values of an image of more than 8 bits."""
    values = np.asarray(image, dtype=np.int64)
    if values.min(initial=0) < 0:
        raise DataError(
            f"{name} holds negative values, down to {values.min()}", "save it with values from 0"
        )
    return values


def _highest(name: str, source: Path | bytes) -> int:
    """Return the largest value of an image of more than 8 bits, 0 for any other."""
    with _opened(name, source) as image:
        return int(_deep(name, image).max(initial=0)) if image.mode.startswith("I") else 0


def _is_deep_colour(image: AnyImage) -> bool:
    """Whether an image that is not loaded yet has 16 bits a channel and several channels: Pillow keeps the upper 8."""
    tiles = getattr(image, "tile", ())  # of files only: what an image made in memory lacks
    return any(str(tile[3]).endswith(";16B") for tile in tiles) and image.mode[0] != "I"


def stack(parts: Sequence[Sequence[Pixels]], names: Callable[[int, int], str]) -> list[Pixels]:
    """Stack the images of every part into one NCHW array a part.

    All are in colour as soon as one image of any part is.

    Args:
        parts: HW or HWC images of each part.
        names: (part, position) to what an error calls that image.

    Raises:
        DataError: images of mixed sizes; two of them are named.
    """
    first = next((p[0].shape for p in parts if p), (0, 0))
    colour = False
    for i, part in enumerate(parts):
        for j, image in enumerate(part):
            colour = colour or image.ndim == 3
            if image.shape[:2] != first[:2]:
                start = next(k for k, p in enumerate(parts) if p)
                raise DataError(
                    f"images of mixed sizes: {names(start, 0)} has {first[1]} x {first[0]} pixels, "
                    f"{names(i, j)} {image.shape[1]} x {image.shape[0]}",
                    "give one side in pixels with data.size, for example --set data.size=32",
                )
    stacked = []
    for part in parts:
        out_NCHW = np.empty((len(part), 3 if colour else 1, *first[:2]), dtype=np.uint8)
        for j, image in enumerate(part):
            out_NCHW[j] = image.transpose(2, 0, 1) if image.ndim == 3 else image
        stacked.append(out_NCHW)
    return stacked


def resize(images_NCHW: Pixels, size: int) -> Pixels:
    """Return the images cut to their central square and resized to ``size`` x ``size`` pixels.

    0 leaves them alone.

    A whole-number reduction averages areas; any other ratio is Pillow's bilinear filter, which
    widens with the reduction.
    """
    if size == 0 or images_NCHW.shape[2:] == (size, size):
        return images_NCHW
    height, width = images_NCHW.shape[2:]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square_NCHW = images_NCHW[:, :, top : top + side, left : left + side]
    if side % size == 0:
        return np.concatenate(
            [
                _area(square_NCHW[i : i + 1024], side // size)
                for i in range(0, len(square_NCHW), 1024)
            ]
        )
    out_NCHW = np.empty((*square_NCHW.shape[:2], size, size), dtype=np.uint8)
    for i, image_CHW in enumerate(square_NCHW):
        out_NCHW[i] = [_bilinear(plane_HW, size) for plane_HW in image_CHW]
    return out_NCHW


def resize_image(image: Pixels, size: int) -> Pixels:
    """Return one HW or HWC image as :func:`resize` would, bit for bit."""
    if size == 0:
        return image
    planes_1CHW = image[None, None] if image.ndim == 2 else image.transpose(2, 0, 1)[None]
    out_CHW = resize(planes_1CHW, size)[0]
    return out_CHW[0] if image.ndim == 2 else np.ascontiguousarray(out_CHW.transpose(1, 2, 0))


def _area(images_NCHW: Pixels, factor: int) -> Pixels:
    n, c, h, w = images_NCHW.shape
    blocks = images_NCHW.reshape(n, c, h // factor, factor, w // factor, factor)
    total: npt.NDArray[np.uint32] = blocks.sum(axis=(3, 5), dtype=np.uint32)
    # round half up, in whole numbers
    return ((total + factor * factor // 2) // (factor * factor)).astype(np.uint8)


def _bilinear(plane_HW: Pixels, size: int) -> Pixels:
    from PIL import Image

    return np.asarray(Image.fromarray(plane_HW).resize((size, size), Image.Resampling.BILINEAR))
