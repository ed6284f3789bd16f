"""Images as people see them."""

import numpy as np
import pytest

from tfp_smvi.data.pictures import image_grid, shades


def test_image_grid_lays_images_out_in_rows() -> None:
    images = np.arange(10, dtype=np.float32)[:, None, None] * np.ones((1, 2, 3), np.float32) / 10
    grid = image_grid(images)
    assert grid.shape == (1, 4, 24, 1)
    for number in range(16):
        row, column = divmod(number, 8)
        cell = grid[0, 2 * row : 2 * row + 2, 3 * column : 3 * column + 3, 0]
        expected = np.float32(number) / 10 if number < 10 else 0.0
        np.testing.assert_array_equal(cell, np.full((2, 3), expected, np.float32))
    assert image_grid(np.zeros((8, 4, 5, 3))).shape == (1, 4, 40, 3)


@pytest.mark.parametrize("originals", [[0.0, 1.0], [0.25, 0.5], [0.0, 0.0]])
def test_intensities_keep_their_values_whatever_the_brightest_is(originals: list[float]) -> None:
    shown = shades(np.array([-0.1, 0.25, 1.5]), np.array(originals))
    np.testing.assert_array_equal(shown, np.float32([0.0, 0.25, 1.0]))


def test_bytes_are_fractions_of_255() -> None:
    x = np.array([0, 51, 255], np.uint8)
    np.testing.assert_allclose(shades(x, x), [0.0, 0.2, 1.0], rtol=1e-7)  # one rounding of float32
    np.testing.assert_allclose(shades(x[:2], x[:2]), [0.0, 0.2], rtol=1e-7)


def test_other_values_reach_from_the_least_to_the_largest_of_the_originals() -> None:
    shown = shades(np.array([-5.0, -2.0, 1.0, 2.0]), np.array([-2.0, 0.0, 2.0]))
    np.testing.assert_array_equal(shown, np.float32([0.0, 0.0, 0.75, 1.0]))
    # Values above 1 alone begin at 0, as an intensity does.
    np.testing.assert_array_equal(
        shades(np.array([0.0, 4.0]), np.array([2.0, 8.0])), np.float32([0.0, 0.5])
    )


def test_missing_values_are_mid_grey_and_change_no_other_shade() -> None:
    x = np.array([np.nan, 0.0, 4.0, 8.0])
    np.testing.assert_array_equal(shades(x, x), np.float32([0.5, 0.0, 0.5, 1.0]))
