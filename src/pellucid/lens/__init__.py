"""Interpretability: named activations of a forward pass, and the instruments that read or change them (torch)."""
