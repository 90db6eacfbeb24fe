"""Declarations to a bundle, and a bundle against what was observed to a plan. Pure."""
