"""The instruments of interpretability: what they measure of a trace or of a model, a module each."""
