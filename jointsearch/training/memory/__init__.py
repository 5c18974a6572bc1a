"""Training memory, predicted: a training step on tensors that are never computed."""
