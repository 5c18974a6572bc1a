"""What writes GGUF files, and llama.cpp that reads them."""
