"""Mel filterbanks against the formula of the scale."""

from __future__ import annotations

import numpy as np
import pytest

from earshot.lab.mel import averaging_mel_filters, mel_edges, mel_filters


def test_the_corners_are_evenly_spaced_on_the_mel_scale() -> None:
    edges = mel_edges(32, 80.0, 7000.0)
    assert edges[[0, -1]] == pytest.approx([80.0, 7000.0])
    steps = np.diff(2595 * np.log10(1 + edges / 700))
    assert steps == pytest.approx(np.full(33, steps[0]))
    assert 2595 * np.log10(1 + 1000 / 700) == pytest.approx(1000, abs=0.1)  # what defines a mel


def test_triangles_have_their_peak_at_the_centre_and_end_at_the_next_centres() -> None:
    filters, edges = mel_filters(2048, 64, 24_000), mel_edges(64, 0.0, 12_000.0)
    assert filters.shape == (64, 1025)
    bins = np.arange(1025) * 24_000 / 2048
    for band in (10, 63):
        assert abs(bins[filters[band].argmax()] - edges[band + 1]) <= 24_000 / 2048
        sounding = bins[filters[band] > 0]
        assert edges[band] < sounding.min() < sounding.max() < edges[band + 2]
    assert filters.sum(axis=1).min() > 0
    assert 0.9 < filters.max() <= 1


def test_averages_have_weights_that_sum_to_one() -> None:
    filters = averaging_mel_filters(1024, 80, 24_000)
    assert filters.shape == (80, 513)
    assert filters.min() >= 0
    assert filters.sum(axis=1) == pytest.approx(np.ones(80))
    assert (np.diff(filters.argmax(axis=1)) >= 0).all()


def test_a_triangle_between_two_bins_takes_the_nearer_one() -> None:
    plain, averaging = mel_filters(256, 80, 24_000), averaging_mel_filters(256, 80, 24_000)
    (empty,) = np.nonzero(plain.sum(axis=1) == 0)
    assert empty.size
    centres = mel_edges(80, 0.0, 12_000.0)[1:-1]
    for band in empty:
        assert averaging[band].max() == 1
        assert abs(averaging[band].argmax() * 24_000 / 256 - centres[band]) <= 24_000 / 256 / 2
