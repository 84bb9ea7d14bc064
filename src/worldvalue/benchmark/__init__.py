"""How good a value model is: metrics, the benchmark suite, its controls and tables."""
