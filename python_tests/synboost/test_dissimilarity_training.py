"""Training of the dissimilarity network: the loss, mirroring, resuming to the last bit, several processes."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from python_tests.synboost.parts import RESYNTHESIS
from rwpm_fast.synboost.dissimilarity import DissimilarityNet, semantic_one_hot
from rwpm_fast.synboost.dissimilarity_training import Batch, Epoch, TrainingSettings, _Module, _Run, train_dissimilarity
from rwpm_fast.synboost.ensemble import LearnedEnsemble
from rwpm_fast.synboost.examples import Example
from rwpm_fast.synboost.labels import class_weights
from rwpm_fast.synboost.pipeline import imagenet_normalized

SIZE = (16, 32)
FAST = TrainingSettings(epochs=2, batch=2, learning_rate=3e-3)


def example(seed: int) -> Example:
    """A photo whose synthesis differs in a rectangle, which is the anomaly; a column of it is void."""
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (3, *SIZE), np.uint8)
    synthesis, labels = image.copy(), np.zeros(SIZE, np.uint8)
    top, left = rng.integers(0, 8), rng.integers(0, 20)
    synthesis[:, top : top + 8, left : left + 10] = rng.integers(0, 256, (3, 1, 1))
    labels[top : top + 8, left : left + 10] = 1
    labels[:, left] = 255
    class_map = rng.integers(0, 19, (2, 4), np.uint8).repeat(8, 0).repeat(8, 1)
    return Example(image, synthesis, class_map, rng.integers(0, 256, (3, *SIZE), np.uint8), labels)


TRAINING, VALIDATION = [example(seed) for seed in range(5)], [example(seed) for seed in range(90, 92)]


def network(seed: int = 0, **flags) -> DissimilarityNet:
    torch.manual_seed(seed)
    return DissimilarityNet(**flags, width=2)


def weights_of(module):
    return torch.cat([tensor.flatten() for tensor in module.state_dict().values()])


def test_first_loss_is_the_weighted_cross_entropy():
    seen = TRAINING[:2]
    by_class = torch.tensor(class_weights(one.labels for one in seen))
    images, syntheses, maps, labels = (
        torch.from_numpy(np.stack([getattr(one, name) for one in seen]))
        for name in ("image", "synthesis", "maps", "labels")
    )
    planes = semantic_one_hot(torch.from_numpy(np.stack([one.class_map for one in seen])))
    with torch.no_grad():
        logits = network()(imagenet_normalized(images / 255), imagenet_normalized(syntheses / 255), planes, maps / 255)
    expected = F.cross_entropy(logits, labels.long(), by_class, ignore_index=255)  # torch's weighted mean
    run = _Run(_Module(network(), None), FAST, by_class, None)
    run.step(seen, [False, False])
    assert run.progress.loss == pytest.approx(expected.item(), rel=1e-5)


def test_step_is_one_of_adam_with_the_published_settings():
    run = _Run(_Module(network(), None), TrainingSettings(), torch.tensor([1.0, 1.0]), None)
    run.step(TRAINING[:2], [False, False])
    other = network()
    optimizer = torch.optim.Adam(other.parameters(), lr=1e-4, betas=(0.5, 0.999))
    batch = Batch.collate(TRAINING[:2], [False, False], torch.device("cpu"))
    F.cross_entropy(batch.logits(other), batch.labels, ignore_index=255).backward()
    optimizer.step()
    assert torch.allclose(weights_of(run.module.network), weights_of(other), atol=2e-6)
    assert (weights_of(run.module.network) != weights_of(network())).any()


def test_mirroring_flips_all_inputs_and_the_labels():
    plain, mirrored = (Batch.collate(TRAINING[:1], [flip], torch.device("cpu")) for flip in (False, True))
    for one, other in zip(plain, mirrored, strict=True):
        assert (one.flip(-1) == other).all() and (one != other).any()


def test_void_pixels_have_no_gradient():
    one = TRAINING[0]
    module = _Module(network(), None)
    run = _Run(module, FAST, torch.tensor([1.0, 1.0]), None)

    def gradients(labels):
        batch = Batch.collate([replace(one, labels=labels)], [False], torch.device("cpu"))
        logits = batch.logits(module.network).detach().requires_grad_()
        module.forward = lambda _: (logits.softmax(1)[:, 1:], logits)
        _, loss, _ = run._score(batch)
        return torch.autograd.grad(loss, logits)[0]

    gradient = gradients(one.labels)
    void = torch.from_numpy(one.labels == 255)
    assert (gradient[0][:, void] == 0).all() and (gradient[0][:, ~void] != 0).all()
    assert (gradients(np.full(SIZE, 255, np.uint8)) == 0).all()  # a batch that is void everywhere


@pytest.mark.parametrize("flags", [{}, RESYNTHESIS], ids=["synboost", "resynthesis"])
def test_loss_falls_and_the_best_epoch_is_kept(flags):
    trained = network(**flags)
    history = train_dissimilarity(trained, TRAINING, VALIDATION, replace(FAST, epochs=12, batch=5))
    assert [epoch.number for epoch in history] == list(range(1, 13))
    assert history[-1].training_loss < 0.9 * history[0].training_loss
    assert not trained.training
    best = min(history, key=lambda epoch: epoch.validation_loss)
    run = _Run(_Module(trained, None), FAST, torch.tensor(class_weights(one.labels for one in TRAINING)), None)
    loss, ap = run._validate(VALIDATION)
    assert loss == pytest.approx(best.validation_loss, rel=1e-6) and ap == best.validation_ap


def test_learning_rate_halves_where_the_validation_loss_does_not_fall():
    settings = replace(FAST, epochs=6, learning_rate=1e-6, patience=1)
    history = train_dissimilarity(network(), TRAINING[:2], VALIDATION, settings)
    rates = [epoch.learning_rate for epoch in history]
    assert rates[0] == 1e-6 and rates[-1] <= 0.5e-6 and sorted(rates, reverse=True) == rates


def test_ensemble_learns_along():
    ensemble = LearnedEnsemble()
    before = ensemble.weights.detach().clone()
    history = train_dissimilarity(network(), TRAINING, VALIDATION, replace(FAST, epochs=4), ensemble=ensemble)
    assert (ensemble.weights.detach() != before).all() and ensemble.weights.sum().item() == pytest.approx(1)
    assert history[-1].training_loss < history[0].training_loss


class Killed(Exception):
    pass


def killed_after(batches):
    """Progress bar that is killed after so many batches of the whole training."""
    left = batches

    def progress(numbers):
        nonlocal left
        for number in numbers:
            if left == 0:
                raise Killed
            left -= 1
            yield number

    return progress


@pytest.mark.parametrize("batches", [1, 3, 4])
def test_killed_training_goes_on_to_the_same_bits(batches, tmp_path):
    whole = network()
    history = train_dissimilarity(whole, TRAINING, VALIDATION, FAST)
    arguments = (TRAINING, VALIDATION, FAST)
    with pytest.raises(Killed):
        train_dissimilarity(
            network(), *arguments, checkpoint=tmp_path / "t.pt", save_seconds=0, progress=killed_after(batches)
        )
    resumed, again = network(seed=1), []
    found = train_dissimilarity(
        resumed, *arguments, checkpoint=tmp_path / "t.pt", progress=lambda numbers: again.extend(numbers) or numbers
    )
    assert found == history
    assert (weights_of(resumed) == weights_of(whole)).all()
    assert len(again) == 6 - batches  # two epochs of three batches
    assert [file.name for file in tmp_path.iterdir()] == ["t.pt"]
    # A finished training gives its result at once, and may be prolonged.
    assert train_dissimilarity(network(2), *arguments, checkpoint=tmp_path / "t.pt") == history
    longer = train_dissimilarity(
        network(2), TRAINING, VALIDATION, replace(FAST, epochs=3), checkpoint=tmp_path / "t.pt"
    )
    assert longer[:2] == history and len(longer) == 3


def test_checkpoints_of_other_trainings(tmp_path):
    file = tmp_path / "t.pt"
    train_dissimilarity(network(), TRAINING, VALIDATION, FAST, checkpoint=file)
    with pytest.raises(ValueError, match=r"other settings \(batch 2, not 3\); delete it to start anew"):
        train_dissimilarity(network(), TRAINING, VALIDATION, replace(FAST, batch=3), checkpoint=file)
    with pytest.raises(ValueError, match=r"t\.pt is of another network"):
        train_dissimilarity(network(**RESYNTHESIS), TRAINING, VALIDATION, FAST, checkpoint=file)
    with pytest.raises(ValueError, match=r"other examples \(number for training\); delete it to start anew"):
        train_dissimilarity(network(), TRAINING[:4], VALIDATION, FAST, checkpoint=file)
    with pytest.raises(ValueError, match=r"other examples \(number for validation\); delete it"):
        train_dissimilarity(network(), TRAINING, VALIDATION[:1], FAST, checkpoint=file)
    with pytest.raises(ValueError, match=r"epochs: expected the 2 or more that .*t\.pt has, got 1; delete it"):
        train_dissimilarity(network(), TRAINING, VALIDATION, replace(FAST, epochs=1), checkpoint=file)
    file.write_bytes(file.read_bytes()[:2000])
    with pytest.raises(ValueError, match=r"t\.pt is damaged .*; delete it to start anew"):
        train_dissimilarity(network(), TRAINING, VALIDATION, FAST, checkpoint=file)


class Folder(list):
    """Examples that know what they are, as those of a folder do."""

    def __init__(self, examples, names="abcde", made_with="these networks"):
        super().__init__(examples)
        self.names, self.made_with, self.class_weights = list(names[: len(examples)]), made_with, (1.5, 4.0)


def test_checkpoints_of_other_folders(tmp_path):
    def train(training, validation):
        train_dissimilarity(network(), training, validation, replace(FAST, epochs=1), checkpoint=tmp_path / "t.pt")

    train(Folder(TRAINING), Folder(VALIDATION))
    train(Folder(TRAINING), Folder(VALIDATION))
    with pytest.raises(ValueError, match=r"other examples \(names for training\)"):
        train(Folder(TRAINING, names="fghij"), Folder(VALIDATION))
    with pytest.raises(ValueError, match=r"other examples \(making for validation\)"):
        train(Folder(TRAINING), Folder(VALIDATION, made_with="others"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epochs": 0}, "epochs: expected 1 or more, got 0"),
        ({"batch": 0}, "batch: expected 1 or more, got 0"),
        ({"patience": -1}, "patience: expected 0 or more, got -1"),
        ({"learning_rate": 0.0}, "learning_rate: expected a finite number > 0, got 0.0"),
        ({"learning_rate": math.nan}, "learning_rate: expected a finite number > 0, got nan"),
        ({"class_weights": (1.0, -1.0)}, "class_weights: expected two positive, finite numbers"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        TrainingSettings(**settings)


def test_no_examples():
    with pytest.raises(ValueError, match="validation: expected one or more examples, got none"):
        train_dissimilarity(network(), TRAINING, [], FAST)


@pytest.mark.parametrize("name", ["training", "validation"])
def test_examples_without_labels(name, tmp_path):
    void = [replace(one, labels=np.full(SIZE, 255, np.uint8)) for one in VALIDATION]
    sets = {"training": TRAINING, "validation": VALIDATION} | {name: void}
    settings = replace(FAST, class_weights=(1.0, 1.0))
    with pytest.raises(ValueError, match=f"{name}: expected pixels labeled 0 or 1, got none in 2 examples"):
        train_dissimilarity(network(), **sets, settings=settings, checkpoint=tmp_path / "t.pt")
    assert not list(tmp_path.iterdir())


def test_validation_loss_that_is_not_finite(tmp_path, monkeypatch):
    monkeypatch.setattr(_Run, "_validate", lambda self, examples: (math.nan, 0.5))
    with pytest.raises(FloatingPointError, match="the validation loss is nan in epoch 1; the learning rate"):
        train_dissimilarity(network(), TRAINING, VALIDATION, FAST, checkpoint=tmp_path / "t.pt")
    assert not list(tmp_path.iterdir())


def test_scores_of_the_validation_keep_their_digits():
    """Scores that half precision would round to one value are told apart."""

    class Fixed(_Module):
        def forward(self, batch):
            score = 0.9 + 1e-5 * (batch.labels == 1)[:, None].float()
            return score, torch.cat([1 - score, score], dim=1).log()

    run = _Run(Fixed(network(), None), FAST, torch.tensor([1.0, 1.0]))
    assert run._validate(VALIDATION)[1] == 1


def test_loss_that_is_not_finite():
    broken = network()
    with torch.no_grad():
        broken.head.bias.fill_(math.nan)
    with pytest.raises(FloatingPointError, match="the loss is nan in epoch 1; the learning rate"):
        train_dissimilarity(broken, TRAINING, VALIDATION, FAST)


PROGRAM = """
import sys, torch
import torch.distributed as dist
from python_tests.synboost import test_dissimilarity_training as t
dist.init_process_group("gloo")
net = t.network().double()
history = t.train_dissimilarity(net, t.TRAINING, t.VALIDATION, t.FAST)
content = {"weights": t.weights_of(net), "history": [tuple(epoch) for epoch in history]}
torch.save(content, f"{sys.argv[1]}/{dist.get_rank()}.pt")
dist.destroy_process_group()
"""


@pytest.mark.slow
def test_processes_share_the_batches(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    found = subprocess.run([*command, program, tmp_path], env=environment, capture_output=True, text=True, timeout=300)
    assert found.returncode == 0, found.stderr
    alone = network().double()
    history = train_dissimilarity(alone, TRAINING, VALIDATION, FAST)
    for rank in (0, 1):
        shared = torch.load(tmp_path / f"{rank}.pt")
        assert (shared["weights"] - weights_of(alone)).abs().max() < 1e-6
        for one, other in zip(shared["history"], history, strict=True):
            assert Epoch(*one) == pytest.approx(other, rel=1e-5)
