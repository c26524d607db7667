"""Models: the protocol, language models on transformers and peft, and their updates."""
