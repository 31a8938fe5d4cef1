"""Beam searches: of Transformers 5.23, and the diverse and the constrained one of 4.49."""
