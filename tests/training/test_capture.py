"""Training steps as CUDA graphs, where there is a GPU, and the loss that they need."""

import numpy as np
import pytest
import torch

from gzlib.config import Conduct, Recipe
from gzlib.data.loader import Loader
from gzlib.data.schema import load_schema
from gzlib.models.encoders import build_encoder
from gzlib.models.heads import DirichletHead, GalaxyModel
from gzlib.training import loop
from gzlib.training.loss import VoteLoss

SCHEMA = load_schema("gz2+dr5")
RECIPE = Recipe(
    examples=40 * 16, batch_size=16, dropout=0.5, drop_path=0.2, precision="float32", optimizer="schedule-free",
    schedule="constant",
)  # fmt: skip


def votes(n: int) -> torch.Tensor:
    """Of about a third of the questions, as volunteers would leave them."""
    rng = np.random.default_rng(3)
    counts = np.zeros((n, len(SCHEMA.label_cols)), np.int32)
    for question in SCHEMA.questions:
        asked = rng.random(n) < 0.3
        counts[asked, question.columns] = rng.integers(0, 20, (asked.sum(), len(question.answers)))
    return torch.from_numpy(counts)


def test_the_sum_over_all_questions_is_that_over_those_asked():
    loss, counts = VoteLoss(SCHEMA), votes(30)
    concentrations = 1 + 100 * torch.rand(30, len(SCHEMA.label_cols), generator=torch.Generator().manual_seed(1))
    values, _, _, gradient = loss.terms(concentrations, counts, with_gradient=True)
    total, all_gradient = loss.all_terms(concentrations, counts)
    assert total.item() == pytest.approx(values.sum().item(), rel=1e-6)
    torch.testing.assert_close(all_gradient, gradient, rtol=1e-5, atol=1e-6)
    assert (all_gradient[gradient == 0] == 0).all()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU here")
@pytest.mark.parametrize("encoder", ["resnet_w16", "convnext_w8", "vit_w32"])
def test_a_captured_run_is_the_run_step_by_step(encoder, monkeypatch):
    def losses():
        device, rng = torch.device("cuda"), np.random.default_rng(0)
        pictures, counts = rng.integers(0, 90, (96, 48, 48, 3), dtype=np.uint8), votes(96).numpy()
        torch.manual_seed(1)
        network = build_encoder(encoder, size=48, drop_path=RECIPE.drop_path)
        model = GalaxyModel(network, DirichletHead(network.num_features, counts.shape[1], dropout=RECIPE.dropout))
        model.to(device, memory_format=torch.channels_last)
        train = loop.train_loader(pictures, counts, np.arange(64), recipe=RECIPE, seed=0, device=device)
        val = Loader(pictures, counts, np.arange(64, 96), batch_size=16, device=device)
        said = []
        loss = VoteLoss(SCHEMA, device=device)
        history = loop.fit(
            model, loss, train, val, recipe=RECIPE, seed=0, device=device, conduct=Conduct(report=said.append)
        )
        assert not any("not captured" in line for line in said)
        return history.train_loss + history.val_loss

    captured = losses()
    monkeypatch.setattr(loop, "_capturable", lambda *_: False)
    assert captured == pytest.approx(losses(), rel=1e-4)
