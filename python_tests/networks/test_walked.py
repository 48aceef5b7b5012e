"""The walked model beside the model itself: in every order, compiled or not, and in several threads."""

from __future__ import annotations

import functools
import threading
import types
import warnings
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy

import numpy as np
import pytest
import torch
from torch import nn

from python_tests.networks.segmenter import ReferenceWalk, Segmenter, as_input, attached
from rwpm_fast import Scorer, Walk, attach

PHOTO = np.random.default_rng(0).integers(0, 256, (40, 61, 3), dtype=np.uint8)
BENT = pytest.mark.parametrize("bent", [False, True], ids=["linear", "bent"])


@pytest.fixture(autouse=True)
def _compiler():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def compiled(model, **settings):
    return torch.compile(model, backend="eager", **settings)


def logits(model):
    with torch.no_grad():
        return model(as_input(PHOTO))["out"][0]


def scored(network, walk=None):
    return Scorer(network, walk=walk).analyze(PHOTO).walked.full_logits


class Results:
    """What a model should give without a walk, and with one; by the definition."""

    def __init__(self, bent: bool) -> None:
        model = Segmenter(bent).eval()
        self.plain = logits(model)
        with torch.no_grad():
            embedding_map = model.classifier[:3](model.twice(model.twice(model.backbone(as_input(PHOTO)))))
            walked = model.classifier[4](ReferenceWalk()(embedding_map))
            self.walked = nn.functional.interpolate(walked, PHOTO.shape[:2], mode="bilinear")[0]
        assert (self.plain - self.walked).abs().max() > 0.01

    def name(self, result):
        names = [name for name in vars(self) if torch.allclose(result, getattr(self, name), atol=1e-5)]
        return names[0] if names else "neither"


def walk():
    return Walk(temperature=0.1, steps=3)  # as ReferenceWalk


@BENT
@pytest.mark.parametrize("compiled_first", [False, True])
def test_a_compiled_model_is_plain_and_a_compiled_walked_model_walks(bent, compiled_first):
    name, model = Results(bent).name, Segmenter(bent).eval()
    if compiled_first:
        fast = compiled(model, fullgraph=True)
        assert name(logits(fast)) == "plain"
    network = attached(model)
    walked = network.walked(walk())
    if not compiled_first:
        fast = compiled(model, fullgraph=True)
    fast_walked = compiled(walked, fullgraph=True)
    for _ in range(2):
        assert name(logits(fast_walked)) == "walked"
        assert name(logits(fast)) == "plain"
        assert name(logits(walked)) == "walked"
        assert name(logits(model)) == "plain"
        assert name(scored(network)) == "plain"
        assert name(scored(network, walk())) == "walked"


COMPILATIONS = {
    "model": lambda model: compiled(model),
    "model in place": lambda model: model.compile(backend="eager") or model,
    "forward": lambda model: setattr(model, "forward", compiled(model.forward)) or model,
    "parts": lambda model: setattr(model, "classifier", compiled(model.classifier)) or model,
    "parts in place": lambda model: model.classifier.compile(backend="eager") or model,
    "ends": lambda model: [setattr(model.classifier, i, compiled(model.classifier[int(i)])) for i in "24"] and model,
    "ends in place": lambda model: [model.classifier[i].compile(backend="eager") for i in (2, 4)] and model,
}


@pytest.mark.parametrize(("bent", "used_before"), [(False, True), pytest.param(True, False, marks=pytest.mark.slow)])
@pytest.mark.parametrize("compilation", COMPILATIONS.values(), ids=COMPILATIONS)
def test_models_that_are_compiled_can_be_attached(bent, compilation, used_before):
    name, model = Results(bent).name, compilation(Segmenter(bent).eval())
    if used_before:
        assert name(logits(model)) == "plain"
    network = attached(model)
    assert name(scored(network)) == "plain"
    assert name(scored(network, walk())) == "walked"
    walked = network.walked(walk())
    assert name(logits(walked)) == "walked"
    assert name(logits(model)) == "plain"
    assert name(logits(compiled(walked))) == "walked"
    assert name(logits(model)) == "plain"


def test_paths_name_the_wrappers_or_not():
    model = compiled(Segmenter())
    model.classifier[2] = compiled(model.classifier[2])
    paths = [name for name, _ in model.named_modules() if name.endswith(("classifier.2._orig_mod", "classifier.4"))]
    assert paths == ["_orig_mod.classifier.2._orig_mod", "_orig_mod.classifier.4"]
    network = attached(model, embedding=paths[0], head=paths[1])
    assert (network.embedding_path, network.head_path) == ("classifier.2", "classifier.4")
    assert network.name == "Segmenter"
    assert Results(False).name(scored(network, walk())) == "walked"


@BENT
def test_several_walks_beside_each_other(bent):
    network, x = attached(Segmenter(bent)), as_input(PHOTO)
    models = [network.model, *(network.walked(Walk(temperature=0.1, steps=steps)) for steps in (1, 2, 5))]
    with torch.no_grad():
        one_by_one = [model(x)["out"] for model in models]
        assert all((a - b).abs().max() > 1e-3 for i, a in enumerate(one_by_one) for b in one_by_one[:i])
        for run in (models, [compiled(model, fullgraph=True) for model in models]):
            for _ in range(2):
                for model, expected in zip(run, one_by_one, strict=True):
                    torch.testing.assert_close(model(x)["out"], expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("strict", [False, True])
def test_a_walked_model_is_exported_walked(strict):
    name, network = Results(False).name, attached(Segmenter().requires_grad_(False))
    for model, expected in ((network.model, "plain"), (network.walked(walk()), "walked")):
        exported = torch.export.export(model, (as_input(PHOTO),), strict=strict)
        assert name(logits(exported.module())) == expected


def test_a_model_that_walks_cannot_be_attached():
    network = attached()
    walked = network.walked(walk())
    for model in (walked, compiled(walked), nn.Sequential(walked), deepcopy(walked)):
        with pytest.raises(ValueError, match=r"model: its head '.*classifier\.4' walks already"):
            attached(model)
    network.model.classifier = walked.classifier
    with pytest.raises(ValueError, match="walks already"):
        network.walked(walk())


def test_the_context_manager_of_old_fails():
    with pytest.raises((TypeError, AttributeError)), attached().walked(walk()):
        raise AssertionError("the block ran")


@BENT
def test_a_walked_model_shares_weights_and_state_names(bent):
    name, network = Results(bent).name, attached(Segmenter(bent))
    walked = network.walked(walk())
    assert list(walked.state_dict()) == list(network.model.state_dict())
    assert all(ours is theirs for ours, theirs in zip(walked.parameters(), network.model.parameters(), strict=True))
    assert type(walked) is Segmenter and isinstance(walked.classifier[4], type(network.model.classifier[4]))
    own = deepcopy(walked)
    with torch.no_grad():
        for parameter in network.model.parameters():
            parameter.zero_()
    assert name(logits(own)) == "walked"
    assert logits(walked).abs().max() == 0


def test_hooks_of_the_model_run_and_those_of_a_copy_stay_there():
    network, seen = attached(), []
    for path in ("", "classifier", "classifier.2", "classifier.4", "backbone"):
        module = network.model.get_submodule(path)
        module.register_forward_hook(lambda _module, _inputs, _output, path=path: seen.append(path))
    walked = network.walked(walk())
    seen.clear()
    logits(walked)
    assert seen == ["backbone", "classifier.2", "classifier.4", "classifier", ""]
    seen.clear()
    network.embed(as_input(PHOTO))
    assert seen == ["backbone", "classifier.2"]

    walked.classifier.register_forward_hook(lambda *_: pytest.fail("a hook of the walked model"))
    logits(network.model)


def test_a_hook_that_changes_the_logits_changes_those_that_walk():
    network = attached()
    network.model.classifier[4].register_forward_hook(lambda _module, _inputs, output: 2 * output)
    results = Results(False)
    for got in (logits(network.walked(walk())), scored(network, walk())):
        torch.testing.assert_close(got, 2 * results.walked, rtol=0, atol=1e-4)


def test_a_walk_that_fails_leaves_nothing_behind():
    network = attached()
    before = [dict(vars(module)) for module in network.model.modules()]

    def broken(*_args, **_settings):
        raise RuntimeError("no walk")

    with pytest.raises(RuntimeError, match="no walk"):
        logits(network.walked(broken))
    with pytest.raises(RuntimeError, match="no walk"):
        scored(network, broken)
    assert [dict(vars(module)) for module in network.model.modules()] == before
    assert Results(False).name(logits(network.model)) == "plain"


@BENT
def test_a_model_in_training_keeps_its_statistics(bent):
    network = attached(Segmenter(bent).train())
    network.model.train()
    before = {name: value.clone() for name, value in network.model.state_dict().items()}
    walked = network.walked(walk())
    assert all(torch.equal(value, before[name]) for name, value in network.model.state_dict().items())
    assert network.model.training and all(module.training for module in walked.modules())
    walked.eval()
    assert Results(bent).name(logits(walked)) == "walked"


def method(model):
    model.forward = types.MethodType(lambda self, x: {"out": type(self).forward(self, x)["out"]}, model)


def wrapped(model):
    """As accelerate hooks a module."""
    model.old_forward = model.forward
    forward = functools.partial(lambda module, x: module.old_forward(x), model)
    model.forward = functools.update_wrapper(forward, model.old_forward)


@pytest.mark.parametrize("change", [method, wrapped])
@pytest.mark.parametrize("late", [False, True])
def test_a_forward_that_was_replaced_by_a_method_is_followed(change, late):
    name, model = Results(False).name, Segmenter().eval()
    network = attached(model) if late else None
    change(model)
    network = network or attached(model)
    assert name(scored(network, walk())) == "walked"
    assert name(logits(network.walked(walk()))) == "walked"
    assert name(logits(model)) == "plain"


def closure(model):
    forward = model.forward
    model.forward = lambda x: forward(x)


def unregistered(model):
    model.forward = lambda x, parts=[model.backbone, model.twice, model.twice, model.classifier]: {
        "out": functools.reduce(lambda y, part: part(y), parts, x)
    }


@pytest.mark.parametrize("change", [closure, unregistered])
def test_a_model_that_calls_its_modules_past_their_paths_is_refused(change):
    model, network = Segmenter().eval(), attached()
    change(model)
    with pytest.raises(ValueError, match=r"embedding: .*'classifier\.2' is never called by its parent"):
        attached(model)
    change(network.model)
    for use in (lambda: scored(network), lambda: network.walked(walk())):
        with pytest.raises(ValueError, match=r"was not called in this pass.* nor by a function that took the place"):
            use()


class Aliased(nn.Module):
    """Calls its head, by another name, inside another of its modules."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.Conv2d(8, 4, 1)
        self.inner = nn.Sequential(self.body, self.head)

    def forward(self, x):
        return {"out": self.inner(x)}


def test_a_module_is_named_by_the_path_that_is_called():
    settings = {"mean": (0.5,) * 3, "std": (0.2,) * 3}
    with pytest.raises(ValueError, match=r"embedding: 'body' was not called in this pass.*by another of its names"):
        attach(Aliased(), "body", "head", **settings)
    network = attach(Aliased(), "inner.0", "inner.1", **settings)
    assert (logits(network.walked(walk())) - logits(network.model)).abs().max() > 0


def test_data_parallel_models_can_be_attached():
    network = attached(nn.DataParallel(Segmenter()), embedding="module.classifier.2", head="module.classifier.4")
    name = Results(False).name
    assert name(logits(network.walked(walk()))) == name(scored(network, walk())) == "walked"
    assert name(scored(network)) == name(logits(network.model)) == "plain"


def test_a_traced_part_can_be_the_embedding():
    model = Segmenter().eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        model.classifier[2] = torch.jit.trace(model.classifier[2], torch.zeros(1, 16, 8, 8))
    network, name = attached(model), Results(False).name
    assert name(logits(network.walked(walk()))) == name(scored(network, walk())) == "walked"
    assert name(logits(model)) == "plain"


@pytest.mark.slow
def test_an_attached_network_is_compiled():
    network = attached()
    with torch.no_grad():
        expected = network(as_input(PHOTO))
        logits(compiled(network.model))  # whose compiled code does not stop at the embedding
        torch.testing.assert_close(compiled(network)(as_input(PHOTO)), expected)


def test_threads_keep_their_photos_apart():
    """Scorers with and without a walk, the model itself and a walked model, each call in the thread that comes."""
    network = attached()
    photos = [np.random.default_rng(seed).integers(0, 256, (40, 61, 3), dtype=np.uint8) for seed in range(12)]
    walked, scorers = network.walked(walk()), (Scorer(network), Scorer(network, walk=walk()))
    calls = [
        lambda photo: scorers[0](photo).score,
        lambda photo: scorers[1](photo).score,
        lambda photo: network.model(as_input(photo))["out"],
        lambda photo: walked(as_input(photo))["out"],
    ]

    @torch.no_grad()
    def run(task):
        call, photo = task
        return calls[call](photos[photo])

    tasks = [(call, photo) for photo in range(12) for call in range(4)]
    expected = dict(zip(tasks, map(run, tasks), strict=True))
    meeting = threading.Barrier(4)
    with ThreadPoolExecutor(4, initializer=meeting.wait) as pool:
        results = list(pool.map(run, tasks * 2))
    assert len(results) == 96
    for task, result in zip(tasks * 2, results, strict=True):
        torch.testing.assert_close(result, expected[task], rtol=0, atol=1e-4)


def test_a_trial_does_not_disturb_others():
    """While a model is attached, another thread's passes are not taken for the trial's, nor changed."""
    model, x = Segmenter().eval(), as_input(PHOTO)
    expected, stop, wrong = logits(model), threading.Event(), []

    def others():
        while not stop.is_set():
            if not torch.equal(logits(model), expected):
                wrong.append(True)

    thread = threading.Thread(target=others)
    thread.start()
    try:
        networks = [attached(model) for _ in range(3)]
    finally:
        stop.set()
        thread.join()
    assert not wrong
    assert all(torch.equal(network.embed(x), networks[0].embed(x)) for network in networks)
