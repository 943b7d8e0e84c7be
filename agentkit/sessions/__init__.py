"""What is kept: sessions and their turns, every run and its events, calls that wait for a decision, memories."""
