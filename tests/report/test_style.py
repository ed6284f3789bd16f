"""The looks of figures on data: contrast with the page, and colours for the colour-blind."""

import itertools

import matplotlib
import numpy as np
import pytest

from tfp_smvi.report.style import BAND, CLASS_COLORS, COLORS, GREY, lam_lines, plain_lines

# How red, green and blue light are seen without one kind of cone [G. M. Machado, M. M. Oliveira,
# L. A. F. Fernandes. A Physiologically-based Model for Simulation of Color Vision Deficiency. IEEE
# Transactions on Visualization and Computer Graphics 15. 2009].
VISION = {
    "normal": np.eye(3),
    "protanopia": np.array(
        [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]]
    ),
    "deuteranopia": np.array(
        [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]]
    ),
    "tritanopia": np.array(
        [[1.256, -0.077, -0.179], [-0.078, 0.931, 0.148], [0.005, 0.691, 0.304]]
    ),
}
TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def light(color: str) -> np.ndarray:
    """The linear red, green and blue of a colour of sRGB."""
    values = np.array(matplotlib.colors.to_rgb(color))
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def contrast(one: str, other: str) -> float:
    """The contrast of two colours, from 1 to 21 [WCAG 2.1]."""
    dark, bright = sorted(float(light(color) @ TO_XYZ[1]) for color in (one, other))
    return (bright + 0.05) / (dark + 0.05)


def lab(seen: np.ndarray) -> np.ndarray:
    """The place of light in CIELAB, in which distances are those of colours."""
    x = np.clip(seen, 0.0, 1.0) @ TO_XYZ.T / TO_XYZ.sum(axis=1)
    f = np.where(x > (6 / 29) ** 3, np.cbrt(x), x / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.stack([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def least_distance(colors: tuple[str, ...], vision: str) -> float:
    places = [lab(VISION[vision] @ light(color)) for color in colors]
    return min(float(np.linalg.norm(a - b)) for a, b in itertools.combinations(places, 2))


def test_contrast_is_that_of_the_standard() -> None:
    assert contrast("black", "white") == pytest.approx(21.0)
    assert contrast("#767676", "white") == pytest.approx(4.54, abs=0.01)  # the standard's example


@pytest.mark.parametrize("background", ["white", BAND])
def test_curves_have_a_contrast_of_3(background: str) -> None:
    """As WCAG 2.1 asks of graphics; the lighter half of viridis has 1.3."""
    for color in (*COLORS, GREY):
        assert contrast(color, background) >= 3.0, color


@pytest.mark.parametrize("count", [1, 2, 8, 30])
def test_curves_of_many_lams_have_it_too_and_differ(count: int) -> None:
    lines = lam_lines(range(count)).values()
    assert all(contrast(line.color, "white") >= 3.0 for line in lines)
    assert len({*lines}) == count
    shades = [float(light(line.color) @ TO_XYZ[1]) for line in lines]
    assert shades == sorted(shades)  # so that their order is seen in grey


@pytest.mark.parametrize("vision", VISION)
def test_the_colour_blind_tell_classes_and_curves_apart(vision: str) -> None:
    """A distance of 2.3 is just noticed side by side; 15 is clear. For turbo it is 7."""
    assert least_distance(CLASS_COLORS, vision) > 15.0
    assert least_distance(COLORS, vision) > 15.0


def test_twenty_plain_lines_differ() -> None:
    lines = plain_lines(20)
    assert len({*lines}) == 20
