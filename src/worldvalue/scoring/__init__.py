"""A model at work on whole episodes: value curves, and what a person makes of them."""
