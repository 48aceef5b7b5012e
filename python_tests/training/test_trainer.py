"""Steps of the compact network's training: what they change, what they report, and what they survive."""

import copy
import math
import os
import subprocess
import sys

import pytest
import torch

from python_tests.training.crops import make_crop
from rwpm_fast import reference
from rwpm_fast.networks.compact import CompactNet
from rwpm_fast.training import trainer as module
from rwpm_fast.training.losses import LOSSES, compute_losses
from rwpm_fast.training.settings import TrainingSettings, WalkSchedule
from rwpm_fast.training.trainer import MAX_FAILURES, Trainer, ema_update

SETTINGS = TrainingSettings(steps=4, batch=2, size=(32, 64))


def make_trainer(settings=SETTINGS):
    torch.manual_seed(0)
    return Trainer(CompactNet(), settings, energy_margin=6.0)


def reference_walk_map(embedding_map, value_map, *, tolerance, **settings):
    """A walk by its definition, through which torch differentiates."""
    embeddings, values = (map_.flatten(2).mT for map_ in (embedding_map, value_map))
    return reference.walk(embeddings, values, **settings).mT.reshape(value_map.shape)


def test_steps_learn():
    trainer = make_trainer(TrainingSettings(steps=30, batch=2, size=(32, 64), learning_rate=5e-3))
    before = copy.deepcopy(trainer.average.state_dict())
    first = compute_losses(trainer.network(trainer.network.preprocess(make_crop().image)), make_crop(), 6.0)
    for _ in range(30):
        trainer.step(make_crop())
    (report,) = trainer.progress.history
    assert report["step"] == 30 and report["failures"] == 0 and list(report["losses"]) == list(LOSSES)
    assert report["losses"]["known energy"] < first[1].item()
    assert any((before[name] != now).any() for name, now in trainer.average.state_dict().items())
    assert trainer.network.training and not trainer.average.training


def test_reports_are_means_since_the_last(monkeypatch):
    monkeypatch.setattr(module, "REPORT_STEPS", 3)
    trainer = make_trainer()
    losses, reports = [], []
    for seed in range(4):
        reports.append(trainer.step(make_crop(seed=seed)))
        losses += trainer.progress.losses[-1:]
    assert [report and report["step"] for report in reports] == [None, None, 3, 4]
    assert trainer.progress.history == [report for report in reports if report]
    assert "walk_steps" not in reports[2] and trainer.progress.losses == []
    assert reports[2]["learning_rate"] == SETTINGS.learning_rate_at(2)
    assert len(losses) == 2 and reports[2]["losses"]["classes"] != losses[0][0]


def test_going_on_gives_the_same_bits(tmp_path):
    whole = make_trainer()
    for seed in range(2):
        whole.step(make_crop(seed=seed))
    torch.save(whole.state_dict(), tmp_path / "state.pt")
    other = Trainer(CompactNet(), SETTINGS, energy_margin=6.0)
    other.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    for seed in range(2, 4):
        for trainer in (whole, other):
            trainer.step(make_crop(seed=seed))
    assert whole.progress == other.progress
    for one, two in ((whole.network, other.network), (whole.average, other.average)):
        assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True))


def test_folded_weights_can_be_trained_again():
    """Filters that see nothing but zeros are folded to what float16 just holds; a second fold would multiply by 316."""
    folded = CompactNet.load()
    with torch.no_grad():
        filters = folded.sixteenth[1].pointwise
        factor = 45_000 / filters.weight.abs().max()
        filters.weight *= factor
        filters.bias *= factor
    trainer = Trainer(copy.deepcopy(folded), SETTINGS, energy_margin=6.0)
    images = trainer.network.preprocess(torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(0)) * 255)
    with torch.no_grad():
        logits, wanted = (net(images) for net in (trainer.network, folded.normalize().train()))
    assert (logits - wanted).norm() < 0.05 * wanted.norm()  # the norms' epsilon alone tells the scales apart
    for norm in trainer.average.modules():
        if isinstance(norm, torch.nn.BatchNorm2d):
            norm.running_var.zero_()
    assert all(p.half().isfinite().all() for p in trainer.average.fold().parameters())


def test_a_training_from_given_weights_begins_with_their_function():
    crop = make_crop(batch=4, height=64, width=96)
    wanted = CompactNet.load()
    trainer = Trainer(CompactNet.load(), SETTINGS, energy_margin=6.0)
    trainer.keep_function(crop)
    images = wanted.preprocess(crop.image)
    with torch.no_grad():
        logits = wanted(images)
        for network in (trainer.network, trainer.average):
            assert (network(images) - logits).norm() < 1e-3 * logits.norm()
    assert trainer.network.training and not trainer.average.training
    trainer.step(crop)
    assert trainer.progress.failures == 0
    assert all(p.half().isfinite().all() for p in trainer.average.fold().parameters())


def test_random_filters_stay_as_they_are():
    torch.manual_seed(0)
    network = CompactNet()
    before = network.state_dict()["fuse.0.depthwise.weight"].clone()
    assert torch.equal(Trainer(network, SETTINGS, energy_margin=6.0).network.fuse[0].depthwise.weight, before)


def spoil(trainer):
    with torch.no_grad():
        trainer.network.classifier.bias[0] = math.nan


def test_a_step_that_is_not_finite_restarts_from_the_average():
    trainer = make_trainer(TrainingSettings(steps=100, batch=2, size=(32, 64)))
    trainer.step(make_crop())
    average = copy.deepcopy(trainer.average.state_dict())
    spoil(trainer)
    trainer.step(make_crop())
    assert (trainer.progress.step, trainer.progress.failures, len(trainer.progress.losses)) == (2, 1, 1)
    assert all(torch.equal(average[name], now) for name, now in trainer.network.state_dict().items())
    trainer.step(make_crop())
    assert trainer.progress.failures == 1 and trainer.progress.failures_in_a_row == 0
    for _ in range(MAX_FAILURES - 1):
        spoil(trainer)
        trainer.step(make_crop())
    spoil(trainer)
    with pytest.raises(FloatingPointError, match=r"20 steps in a row are not finite, up to step 23; .* 0.002 may be"):
        trainer.step(make_crop())


def test_a_report_of_failures_alone():
    trainer = make_trainer(TrainingSettings(steps=1, batch=2, size=(32, 64)))
    spoil(trainer)
    report = trainer.step(make_crop())
    assert report["failures"] == 1 and all(math.isnan(loss) for loss in report["losses"].values())


def test_a_crop_without_a_class_does_no_harm():
    trainer = make_trainer()
    crop = make_crop()
    nothing = torch.zeros_like(crop.known)
    trainer.step(type(crop)(crop.image, crop.target, nothing, nothing, nothing))
    assert trainer.progress.failures == 0
    assert all(t.isfinite().all() for t in trainer.network.state_dict().values())


def test_both_kinds_of_logits_are_learned(monkeypatch):
    """With a walk the gradient is that of the weighted sum of the losses of the logits and of the walked logits."""
    monkeypatch.setattr(module, "walk_map", reference_walk_map)
    schedule = WalkSchedule(steps=3, temperature=0.05, weight=0.25)
    trainer = make_trainer(TrainingSettings(steps=10, batch=2, size=(32, 64), walk=schedule))
    for _ in range(3):
        trainer.step(make_crop())
    same = trainer.progress.losses[0]
    assert same[:3] == same[3:]  # nothing walks yet
    for _ in range(7):
        trainer.step(make_crop())
    (report,) = trainer.progress.history
    assert report["walk_steps"] == 3 and report["walk_temperature"] == 0.05
    assert list(report["losses"]) == [*LOSSES, *(f"walked {name}" for name in LOSSES)]
    assert report["losses"]["classes"] != report["losses"]["walked classes"]
    losses = trainer._losses(make_crop(), schedule.at(1.0))
    own = make_trainer()._weights
    torch.testing.assert_close(losses @ trainer._weights, 0.75 * losses[:3] @ own + 0.25 * losses[3:] @ own)


def test_the_embeddings_learn_of_the_walk(monkeypatch):
    monkeypatch.setattr(module, "walk_map", reference_walk_map)
    schedule = WalkSchedule(steps=2, temperature=0.05, weight=1.0)
    trainer = make_trainer(TrainingSettings(steps=10, batch=2, size=(32, 64), walk=schedule))
    gradients = []
    for detached in (False, True):
        if detached:
            monkeypatch.setattr(module, "walk_map", lambda e, v, **s: reference_walk_map(e.detach(), v, **s))
        trainer.network.zero_grad()
        (trainer._losses(make_crop(), schedule.at(1.0)) @ trainer._weights).backward()
        gradients.append(trainer.network.fuse[1].pointwise.weight.grad.clone())
    assert (gradients[0] - gradients[1]).abs().max() > 0.01 * gradients[0].abs().max()


@pytest.mark.parametrize("anchor_share", [0.0, 0.03])
def test_the_walk_is_that_of_the_definition(monkeypatch, anchor_share):
    schedule = WalkSchedule(steps=2, temperature=0.05, anchor_share=anchor_share)
    losses, gradients = [], []
    for walk in (module.walk_map, reference_walk_map):
        monkeypatch.setattr(module, "walk_map", walk)
        trainer = make_trainer(TrainingSettings(steps=10, batch=2, size=(32, 64), walk=schedule))
        losses.append(trainer._losses(make_crop(), schedule.at(1.0)))
        (losses[-1] @ trainer._weights).backward()
        gradients.append(trainer.network.from_eighth.weight.grad)
    torch.testing.assert_close(*losses)
    # Below the walk, convolutions in bfloat16 round the gradients once more.
    torch.testing.assert_close(*gradients, rtol=0.05, atol=0.02 * gradients[0].abs().max().item())


def test_moving_average_follows_the_network():
    torch.manual_seed(0)
    average, network = CompactNet().normalize(), CompactNet().normalize()
    before = {name: t.clone() for name, t in average.state_dict().items()}
    ema_update(average, network, 0.75)
    for (name, mean), now in zip(average.state_dict().items(), network.state_dict().values(), strict=True):
        expected = 0.75 * before[name] + 0.25 * now if mean.is_floating_point() else now
        torch.testing.assert_close(mean, expected)


PROGRAM = """
import sys, torch
import torch.distributed as dist
from python_tests.training.crops import make_crop
from python_tests.training.test_trainer import make_trainer
dist.init_process_group("gloo")
for name, seeds in (("same", [0, 1]), ("own", [2 * dist.get_rank(), 2 * dist.get_rank() + 1])):
    trainer = make_trainer()
    for seed in seeds:
        trainer.step(make_crop(seed=seed))
    torch.save(trainer.state_dict(), f"{sys.argv[1]}/{name}{dist.get_rank()}.pt")
dist.destroy_process_group()
"""


@pytest.mark.slow
def test_processes_share_the_steps(tmp_path):
    """Two processes with one crop do what a single one does, and with crops of their own they stay together."""
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*command, program, tmp_path], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    alone = make_trainer()
    for seed in (0, 1):
        alone.step(make_crop(seed=seed))
    states = {path.stem: torch.load(path, weights_only=True) for path in tmp_path.glob("*.pt")}
    for part in ("network", "average"):
        for name, wanted in getattr(alone, part).state_dict().items():
            torch.testing.assert_close(states["same0"][part][name], wanted, rtol=1e-4, atol=1e-5)
            for kind in ("same", "own"):
                assert torch.equal(states[f"{kind}0"][part][name], states[f"{kind}1"][part][name])
    assert states["own0"]["progress"] == states["own1"]["progress"]
    assert any((states["own0"]["network"][name] != now).any() for name, now in alone.network.state_dict().items())
