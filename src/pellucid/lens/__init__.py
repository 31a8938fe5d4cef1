"""Seeing inside: named activations of a forward pass, and the instruments that read and change them (torch)."""
