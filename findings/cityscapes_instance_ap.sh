#!/usr/bin/env bash
# Package: cityscapesScripts 2.2.4.
#
# Expected: AP of instances is the step-wise integral of precision over recall, as its comment says ("zero order, or
# equivalently step-wise integration") and as COCO and scikit-learn have it: of one object that is found by the second
# of two predictions, 1/2.
#
# Instead: each precision weighs half the recall between its two neighbors, and the last point is one at precision 1 and
# recall 0. The object that is found second counts 1/4. Output seen:
#     predictions, surest first    step-wise    cityscapesScripts
#     right                            1.000                1.000
#     false, right                     0.500                0.250
#     false, false, right              0.333                0.167
#     right, false, right              0.833                0.792
#
# Why it matters: OoDIS, the benchmark of anomalous objects, evaluates by a copy of this code, so that step-wise figures
# of the same masks do not compare with its table. rwpm_fast.metrics.InstanceMetrics integrates as Cityscapes does.

set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv
venv/bin/pip install -q --disable-pip-version-check cityscapesScripts==2.2.4 numpy==2.4.6 pillow==13.0.0 scikit-learn==1.9.1

venv/bin/python -I - <<'PYTHON'
import cityscapesscripts.evaluation.evalInstanceLevelSemanticLabeling as cityscapes
import numpy as np
from sklearn.metrics import average_precision_score

cityscapes.args.instLabels = ["car"]


def average_precision(rights):
    """AP of predictions of 100 pixels each, surest first, of which the right ones are an object each, and all there are."""
    objects, predictions = [], []
    for rank, right in enumerate(rights):
        prediction = {"pixelCount": 100, "confidence": 1 - rank / 10, "voidIntersection": 0, "matchedGt": []}
        if right:
            size = {"instID": 26001 + rank, "pixelCount": 100, "medDist": -1, "distConf": 0.0}
            objects.append({**size, "matchedPred": [{**prediction, "intersection": 100}]})
            prediction["matchedGt"] = [{**size, "intersection": 100}]
        predictions.append(prediction)
    image = {"groundTruth": {"car": objects}, "prediction": {"car": predictions}}
    by_threshold = cityscapes.evaluateMatches({"image": image}, cityscapes.args)[0, 0]
    assert np.ptp(by_threshold) == 0
    return float(by_threshold[0])


print(f"{'predictions, surest first':25}    step-wise    cityscapesScripts")
seen = []
for rights in ([1], [0, 1], [0, 0, 1], [1, 0, 1]):
    step_wise = average_precision_score(rights, -np.arange(len(rights)))
    seen.append((round(float(step_wise), 3), round(average_precision(rights), 3)))
    name = ", ".join("right" if right else "false" for right in rights)
    print(f"{name:25}    {seen[-1][0]:9.3f}    {seen[-1][1]:17.3f}")
if seen != [(1.0, 1.0), (0.5, 0.25), (0.333, 0.167), (0.833, 0.792)]:
    raise SystemExit("The behavior has changed.")
PYTHON
