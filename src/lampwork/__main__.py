"""`python -m lampwork` is the `lampwork` command."""

from lampwork.cli import main

main()
