"""Figures, tables and the page of a sweep; the only folder that draws."""
