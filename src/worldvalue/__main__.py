"""``python -m worldvalue``, which is what ``torchrun -m worldvalue`` starts on every device."""

from worldvalue.cli import main

main()
