"""Figures, HTML pages and widgets. Drawing is pure; widgets only connect it to controls."""
