"""Transformers' calls on Pellucid's model: replace `from transformers import` by `from pellucid import`."""
