"""A law, a source, weights, a task and an encoder family, each added by one file outside of the package."""

import importlib.util
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import gzlib as gz
from gzlib import paths

pytestmark = pytest.mark.slow


def loaded(path):
    """A user's module, from where it lies."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = sys.modules[path.stem] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def gzlib(folder, *arguments, own=""):
    """``python -m gzlib`` in a user's folder, with what the user has put on the path."""
    environment = {"PYTHONPATH": f"{paths.PACKAGE.parent}:{own}", "OMP_NUM_THREADS": "1", "PATH": "/usr/bin:/bin"}
    command = [sys.executable, "-m", "gzlib", *map(str, arguments)]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


LAW = """
import numpy as np
from gzlib.fitting import Law, Parameter

def falling(x, A, k):
    return A * np.log1p(k / x)

LAW = Law(
    "logarithmic", "A ln(1 + k/x)", "a user's own", falling,
    {"A": Parameter(1e-12, np.inf, "loss", "amplitude"), "k": Parameter(1e-6, 1e6, "x_ref", "size of the bend")},
    ("A",), {"k": np.geomspace(0.01, 100, 13)},
)
"""


def test_a_law_from_a_file_of_the_user(tmp_path):
    (tmp_path / "mine.py").write_text(LAW)
    mine = loaded(tmp_path / "mine.py")
    sizes = np.array([100, 200, 400, 800, 1600, 3200.0])
    fit = gz.fit(sizes, mine.falling(sizes, 0.5, 1000.0), law=mine.LAW, draws=50)
    assert fit.law is mine.LAW
    assert fit.predict([12_800.0]).loss.item() == pytest.approx(mine.falling(12_800, 0.5, 1000.0), rel=1e-3)


SOURCE = """
import numpy as np
import pandas as pd
from gzlib.data import Batch, Opener, Source, register_source

def opened(text, **options):
    n = int(text.partition(":")[2])

    def batches(size, limit):
        rng = np.random.default_rng(0)
        catalog = pd.DataFrame({"id_str": [f"u{i}" for i in range(n)], "dataset_name": "theirs"})
        catalog = catalog.assign(ra=np.nan, dec=np.nan, published_split="")
        images = rng.integers(0, 256, (n, size, size, 3), dtype=np.uint8)
        yield Batch(catalog, np.zeros((n, 0)), pd.DataFrame({"label": np.arange(n) % 2}), images)

    return Source("theirs", text, "", {"label": "int64"}, n, batches)

register_source("theirs:", Opener(opened))
"""


def test_a_source_of_an_installed_package_on_the_command_line(tmp_path):
    (own := tmp_path / "site").mkdir()
    (own / "theirs.py").write_text(SOURCE)
    (own / "theirs-1.0.dist-info").mkdir()
    (own / "theirs-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
    (own / "theirs-1.0.dist-info" / "entry_points.txt").write_text("[gzlib.sources]\ntheirs = theirs\n")
    done = gzlib(tmp_path, "curate", "theirs:12", "--out", "survey", "--size", 16, own=own)
    assert done.returncode == 0, done.stderr
    assert gz.open_survey(tmp_path / "survey").sizes["galaxy"] == 12


FAMILY = """
import torch
from timm.models import register_model

class Tiny(torch.nn.Module):
    def __init__(self, num_classes=0, in_chans=3, width=8, **options):
        super().__init__()
        self.num_features = width
        self.stem = torch.nn.Conv2d(in_chans, width, 4, 4)
        self.pretrained_cfg = {"mean": (0.5,) * 3, "std": (0.5,) * 3, "architecture": "theirs_tiny"}

    def forward(self, images):
        return self.stem(images).relu().mean((2, 3))

@register_model
def theirs_tiny(pretrained=False, **options):
    return Tiny(**{k: v for k, v in options.items() if k in ("num_classes", "in_chans", "width")})
"""


def test_an_encoder_family_and_weights_from_files_of_the_user(tmp_path):
    from safetensors.torch import save_file

    (tmp_path / "family.py").write_text(FAMILY)
    loaded(tmp_path / "family.py")
    encoder = gz.build_encoder("theirs_tiny", size=16)
    assert encoder.num_features == 8
    state = {name: value + 1 for name, value in encoder.network.state_dict().items()}
    save_file(state, tmp_path / "weights.safetensors")
    again = gz.load_encoder("theirs_tiny", str(tmp_path / "weights.safetensors"), size=16)
    assert all(bool((again.network.state_dict()[name] == value).all()) for name, value in state.items())


def test_a_task_is_a_catalogue_of_the_user(tmp_path):
    rng, n = np.random.default_rng(0), 60
    bright = rng.random(n) < 0.5
    for i in range(n):
        pixels = rng.normal(60 + 100 * bright[i], 20, (16, 16, 3)).clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
    table = pd.DataFrame({"id_str": [f"J{i}" for i in range(n)], "file_loc": [f"{i}.png" for i in range(n)]})
    table.assign(kind=np.where(bright, "bright", "faint")).to_csv(tmp_path / "catalog.csv", index=False)
    survey = ["--survey", "catalog.csv", "--size", 16]
    done = gzlib(
        tmp_path,
        "finetune",
        *survey,
        "--label",
        "kind",
        "--encoder",
        "resnet_w4",
        "--weights",
        "random",
        "--n-train",
        30,
    )
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "runs").glob("*/run.json"))) == 1
