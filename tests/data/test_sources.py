"""Every kind of source gives the same kind of batches, and says clearly why it cannot."""

import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from survey_inputs import REAL, gz2_table, jpeg, stub_sky, write_catalogue, write_evo

from gzlib import paths
from gzlib.data import curate, describe_galaxies, open_survey
from gzlib.data.images import Unusable, load_image
from gzlib.data.schema import load_schema
from gzlib.data.sources import Batch, Opener, Source, register_source
from gzlib.data.sources.base import shares
from gzlib.data.sources.columns import detect_schema
from gzlib.data.sources.registry import input_signature, open_source
from gzlib.errors import UserError
from gzlib.sky import source


@pytest.fixture
def sky(monkeypatch):
    stub = stub_sky()
    monkeypatch.setattr(source, "sky", stub)
    return stub


def all_of(source, size=16, limit=None):
    return list(source.batches(size, limit))


@pytest.mark.parametrize("name", ["gz2", "dr5", "candels", "hubble_v2", "hubble", "desi", "public", "paper", "jwst"])
def test_a_schema_is_recognised_by_its_columns(name):
    columns = load_schema(name).label_cols
    derived = [c + "_fraction" for c in columns] + [q.name + "_total-votes" for q in load_schema(name).questions]
    assert detect_schema(["image", "id_str", *columns[::-1], *derived]) == name


def test_campaigns_in_one_table_are_joined_and_a_question_may_be_missing():
    columns = load_schema("dr8").label_cols + load_schema("gz2").label_cols
    assert detect_schema(columns) == "dr8+gz2"
    without = [c for c in load_schema("candels").label_cols if not c.startswith("clump-count")]
    assert detect_schema(without) == "candels"
    assert detect_schema(load_schema("gz2").label_cols[:2]) == ""  # half a question is no campaign
    assert detect_schema(["ra", "dec", "ring"]) == ""


def test_shares_add_up_and_follow_sizes():
    assert shares(8, [100, 300]) == [2, 6]
    assert shares(1000, [3, 4]) == [3, 4]
    assert shares(1, [5, 5, 5]) in ([1, 0, 0], [0, 1, 0], [0, 0, 1])
    assert all(0 <= s <= p for s, p in zip(shares(7, [1, 9, 2]), [1, 9, 2], strict=True))


def test_evo_parquet_gives_votes_in_the_schemas_order(tmp_path):
    train, test = gz2_table(5), gz2_table(3, start=100)
    folder = write_evo(tmp_path / "mine", train[train.columns[::-1]].drop(columns="dataset_name"))
    write_evo(folder, test.drop(columns="dataset_name"), "test-00000-of-00001.parquet")
    source = open_source(str(folder))
    assert (source.schema, source.galaxies, source.labels, source.simulated) == ("gz2", 8, {}, False)
    first, second = all_of(source)
    assert set(first.catalog["published_split"]) == {"test"} and set(second.catalog["published_split"]) == {"train"}
    assert set(second.catalog["dataset_name"]) == {"mine"}
    np.testing.assert_array_equal(second.votes, train[load_schema("gz2").label_cols])
    assert second.pictures == [cell["bytes"] for cell in train["image"]]
    assert sum(len(b.catalog) for b in all_of(source, limit=4)) == 4


def test_a_limit_is_spread_over_files(tmp_path):
    folder = write_evo(tmp_path, gz2_table(8))
    write_evo(folder, gz2_table(4, start=50), "test-00000-of-00001.parquet")
    sizes = [len(b.catalog) for b in all_of(open_source(str(folder)), limit=6)]
    assert sizes == [2, 4]


def test_parquet_is_streamed(tmp_path, monkeypatch):
    monkeypatch.setattr("gzlib.data.sources.readers.PARQUET_ROWS", 4)
    source = open_source(str(write_evo(tmp_path, gz2_table(10))))
    assert [len(b.catalog) for b in all_of(source)] == [4, 4, 2]


def test_class_labels_and_names_from_a_classlabel_feature(tmp_path):
    import json

    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pd.DataFrame({"image": [jpeg(i) for i in range(3)], "id_str": list("abc"), "label": [2, 0, 1]})
    features = {"info": {"features": {"label": {"names": ["round", "cigar", "spiral"], "_type": "ClassLabel"}}}}
    arrow = pa.Table.from_pandas(table, preserve_index=False)
    pq.write_table(arrow.replace_schema_metadata({"huggingface": json.dumps(features)}), tmp_path / "x.parquet")
    source = open_source(str(tmp_path / "x.parquet"))
    assert source.labels == {"label": "int64", "label_name": "string"}
    assert list(all_of(source)[0].labels["label_name"]) == ["spiral", "round", "cigar"]


def test_catalogue_of_files(tmp_path):
    table = pd.DataFrame({"id_str": ["007", "8"], "file_loc": ["images/a.jpg", "images/b.jpg"], "ring": [1, 0]})
    table["bar_fraction"], table["comment"], table["ra"], table["split"] = [0.5, 1], "nice", 10.0, ["test", "train"]
    source = open_source(str(write_catalogue(tmp_path / "own", table)))
    assert source.labels == {"ring": "int64", "bar_fraction": "float64"} and source.has_published_split
    assert any("comment (the same text everywhere)" in note for note in source.notes)
    (batch,) = all_of(source)
    assert list(batch.catalog["id_str"]) == ["007", "8"]  # ids are text: no leading zero is lost
    assert batch.pictures[0].read_bytes() == jpeg(1000)
    assert np.isnan(batch.catalog["dec"]).all() and list(batch.catalog["published_split"]) == ["test", "train"]
    chosen = open_source(str(tmp_path / "own" / "catalog.csv"), labels=["comment"], dataset_name="rings")
    assert chosen.labels == {"comment": "string"}
    assert set(all_of(chosen)[0].catalog["dataset_name"]) == {"rings"}


def test_a_csv_column_may_hold_its_first_fraction_late(tmp_path, monkeypatch):
    monkeypatch.setattr("gzlib.data.sources.readers.CATALOGUE_ROWS", 2)
    table = pd.DataFrame({"id_str": list("abc"), "file_loc": "x.jpg", "mass": ["1", "2", "2.5"]})
    table.to_csv(tmp_path / "catalog.csv", index=False)
    assert open_source(str(tmp_path)).labels == {"mass": "float64"}


def test_joined_sources_share_one_label_vector(tmp_path, sky):
    votes = write_evo(tmp_path / "votes", gz2_table(3))
    rings = pd.DataFrame({"id_str": ["r1", "r2"], "file_loc": ["images/a.jpg", "images/b.jpg"], "ring": [1, 0]})
    source = open_source(f"{votes},{write_catalogue(tmp_path / 'rings', rings)},sim:dr5:4")
    assert (source.schema, source.galaxies, source.simulated) == ("dr5+gz2", 9, False)
    assert source.labels == {"ring": "float64"}  # a whole number cannot be missing
    evo, ring, sim = all_of(source)
    n_dr5 = len(load_schema("dr5").label_cols)
    assert not evo.votes[:, :n_dr5].any() and evo.votes[:, n_dr5:].sum() > 0
    assert not sim.votes[:, n_dr5:].any() and sim.votes[:, :n_dr5].sum() > 0
    assert not ring.votes.any() and list(ring.labels["ring"]) == [1, 0] and evo.labels["ring"].isna().all()


@pytest.mark.parametrize(
    ("text", "n", "campaigns"),
    [("sim:7", 7, {"sim-gz2", "sim-dr5"}), ("sim:gz2:5", 5, {"sim-gz2"}), ("sim:dr5+gz2:4", 4, {"sim-gz2", "sim-dr5"})],
)
def test_simulated_campaigns(sky, text, n, campaigns):
    source = open_source(text, seed=3)
    batches = all_of(source)
    catalog = pd.concat([b.catalog for b in batches])
    assert len(catalog) == source.galaxies == n and set(catalog["dataset_name"]) == campaigns
    assert all(b.votes.shape == (len(b.catalog), len(load_schema(source.schema).label_cols)) for b in batches)
    assert catalog["id_str"].str.startswith("sim-3-").all() and source.identity[0]["seed"] == 3


def test_a_longer_simulated_survey_begins_with_a_shorter_one(sky):
    short, long = ({i for b in all_of(open_source(f"sim:{n}")) for i in b.catalog["id_str"]} for n in (9, 40))
    assert short < long


def test_simulated_task(sky):
    source = open_source("sim:three")
    assert (source.galaxies, source.schema) == (30, "")
    assert source.labels == {"label": "int64", "label_name": "string"}
    assert all_of(source)[0].labels["label"].max() == 2


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("sim:0", "above 0"),
        ("sim:gz2:many", "whole number"),
        ("sim", "whole number"),
        ("sim:gz9:5", "no campaign or task 'gz9'"),
        ("sim:gz2+gz2:5", "twice"),
        ("nowhere/at/all", "no file or folder 'nowhere/at/all'"),
        ("hub:gz_desi", "hub:OWNER/NAME"),
        ("sim:5,,sim:6", "empty"),
        ("", "empty"),
    ],
)
def test_a_source_that_makes_no_sense_is_refused(sky, text, says):
    with pytest.raises(UserError, match=says):
        open_source(text)


@pytest.mark.parametrize("schema", [None, "gz2"])
@pytest.mark.parametrize(
    ("lacking", "says"),
    [
        (
            ["bar-gz2_no"],
            "29 of the vote columns of schema 'gz2', but not those that belong with them: bar-gz2_no. Add",
        ),
        (slice(1, 3), "gz2_featured-or-disk, smooth-or-featured-gz2_artifact. Add"),
        (slice(0, 3), "27 of .*: smooth-or-featured-gz2_featured-or-disk, smooth-or-featured-gz2_smooth. Add"),
        (slice(0, 29), "1 of .*: has-spiral-arms-gz2_yes, spiral-arm-count-gz2_1, .* and 2 more. Add these .0 where"),
    ],
)
def test_a_table_without_some_votes_of_a_question_is_told_which(tmp_path, lacking, says, schema):
    """Taken as no votes, they would shift fractions, and reject galaxies for votes that the table does not lack."""
    columns = load_schema("gz2").label_cols[lacking] if isinstance(lacking, slice) else lacking
    with pytest.raises(UserError, match=f"mine' has {says if says[0].isdigit() else '28 of .*' + says}"):
        open_source(str(write_evo(tmp_path / "mine", gz2_table(2).drop(columns=columns))), schema=schema)


def test_whole_questions_may_be_missing_and_a_second_campaign_may_not_be_half_there(tmp_path):
    table = gz2_table(2).drop(columns=[col for col in gz2_table(1) if col.startswith("spiral-arm-count")])
    source = open_source(str(write_evo(tmp_path / "whole", table)))
    assert source.schema == "gz2" and "lacks, taken as no votes: spiral-arm-count-gz2_1" in " ".join(source.notes)
    table = table.assign(**{"smooth-or-featured-dr5_smooth": 3})
    with pytest.raises(UserError, match="'dr5', but .*: smooth-or-featured-dr5_featured-or-disk, .*dr5_artifact. Add"):
        open_source(str(write_evo(tmp_path / "half", table)))
    assert open_source(str(tmp_path / "half"), schema="gz2").labels == {"smooth-or-featured-dr5_smooth": "int64"}


def test_tables_that_cannot_be_used_are_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="neither parquet files"):
        open_source(str(tmp_path / "empty"))
    with pytest.raises(UserError, match="names no images"):
        open_source(str(write_evo(tmp_path / "a", gz2_table(2).drop(columns="image"))))
    with pytest.raises(UserError, match="no labels"):
        open_source(str(write_evo(tmp_path / "b", gz2_table(2)[["image", "id_str"]])))
    with pytest.raises(UserError, match="fractional numbers as id_str"):
        open_source(str(write_evo(tmp_path / "d", gz2_table(2).assign(id_str=[1.5, 2.0]))))
    some = "smooth-or-featured-dr5_smooth, .*, disk-edge-on-dr5_yes and 30 more; it has those of schema 'gz2'"
    with pytest.raises(UserError, match=f"c' has none of the vote columns of schema 'dr5': {some}"):
        open_source(str(write_evo(tmp_path / "c", gz2_table(2))), schema="dr5")
    write_evo(tmp_path / "c", gz2_table(2, 9).assign(extra=1), "train-00001-of-00002.parquet")
    with pytest.raises(UserError, match="differ in column 'extra'"):
        open_source(str(tmp_path / "c"))
    (tmp_path / "broken.parquet").write_bytes(b"not parquet")
    with pytest.raises(UserError, match="cannot be read as parquet"):
        open_source(str(tmp_path / "broken.parquet"))
    (tmp_path / "catalog.csv").write_text("id_str,ring\n1,0\n")
    with pytest.raises(UserError, match="names no images"):
        open_source(str(tmp_path / "catalog.csv"))
    pd.DataFrame({"id_str": ["a"], "file_loc": [1], "ring": [1]}).to_parquet(tmp_path / "numbers.parquet")
    with pytest.raises(UserError, match="paths of images as text"):
        open_source(str(tmp_path / "numbers.parquet"))
    (tmp_path / "x.fits").write_bytes(b"")
    with pytest.raises(UserError, match="neither a folder nor"):
        open_source(str(tmp_path / "x.fits"))


def test_signature_changes_with_the_files(tmp_path, sky):
    folder = write_evo(tmp_path, gz2_table(2))
    before = input_signature(f"{folder},sim:9,hub:a/b")
    assert input_signature(f"{folder},sim:9,hub:a/b") == before
    write_evo(folder, gz2_table(3))
    assert input_signature(f"{folder},sim:9,hub:a/b") != before
    sky.sky_identity = lambda: "another"
    assert input_signature("sim:9") != [["sim:9", 1]]


def test_hub_repository_is_read_like_a_folder(tmp_path, monkeypatch):
    folder, asked = write_evo(tmp_path, gz2_table(4)), {}

    def snapshot_download(repository, **options):
        asked.update(options, repository=repository)
        return str(folder)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    monkeypatch.setattr("gzlib.data.sources.registry.hub_reachable", lambda: True)
    source = open_source("hub:mwalmsley/gz2")
    assert (source.galaxies, source.name, source.schema) == (4, "gz2", "gz2")
    assert asked["repository"] == "mwalmsley/gz2" and asked["allow_patterns"] == ["data/*.parquet"]
    with pytest.raises(UserError, match="has no files 'tiny/\\*.parquet'"):
        open_source("hub:mwalmsley/gz2:tiny")


def test_an_unreachable_hub_is_one_clear_sentence(monkeypatch, tmp_path):
    # Nothing listens on port 9 of this machine, so the real client meets a real refusal.
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with warnings.catch_warnings(record=True) as caught, pytest.raises(UserError) as error:
        open_source("hub:mwalmsley/gz_desi")
    assert not caught
    sentence = str(error.value)
    assert "could not be reached" in sentence and "mwalmsley/gz_desi" in sentence
    assert "sim:20000" in sentence and "folder of its parquet files" in sentence and "\n" not in sentence


@pytest.mark.parametrize(
    ("name", "galaxies", "schema", "labels"),
    [
        ("gz2", 649, "gz2", []),
        ("gz2_five_classes", 2191, "", ["label", "label_name"]),
        ("gz1_six_classes", 3049, "", ["label", "label_name"]),
        ("decals_rings", 319, "", ["ring"]),
    ],
)
def test_real_sets_open(name, galaxies, schema, labels):
    folder = Path(paths.ROOT, REAL, name)
    if not folder.exists():
        pytest.skip(f"real data set '{name}' is not on this machine")
    source = open_source(str(folder))
    assert (source.galaxies, source.schema) == (galaxies, schema) and set(labels) <= set(source.labels)
    assert source.has_published_split


def made_source(text, *, seed=0, **options):
    """A kind of source from outside the package: N black galaxies with a label."""
    n = int(text.split(":")[1].removesuffix(".galaxies"))

    def batches(size, limit):
        count = n if limit is None else min(n, limit)
        ids = [f"{seed}-{i}" for i in range(count)]
        catalog = pd.DataFrame(
            {"id_str": ids, "dataset_name": "made", "ra": np.nan, "dec": np.nan, "published_split": ""}
        )
        labels = pd.DataFrame({"label": np.arange(count) % 2})
        yield Batch(catalog, np.zeros((count, 0)), labels, [jpeg(i) for i in range(count)])

    return Source("made", text, "", {"label": "int64"}, n, batches)


def test_a_kind_of_source_is_added_without_touching_the_package(tmp_path):
    register_source("made:", Opener(made_source))
    register_source(".galaxies", Opener(made_source))
    assert open_source("made:12").galaxies == 12 and not open_source("made:12").simulated
    folder = curate("made:12", out=tmp_path / "survey", size=16, progress=False)
    survey = open_survey(folder)
    assert survey.sizes["galaxy"] == 12 and survey.attrs["kind"] == "galaxies of made:12"
    assert open_source("x:7.galaxies").galaxies == 7
    for name in ("made", "Made:", "m:", "galaxies"):
        with pytest.raises(UserError, match="names no kind of source"):
            register_source(name, Opener(made_source))


def test_an_installed_package_can_bring_a_kind_of_source(tmp_path, monkeypatch):
    """Its metadata name a module under the entry point group, which is imported when a text begins so."""
    (tmp_path / "theirs.py").write_text(
        "from gzlib.data import Opener, register_source\n"
        "import test_sources\n"
        "register_source('theirs:', Opener(test_sources.made_source))\n"
    )
    (tmp_path / "theirs-1.0.dist-info").mkdir()
    (tmp_path / "theirs-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
    (tmp_path / "theirs-1.0.dist-info" / "entry_points.txt").write_text("[gzlib.sources]\ntheirs = theirs\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert open_source("theirs:5").galaxies == 5


def test_what_the_galaxies_are_is_said_from_their_parts(sky):
    parts = {"sim:4": True, "/data/real": False}
    said = [
        describe_galaxies([{"source": s, "simulated": parts[s]} for s in some])
        for some in (["sim:4"], ["/data/real"], parts)
    ]
    assert said == ["simulated galaxies", "galaxies of /data/real", "simulated galaxies and galaxies of /data/real"]
    folder = open_source("sim:4,sim:gz2:3")
    assert folder.simulated and [text for text, _ in folder.parts] == ["sim:4", "sim:gz2:3"]


def test_simulated_beside_real_galaxies_is_not_simulated(sky, tmp_path):
    real = write_evo(tmp_path / "real", gz2_table(6))
    folder = curate(f"sim:gz2:4,{real}", out=tmp_path / "both", size=16, progress=False)
    survey = open_survey(folder)
    assert not survey.attrs["simulated"] and survey.attrs["kind"] == f"simulated galaxies and galaxies of {real}"


def test_a_table_with_the_lines_of_an_old_macintosh_is_read(tmp_path):
    table = pd.DataFrame({"id_str": ["a", "b"], "file_loc": ["images/a.jpg", "images/b.jpg"], "ring": [0, 1]})
    file = write_catalogue(tmp_path / "own", table) / "catalog.csv"
    file.write_bytes(file.read_bytes().replace(b"\n", b"\r"))
    (batch,) = open_source(str(file)).batches(32, None)
    assert batch.catalog["id_str"].tolist() == ["a", "b"] and batch.labels["ring"].tolist() == [0, 1]
    file.write_bytes(b"id_str,file_loc\rmore,label\na,a.jpg,1\n")
    with pytest.raises(UserError, match="Expected 2 columns, got 3"):
        open_source(str(file))


def test_a_name_of_a_column_may_hold_a_line_break(tmp_path):
    file = tmp_path / "own.csv"
    file.write_bytes(b'id_str,"ring\r\n[yes or no]",file_loc\r\na,1,a.jpg\r\nb,0,b.jpg\r\n')
    assert list(open_source(str(file)).labels) == ["ring\r\n[yes or no]"]
    file.write_bytes(b'id_str,"ring,file_loc\na,1,a.jpg\n')  # a quotation mark that nothing closes
    with pytest.raises(UserError, match="own.csv"):
        open_source(str(file))


@pytest.mark.parametrize("n", [20, 300])  # few different values, which are remembered, and many
def test_numbers_with_decimal_commas_are_described_by_their_range(tmp_path, n):
    file = tmp_path / "own.csv"
    lines = [f"g{i};{i}.jpg;{'0,125' if i else '7'};0,{i:03d}5;{i % 2},0" for i in range(n)]
    file.write_text("\n".join(["id_str;file_loc;mass;z;ring", *lines]))
    source = open_source(str(file))
    (note,) = [note for note in source.notes if note.startswith("labels")]
    assert f"mass: numbers from 0.125 to 7; z: numbers from 0.0005 to {(n - 1) / 1000 + 0.0005:g}" in note
    assert "ring: 2 classes (0, 1)" in note
    labels = pd.concat([batch.labels for batch in all_of(source)])
    np.testing.assert_allclose(labels["z"], np.arange(n) / 1000 + 0.0005)


def test_values_that_astropy_masks_in_parquet_are_blanks(tmp_path):
    masked = {"z": [True, False, False], "shape": [False, False, True], "id_str": [False, False, False]}
    table = pd.DataFrame({"id_str": list("abc"), "file_loc": "x.jpg", "z": [-9999.0, 0.25, 0.5]})
    table = table.assign(shape=["round", "disk", "?"], **{f"{name}.mask": mask for name, mask in masked.items()})
    table["flag.mask"] = [True, False, True]  # beside no column
    table.to_parquet(tmp_path / "own.parquet")
    source = open_source(str(tmp_path / "own.parquet"), labels=["z", "shape"])
    (batch,) = all_of(source)
    np.testing.assert_array_equal(batch.labels["z"], [np.nan, 0.25, 0.5])
    assert batch.labels["shape"].tolist() == ["round", "disk", ""]
    told = "masked values are read as blanks: id_str (id_str.mask), z (z.mask), shape (shape.mask)"
    assert any(told in note for note in source.notes)
    assert list(open_source(str(tmp_path / "own.parquet")).labels) == ["z", "flag.mask"]


def test_of_the_files_of_a_folder_that_are_no_images_one_of_each_kind_is_named(tmp_path):
    (tmp_path / "a.jpg").write_bytes(jpeg(1))
    for name in ("b.bmp", "c.fits.gz", "notes.txt", "more.TXT"):
        (tmp_path / name).write_bytes(b"\x1f\x8b" + bytes(20))
    notes = open_source(str(tmp_path), labels=[]).notes
    assert f"files of '{tmp_path}' that are not images: 4, e.g. b.bmp, c.fits.gz, more.TXT" in notes
    with pytest.raises(Unusable, match="compressed by gzip; decompress it"):
        load_image(tmp_path / "c.fits.gz", 16)
