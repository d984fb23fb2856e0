"""The page's colours can be read, by day and by night."""

import re
from importlib import resources


def luminance(colour: str) -> float:
    parts = (int(colour[index : index + 2], 16) / 255 for index in (1, 3, 5))
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_every_colour_can_be_read_on_every_ground():
    style = resources.files("press.report").joinpath("palette.css").read_text(encoding="utf-8")
    palettes = [
        dict(re.findall(r"--([\w-]+): (#\w{6})", block)) for block in re.findall(r":root \{(.*?)\}", style, re.S)
    ]
    assert len(palettes) == 2
    for palette in palettes:
        for name in ("ink", "quiet", "bare", "adapter", "good", "bad"):
            for ground in ("page", "surface", "raised", f"{name}-soft"):
                if ground in palette:
                    low, high = sorted((luminance(palette[name]), luminance(palette[ground])))
                    assert (high + 0.05) / (low + 0.05) >= 4.5, (name, ground)
