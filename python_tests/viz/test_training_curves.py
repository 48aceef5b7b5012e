"""Figures of trainings show every series, and each where it belongs."""

import pytest

pytest.importorskip("matplotlib")

from rwpm_fast.viz.training_curves import loss_curves, training_curves

LOSSES = ("classes", "known energy", "outlier energy")


def history(reports, *, walk):
    found = []
    for number in range(1, reports + 1):
        losses = {name: i + 1 / number for i, name in enumerate(LOSSES)}
        report = {"step": 50 * number, "learning_rate": 0.1 / number, "losses": losses}
        if walk:
            losses |= {f"walked {name}": 2 * loss for name, loss in losses.items()}
            report |= {"walk_steps": number, "walk_temperature": 0.1 / number}
        found.append(report)
    return found


@pytest.mark.parametrize("walk", [False, True])
def test_losses_and_schedule(walk):
    axes = loss_curves(history(3, walk=walk)).axes
    titles = [ax.get_title() for ax in axes if ax.get_title()]
    assert titles == [*LOSSES, "learning rate", *(["walk"] if walk else [])]
    of_losses, rate, *of_walk = axes[: len(LOSSES)], *axes[len(LOSSES) :]
    for number, ax in enumerate(of_losses):
        lines = [list(line.get_ydata()) for line in ax.lines]
        own = [number + 1, number + 1 / 2, number + 1 / 3]
        assert lines == [own, [2 * value for value in own]][: 1 + walk]
    assert list(rate.lines[0].get_xdata()) == [50, 100, 150]
    legend = axes[0].get_legend()
    assert [text.get_text() for text in legend.get_texts()] == ["logits", "walked logits"] if walk else legend is None
    if walk:
        assert [list(ax.lines[0].get_ydata()) for ax in of_walk if ax.lines] == [[1, 2, 3], [0.1, 0.05, 0.1 / 3]]


def test_one_report_is_seen():
    assert loss_curves(history(1, walk=True)).axes[0].lines[0].get_marker() == "."


def test_nothing_to_draw():
    with pytest.raises(ValueError, match="history: expected one or more reports, got none"):
        loss_curves([])
    with pytest.raises(ValueError, match="epochs: expected one or more, got none"):
        training_curves([])
