"""Plotly figures of plain tables, for pages, reports and notebooks.

Plotly reads a few HTML tags in texts, so every text that comes from a study is escaped here.
"""
