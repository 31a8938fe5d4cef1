"""GPT-2 in PyTorch: the model to read, and the engine that everything else is compared with."""
