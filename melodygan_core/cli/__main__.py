"""`python -m melodygan_core.cli`."""

from melodygan_core.cli import main

main(prog_name="melodygan")
