"""How the built-in model is made: generated conversations, a tokenizer, the training, its evaluation and its card."""
