"""Downstream tasks: a galaxy looks like its class, and nothing else gives the label away."""

import numpy as np
import pytest

from gzlib import sky


@pytest.fixture(scope="module")
def galaxy10():
    return sky.simulate_task("galaxy10", range(700), seed=1, size=8)


def kinds(result, *names):
    return result.truth["task_class"].isin([sky.CLASSES["galaxy10"].index(name) for name in names])


def test_smooth_galaxies_have_no_features_at_all(galaxy10):
    smooth = galaxy10.truth[kinds(galaxy10, "round_smooth", "in_between_round_smooth", "cigar_shaped_smooth")]
    features = [
        "arms",
        "bar",
        "ring_inner",
        "ring_outer",
        "knots",
        "clumps",
        "dust",
        "texture",
        "lopsided",
        "warp",
        "boxy",
        "minor_merger",
        "major_merger",
        "tail",
        "stream",
        "shell",
        "diffuse",
        "lens",
    ]
    assert len(smooth) > 150
    assert smooth[features].to_numpy().max() == 0
    assert (smooth["bulge_fraction"] == 1).all()


def test_smooth_galaxies_are_as_round_as_their_names_say(galaxy10):
    names = ("round_smooth", "in_between_round_smooth", "cigar_shaped_smooth")
    flattening = [galaxy10.truth[kinds(galaxy10, name)]["bulge_q"] for name in names]
    assert flattening[0].min() >= 0.85 > flattening[1].max() >= flattening[1].min() >= 0.55
    assert flattening[2].max() <= 0.4


def test_arms_and_bars_of_galaxy10_can_be_seen(galaxy10):
    spiral = galaxy10.truth[kinds(galaxy10, "barred_spiral", "unbarred_tight_spiral", "unbarred_loose_spiral")]
    others = galaxy10.truth[kinds(galaxy10, "edge_on_without_bulge", "edge_on_with_bulge", "round_smooth")]
    assert spiral["radius"].min() > 2.99
    assert np.median(spiral["visible_arms"]) > 0.12 and others["visible_arms"].max() == 0
    barred, unbarred = (
        galaxy10.truth[kinds(galaxy10, *names)]
        for names in (("barred_spiral",), ("unbarred_tight_spiral", "unbarred_loose_spiral"))
    )
    assert np.median(barred["visible_bar"]) > 5 * np.median(unbarred["visible_bar"])


def test_bringing_spirals_nearer_keeps_their_surface_brightness(galaxy10):
    truth = galaxy10.truth
    brightness = truth["magnitude"] + 5 * np.log10(truth["radius"])
    spiral = kinds(galaxy10, "barred_spiral", "unbarred_tight_spiral", "unbarred_loose_spiral")
    edge = kinds(galaxy10, "edge_on_without_bulge", "edge_on_with_bulge")
    assert abs(brightness[spiral].median() - brightness[edge].median()) < 0.3


@pytest.mark.parametrize("task", [task for task in sky.TASKS if task != "rings"])
def test_labels_err_in_about_three_of_a_hundred(task):
    result = sky.simulate_task(task, range(800), seed=2, size=8)
    if task in ("is-lsb", "which-lsb"):
        strengths = result.truth[["tail", "stream", "shell", "diffuse"]].to_numpy()
        known = (strengths.max(1) > 0).astype(int) if task == "is-lsb" else strengths.argmax(1)
    else:
        known = result.truth["task_class"].astype(int)
    assert 0.01 < (result.labels["label"] != known).mean() < 0.06


def test_ring_fractions_follow_the_ring_that_can_be_seen():
    result = sky.simulate_task("rings", range(600), seed=0, size=8)
    fraction, ring = result.labels["ring_fraction"], result.truth["visible_ring"]
    assert np.corrcoef(fraction, ring)[0, 1] > 0.7
    assert fraction[ring == 0].mean() < 0.1 < 0.5 < fraction[ring > 0.45].mean()


def test_no_jwst_picture_has_a_satellite_trail():
    truth = sky.simulate_task("jwst", range(300), seed=0, size=8).truth
    assert truth[["trail", "bleed", "column", "edge", "scattered"]].to_numpy().max() == 0
