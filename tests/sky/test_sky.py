"""The simulated sky: same galaxies however they are asked for, all structures drawn, bad parameters refused."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from gzlib import sky
from gzlib.data.schema import load_schema
from gzlib.errors import UserError
from gzlib.sky.detector import correlated_noise, expose, misregistered, noise_mixing, stretch
from gzlib.sky.galaxies import plan_galaxies
from gzlib.sky.population import Draws
from gzlib.sky.render import TEXTURE, gaussians, light, mixture, plan_arrays, texture, to_device
from gzlib.sky.telescopes import PSF_GAUSSIANS
from gzlib.study.sheets import contact_sheet, ladder


def noise_free(campaign, index, size, change=None):
    """Light of galaxies without noise, with ``change`` applied to the renderer's arrays."""
    _, plan, _, _ = plan_galaxies(campaign, sky.TELESCOPES[campaign], {}, np.asarray(index), 5)
    arrays = plan_arrays(*plan, size)
    for name, factor in (change or {}).items():
        arrays[name] = arrays[name] * np.float32(factor)
    return light(to_device(arrays, "cpu"), size), plan


@pytest.mark.parametrize("size", [32, 33, 64])
@pytest.mark.parametrize("campaign", ["gz2", "candels"])
def test_galaxies_do_not_depend_on_batch_order_or_total(campaign, size):
    whole = sky.simulate(campaign, range(64), seed=3, size=size)
    for chosen in ([17], range(40, 47), [63, 0, 5, 5], range(63, -1, -1)):
        part = sky.simulate(campaign, chosen, seed=3, size=size)
        chosen = list(chosen)
        assert np.array_equal(part.images, whole.images[chosen])
        assert np.array_equal(part.votes, whole.votes[chosen])
        assert part.truth.equals(whole.truth.iloc[chosen].reset_index(drop=True))
        assert part.catalog.equals(whole.catalog.iloc[chosen].reset_index(drop=True))


def test_galaxies_do_not_depend_on_threads():
    before = torch.get_num_threads()
    try:
        pictures = []
        for threads in (1, 3):
            torch.set_num_threads(threads)
            pictures.append(sky.simulate("dr5", range(12), seed=0, size=96).images)
    finally:
        torch.set_num_threads(before)
    assert np.array_equal(*pictures)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_a_gpu_draws_the_same_picture_to_one_level():
    cpu = sky.simulate("gz2", range(64), seed=0, size=64).images.astype(int)
    gpu = sky.simulate("gz2", range(64), seed=0, size=64, device="cuda").images.astype(int)
    assert np.abs(cpu - gpu).max() <= 1


def drawn(arrays, telescope, size, dtype):
    p = {k: v if k == "pixel_key" else v.to(dtype) for k, v in to_device(arrays, "cpu").items()}
    return stretch(expose(light(p, size), p, telescope), p, telescope).numpy().astype(int)


@pytest.mark.parametrize("campaign", ["gz2", "dr5", "hubble"])
def test_rounding_moves_no_pixel_by_more_than_one_level(campaign):
    """What another device may differ by: the same plan in double precision, with the same noise."""
    telescope = sky.TELESCOPES[campaign]
    _, plan, _, _ = plan_galaxies(campaign, telescope, {}, np.arange(24), 0)
    arrays = plan_arrays(*plan, 64)
    single, double = (drawn(arrays, telescope, 64, dtype) for dtype in (torch.float32, torch.float64))
    difference = np.abs(single - double)
    assert difference.max() <= 1 and (difference > 0).mean() < 1e-3


def test_noise_has_the_bands_covariance_that_the_telescope_states_once_the_service_has_mixed_them():
    telescope = sky.TELESCOPES["dr5"]
    service = telescope.saturation * np.eye(3) + (1 - telescope.saturation) / 3
    shown = service @ np.diag(telescope.stretch) @ noise_mixing(telescope) / telescope.stretch[1]
    bands = np.array(telescope.noise_bands)
    covariance = (shown @ shown.T) / np.outer(bands, bands)
    # Brightness moves all bands alike; the two colours are unit vectors at right angles to it.
    np.testing.assert_allclose(np.diag(covariance), 1 + 2 / 3 * telescope.noise_colour**2, rtol=1e-5)
    np.testing.assert_allclose(covariance[0, 1:], 1 - 1 / 3 * telescope.noise_colour**2, rtol=1e-5)


def empty_sky(pixels):
    """What the noise reads of 8 galaxies for each pixel scale [arcsec], and an empty picture."""
    pixel = torch.tensor(pixels).repeat_interleave(8)
    n = len(pixel)
    p = {"pixel": pixel, "noise": torch.ones(n), "noise_factor": torch.ones(n, 3)}
    return p | {"pixel_key": torch.arange(n, dtype=torch.int32) * 7919}, torch.zeros(n, 3, 64, 64)


def test_noise_falls_with_wide_pixels_and_grows_blotchy_with_fine_ones():
    grey = replace(sky.TELESCOPES["gz2"], noise_colour=0.0, noise_bands=(1.0, 1.0, 1.0))
    p, picture = empty_sky([0.1, 0.4, 1.6])
    noise = correlated_noise(picture, p, grey)[:, 1]
    sd = noise.reshape(3, -1).std(1)
    lone = 1 / torch.sqrt(p["pixel"][::8] ** 2 + 12 * (grey.grain * grey.pixel) ** 2)
    torch.testing.assert_close(sd / sd[2], lone / lone[2], rtol=0.06, atol=0)
    neighbours = (noise[:, :, 1:] * noise[:, :, :-1]).reshape(3, -1).mean(1) / sd**2
    assert neighbours[0] > 0.85 and 0.2 < neighbours[1] < 0.6 and neighbours[2] < 0.1


def test_bright_light_is_noisier_and_more_so_in_colour():
    telescope = sky.TELESCOPES["gz2"]
    p, picture = empty_sky([0.8])
    picture[..., 32:] = 0.5
    noise = correlated_noise(picture, p, telescope)
    grey, colour = noise.mean(1), noise[:, 0] - noise[:, 2]
    grows = [(part[..., 32:].std() / part[..., :32].std()).item() for part in (grey, colour)]
    assert grows[0] > 1.2 and grows[1] > 2 * grows[0]


def test_shifted_bands_move_by_the_asked_fraction_of_a_pixel():
    x = torch.arange(33.0) - 16
    spot = torch.exp(-(x[None, :] ** 2 + x[:, None] ** 2) / 18).expand(1, 3, 33, 33).clone()
    moved = misregistered(spot.clone(), torch.tensor([[0.3, 0.0, 0.0, -0.2]]))
    assert torch.equal(moved[:, 1], spot[:, 1])
    centre = [((m * x).sum() / m.sum()).item() for m in (moved[0, 0].sum(0), moved[0, 2].sum(1))]
    np.testing.assert_allclose(centre, [0.3, -0.2], atol=0.01)


def test_a_colour_gradient_keeps_the_light_and_makes_the_outskirts_bluer():
    _, plan, _, _ = plan_galaxies("gz2", sky.TELESCOPES["gz2"], {}, np.arange(60), 5)

    def colours(slope):
        scene = plan[2] | {"colour_gradient": np.full(60, slope), "pixel_variance": np.zeros(60)}
        s = plan[1]
        bulge = (s["bulge_index"], scene["bulge_radius"], s["bulge_q"], s["position_angle"], scene["bulge_flux"])
        disc = (np.ones(60), scene["disc_radius"], s["disc_q"], s["position_angle"], scene["disc_flux"])
        mix = mixture([bulge, disc], scene, PSF_GAUSSIANS[3.0])
        xx, xy, yy = mix["quadratic"].swapaxes(0, 1)
        of_each = mix["amplitude"] * (2 * np.pi / np.sqrt(4 * xx * yy - xy**2))[..., None]
        return of_each.sum(1), of_each[:, 0]  # the first Gaussian is the bulge's narrowest

    (flat, core), (tilted, redder) = colours(0.0), colours(-0.2)
    lit = core[:, 1] > 0
    np.testing.assert_allclose(tilted, flat, rtol=1e-6)
    assert lit.sum() > 20
    assert (redder[lit, 0] < core[lit, 0]).all() and (redder[lit, 2] > core[lit, 2]).all()


def test_seed_campaign_and_index_all_matter():
    base = sky.simulate("gz2", range(4), seed=0, size=32)
    assert not np.array_equal(base.images, sky.simulate("gz2", range(4), seed=1, size=32).images)
    assert not np.array_equal(base.images, sky.simulate("gz2", range(4, 8), seed=0, size=32).images)
    assert not np.array_equal(base.truth["radius"], sky.simulate("dr12", range(4), seed=0, size=32).truth["radius"])


@pytest.mark.parametrize("campaign", sky.CAMPAIGNS)
def test_every_campaign_keeps_the_promised_shapes(campaign):
    result = sky.simulate(campaign, range(24), seed=0, size=32)
    schema = load_schema(campaign)
    assert result.images.shape == (24, 32, 32, 3) and result.images.dtype == np.uint8
    assert result.votes.shape == (24, len(schema.label_cols)) and result.votes.dtype == np.int32
    assert result.labels is None
    assert list(result.catalog) == ["id_str", "ra", "dec"]
    assert result.catalog["id_str"][7] == f"sim-{campaign}-0-7"
    assert result.images.std(axis=(1, 2, 3)).min() > 1, "a picture is empty"
    probabilities = result.truth[[f"{c}_probability" for c in schema.label_cols]].to_numpy()
    for question in schema.questions:
        np.testing.assert_allclose(probabilities[:, question.columns].sum(1), 1, atol=1e-12)


@pytest.mark.parametrize("task", sky.TASKS)
def test_every_task_has_its_labels_and_all_classes(task):
    result = sky.simulate_task(task, range(160), seed=0, size=16)
    assert result.votes is None and result.images.shape == (160, 16, 16, 3)
    assert result.labels["label"].dtype == np.int64
    if task == "rings":
        assert result.labels["ring_fraction"].between(0, 1).all()
        assert result.labels["ring_fraction"].nunique() > 5
    else:
        assert set(result.labels["label"]) == set(range(len(sky.CLASSES[task])))
        assert (result.labels["label_name"] == np.array(sky.CLASSES[task])[result.labels["label"]]).all()
    single = sky.simulate_task(task, [31], seed=0, size=16)
    assert np.array_equal(single.images[0], result.images[31])
    assert single.labels.iloc[0].equals(result.labels.iloc[31])


def test_task_sizes_are_the_papers():
    assert sky.TASK_SIZES == {"is-lsb": 2880, "which-lsb": 726, "jwst": 471, "rings": 91696, "galaxy10": 17736}


def test_no_galaxies_at_all_gives_empty_results():
    result = sky.simulate("gz2", [], seed=0, size=32)
    assert result.images.shape == (0, 32, 32, 3) and result.votes.shape[0] == 0 and len(result.truth) == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("gz3", [0], 0, 32), "Unknown campaign 'gz3'"),
        (("gz2", [0], 0, 0), "0 pixels"),
        (("gz2", [0], 0, -5), "-5 pixels"),
        (("gz2", [0], 0, 32.5), "32.5 pixels"),
        (("gz2", [3, -1], 0, 32), "-1 is negative"),
        (("gz2", [0.5], 0, 32), "whole numbers"),
        (("gz2", [[0, 1]], 0, 32), "flat sequence"),
        (("gz2", [0], "a", 32), "seed"),
    ],
)
def test_bad_parameters_get_one_sentence(arguments, words):
    campaign, index, seed, size = arguments
    with pytest.raises(UserError, match=words) as caught:
        sky.simulate(campaign, index, seed=seed, size=size)
    assert "\n" not in str(caught.value)


def test_bands_are_chosen_by_name_and_in_the_order_given():
    whole = sky.simulate("gz2", range(3), seed=0, size=16).images
    chosen = sky.simulate("gz2", range(3), seed=0, size=16, bands=("g", "i")).images
    assert np.array_equal(chosen, whole[..., [2, 0]])


@pytest.mark.parametrize(
    ("campaign", "bands", "words"),
    [
        ("gz2", ("g", "u"), "Telescope SDSS has bands g, r, i; 'u' is not among them"),
        ("ukidss", ["g"], "Telescope UKIRT has bands Y, J, K; 'g' is not among them"),
        ("gz2", "gr", "sequence of names"),
        ("gz2", (), "sequence of names"),
    ],
)
def test_a_band_that_the_telescope_lacks_is_refused(campaign, bands, words):
    with pytest.raises(UserError, match=words) as caught:
        sky.simulate(campaign, [0], seed=0, size=16, bands=bands)
    assert "\n" not in str(caught.value)


def test_an_unknown_task_is_refused():
    with pytest.raises(UserError, match="Unknown task 'lsb'"):
        sky.simulate_task("lsb", [0], seed=0, size=32)


def test_draws_are_uniform_and_streams_independent():
    draws = Draws("gz2", np.arange(20000), seed=0)
    u, v = draws.uniform("a"), draws.uniform("b")
    assert u.min() > 0 and u.max() < 1
    assert abs(u.mean() - 0.5) < 0.01 and abs(u.std() - 12**-0.5) < 0.01
    assert abs(np.corrcoef(u, v)[0, 1]) < 0.03 and abs(np.corrcoef(u[1:], u[:-1])[0, 1]) < 0.03
    wide = draws.uniform("c", 4)
    assert wide.shape == (20000, 4) and abs(np.corrcoef(wide.T) - np.eye(4)).max() < 0.03


def test_sersic_mixtures_hold_all_the_light_and_half_of_it_within_the_half_light_radius():
    index, sigma, flux = gaussians()
    np.testing.assert_allclose(flux.sum(1), 1, atol=1e-5)
    inside = (flux * (1 - np.exp(-0.5 / sigma**2))).sum(1)
    np.testing.assert_allclose(inside[index <= 4], 0.5, atol=0.01)


def test_flux_is_conserved_by_bulge_disc_and_blur():
    _, plan, known, _ = plan_galaxies("gz2", sky.TELESCOPES["gz2"], {}, np.arange(200), 5)
    rows = np.flatnonzero((known["bulge_index"] < 2) & (known["fov"] > 30) & (known["disc_q"] > 0.3))[:20]
    picture, plan = noise_free("gz2", rows, 96, {"layer_sed": 0, "blob_peak": 0, "second_amplitude": 0})
    area = (plan[2]["fov"] / 96) ** 2
    np.testing.assert_allclose(picture.sum((2, 3)).numpy() * area[:, None], plan[2]["total"], rtol=0.02)
    assert len(rows) == 20


def test_structure_layers_add_light_where_a_bar_is_asked_for():
    _, _, known, _ = plan_galaxies("gz2", sky.TELESCOPES["gz2"], {}, np.arange(400), 5)
    rows = np.flatnonzero((known["bar"] > 0.5) & (known["disc_q"] > 0.6))[:6]
    with_bar, _ = noise_free("gz2", rows, 64)
    without, _ = noise_free("gz2", rows, 64, {"bar": 0})
    share = ((with_bar - without).sum((1, 2, 3)) / with_bar.sum((1, 2, 3))).numpy()
    assert len(rows) == 6 and (share > 0.01).all() and (share < 0.5).all()


def test_the_picture_does_not_jump_with_its_size():
    """Averaged down to 64 px, a galaxy drawn at 128 px equals the one drawn at 64 px, but for cores."""
    fine, _ = noise_free("gz2", range(12), 128)
    coarse, _ = noise_free("gz2", range(12), 64)
    pooled = torch.nn.functional.avg_pool2d(fine, 2)
    difference = (pooled - coarse).abs().amax((1, 2, 3)) / coarse.amax((1, 2, 3))
    assert difference.median() < 0.01 and difference.max() < 0.1  # the finest patches are smaller than a cell


def test_catalogue_positions_fill_the_footprint_evenly():
    catalog = sky.simulate("gz2", range(600), seed=0, size=8).catalog
    assert catalog["ra"].between(110, 260).all() and catalog["dec"].between(0, 65).all()
    assert abs(catalog["ra"].mean() - 185) < 6
    assert abs(np.sin(np.deg2rad(catalog["dec"])).mean() - np.sin(np.deg2rad(65)) / 2) < 0.04


@pytest.mark.parametrize("slope", PSF_GAUSSIANS)
def test_the_two_gaussians_of_the_psf_have_the_moffat_profile_s_width_and_light(slope):
    share, core, wing = PSF_GAUSSIANS[slope]
    assert 0.5 < share < 1 and core < wing

    def seen(radius):
        return sum(f / w**2 * np.exp(-0.5 * (radius / w) ** 2) for f, w in ((share, core), (1 - share, wing)))

    scale = 0.5 / np.sqrt(2 ** (1 / slope) - 1)
    inside = 1 - (1 + (1.5 / scale) ** 2) ** (1 - slope)  # light within 1.5 full widths at half maximum
    found = share * (1 - np.exp(-0.5 * (1.5 / core) ** 2)) + (1 - share) * (1 - np.exp(-0.5 * (1.5 / wing) ** 2))
    assert seen(0.5) / seen(0.0) == pytest.approx(0.5, abs=0.06) and found == pytest.approx(inside, abs=0.03)


def test_every_telescope_has_gaussians_for_its_psf():
    assert {telescope.moffat_beta for telescope in sky.TELESCOPES.values()} <= set(PSF_GAUSSIANS)


def test_the_whole_galaxy_moves_with_its_centring():
    plain, plan = noise_free("gz2", range(6), 64, {"blob_peak": 0, "centre": 0})
    arrays = plan_arrays(*plan, 64)
    arrays["blob_peak"] = 0 * arrays["blob_peak"]
    arrays["centre"] = np.stack([3 * arrays["pixel"], -2 * arrays["pixel"]], 1)
    moved = light(to_device(arrays, "cpu"), 64)
    torch.testing.assert_close(moved[:, :, :-2, 3:], plain[:, :, 2:, :-3], rtol=2e-3, atol=2e-3)


def test_a_companion_shines_where_the_plan_puts_it():
    _, plan, known, _ = plan_galaxies("gz2", sky.TELESCOPES["gz2"], {}, np.arange(300), 5)
    rows = np.flatnonzero(known["major_merger"] > 0.5)[:4]
    whole, plan = noise_free("gz2", rows, 64, {"centre": 0})
    alone, _ = noise_free("gz2", rows, 64, {"centre": 0, "second_amplitude": 0})
    extra = (whole - alone).sum(1)
    pixel = plan[2]["fov"] / 64
    assert len(rows) == 4
    for row in range(4):
        y, x = (np.argwhere(extra[row].numpy() == extra[row].max().item())[0] - 31.5) * pixel[row]
        assert np.hypot(x - plan[2]["companion_x"][row], y - plan[2]["companion_y"][row]) < 1.5 * pixel[row]


def test_the_texture_is_seamless_and_of_unit_variance():
    tile = texture().reshape(TEXTURE, TEXTURE)
    assert tile.std() == pytest.approx(1, abs=1e-3) and abs(tile.mean()) < 1e-3
    inside, seam = np.abs(np.diff(tile, axis=0)).mean(), np.abs(tile[0] - tile[-1]).mean()
    assert seam < 2 * inside


def test_decals_frames_follow_the_smaller_of_two_radii_and_never_shrink_below_42_arcsec():
    known = sky.simulate("dr5", range(400), seed=0, size=8).truth
    usual = known[known["visible_zoom"] == 0]
    assert usual["fov"].min() == pytest.approx(42.4)
    assert (usual["fov"] <= np.maximum(8.48 * usual["r90"], 42.4) + 1e-9).all()
    round_, flat = (usual[usual["type"] == kind] for kind in (0, 2))
    free = [(part["fov"] / part["r90"])[part["fov"] > 42.5] for part in (round_, flat)]
    assert free[0].max() < free[1].min()


def test_an_unknown_device_is_refused():
    with pytest.raises(UserError, match="no device"):
        sky.simulate("gz2", [0], seed=0, size=16, device="toaster")


def test_a_contact_sheet_lays_pictures_out_row_by_row():
    pictures = np.arange(3, dtype=np.uint8)[:, None, None, None] * np.ones((3, 4, 4, 3), np.uint8)
    sheet = contact_sheet(pictures, columns=2)
    assert sheet.shape == (8, 8, 3)
    assert (sheet[:4, 4:] == 1).all() and (sheet[4:, :4] == 2).all() and (sheet[4:, 4:] == 0).all()
    with pytest.raises(UserError, match="at least one column"):
        contact_sheet(pictures, columns=0)


def test_a_ladder_climbs_from_nobody_to_everybody():
    rungs = ladder("gz2", "has-spiral-arms-gz2_yes", seed=0, steps=6, galaxies=800)
    truth = sky.simulate("gz2", rungs, seed=0, size=16).truth["has-spiral-arms-gz2_yes_probability"]
    assert (np.diff(truth) > 0).all() and truth.iloc[0] < 0.1 and truth.iloc[-1] > 0.8
    with pytest.raises(UserError, match="no answer 'spiral'"):
        ladder("gz2", "spiral", seed=0)
