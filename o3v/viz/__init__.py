"""Figures, pages and widgets. Drawing is pure; widgets are thin wiring over it."""
