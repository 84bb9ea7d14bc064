"""What the numbers that models learn from, and what they make of them, look like from outside."""
