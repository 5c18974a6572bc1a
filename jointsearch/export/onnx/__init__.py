"""A causal language model as an ONNX graph: traced with ONNX Runtime's operators, written, and run."""
