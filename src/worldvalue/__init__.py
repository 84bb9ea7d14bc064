"""worldvalue: value models of robot manipulation that stand on video world models."""

__version__ = "0.1.0"
