"""Deployment: a scorer as one traced graph, its exports to AOTInductor and ONNX, and a predictor over all of them.

``pipeline`` (photo to score as a module) -> ``metadata`` (what an export says of itself) -> ``pt2`` and ``onnx`` (the
formats) -> ``verify`` (an export against eager) -> ``predictor`` (one object over all of them).
"""
