"""Panels that describe a picture independently of the medium, and their renderers: terminal, HTML, figure."""
