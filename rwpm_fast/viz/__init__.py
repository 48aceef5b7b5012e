"""Figures of score maps and curves, and self-contained HTML pages."""
